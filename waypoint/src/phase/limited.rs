//! Were there too many requests? The limits of everything are asked before those of the rule.

use mesh::route::compile::Hit;
use mesh::route::limit::RateLimit;

use super::Exchange;
use crate::answer::Reply;
use crate::limit::Verdict;
use crate::report::Flag;
use crate::rules::Prepared;

/// The limits of the waypoint and of the service.
pub async fn of_all(exchange: &mut Exchange, rules: &Prepared) -> Result<(), Reply> {
    let head = exchange.head();
    let all: Vec<RateLimit> = rules.gateway.limits(&head).chain(rules.service.limits(&head)).cloned().collect();
    check(exchange, &all).await
}

/// The limits of the rule.
pub async fn of_rule(exchange: &mut Exchange, hit: &Hit<'_>) -> Result<(), Reply> {
    if hit.rule.limits.is_empty() {
        return Ok(());
    }
    let all: Vec<RateLimit> = hit.limits(&exchange.head()).cloned().collect();
    check(exchange, &all).await
}

async fn check(exchange: &mut Exchange, limits: &[RateLimit]) -> Result<(), Reply> {
    if limits.is_empty() {
        return Ok(());
    }
    let limiter = exchange.core.waypoint.limiter.clone();
    // Apart, so that requests without limits do not carry the room for it.
    let verdict = Box::pin(limiter.check(limits.iter(), &exchange.head())).await;
    match verdict {
        Verdict::Pass(passed) => {
            if passed.service_failed {
                exchange.teller.outcome().flags.add(Flag::RateLimitServiceError);
            }
            let mut told = passed.response_headers;
            if let Some(left) = &passed.told {
                left.write(&mut told);
            }
            let named = told.iter().map(|(name, value)| (name.clone(), value.clone()));
            exchange.back.added.extend(named);
            for (name, value) in &passed.request_headers {
                exchange.headers.append(name.clone(), value.clone());
            }
            Ok(())
        }
        Verdict::Refuse(refusal) => {
            let response = refusal.response(exchange.grpc).map(Into::into);
            Err(Reply::ready(response, refusal.flag().into(), refusal.details()))
        }
    }
}
