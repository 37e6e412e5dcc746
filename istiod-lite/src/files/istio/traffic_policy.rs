//! Our own `TrafficPolicy` (istiod-lite.io/v1alpha1): what Istio has no kind for.

use super::{
    balancing::balancing,
    http_action::{grpc_code, status},
};
use crate::{
    facts::{Meta, Sections, TargetKind, TrafficPolicy},
    files::{
        field::{Field, shorten},
        value::{claim_path, duration, header_name, known, percent, some_duration, targets, whole_percent},
    },
};
use mesh::{
    Str,
    route::{
        Fault, RateLimit,
        http::HttpMatch,
        limit::{AbortStatus, LimitKey, LimitScope},
        text::{FieldMatch, Fraction, PathMatch, TextMatch},
        traffic::{AdaptiveConcurrency, Outlier, Pool, RetryBudget},
    },
};
use std::time::Duration;

/// What policies may be attached to.
const TARGETS: [TargetKind; 5] =
    [TargetKind::Service, TargetKind::ServiceEntry, TargetKind::Gateway, TargetKind::HttpRoute, TargetKind::GrpcRoute];

pub(super) fn traffic_policy(object: &Field<'_>, meta: Meta) -> TrafficPolicy {
    let spec = object.at("spec");
    known(
        &spec,
        &[
            "targetRefs",
            "rateLimit",
            "fault",
            "circuitBreaker",
            "outlierDetection",
            "retryBudget",
            "loadBalancer",
            "adaptiveConcurrency",
        ],
    );
    let targets = targets(&spec, &TARGETS);
    if targets.is_none() {
        spec.at("targetRefs").note("says nothing");
    }
    let name = |place: usize| format!("TrafficPolicy/{}/{}/{place}", meta.namespace, meta.name).into();
    let limits = spec.at("rateLimit").list();
    TrafficPolicy {
        targets: targets.unwrap_or_default(),
        limits: limits
            .iter()
            .enumerate()
            .filter_map(|(place, field)| limit(field, name(place), &meta.namespace))
            .collect(),
        faults: spec.at("fault").list().iter().map(fault).collect(),
        sections: Sections {
            balancing: balancing(&spec.at("loadBalancer")),
            pool: pool(&spec.at("circuitBreaker")),
            outlier: outlier(&spec.at("outlierDetection")),
            retry_budget: retry_budget(&spec.at("retryBudget")),
            adaptive: adaptive(&spec.at("adaptiveConcurrency")),
            ..Sections::default()
        },
        refused: Vec::new(),
        unheeded: Vec::new(),
        meta,
    }
}

fn limit(field: &Field<'_>, name: Str, own: &str) -> Option<RateLimit> {
    known(field, &["matches", "keys", "requests", "per", "burst", "scope", "service"]);
    let requests = field.at("requests").number();
    if requests.is_none_or(|requests| requests == 0) {
        field.at("requests").note("must be above 0");
    }
    let requests = requests?;
    Some(RateLimit {
        name,
        matches: field.at("matches").list().iter().map(matches).collect(),
        keys: field.at("keys").list().iter().filter_map(key).collect(),
        requests,
        per: if field.at("per").is_there() { some_duration(&field.at("per"))? } else { Duration::from_secs(1) },
        burst: field.at("burst").number().unwrap_or(requests).max(1),
        scope: scope(field, own)?,
    })
}

fn scope(field: &Field<'_>, own: &str) -> Option<LimitScope> {
    let service = field.at("service");
    let scopes = [("Local", 0), ("Shared", 1), ("Service", 2)];
    let said = field.at("scope");
    let scope = if said.is_there() { said.one_of(&scopes)? } else { 0 };
    if service.is_there() != (scope == 2) {
        service.note("goes with `scope: Service`, and only with it");
    }
    Some(match scope {
        0 => LimitScope::Replica,
        1 => LimitScope::Shared,
        _ => {
            known(&service, &["host", "port", "domain", "timeout", "failOpen"]);
            let host = service.at("host").text().filter(|host| !host.is_empty());
            let port = service.at("port").port();
            let domain = service.at("domain").text().filter(|domain| !domain.is_empty());
            for (key, there) in [("host", host.is_some()), ("port", port.is_some()), ("domain", domain.is_some())] {
                if !there {
                    service.at(key).note("says nothing");
                }
            }
            LimitScope::Service {
                destination: crate::files::value::host(&host?, own, port?, None),
                domain: domain?,
                timeout: some_duration(&service.at("timeout")).unwrap_or(Duration::from_millis(20)),
                fail_open: service.at("failOpen").flag().unwrap_or(false),
            }
        }
    })
}

