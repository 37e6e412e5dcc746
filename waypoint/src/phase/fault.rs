//! Faults on purpose.

use http::StatusCode;
use mesh::route::chance::mishap;
use mesh::route::compile::{Hit, faults};
use mesh::route::limit::AbortStatus;
use tokio::time::sleep;

use super::Exchange;
use crate::answer::Reply;
use crate::context::throw;
use crate::report::{Flag, details};
use crate::rules::Prepared;

/// Delays a request, or answers it, as its rule, its service or the waypoint want it.
pub async fn befall(exchange: &mut Exchange, rules: &Prepared, hit: Option<&Hit<'_>>) -> Result<(), Reply> {
    let befalling = mishap(faults(&rules.gateway, &rules.service, hit, &exchange.head()), throw);
    if let Some(delay) = befalling.delay {
        exchange.teller.outcome().flags.add(Flag::DelayInjected);
        sleep(delay).await;
    }
    match befalling.abort {
        None => Ok(()),
        Some(AbortStatus::Http(status)) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Err(abort(status))
        }
        Some(AbortStatus::Grpc(code)) => Err(Reply { grpc: Some(code), ..abort(StatusCode::OK) }),
    }
}

fn abort(status: StatusCode) -> Reply {
    Reply::new(status, Flag::FaultInjected.into(), details::FAULT_ABORT).saying("fault filter abort")
}
