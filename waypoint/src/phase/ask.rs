//! Somebody else is asked whether a request may pass.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use hyper::body::Incoming;
use mesh::route::guard::{BodyShown, ExternalAuthorizer, GuardPolicy};
use tokio::time::timeout;

use super::token::{lend, take_back};
use super::{Exchange, refusal};
use crate::answer::Reply;
use crate::body::Coming;
use crate::external::Call;
use crate::external::authorization::{self, Denied, Subject, Verdict};
use crate::external::shown::{CannotShow, Part, show};
use crate::report::{Flag, details};
use crate::upstream::asking::Asker;
use crate::upstream::failure::TryFailure;

/// How long a caller may take to send the part of its body that is shown.
const SHOWN_DEADLINE: Duration = Duration::from_secs(15);

/// Asks everybody that policies name, one after the other; the first refusal counts.
pub async fn everybody(
    exchange: &mut Exchange,
    ask: &[(&GuardPolicy, &ExternalAuthorizer)],
    body: Incoming,
) -> Result<Coming, Reply> {
    match ask {
        [] => Ok(Coming::Incoming(body)),
        // Apart, so that requests of which nobody is asked do not carry the room for it.
        ask => Box::pin(each(exchange, ask, body)).await,
    }
}

async fn each(
    exchange: &mut Exchange,
    ask: &[(&GuardPolicy, &ExternalAuthorizer)],
    body: Incoming,
) -> Result<Coming, Reply> {
    let most = ask.iter().filter_map(|(_, authorizer)| authorizer.body).map(|shown| shown.bytes_max).max();
    let (part, body) = match most {
        None => (Part::default(), Coming::Incoming(body)),
        Some(bytes_max) => shown_of(body, BodyShown { bytes_max, allow_partial: true }).await?,
    };
    let call: Arc<dyn Call> = Arc::new(Asker::of(&exchange.core));
    for (policy, authorizer) in ask {
        let part = part_for(&part, authorizer)?;
        match one(exchange, &call, authorizer, part.as_ref()).await {
            Verdict::Pass(changes) => exchange.back.external.push(changes),
            Verdict::Refuse(refused) => {
                tracing::debug!(
                    policy = &*policy.name,
                    provider = &*authorizer.name,
                    "an authorizer refused a request"
                );
                return Err(denied(refused));
            }
        }
    }
    Ok(body)
}

async fn shown_of(body: Incoming, shown: BodyShown) -> Result<(Part, Coming), Reply> {
    match timeout(SHOWN_DEADLINE, show(body, shown)).await {
        Ok(Ok((part, held))) => Ok((part, Coming::Held(Box::new(held)))),
        Ok(Err(CannotShow::TooLarge)) => Err(denied(Denied::too_large())),
        Ok(Err(CannotShow::Broken(error))) => Err(refusal::reply(&TryFailure::Caller(error.to_string().into()))),
        Err(_) => Err(Reply::new(StatusCode::REQUEST_TIMEOUT, Flag::StreamIdleTimeout.into(), details::IDLE_TIMEOUT)),
    }
}

/// The part that one authorizer may see; none: it wants none.
fn part_for(part: &Part, authorizer: &ExternalAuthorizer) -> Result<Option<Part>, Reply> {
    let Some(shown) = authorizer.body else { return Ok(None) };
    let most = shown.bytes_max as usize;
    let cut = part.cut || part.bytes.len() > most;
    if cut && !shown.allow_partial {
        return Err(denied(Denied::too_large()));
    }
    Ok(Some(Part { bytes: part.bytes.slice(..part.bytes.len().min(most)), cut }))
}

async fn one(
    exchange: &mut Exchange,
    call: &Arc<dyn Call>,
    authorizer: &ExternalAuthorizer,
    part: Option<&Part>,
) -> Verdict {
    let mut head = lend(exchange);
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, exchange.call.target.port()));
    let subject = Subject {
        head: &head,
        authority: &exchange.wanted.authority,
        scheme: "http",
        time: SystemTime::now(),
        source: exchange.call.from,
        source_identity: Some(&exchange.call.caller),
        destination: exchange.call.target.address().unwrap_or(nowhere),
        own_identity: Some(&exchange.core.waypoint.settings.own.identity),
        server_name: None,
        body: part,
    };
    let verdict = authorization::ask(call, authorizer, &subject).await;
    if let Verdict::Pass(changes) = &verdict {
        changes.request(&mut head);
    }
    take_back(exchange, head);
    verdict
}

fn denied(denied: Denied) -> Reply {
    let (flag, why) = (denied.flag(), denied.details);
    Reply::ready(denied.response(), flag.into(), why)
}
