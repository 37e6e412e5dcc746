//! What a route of a VirtualService does with requests.

use super::virtual_service::{destination, weights};
use crate::files::{
    field::{Field, shorten},
    value::{duration, header_edit, header_names, known, percent, some_duration, text_match, texts, unhonoured},
};
use mesh::{
    Str,
    route::{
        Backend, Fault,
        http::{
            Action, Cors, DirectResponse, Filters, HeaderEdit, Mirror, PathRewrite, Redirect, Retry, RetryOn, Rewrite,
            Timeouts,
        },
        limit::AbortStatus,
        text::{Fraction, TextMatch},
    },
};

pub(super) fn forward(field: &Field<'_>, own: &str) -> Action {
    let backend = |(field, weight): (&Field<'_>, u32)| {
        known(field, &["destination", "weight", "headers"]);
        let (mut request_headers, response_headers) = headers(&field.at("headers"));
        if host_of(&mut request_headers).is_some() {
            field.at("headers").remark("the host of a single destination is not rewritten");
        }
        let destination = destination(&field.at("destination"), own);
        Backend { destination, weight, request_headers, response_headers }
    };
    Action::Forward(field.list().iter().zip(weights(field)).map(backend).collect())
}

pub(super) fn redirect(field: &Field<'_>) -> Action {
    known(field, &["uri", "authority", "port", "derivePort", "scheme", "redirectCode", "prefixRewrite"]);
    let scheme = field.at("scheme").one_of(&[("http", "http"), ("https", "https")]).map(Str::from);
    let authority = field.at("authority").text().filter(|text| !text.is_empty());
    // The port may stand behind the host, but not in an IPv6 address.
    let split = authority.as_deref().and_then(|text| text.rsplit_once(':')).filter(|(host, _)| !host.contains(':'));
    let (host, written) = match split {
        Some((host, port)) => (Some(Str::from(host)), port.parse::<u16>().ok()),
        None => (authority.clone(), None),
    };
    if split.is_some() && written.is_none() {
        field.at("authority").note("has something behind its `:` that is no port");
    }
    let derived = field.at("derivePort").one_of(&[("FROM_PROTOCOL_DEFAULT", true), ("FROM_REQUEST_PORT", false)]);
    let port = match derived {
        // Without a scheme it is that of the request, and inside the mesh that is `http`.
        Some(true) if scheme.is_none() => Some(80),
        Some(true) => None,
        Some(false) => {
            if scheme.is_some() {
                field.at("derivePort").remark("with `scheme`, the port is that of the scheme");
            }
            None
        }
        None => field.at("port").port(),
    };
    let status = field.at("redirectCode").number().unwrap_or(301);
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        field.at("redirectCode").note("is none of 301, 302, 303, 307, 308");
    }
    let whole = |path: Str| match path.strip_prefix("%PREFIX()%") {
        Some(rest) => PathRewrite::Prefix(rest.into()),
        None => PathRewrite::Full(path),
    };
    let prefix = field.at("prefixRewrite").text().filter(|text| !text.is_empty()).map(PathRewrite::Prefix);
    let path = field.at("uri").text().filter(|text| !text.is_empty()).map(whole).or(prefix);
    Action::Redirect(Redirect { scheme, host, port: port.or(written), path, status: status.try_into().unwrap_or(301) })
}

pub(super) fn respond(field: &Field<'_>) -> Action {
    known(field, &["status", "body"]);
    let body = field.at("body");
    known(&body, &["string", "bytes"]);
    unhonoured(&body, &["bytes"]);
    let status = status(&field.at("status")).unwrap_or_else(|| {
        field.at("status").note("says nothing");
        500
    });
    Action::Respond(DirectResponse { status, body: body.at("string").text().map(|text| (text, "text/plain".into())) })
}

/// A status of HTTP that an answer may have.
pub(super) fn status(field: &Field<'_>) -> Option<u16> {
    let number = field.number()?;
    let status = u16::try_from(number).ok().filter(|status| (200..600).contains(status));
    if status.is_none() {
        field.note("is not a status from 200 to 599");
    }
    status
}

pub(super) fn filters(field: &Field<'_>, own: &str) -> Filters {
    let (mut request_headers, response_headers) = headers(&field.at("headers"));
    let host = host_of(&mut request_headers);
    let mut rewrite = rewrite(&field.at("rewrite"));
    rewrite.host = rewrite.host.or(host);
    Filters {
        request_headers,
        response_headers,
        rewrite,
        mirrors: mirrors(field, own),
        cors: cors(&field.at("corsPolicy")),
    }
}

