//! Routes of HTTP requests: matches, rules, timeouts, retries, sessions.

use super::{
    super::known,
    filter, limit,
    value::{
        self, Read, all, durations, name, number, optional, read_durations, read_ports, required, some, text,
        unless_empty, within,
    },
};
use mesh::route::http::{
    Action, Backend, HttpMatch, HttpRoute, HttpRule, Precedence, Retry, RetryOn, Session, SessionCarrier, Timeouts,
};
use proto::waypoint as wire;

pub(super) fn encode(route: &HttpRoute) -> wire::HttpRoute {
    wire::HttpRoute {
        name: text(&route.name),
        created: optional(&route.created),
        ports: value::ports(&route.ports),
        callers: optional(&route.callers),
        precedence: match route.precedence {
            Precedence::Specific => wire::Precedence::Specific,
            Precedence::Listed => wire::Precedence::Listed,
        }
        .into(),
        rules: route.rules.iter().map(rule).collect(),
    }
}

pub(super) fn read(route: wire::HttpRoute) -> Read<HttpRoute> {
    let place = route.name.clone();
    let read = || {
        Ok(HttpRoute {
            name: route.name.into(),
            created: route.created.map(Into::into),
            ports: read_ports("ports", route.ports)?,
            callers: route.callers.map(Into::into),
            precedence: match known("precedence", route.precedence)? {
                wire::Precedence::Specific => Precedence::Specific,
                wire::Precedence::Listed => Precedence::Listed,
                wire::Precedence::Unspecified => return Err(super::DecodeError::Missing("precedence")),
            },
            rules: all(route.rules, read_rule)?,
        })
    };
    within("route", &place, read())
}

fn rule(rule: &HttpRule) -> wire::HttpRule {
    use wire::http_rule::Action as Wire;
    wire::HttpRule {
        name: text(&rule.name),
        matches: rule.matches.iter().map(matched).collect(),
        filters: unless_empty(filter::encode(&rule.filters)),
        action: Some(match &rule.action {
            Action::Forward(backends) => {
                Wire::Forward(wire::Forward { backends: backends.iter().map(backend).collect() })
            }
            Action::Redirect(redirect) => Wire::Redirect(filter::redirect(redirect)),
            Action::Respond(response) => Wire::Respond(filter::response(response)),
        }),
        timeouts: unless_empty(wire::Timeouts {
            request: durations(rule.timeouts.request),
            backend_request: durations(rule.timeouts.backend_request),
            idle: durations(rule.timeouts.idle),
        }),
        retry: rule.retry.as_ref().map(retry),
        session: rule.session.as_ref().map(session),
        limits: rule.limits.iter().map(limit::encode).collect(),
        faults: rule.faults.iter().map(limit::fault).collect(),
    }
}

fn read_rule(rule: wire::HttpRule) -> Read<HttpRule> {
    use wire::http_rule::Action as Wire;
    let place = rule.name.clone();
    let timeouts = rule.timeouts.unwrap_or_default();
    let read = || {
        Ok(HttpRule {
            name: rule.name.into(),
            matches: all(rule.matches, read_match)?,
            filters: filter::read(rule.filters.unwrap_or_default())?,
            action: match required("action", rule.action)? {
                Wire::Forward(forward) => Action::Forward(all(forward.backends, read_backend)?),
                Wire::Redirect(redirect) => Action::Redirect(filter::read_redirect(redirect)?),
                Wire::Respond(response) => Action::Respond(filter::read_response(response)?),
            },
            timeouts: Timeouts {
                request: read_durations("timeouts.request", timeouts.request)?,
                backend_request: read_durations("timeouts.backend_request", timeouts.backend_request)?,
                idle: read_durations("timeouts.idle", timeouts.idle)?,
            },
            retry: some(rule.retry, read_retry)?,
            session: some(rule.session, read_session)?,
            limits: all(rule.limits, limit::read)?,
            faults: all(rule.faults, limit::read_fault)?,
        })
    };
    within("rule", &place, read())
}

pub(super) fn matched(matched: &HttpMatch) -> wire::HttpMatch {
    let claim = |(path, value): &(Vec<_>, _)| wire::ClaimMatch {
        path: value::texts(path),
        value: Some(value::text_match(value)),
    };
    wire::HttpMatch {
        path: matched.path.as_ref().map(value::path_match),
        path_ignore_case: matched.path_ignore_case,
        method: matched.method.as_ref().map(value::text_match),
        headers: matched.headers.iter().map(value::field_match).collect(),
        without_headers: matched.without_headers.iter().map(value::field_match).collect(),
        query: matched.query.iter().map(value::field_match).collect(),
        authority: matched.authority.as_ref().map(value::text_match),
        scheme: matched.scheme.as_ref().map(value::text_match),
        ports: value::ports(&matched.ports),
        caller_namespace: optional(&matched.caller_namespace),
        claims: matched.claims.iter().map(claim).collect(),
    }
}

