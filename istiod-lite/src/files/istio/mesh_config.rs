//! The configuration of the mesh: the text under the key `mesh` of the ConfigMap `istio`.
//!
//! Only what matters to waypoints is read; the rest of it is for others, so that a field that is
//! not known here is no mistake.

use super::http_action::status;
use crate::{
    facts::{Authorizer, MeshConfig, Meta, Provider},
    files::{
        field::{Field, Notes, shorten},
        value::{header_value, host, known, percent, some_duration, texts, unhonoured},
    },
};
use mesh::{
    Str,
    route::{
        Destination,
        guard::{AuthorizerProtocol, BodyShown},
    },
};
use std::time::Duration;

/// How long an authorizer may take when nobody says, as in Istio.
const AUTHORIZER_TIMEOUT: Duration = Duration::from_secs(600);

/// Reads the text; its mistakes are noted at the key.
pub(super) fn mesh_config(object: &Field<'_>, meta: Meta) -> MeshConfig {
    let text = object.at("data").at("mesh");
    let Some(yaml) = text.long_text() else { return MeshConfig { meta, ..MeshConfig::default() } };
    let value = match chassis::objects::value(&yaml) {
        Ok(value) => value,
        Err((line, reason)) => {
            text.note(format!("line {line}: {reason}"));
            return MeshConfig { meta, ..MeshConfig::default() };
        }
    };
    let notes = Notes::new(true);
    let config = config(&Field::root(&value, &notes), meta);
    for (path, reason) in notes.remarks() {
        text.at(&path).remark(reason);
    }
    for (path, reason) in notes.take() {
        text.at(&path).note(reason);
    }
    config
}

fn config(root: &Field<'_>, meta: Meta) -> MeshConfig {
    unhonoured(root, &["accessLogFormat", "accessLogEncoding"]);
    let defaults = root.at("defaultProviders");
    let tracing = root.at("defaultConfig").at("tracing");
    let file = root.at("accessLogFile").text();
    if file.as_deref().is_some_and(|file| !matches!(file, "" | "/dev/stdout")) {
        root.at("accessLogFile").remark("waypoints write the access log to /dev/stdout only");
    }
    MeshConfig {
        providers: root.at("extensionProviders").list().iter().filter_map(provider).collect(),
        access_log: file.map(|file| !file.is_empty()),
        tracing: root.at("enableTracing").flag(),
        sampling: percent(&tracing.at("sampling")),
        default_tracing: texts(&defaults.at("tracing")),
        default_access_logging: texts(&defaults.at("accessLogging")),
        refused: Vec::new(),
        unheeded: Vec::new(),
        meta,
    }
}

fn provider(field: &Field<'_>) -> Option<(Str, Provider)> {
    let name = field.at("name").text().filter(|name| !name.is_empty());
    if name.is_none() {
        field.at("name").note("says nothing");
    }
    let kinds = field.unknown(&["name"]);
    let [kind] = &kinds[..] else {
        field.note("must say, beside its name, one kind of provider");
        return None;
    };
    let inner = field.at(kind);
    let provider = match &**kind {
        "envoyExtAuthzGrpc" => Provider::Authorizer(grpc(&inner)?),
        "envoyExtAuthzHttp" => Provider::Authorizer(http(&inner)?),
        "opentelemetry" => {
            unhonoured(&inner, &["http", "resourceDetectors", "dynatraceSampler", "maxTagLength"]);
            Provider::Collector(service(&inner)?)
        }
        "envoyFileAccessLog" => {
            unhonoured(&inner, &["logFormat"]);
            Provider::AccessLog
        }
        "prometheus" => Provider::Prometheus,
        other => {
            inner.remark("is a kind of provider that waypoints do not serve");
            Provider::Unserved(shorten(other).into())
        }
    };
    Some((name?, provider))
}

