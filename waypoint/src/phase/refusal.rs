//! What a caller is answered when no endpoint did: one row for each failure. Pure.

use http::header::{self, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use mesh::route::retry::TryOutcome;

use crate::answer::Reply;
use crate::outlier::Heard;
use crate::report::{Flag, Flags, details};
use crate::rules::Missing;
use crate::upstream::failure::{ConnectFailure, TryFailure};

/// The answer, in Envoy's words.
pub fn reply(failure: &TryFailure) -> Reply {
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    let (status, flags, why, text): (_, Flags, _, _) = match failure {
        TryFailure::NoEndpoint => {
            (unavailable, Flag::NoHealthyUpstream.into(), details::NO_HEALTHY_UPSTREAM, "no healthy upstream")
        }
        TryFailure::Overflow(_) | TryFailure::Connect(ConnectFailure::Full) => {
            (unavailable, Flag::UpstreamOverflow.into(), details::OVERFLOW, "upstream connect error: overflow")
        }
        TryFailure::Connect(ConnectFailure::Name { .. }) => {
            let flags = Flags::from(Flag::UpstreamConnectionFailure).with(Flag::DnsFailure);
            (unavailable, flags, details::CONNECT_FAILURE, "upstream connect error: connection failure")
        }
        TryFailure::Connect(_) => {
            let flags = Flag::UpstreamConnectionFailure.into();
            (unavailable, flags, details::CONNECT_FAILURE, "upstream connect error: connection failure")
        }
        TryFailure::Unsent | TryFailure::NoWebSocket | TryFailure::Reset(_) => (
            unavailable,
            Flag::UpstreamConnectionTermination.into(),
            details::CONNECTION_TERMINATION,
            "upstream connect error or disconnect before headers: connection termination",
        ),
        TryFailure::RefusedStream => (
            unavailable,
            Flag::UpstreamReset.into(),
            details::REMOTE_RESET,
            "upstream connect error or disconnect before headers: remote reset",
        ),
        TryFailure::Malformed(_) => (
            StatusCode::BAD_GATEWAY,
            Flag::UpstreamProtocolError.into(),
            details::PROTOCOL_ERROR,
            "upstream connect error or disconnect before headers: protocol error",
        ),
        TryFailure::Caller(_) => {
            (StatusCode::BAD_REQUEST, Flag::DownstreamTermination.into(), details::DOWNSTREAM_DISCONNECT, "")
        }
        TryFailure::PerTry(_) => {
            let flags = Flag::UpstreamTimeout.into();
            (StatusCode::GATEWAY_TIMEOUT, flags, details::PER_TRY_TIMEOUT, "upstream request timeout")
        }
        TryFailure::Timeout(_) => {
            let flags = Flag::UpstreamTimeout.into();
            (StatusCode::GATEWAY_TIMEOUT, flags, details::RESPONSE_TIMEOUT, "upstream request timeout")
        }
        TryFailure::Idle(_) => {
            (StatusCode::GATEWAY_TIMEOUT, Flag::StreamIdleTimeout.into(), details::IDLE_TIMEOUT, "stream timeout")
        }
    };
    let mut reply = Reply::new(status, flags, why).saying(text);
    if flags.has(Flag::UpstreamOverflow) {
        let overloaded = HeaderName::from_static("x-envoy-overloaded");
        reply.headers.push((overloaded, HeaderValue::from_static("true")));
    }
    if let TryFailure::Connect(connect) = failure {
        reply.failure = Some(connect.to_string().into());
    }
    reply
}

/// The answer where there are no rules. Whoever is connected is to come again: perhaps to another waypoint.
pub fn no_rules(missing: Missing, version: Version) -> Reply {
    let reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, Flag::NoCluster.into(), details::NO_RULES);
    let mut reply = reply.saying(missing.to_string());
    if version <= Version::HTTP_11 {
        reply.headers.push((header::CONNECTION, HeaderValue::from_static("close")));
    }
    reply
}

/// What the decision on another try is told; none: there is nothing to decide.
pub fn outcome(failure: &TryFailure, sent: bool) -> Option<TryOutcome> {
    match failure {
        TryFailure::Connect(ConnectFailure::Full) | TryFailure::Overflow(_) | TryFailure::NoEndpoint => None,
        TryFailure::Caller(_) | TryFailure::Timeout(_) | TryFailure::Idle(_) => None,
        TryFailure::Connect(_) | TryFailure::Unsent | TryFailure::NoWebSocket => Some(TryOutcome::ConnectFailed),
        TryFailure::RefusedStream => Some(TryOutcome::RefusedStream),
        TryFailure::Reset(_) | TryFailure::Malformed(_) => Some(TryOutcome::Reset { sent }),
        TryFailure::PerTry(_) => Some(TryOutcome::TimedOut { sent }),
    }
}

/// What the endpoint's record is told; none: it says nothing of the endpoint.
pub fn heard(failure: &TryFailure) -> Option<Heard> {
    match failure {
        TryFailure::NoEndpoint | TryFailure::Overflow(_) | TryFailure::Caller(_) | TryFailure::Idle(_) => None,
        TryFailure::Connect(ConnectFailure::Full) | TryFailure::NoWebSocket => None,
        TryFailure::Connect(_)
        | TryFailure::Unsent
        | TryFailure::RefusedStream
        | TryFailure::Reset(_)
        | TryFailure::Malformed(_)
        | TryFailure::PerTry(_)
        | TryFailure::Timeout(_) => Some(Heard::LocalFailure),
    }
}