pub(super) fn read_match(matched: wire::HttpMatch) -> Read<HttpMatch> {
    Ok(HttpMatch {
        path: some(matched.path, value::read_path_match)?,
        path_ignore_case: matched.path_ignore_case,
        method: value::read_optional_match("method", matched.method)?,
        headers: value::read_field_matches("headers", matched.headers)?,
        without_headers: value::read_field_matches("without_headers", matched.without_headers)?,
        query: value::read_field_matches("query", matched.query)?,
        authority: value::read_optional_match("authority", matched.authority)?,
        scheme: value::read_optional_match("scheme", matched.scheme)?,
        ports: read_ports("ports", matched.ports)?,
        caller_namespace: matched.caller_namespace.map(Into::into),
        claims: all(matched.claims, |claim| {
            Ok((value::path("claims", claim.path)?, value::read_text_match("claims", claim.value)?))
        })?,
    })
}

fn backend(backend: &Backend) -> wire::Backend {
    wire::Backend {
        destination: Some(value::destination(&backend.destination)),
        weight: backend.weight,
        request_headers: unless_empty(filter::headers(&backend.request_headers)),
        response_headers: unless_empty(filter::headers(&backend.response_headers)),
    }
}

fn read_backend(backend: wire::Backend) -> Read<Backend> {
    Ok(Backend {
        destination: value::read_destination(backend.destination)?,
        weight: backend.weight,
        request_headers: filter::read_headers(backend.request_headers)?,
        response_headers: filter::read_headers(backend.response_headers)?,
    })
}

fn retry(retry: &Retry) -> wire::Retry {
    let Retry { attempts, per_try_timeout, on, backoff } = retry;
    wire::Retry {
        attempts: *attempts,
        per_try_timeout: durations(*per_try_timeout),
        backoff: durations(*backoff),
        connect_failure: on.connect_failure,
        refused_stream: on.refused_stream,
        reset: on.reset,
        server_error: on.server_error,
        gateway_error: on.gateway_error,
        conflict: on.conflict,
        status: value::ports(&on.status),
        grpc_status: on.grpc_status.iter().copied().map(u32::from).collect(),
    }
}

fn read_retry(retry: wire::Retry) -> Read<Retry> {
    Ok(Retry {
        attempts: retry.attempts,
        per_try_timeout: read_durations("retry.per_try_timeout", retry.per_try_timeout)?,
        backoff: read_durations("retry.backoff", retry.backoff)?,
        on: RetryOn {
            connect_failure: retry.connect_failure,
            refused_stream: retry.refused_stream,
            reset: retry.reset,
            server_error: retry.server_error,
            gateway_error: retry.gateway_error,
            conflict: retry.conflict,
            status: all(retry.status, |status| number("retry.status", status))?,
            grpc_status: all(retry.grpc_status, |status| number("retry.grpc_status", status))?,
        },
    })
}

fn session(session: &Session) -> wire::Session {
    wire::Session {
        name: text(&session.name),
        carrier: match session.carrier {
            SessionCarrier::SessionCookie => wire::SessionCarrier::SessionCookie,
            SessionCarrier::PermanentCookie => wire::SessionCarrier::PermanentCookie,
            SessionCarrier::Header => wire::SessionCarrier::Header,
        }
        .into(),
        absolute_timeout: durations(session.absolute_timeout),
        idle_timeout: durations(session.idle_timeout),
    }
}

fn read_session(session: wire::Session) -> Read<Session> {
    Ok(Session {
        name: name("session.name", session.name)?,
        carrier: match known("session.carrier", session.carrier)? {
            wire::SessionCarrier::SessionCookie => SessionCarrier::SessionCookie,
            wire::SessionCarrier::PermanentCookie => SessionCarrier::PermanentCookie,
            wire::SessionCarrier::Header => SessionCarrier::Header,
            wire::SessionCarrier::Unspecified => return Err(super::DecodeError::Missing("session.carrier")),
        },
        absolute_timeout: read_durations("session.absolute_timeout", session.absolute_timeout)?,
        idle_timeout: read_durations("session.idle_timeout", session.idle_timeout)?,
    })
}