/// `service` (`host` or `namespace/host`) and `port`.
fn service(field: &Field<'_>) -> Option<Destination> {
    let said = field.at("service").text().filter(|text| !text.is_empty());
    let port = field.at("port").port();
    let (Some(said), Some(port)) = (&said, port) else {
        let key = if said.is_none() { "service" } else { "port" };
        field.at(key).note("says nothing");
        return None;
    };
    Some(match said.split_once('/') {
        Some((namespace, name)) => {
            let service = mesh::ServiceKey { namespace: namespace.into(), hostname: name.to_ascii_lowercase().into() };
            Destination::Service { service, port, subset: None }
        }
        // Whoever asks for it may be in any namespace, and a short name would mean another thing in each.
        None if !said.contains('.') => {
            field.at("service").note("is a short name: write <namespace>/<host> or the whole name");
            return None;
        }
        None => host(said, "", port, None),
    })
}

fn grpc(field: &Field<'_>) -> Option<Authorizer> {
    known(
        field,
        &["service", "port", "timeout", "failOpen", "clearRouteCache", "statusOnError", "includeRequestBodyInCheck"],
    );
    unhonoured(field, &["clearRouteCache"]);
    authorizer(field, AuthorizerProtocol::Grpc)
}

fn http(field: &Field<'_>) -> Option<Authorizer> {
    known(
        field,
        &[
            "service",
            "port",
            "timeout",
            "failOpen",
            "clearRouteCache",
            "statusOnError",
            "pathPrefix",
            "includeRequestHeadersInCheck",
            "includeHeadersInCheck",
            "includeAdditionalHeadersInCheck",
            "includeRequestBodyInCheck",
            "headersToUpstreamOnAllow",
            "headersToDownstreamOnAllow",
            "headersToDownstreamOnDeny",
        ],
    );
    unhonoured(field, &["clearRouteCache"]);
    let names = |key: &str| {
        let lower = texts(&field.at(key)).into_iter().map(|name| Str::from(name.to_ascii_lowercase()));
        lower.collect::<Vec<_>>()
    };
    let mut include_headers = names("includeRequestHeadersInCheck");
    include_headers.append(&mut names("includeHeadersInCheck"));
    let add = field.at("includeAdditionalHeadersInCheck").members().into_iter();
    let protocol = AuthorizerProtocol::Http {
        path_prefix: field.at("pathPrefix").text().unwrap_or_default(),
        include_headers,
        add_headers: add
            .filter_map(|(name, value)| Some((name.to_ascii_lowercase().into(), header_value(&value)?)))
            .collect(),
        to_backend: names("headersToUpstreamOnAllow"),
        to_caller_on_allow: names("headersToDownstreamOnAllow"),
        to_caller_on_deny: names("headersToDownstreamOnDeny"),
    };
    authorizer(field, protocol)
}

fn authorizer(field: &Field<'_>, protocol: AuthorizerProtocol) -> Option<Authorizer> {
    let on_error = field.at("statusOnError");
    // Istio has it as a text.
    let written = on_error.loose_text().filter(|text| !text.is_empty());
    let status_on_error = match written.as_deref().map(str::parse::<u16>) {
        None => 403,
        Some(Ok(number @ 200..600)) => number,
        Some(_) => status(&on_error).unwrap_or(403),
    };
    Some(Authorizer {
        destination: service(field)?,
        protocol,
        timeout: some_duration(&field.at("timeout")).unwrap_or(AUTHORIZER_TIMEOUT),
        fail_open: field.at("failOpen").flag().unwrap_or(false),
        status_on_error,
        body: body(&field.at("includeRequestBodyInCheck")),
    })
}

fn body(field: &Field<'_>) -> Option<BodyShown> {
    if !field.is_there() {
        return None;
    }
    known(field, &["maxRequestBytes", "allowPartialMessage", "packAsBytes"]);
    unhonoured(field, &["packAsBytes"]);
    let most = field.at("maxRequestBytes").number().unwrap_or(0);
    if most == 0 {
        field.at("maxRequestBytes").note("must be above 0");
    }
    Some(BodyShown { bytes_max: most, allow_partial: field.at("allowPartialMessage").flag().unwrap_or(false) })
}
