//! RequestAuthentication: whose tokens are accepted, and where they stand.

use crate::{
    facts::{Meta, RequestAuthentication, TargetKind},
    files::{
        field::{Field, shorten},
        value::{claim_path, header_name, known, some_duration, targets, texts},
    },
};
use mesh::{
    Str,
    route::guard::{Issuer, Keys},
};
use std::time::Duration;

/// How long an issuer may take to tell its keys when nobody says, as in Istio.
const KEYS_TIMEOUT: Duration = Duration::from_secs(5);

/// A set of keys with which nothing is signed.
const NO_KEYS: &str = "{\"keys\":[]}";

pub(super) fn request_authentication(object: &Field<'_>, meta: Meta) -> RequestAuthentication {
    let spec = object.at("spec");
    known(&spec, &["selector", "targetRef", "targetRefs", "jwtRules"]);
    let kinds = [TargetKind::Service, TargetKind::ServiceEntry, TargetKind::Gateway, TargetKind::GatewayClass];
    let targets = targets(&spec, &kinds);
    if targets.is_none() {
        spec.remark("has no targetRefs, so it is for sidecars, and waypoints do not use it");
    }
    RequestAuthentication {
        targets: targets.unwrap_or_default(),
        issuers: spec.at("jwtRules").list().iter().filter_map(issuer).collect(),
        refused: Vec::new(),
        unheeded: Vec::new(),
        meta,
    }
}

/// What holds if it is not understood and none of its name was before: tokens of the issuers that
/// it names, or of any that stand where tokens usually do, are refused.
pub(super) fn closed(policy: RequestAuthentication) -> RequestAuthentication {
    let mut issuers = policy.issuers;
    if issuers.is_empty() {
        issuers.push(nobody("".into()));
    }
    for issuer in &mut issuers {
        issuer.keys = Keys::Inline(NO_KEYS.into());
    }
    RequestAuthentication { issuers, ..policy }
}

fn nobody(issuer: Str) -> Issuer {
    Issuer {
        issuer,
        audiences: Vec::new(),
        keys: Keys::Inline(NO_KEYS.into()),
        from_headers: Vec::new(),
        from_params: Vec::new(),
        from_cookies: Vec::new(),
        forward_token: false,
        payload_header: None,
        claim_headers: Vec::new(),
    }
}

fn issuer(field: &Field<'_>) -> Option<Issuer> {
    known(
        field,
        &[
            "issuer",
            "audiences",
            "jwks",
            "jwksUri",
            "jwks_uri",
            "fromHeaders",
            "fromParams",
            "fromCookies",
            "outputPayloadToHeader",
            "outputClaimToHeaders",
            "forwardOriginalToken",
            "timeout",
            "presence",
            "spaceDelimitedClaims",
        ],
    );
    let required = [("OPTIONAL", false), ("REQUIRED", true), ("", false)];
    if field.at("presence").one_of(&required) == Some(true) {
        field.at("presence").note("REQUIRED is not served: ask for request principals in an AuthorizationPolicy");
    }
    if field.at("spaceDelimitedClaims").is_there() {
        field.at("spaceDelimitedClaims").remark("is not honoured: only `scope` and `permission` are split");
    }
    let name = field.at("issuer").text().filter(|name| !name.is_empty());
    if name.is_none() {
        field.at("issuer").note("says nothing");
    }
    let output = field.at("outputPayloadToHeader");
    Some(Issuer {
        audiences: texts(&field.at("audiences")),
        keys: keys(field),
        from_headers: field.at("fromHeaders").list().iter().filter_map(place).collect(),
        from_params: texts(&field.at("fromParams")),
        from_cookies: texts(&field.at("fromCookies")),
        forward_token: field.at("forwardOriginalToken").flag().unwrap_or(false),
        payload_header: output.text().filter(|name| !name.is_empty()).and_then(|name| header_name(&output, &name)),
        claim_headers: field.at("outputClaimToHeaders").list().iter().filter_map(claim_header).collect(),
        ..nobody(name?)
    })
}

fn place(field: &Field<'_>) -> Option<(Str, Str)> {
    known(field, &["name", "prefix"]);
    let name = field.at("name").text().unwrap_or_default();
    Some((header_name(&field.at("name"), &name)?, field.at("prefix").text().unwrap_or_default()))
}

fn claim_header(field: &Field<'_>) -> Option<(Str, Vec<Str>)> {
    known(field, &["header", "claim"]);
    let header = field.at("header").text().unwrap_or_default();
    let claim = field.at("claim").text().unwrap_or_default();
    let path = claim_path(&claim);
    if path.is_none() {
        field.at("claim").note(format!("{:?} names no claim", shorten(&claim)));
    }
    Some((header_name(&field.at("header"), &header)?, path?))
}

fn keys(field: &Field<'_>) -> Keys {
    let inline = field.at("jwks");
    let old = field.at("jwks_uri");
    let remote = if old.is_there() { old } else { field.at("jwksUri") };
    let timeout = some_duration(&field.at("timeout")).unwrap_or(KEYS_TIMEOUT);
    match (long(&inline), remote.text().filter(|uri| !uri.is_empty())) {
        (Some(keys), other) => {
            if other.is_some() {
                remote.remark("is not asked: jwks beside it says the keys");
            }
            let parsed = serde_json::from_str::<serde_json::Value>(&keys).ok();
            if !parsed.is_some_and(|set| set.get("keys").is_some_and(serde_json::Value::is_array)) {
                inline.note("is not a JSON Web Key Set (an object with a list `keys`)");
            }
            Keys::Inline(keys)
        }
        (None, Some(uri)) => {
            if !(uri.starts_with("https://") || uri.starts_with("http://")) {
                remote.note("is neither http:// nor https://");
            }
            Keys::Remote { uri, timeout }
        }
        (None, None) => {
            field.note("says neither jwks nor jwksUri, and keys are not looked for at the issuer");
            Keys::Inline(NO_KEYS.into())
        }
    }
}

/// A set of keys may be longer than other texts.
fn long(field: &Field<'_>) -> Option<Str> {
    field.long_text().filter(|text| !text.is_empty())
}
