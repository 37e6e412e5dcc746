//! BackendTLSPolicy.

use super::{
    Reader, refs,
    values::{bounded, hostname, only, required, up_to},
};
use crate::{
    facts::{Authorities, BackendTlsPolicy, Meta},
    files::field::{Field, Notes},
};
use mesh::Str;

pub(in crate::files) fn tls_policy(object: &Field<'_>, meta: Meta, notes: &Notes) -> BackendTlsPolicy {
    let spec = object.at("spec");
    only(&spec, &["targetRefs", "validation", "options"]);
    let reader = Reader::new(&meta);
    let targets = refs::targets(&spec, &reader);
    let validation = spec.at("validation");
    only(&validation, &["caCertificateRefs", "wellKnownCACertificates", "hostname", "subjectAltNames"]);
    let name = hostname(&validation.at("hostname"), false).unwrap_or_default();
    let names = up_to(&validation.at("subjectAltNames"), 5);
    let subject_alt_names = names.iter().filter_map(subject_alt_name).collect();
    let authorities = authorities(&validation, &reader);
    for (key, option) in spec.at("options").members() {
        reader.remark(&option, "Accepted", "UnsupportedValue", format!("option {key} is not honoured"));
    }
    let remarks = reader.remarks.into_inner();
    let refused = notes.listed();
    BackendTlsPolicy { targets, hostname: name, subject_alt_names, authorities, refused, remarks, meta }
}

/// What holds if a policy is not understood and none of its name was before: nobody is believed.
pub(in crate::files) fn closed_tls_policy(policy: BackendTlsPolicy) -> BackendTlsPolicy {
    BackendTlsPolicy { authorities: Authorities::Unknown, ..policy }
}

fn subject_alt_name(field: &Field<'_>) -> Option<Str> {
    only(field, &["type", "hostname", "uri"]);
    let kind = field.at("type");
    if !kind.is_there() {
        kind.note("is missing");
    }
    let (own, other) = kind.one_of(&[("Hostname", ("hostname", "uri")), ("URI", ("uri", "hostname"))])?;
    if field.at(other).is_there() {
        field.at(other).note(format!("stands beside type {}", if own == "uri" { "URI" } else { "Hostname" }));
    }
    match own {
        "hostname" => hostname(&field.at("hostname"), true),
        _ => {
            let uri = bounded(&field.at("uri"), 253)?;
            if !uri.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && rest.starts_with("//")) {
                field.at("uri").note("is not a URI with scheme and authority");
                return None;
            }
            Some(uri)
        }
    }
}

fn authorities(field: &Field<'_>, reader: &Reader<'_>) -> Authorities {
    let (refs, well_known) = (field.at("caCertificateRefs"), field.at("wellKnownCACertificates"));
    let fields = up_to(&refs, 8);
    if fields.is_empty() != well_known.is_there() {
        well_known.note("must be said where there are no caCertificateRefs, and only there");
        return Authorities::Unknown;
    }
    if well_known.is_there() {
        return match required(&well_known).as_deref() {
            Some("System") => Authorities::System,
            other => {
                let message = format!("{} is not known; System is", other.unwrap_or_default());
                reader.remark(&well_known, "Accepted", "Invalid", message);
                Authorities::Unknown
            }
        };
    }
    let mut names = Vec::new();
    for field in fields {
        only(&field, &["group", "kind", "name"]);
        let (group, kind) = (field.at("group").text().unwrap_or_default(), required(&field.at("kind")));
        let name = bounded(&field.at("name"), 253);
        match (&*group, kind.as_deref(), name) {
            ("" | "core", Some("ConfigMap"), Some(name)) => names.push(name),
            (_, Some(kind), Some(_)) => {
                reader.remark(
                    &field,
                    "ResolvedRefs",
                    "InvalidKind",
                    format!("{kind} holds no certificates here; ConfigMap does"),
                );
            }
            _ => {}
        }
    }
    if names.is_empty() {
        reader.remark(&refs, "Accepted", "NoValidCACertificate", "name no ConfigMap");
        return Authorities::Unknown;
    }
    Authorities::ConfigMaps(names)
}
