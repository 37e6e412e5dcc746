//! What rules say must be within what can be done: checked before they are used, each mistake
//! named by its place.

use super::{
    Fault, GatewayRules, Guards, HttpRule, RateLimit, ServiceRules, Traffic, Unusable,
    edit::is_host,
    guard::{AuthorizerProtocol, GuardAction},
    http::{Action, HeaderEdit},
    limit::AbortStatus,
    traffic::{Balance, HashAlgorithm},
};
use crate::{authz, limits};
use http::{HeaderName, HeaderValue};

/// The largest code of gRPC (`UNAUTHENTICATED`).
const GRPC_STATUS_MAX: u8 = 16;

pub(super) fn service(rules: &ServiceRules) -> Result<(), Unusable> {
    for route in &rules.http {
        for (at, one) in route.rules.iter().enumerate() {
            rule(one, &format!("{}, rule {at}", route.name))?;
        }
    }
    guards(&rules.guards)?;
    limits_and_faults(&rules.limits, &rules.faults, "the service")?;
    for one in &rules.traffic {
        traffic(one, &one.name)?;
    }
    for subset in &rules.subsets {
        for one in &subset.traffic {
            traffic(one, &format!("{}, subset {}", one.name, subset.name))?;
        }
    }
    Ok(())
}

pub(super) fn gateway(rules: &GatewayRules) -> Result<(), Unusable> {
    guards(&rules.guards)?;
    limits_and_faults(&rules.limits, &rules.faults, "the waypoint")
}

fn rule(rule: &HttpRule, place: &str) -> Result<(), Unusable> {
    headers(&rule.filters.request_headers, place)?;
    headers(&rule.filters.response_headers, place)?;
    match &rule.action {
        Action::Forward(backends) => {
            for backend in backends {
                headers(&backend.request_headers, place)?;
                headers(&backend.response_headers, place)?;
            }
        }
        Action::Redirect(redirect) => {
            let known = matches!(redirect.status, 301 | 302 | 303 | 307 | 308);
            require(known, place, || format!("{} is no status of a redirect", redirect.status))?;
        }
        Action::Respond(answer) => status(answer.status, 200, place)?,
    }
    for code in rule.retry.iter().flat_map(|retry| &retry.on.status) {
        status(*code, 100, place)?;
    }
    limits_and_faults(&rule.limits, &rule.faults, place)
}

fn headers(edit: &HeaderEdit, place: &str) -> Result<(), Unusable> {
    let written = edit.set.iter().chain(&edit.add);
    for (name, value) in written.clone() {
        let good = HeaderValue::from_str(value).is_ok();
        require(good, place, || format!("{value:?} cannot be the value of header {name}"))?;
    }
    for name in written.map(|(name, _)| name).chain(&edit.remove) {
        let good = is_host(name) || name.parse::<HeaderName>().is_ok();
        require(good, place, || format!("{name:?} cannot be the name of a header"))?;
    }
    Ok(())
}

fn limits_and_faults(limits: &[RateLimit], faults: &[Fault], place: &str) -> Result<(), Unusable> {
    for limit in limits {
        require(!limit.per.is_zero(), place, || format!("limit {}: in no time at all", limit.name))?;
    }
    for fault in faults {
        match fault.abort {
            Some((AbortStatus::Http(code), _)) => status(code, 200, place)?,
            Some((AbortStatus::Grpc(code), _)) => {
                require(code <= GRPC_STATUS_MAX, place, || format!("{code} is no status of gRPC"))?;
            }
            None => {}
        }
    }
    Ok(())
}

fn guards(guards: &Guards) -> Result<(), Unusable> {
    for policy in &guards.policies {
        let place = format!("policy {}/{}", policy.namespace, policy.name);
        authz::check_templates(&policy.rules).map_err(|reason| Unusable::at(&place, reason))?;
        let GuardAction::Custom(authorizer) = &policy.action else { continue };
        let place = format!("{place}, authorizer {}", authorizer.name);
        status(authorizer.status_on_error, 200, &place)?;
        require(!authorizer.timeout.is_zero(), &place, || "it may take no time at all".into())?;
        if let AuthorizerProtocol::Http { add_headers, include_headers, .. } = &authorizer.protocol {
            let edit =
                HeaderEdit { add: add_headers.clone(), remove: include_headers.clone(), ..HeaderEdit::default() };
            headers(&edit, &place)?;
        }
    }
    Ok(())
}

fn traffic(traffic: &Traffic, place: &str) -> Result<(), Unusable> {
    if let Balance::Consistent { algorithm, .. } = &traffic.balance {
        let max = limits::HASH_POINTS_MAX;
        match *algorithm {
            HashAlgorithm::Ring { points_min } => {
                require(points_min <= max, place, || format!("a ring of {points_min} points; at most {max}"))?;
            }
            HashAlgorithm::Maglev { entries } => {
                require(entries <= max, place, || format!("a Maglev table of {entries} entries; at most {max}"))?;
                require(is_prime(entries), place, || {
                    format!("a Maglev table of {entries} entries, which is no prime")
                })?;
            }
        }
    }
    if let Some(outlier) = &traffic.outlier {
        let good = outlier.max_ejected_percent <= 100 && outlier.min_healthy_percent <= 100;
        require(good, place, || "more than 100 percent of the endpoints".into())?;
        require(!outlier.interval.is_zero(), place, || "ejected endpoints are looked at all the time".into())?;
    }
    if let Some(adaptive) = &traffic.adaptive {
        let good = 0 < adaptive.minimum && adaptive.minimum <= adaptive.maximum;
        require(good, place, || "the fewest requests at a time are none, or more than the most".into())?;
    }
    Ok(())
}

fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

fn status(code: u16, least: u16, place: &str) -> Result<(), Unusable> {
    require((least..600).contains(&code), place, || format!("{code} is no status from {least} to 599"))
}

fn require(good: bool, place: &str, reason: impl FnOnce() -> String) -> Result<(), Unusable> {
    if good { Ok(()) } else { Err(Unusable::at(place, reason())) }
}

#[cfg(test)]
mod tests;
