//! Which rule a request takes, and the answers that rules give themselves.

use http::StatusCode;
use http::header::{self, HeaderValue};
use mesh::route::compile::{Hit, Selected};
use mesh::route::cors::Crossing;
use mesh::route::http::{Action, Destination, DirectResponse};

use super::Exchange;
use crate::answer::Reply;
use crate::report::{Flag, Flags, details};
use crate::rules::Prepared;
use crate::target::Target;
use crate::upstream::cluster::ClusterKey;

/// The rule that a request takes; none: it goes where it was sent.
pub fn select<'r>(exchange: &Exchange, rules: &'r Prepared) -> Result<Option<Hit<'r>>, Reply> {
    if matches!(exchange.call.target, Target::Workload { .. }) {
        return Ok(None);
    }
    match rules.service.select(&exchange.head()) {
        Selected::Rule(hit) => Ok(Some(hit)),
        Selected::NoRoute { routes_exist: false } => Ok(None),
        Selected::NoRoute { routes_exist: true } => {
            Err(Reply::new(StatusCode::NOT_FOUND, Flag::NoRoute.into(), details::ROUTE_NOT_FOUND))
        }
    }
}

/// What a rule answers itself: to a preflight, by a redirect, or with an answer of its author's.
pub fn own_answer(exchange: &mut Exchange, hit: &Hit<'_>) -> Option<Reply> {
    let head = exchange.head();
    let crossing = hit.crossing(&head);
    let location = hit.location(&head);
    match crossing {
        Crossing::Silent => {}
        Crossing::Actual(written) => exchange.back.cors = Some(written),
        Crossing::Preflight(written) => {
            let mut reply = Reply::new(StatusCode::NO_CONTENT, Flags::NONE, details::CORS);
            reply.headers = written;
            return Some(reply);
        }
    }
    if let Some(location) = location {
        let status = StatusCode::from_u16(location.status).unwrap_or(StatusCode::FOUND);
        let mut reply = Reply::new(status, Flags::NONE, details::DIRECT_RESPONSE);
        let value = HeaderValue::try_from(location.location).ok()?;
        reply.headers.push((header::LOCATION, value));
        return Some(reply);
    }
    match &hit.rule.action {
        Action::Respond(response) => Some(direct(response)),
        Action::Forward(_) | Action::Redirect(_) => None,
    }
}

/// The destination that is meant; none: there is none such.
pub fn cluster_key(destination: &Destination) -> Option<ClusterKey> {
    match destination {
        Destination::Service { service, port, subset } => {
            Some(ClusterKey { service: service.clone(), port: *port, subset: subset.clone() })
        }
        Destination::Invalid { .. } => None,
    }
}

fn direct(response: &DirectResponse) -> Reply {
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = Reply::new(status, Flags::NONE, details::DIRECT_RESPONSE);
    if let Some((body, kind)) = &response.body {
        reply.body = bytes::Bytes::copy_from_slice(body.as_bytes());
        if let Ok(kind) = HeaderValue::from_str(kind) {
            reply.headers.push((header::CONTENT_TYPE, kind));
        }
    }
    reply
}