/// The edits of requests and of responses.
fn headers(field: &Field<'_>) -> (HeaderEdit, HeaderEdit) {
    known(field, &["request", "response"]);
    (header_edit(&field.at("request")), header_edit(&field.at("response")))
}

/// The host that an edit sets, taken out of it: it is no header like others.
fn host_of(edit: &mut HeaderEdit) -> Option<Str> {
    let at = edit.set.iter().position(|(name, _)| &**name == "host")?;
    Some(edit.set.remove(at).1)
}

fn rewrite(field: &Field<'_>) -> Rewrite {
    known(field, &["uri", "authority", "uriRegexRewrite"]);
    let regex = field.at("uriRegexRewrite");
    known(&regex, &["match", "rewrite"]);
    let prefix = field.at("uri").text().filter(|text| !text.is_empty()).map(PathRewrite::Prefix);
    if prefix.is_some() && regex.is_there() {
        regex.note("stands beside uri, and only one of them may");
    }
    let pattern = regex.at("match").text().filter(|text| !text.is_empty());
    if regex.is_there() && pattern.is_none() {
        regex.at("match").note("says nothing");
    }
    let substitution = || regex.at("rewrite").text().unwrap_or_default();
    let by_regex = pattern.map(|pattern| PathRewrite::Regex { pattern, substitution: substitution() });
    Rewrite { host: field.at("authority").text().filter(|text| !text.is_empty()), path: prefix.or(by_regex) }
}

fn mirrors(field: &Field<'_>, own: &str) -> Vec<Mirror> {
    let old = field.at("mirror");
    let mut found = Vec::new();
    if old.is_there() {
        let whole = ["mirrorPercent", "mirror_percent"].iter().find_map(|key| percent(&field.at(key)));
        let share = share(&field.at("mirrorPercentage")).or(whole).unwrap_or(Fraction::ALL);
        found.push(Mirror { destination: destination(&old, own), share });
    }
    for mirror in field.at("mirrors").list() {
        known(&mirror, &["destination", "percentage"]);
        let share = share(&mirror.at("percentage")).unwrap_or(Fraction::ALL);
        found.push(Mirror { destination: destination(&mirror.at("destination"), own), share });
    }
    found
}

/// `{value: 0.1}`, in percent. One that says nothing is none at all.
fn share(field: &Field<'_>) -> Option<Fraction> {
    if !field.is_there() {
        return None;
    }
    known(field, &["value"]);
    Some(percent(&field.at("value")).unwrap_or(Fraction::NONE))
}

fn cors(field: &Field<'_>) -> Option<Cors> {
    if !field.is_there() {
        return None;
    }
    known(
        field,
        &[
            "allowOrigin",
            "allowOrigins",
            "allowMethods",
            "allowHeaders",
            "exposeHeaders",
            "maxAge",
            "allowCredentials",
            "unmatchedPreflights",
        ],
    );
    let any = |origin: TextMatch| match origin {
        TextMatch::Exact(text) if &*text == "*" => TextMatch::Present,
        other => other,
    };
    let old = texts(&field.at("allowOrigin")).into_iter().map(TextMatch::Exact);
    let new = field.at("allowOrigins").list();
    let modes = [("UNSPECIFIED", true), ("FORWARD", true), ("IGNORE", false)];
    Some(Cors {
        allow_origins: new.iter().filter_map(text_match).chain(old).map(any).collect(),
        allow_methods: texts(&field.at("allowMethods")),
        allow_headers: header_names(&field.at("allowHeaders")),
        expose_headers: header_names(&field.at("exposeHeaders")),
        allow_credentials: field.at("allowCredentials").flag().unwrap_or(false),
        max_age: duration(&field.at("maxAge")),
        forward_unmatched: field.at("unmatchedPreflights").one_of(&modes).unwrap_or(true),
    })
}

pub(super) fn timeouts(field: &Field<'_>) -> Timeouts {
    Timeouts { request: duration(&field.at("timeout")), ..Timeouts::default() }
}

