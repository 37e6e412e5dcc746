//! A response header that says which rule refused a request, and why. Off unless the operator asks
//! for it: it tells callers the names of policies.

use super::outcome::Outcome;
use http::{HeaderName, HeaderValue};

/// The header.
pub const DECISION: HeaderName = HeaderName::from_static("x-waypoint-decision");

/// Its value for a refusal of ours: flags, details and route (`RL;local_rate_limited;HTTPRoute/shop/web/0`).
pub fn decision(outcome: &Outcome) -> Option<HeaderValue> {
    let text = format!("{};{};{}", outcome.flags, outcome.details, outcome.route);
    // What a header cannot carry is not worth an error: names of objects are plain.
    HeaderValue::from_str(&text).ok()
}
