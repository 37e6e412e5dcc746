//! XBackendTrafficPolicy.

use super::{
    Reader, refs,
    values::{duration, only},
};
use crate::{
    facts::{BackendTrafficPolicy, Meta},
    files::field::{Field, Notes},
};
use mesh::route::{text::Fraction, traffic::RetryBudget};
use std::time::Duration;

pub(in crate::files) fn traffic_policy(object: &Field<'_>, meta: Meta, notes: &Notes) -> BackendTrafficPolicy {
    let spec = object.at("spec");
    only(&spec, &["targetRefs", "retryConstraint", "sessionPersistence"]);
    let reader = Reader::new(&meta);
    let targets = refs::targets(&spec, &reader);
    let retry_budget = retry_budget(&spec.at("retryConstraint"), &reader);
    let session = spec.at("sessionPersistence");
    if session.is_there() {
        let message = "is honoured in the rules of routes, not for a whole service";
        reader.remark(&session, "Accepted", "UnsupportedValue", message);
    }
    let remarks = reader.remarks.into_inner();
    BackendTrafficPolicy { targets, retry_budget, refused: notes.listed(), remarks, meta }
}

/// The share of requests in flight that may be further tries. Over which time the share is taken
/// means nothing here, because what is in flight is counted and not what has been.
fn retry_budget(field: &Field<'_>, reader: &Reader<'_>) -> Option<RetryBudget> {
    if !field.is_there() {
        return None;
    }
    only(field, &["budget", "minRetryRate"]);
    let (budget, rate) = (field.at("budget"), field.at("minRetryRate"));
    only(&budget, &["percent", "interval"]);
    only(&rate, &["count", "interval"]);
    let percent = budget.at("percent");
    let share = if percent.is_there() { percent.number().unwrap_or(0) } else { 20 };
    if share > 100 {
        percent.note("is not between 0 and 100");
    }
    let count = rate.at("count");
    let at_least = if count.is_there() { count.number().unwrap_or(0) } else { 10 };
    if at_least == 0 || at_least > 1_000_000 {
        count.note("is not between 1 and 1000000");
    }
    for interval in [budget.at("interval"), rate.at("interval")] {
        if duration(&interval).is_some_and(|interval| interval > Duration::from_secs(3600)) {
            interval.note("is longer than an hour");
        }
        if interval.is_there() {
            let message = "is not honoured: tries in flight are counted, not those of a time";
            reader.remark(&interval, "Accepted", "UnsupportedValue", message);
        }
    }
    Some(RetryBudget { share: Fraction(share.min(100) * 10_000), at_least })
}
