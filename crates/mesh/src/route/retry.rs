//! Whether a request is tried again.
//!
//! One law stands above every policy: a request whose method is not idempotent (RFC 9110 §9.2.2)
//! is never repeated once a byte of it may have been processed. A response is a sign that it was,
//! so a `POST` is not repeated for a 503, and no gRPC call for its status.

use super::{http::Retry, text::Fraction};
use std::time::Duration;

/// Further tries where nobody said how many.
pub const DEFAULT_ATTEMPTS: u32 = 2;

/// The wait before the first further try where nobody said how long (Envoy's).
pub const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);

/// No wait is longer than so many times the first (Envoy's).
const BACKOFF_GROWTH_MAX: u32 = 10;

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryOutcome {
    /// No connection came about, so nothing was sent.
    ConnectFailed,
    /// The peer says that it has not processed the stream (RFC 9113 §8.7: REFUSED_STREAM, or a
    /// GOAWAY with a smaller last stream).
    RefusedStream,
    /// The connection or stream ended before there were headers of a response.
    Reset {
        /// A byte of the request may have left.
        sent: bool,
    },
    /// It ended after the headers of the response had come, and gone to the caller.
    ResetAfterHeaders,
    /// The time for one try passed before there were headers of a response.
    TimedOut {
        /// A byte of the request may have left.
        sent: bool,
    },
    /// There are headers of a response; they have not gone to the caller yet.
    Response {
        /// Its status.
        status: u16,
        /// `grpc-status`, where it stands among them.
        grpc_status: Option<u8>,
    },
}

impl TryOutcome {
    /// Whether it is certain that nothing of the request was processed.
    pub fn untouched(self) -> bool {
        match self {
            Self::ConnectFailed | Self::RefusedStream => true,
            Self::Reset { sent } | Self::TimedOut { sent } => !sent,
            Self::ResetAfterHeaders | Self::Response { .. } => false,
        }
    }
}

/// What else is known when a try has ended.
#[derive(Clone, Copy, Debug)]
pub struct Tries<'a> {
    /// The method of the request.
    pub method: &'a str,
    /// What the rule says; none: only where nothing can have been processed, twice at most.
    pub policy: Option<&'a Retry>,
    /// The whole body can be sent again.
    pub replayable: bool,
    /// Tries so far, the one that ended included.
    pub made: u32,
    /// The budget of the destination has room for another.
    pub budget: bool,
    /// A throw of a die with a million faces, for the wait.
    pub throw: u32,
}

/// What is done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is tried again, after this.
    Again {
        /// How long is waited.
        wait: Duration,
    },
    /// The caller gets what there is.
    Done(Why),
}

/// Why a request is not tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nobody asked for another try on this, or it went well.
    NotAsked,
    /// It may have been processed, and its method is not idempotent.
    MayBeProcessed,
    /// A part of its body is gone.
    BodyGone,
    /// It was tried as often as it may be.
    Attempts,
    /// Too many requests are tried again just now.
    Budget,
}

/// Whether a request is tried again.
pub fn next(outcome: TryOutcome, tries: &Tries<'_>) -> Next {
    let attempts = tries.policy.map_or(DEFAULT_ATTEMPTS, |policy| policy.attempts);
    let asked = match tries.policy {
        Some(policy) => is_asked(outcome, policy),
        None => outcome.untouched() && !matches!(outcome, TryOutcome::TimedOut { .. }),
    };
    if !asked || outcome == TryOutcome::ResetAfterHeaders {
        Next::Done(Why::NotAsked)
    } else if !outcome.untouched() && !is_idempotent(tries.method) {
        Next::Done(Why::MayBeProcessed)
    } else if !tries.replayable {
        Next::Done(Why::BodyGone)
    } else if tries.made > attempts {
        Next::Done(Why::Attempts)
    } else if !tries.budget {
        Next::Done(Why::Budget)
    } else {
        let first = tries.policy.and_then(|policy| policy.backoff).unwrap_or(DEFAULT_BACKOFF);
        Next::Again { wait: wait(first, tries.made, tries.throw) }
    }
}

/// Whether a policy wants another try on this. No response at all is a 503 of ours, so what asks
/// for that asks for it too.
fn is_asked(outcome: TryOutcome, policy: &Retry) -> bool {
    let on = &policy.on;
    let unanswered = on.server_error || on.gateway_error;
    match outcome {
        TryOutcome::ConnectFailed => on.connect_failure || unanswered,
        TryOutcome::RefusedStream => on.refused_stream || on.reset || unanswered,
        TryOutcome::Reset { .. } | TryOutcome::TimedOut { .. } => on.reset || unanswered,
        TryOutcome::ResetAfterHeaders => false,
        TryOutcome::Response { status, grpc_status } => {
            (on.server_error && (500..600).contains(&status))
                || (on.gateway_error && matches!(status, 502..=504))
                || (on.conflict && status == 409)
                || on.status.contains(&status)
                || grpc_status.is_some_and(|status| on.grpc_status.contains(&status))
        }
    }
}

/// RFC 9110 §9.2.2. Methods that are not known there are not.
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// Twice as long each time, and up to half as much again by chance, so that those who failed
/// together do not come back together. Never shorter than was asked for (Gateway API: `backoff` is
/// the least), never longer than ten times that.
fn wait(first: Duration, made: u32, throw: u32) -> Duration {
    let longest = first.saturating_mul(BACKOFF_GROWTH_MAX);
    let grown = first.saturating_mul(1u32.checked_shl(made.saturating_sub(1)).unwrap_or(u32::MAX));
    let spread = grown.min(longest) / 2;
    let chance = f64::from(throw.min(Fraction::ALL.0)) / f64::from(Fraction::ALL.0);
    grown.saturating_add(spread.mul_f64(chance)).min(longest)
}

#[cfg(test)]
mod tests;