pub(super) fn retry(field: &Field<'_>) -> Option<Retry> {
    if !field.is_there() {
        return None;
    }
    known(
        field,
        &["attempts", "perTryTimeout", "retryOn", "backoff", "retryIgnorePreviousHosts", "retryRemoteLocalities"],
    );
    if field.at("retryIgnorePreviousHosts").flag() == Some(false) {
        field.at("retryIgnorePreviousHosts").remark("another endpoint is always preferred for a further try");
    }
    if field.at("retryRemoteLocalities").flag() == Some(true) {
        field.at("retryRemoteLocalities").remark("further tries go where the choice of endpoints says");
    }
    let said = field.at("retryOn");
    Some(Retry {
        attempts: field.at("attempts").number().unwrap_or(0),
        per_try_timeout: some_duration(&field.at("perTryTimeout")),
        on: said.text().filter(|text| !text.is_empty()).map_or_else(retry_by_default, |text| retry_on(&said, &text)),
        backoff: some_duration(&field.at("backoff")),
    })
}

/// What Istio tries again when nobody says: `connect-failure,refused-stream,unavailable,cancelled`.
fn retry_by_default() -> RetryOn {
    RetryOn { connect_failure: true, refused_stream: true, grpc_status: vec![1, 14], ..RetryOn::default() }
}

fn retry_on(field: &Field<'_>, text: &str) -> RetryOn {
    let mut on = RetryOn::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "reset" => on.reset = true,
            // What was not sent has not been processed.
            "connect-failure" | "reset-before-request" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "retriable-4xx" => on.conflict = true,
            // The codes stand beside it as numbers; without any, Istio means 503.
            "retriable-status-codes" => {}
            "envoy-ratelimited" | "retriable-headers" | "http3-post-connect-failure" => {
                field.remark(format!("{word} is not honoured by waypoints"));
            }
            word => match (grpc_code(word), word.parse::<u16>()) {
                (Some(code), _) if matches!(code, 1 | 4 | 8 | 13 | 14) => on.grpc_status.push(code),
                (_, Ok(status @ 100..600)) => on.status.push(status),
                _ => field.note(format!("{:?} is nothing that can be tried again on", shorten(word))),
            },
        }
    }
    if text.contains("retriable-status-codes") && on.status.is_empty() {
        on.status.push(503);
    }
    on
}

/// A code of gRPC by name (`UNAVAILABLE`, `unavailable`, `deadline-exceeded`) or number.
pub(super) fn grpc_code(text: &str) -> Option<u8> {
    const NAMES: [&str; 17] = [
        "ok",
        "cancelled",
        "unknown",
        "invalid-argument",
        "deadline-exceeded",
        "not-found",
        "already-exists",
        "permission-denied",
        "resource-exhausted",
        "failed-precondition",
        "aborted",
        "out-of-range",
        "unimplemented",
        "internal",
        "unavailable",
        "data-loss",
        "unauthenticated",
    ];
    let name = text.to_ascii_lowercase().replace('_', "-");
    NAMES.iter().position(|known| *known == name).and_then(|code| u8::try_from(code).ok())
}

pub(super) fn fault(field: &Field<'_>) -> Vec<Fault> {
    if !field.is_there() {
        return Vec::new();
    }
    known(field, &["delay", "abort"]);
    vec![Fault { matches: Vec::new(), delay: delay(&field.at("delay")), abort: abort(&field.at("abort")) }]
}

fn delay(field: &Field<'_>) -> Option<(std::time::Duration, Fraction)> {
    if !field.is_there() {
        return None;
    }
    known(field, &["fixedDelay", "exponentialDelay", "percentage", "percent"]);
    let fixed = field.at("fixedDelay");
    if !fixed.is_there() {
        field.note("has no fixedDelay, and no other is served");
    }
    let share = share(&field.at("percentage")).or_else(|| percent(&field.at("percent"))).unwrap_or(Fraction::ALL);
    Some((some_duration(&fixed)?, share))
}

fn abort(field: &Field<'_>) -> Option<(AbortStatus, Fraction)> {
    if !field.is_there() {
        return None;
    }
    known(field, &["httpStatus", "grpcStatus", "http2Error", "percentage"]);
    let (http, grpc) = (field.at("httpStatus"), field.at("grpcStatus"));
    let answer = match (http.is_there(), grpc.text()) {
        (true, None) => status(&http).map(AbortStatus::Http),
        (false, Some(name)) => {
            let code = grpc_code(&name);
            if code.is_none() {
                grpc.note(format!("{:?} is no code of gRPC", shorten(&name)));
            }
            code.map(AbortStatus::Grpc)
        }
        (true, Some(_)) => {
            field.note("says both httpStatus and grpcStatus");
            None
        }
        (false, None) => {
            field.note("says neither httpStatus nor grpcStatus, and no other is served");
            None
        }
    };
    Some((answer?, share(&field.at("percentage")).unwrap_or(Fraction::ALL)))
}