/// What a limit or a fault is for; in the words of HTTPRoute.
fn matches(field: &Field<'_>) -> HttpMatch {
    known(field, &["path", "method", "headers", "queryParams", "callerNamespace"]);
    HttpMatch {
        path: path(&field.at("path")),
        method: field.at("method").text().map(TextMatch::Exact),
        headers: fields(&field.at("headers"), true),
        query: fields(&field.at("queryParams"), false),
        caller_namespace: field.at("callerNamespace").text().filter(|name| !name.is_empty()),
        ..HttpMatch::default()
    }
}

#[derive(Clone, Copy)]
enum How {
    Exact,
    Prefix,
    Regex,
}

fn how(field: &Field<'_>, prefix: &'static str) -> How {
    let choices = [("Exact", How::Exact), (prefix, How::Prefix), ("RegularExpression", How::Regex)];
    field.at("type").one_of(&choices).unwrap_or(How::Exact)
}

fn path(field: &Field<'_>) -> Option<PathMatch> {
    if !field.is_there() {
        return None;
    }
    known(field, &["type", "value"]);
    let value = field.at("value").text().filter(|value| !value.is_empty());
    if value.is_none() {
        field.at("value").note("says nothing");
    }
    let value = value?;
    Some(match how(field, "PathPrefix") {
        How::Exact => PathMatch::Exact(value),
        How::Prefix => PathMatch::PathPrefix(value),
        How::Regex => PathMatch::Regex(value),
    })
}

fn fields(field: &Field<'_>, headers: bool) -> Vec<FieldMatch> {
    let one = |field: &Field<'_>| {
        known(field, &["type", "name", "value"]);
        let name = field.at("name").text().unwrap_or_default();
        let name = if headers { header_name(&field.at("name"), &name)? } else { name };
        let value = field.at("value").text();
        let value = match (value, how(field, "Prefix")) {
            (None, _) => TextMatch::Present,
            (Some(value), How::Exact) => TextMatch::Exact(value),
            (Some(value), How::Prefix) => TextMatch::Prefix(value),
            (Some(value), How::Regex) => TextMatch::Regex(value),
        };
        Some(FieldMatch { name, value, ignore_case: false })
    };
    field.list().iter().filter_map(one).collect()
}

fn key(field: &Field<'_>) -> Option<LimitKey> {
    known(field, &["type", "name"]);
    let name = field.at("name").text().filter(|name| !name.is_empty());
    let kind = field.at("type").text().unwrap_or_default();
    let named = matches!(&*kind, "Header" | "Claim");
    if named != name.is_some() {
        field.at("name").note("goes with the types Header and Claim, and only with them");
        return None;
    }
    match (&*kind, name) {
        ("Header", Some(name)) => header_name(&field.at("name"), &name).map(LimitKey::Header),
        ("Claim", Some(name)) => {
            let path = claim_path(&name);
            if path.is_none() {
                field.at("name").note(format!("{:?} names no claim", shorten(&name)));
            }
            path.map(LimitKey::Claim)
        }
        ("Path", _) => Some(LimitKey::Path),
        ("Method", _) => Some(LimitKey::Method),
        ("Host", _) => Some(LimitKey::Host),
        ("CallerIdentity", _) => Some(LimitKey::CallerIdentity),
        ("CallerNamespace", _) => Some(LimitKey::CallerNamespace),
        ("CallerAddress", _) => Some(LimitKey::CallerAddress),
        (other, _) => {
            let names = "Header, Path, Method, Host, CallerIdentity, CallerNamespace, CallerAddress, Claim";
            field.at("type").note(format!("{:?} is none of {names}", shorten(other)));
            None
        }
    }
}

fn fault(field: &Field<'_>) -> Fault {
    known(field, &["matches", "delay", "abort"]);
    let (delay, abort) = (field.at("delay"), field.at("abort"));
    known(&delay, &["duration", "percent"]);
    known(&abort, &["httpStatus", "grpcStatus", "percent"]);
    if !delay.is_there() && !abort.is_there() {
        field.note("says neither delay nor abort");
    }
    let share = |field: &Field<'_>| percent(&field.at("percent")).unwrap_or(Fraction::ALL);
    let duration = some_duration(&delay.at("duration"));
    if delay.is_there() && !delay.at("duration").is_there() {
        delay.at("duration").note("says nothing");
    }
    Fault {
        matches: field.at("matches").list().iter().map(matches).collect(),
        delay: duration.map(|duration| (duration, share(&delay))),
        abort: if abort.is_there() { answer(&abort).map(|answer| (answer, share(&abort))) } else { None },
    }
}

fn answer(field: &Field<'_>) -> Option<AbortStatus> {
    let (http, grpc) = (field.at("httpStatus"), field.at("grpcStatus"));
    if http.is_there() == grpc.is_there() {
        field.note("must say one of httpStatus and grpcStatus");
        return None;
    }
    if http.is_there() {
        return status(&http).map(AbortStatus::Http);
    }
    let name = grpc.text()?;
    let code = grpc_code(&name);
    if code.is_none() {
        grpc.note(format!("{:?} is no code of gRPC", shorten(&name)));
    }
    code.map(AbortStatus::Grpc)
}

fn pool(field: &Field<'_>) -> Option<Pool> {
    if !field.is_there() {
        return None;
    }
    known(
        field,
        &[
            "maxConnections",
            "maxPendingRequests",
            "maxRequests",
            "maxRetries",
            "maxRequestsPerConnection",
            "maxStreamsPerConnection",
            "connectTimeout",
            "idleTimeout",
            "maxConnectionAge",
        ],
    );
    Some(Pool {
        connections_max: field.at("maxConnections").number(),
        pending_max: field.at("maxPendingRequests").number(),
        requests_max: field.at("maxRequests").number(),
        requests_per_connection: field.at("maxRequestsPerConnection").number().filter(|most| *most > 0),
        retries_max: field.at("maxRetries").number(),
        streams_max: field.at("maxStreamsPerConnection").number().filter(|most| *most > 0),
        connect_timeout: some_duration(&field.at("connectTimeout")),
        idle_timeout: duration(&field.at("idleTimeout")),
        age_max: some_duration(&field.at("maxConnectionAge")),
        http: None,
        as_caller: false,
    })
}

fn outlier(field: &Field<'_>) -> Option<Outlier> {
    if !field.is_there() {
        return None;
    }
    known(
        field,
        &[
            "consecutiveErrors",
            "consecutiveGatewayErrors",
            "consecutiveLocalFailures",
            "errorCodes",
            "interval",
            "baseEjectionTime",
            "maxEjectionTime",
            "maxEjectedPercent",
            "minHealthyPercent",
        ],
    );
    let code = |field: &Field<'_>| {
        let code =
            field.number().and_then(|number| u16::try_from(number).ok()).filter(|code| (100..600).contains(code));
        if code.is_none() {
            field.note("is not a status from 100 to 599");
        }
        code
    };
    let seconds =
        |key: &str, otherwise: u64| some_duration(&field.at(key)).unwrap_or_else(|| Duration::from_secs(otherwise));
    Some(Outlier {
        consecutive_errors: field.at("consecutiveErrors").number().unwrap_or(5),
        consecutive_gateway_errors: field.at("consecutiveGatewayErrors").number().unwrap_or(0),
        consecutive_local_failures: field.at("consecutiveLocalFailures").number().unwrap_or(0),
        error_codes: field.at("errorCodes").list().iter().filter_map(code).collect(),
        interval: seconds("interval", 10),
        base_ejection: seconds("baseEjectionTime", 30),
        max_ejection: seconds("maxEjectionTime", 300),
        max_ejected_percent: whole_percent(&field.at("maxEjectedPercent")).unwrap_or(10),
        min_healthy_percent: whole_percent(&field.at("minHealthyPercent")).unwrap_or(0),
    })
}

fn retry_budget(field: &Field<'_>) -> Option<RetryBudget> {
    if !field.is_there() {
        return None;
    }
    known(field, &["percent", "minRetries"]);
    Some(RetryBudget {
        share: percent(&field.at("percent")).unwrap_or(Fraction(200_000)),
        at_least: field.at("minRetries").number().unwrap_or(3),
    })
}

fn adaptive(field: &Field<'_>) -> Option<AdaptiveConcurrency> {
    if !field.is_there() {
        return None;
    }
    known(field, &["minRequests", "maxRequests"]);
    let minimum = field.at("minRequests").number().unwrap_or(3).max(1);
    let maximum = field.at("maxRequests").number().unwrap_or(1000);
    if maximum < minimum {
        field.at("maxRequests").note("is below minRequests");
    }
    Some(AdaptiveConcurrency { minimum, maximum })
}
