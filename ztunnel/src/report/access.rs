//! The access log: one line for each connection, with Istio's fields in Istio's order.

use super::table::{Row, Told};
use crate::connection::{Connection, Direction, Party};
use std::time::Duration;
use tracing::Level;

/// How much moved, as the client sees it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moved {
    pub(super) requests: u64,
    pub(super) responses: u64,
}

/// The line's level must be known to the compiler, so the line stands once for each.
macro_rules! line {
    ($level:expr, $message:literal, $connection:expr, { $($rest:tt)* }) => {{
        let Connection { source, destination, authority, service, .. } = $connection;
        tracing::event!(
            target: "access",
            parent: None,
            $level,
            src.addr = %source.address,
            src.workload = name(source),
            src.namespace = namespace(source),
            src.identity = identity(source),
            src.cluster = cluster(source),
            dst.addr = %destination.address,
            dst.hbone_addr = authority.as_ref().map(tracing::field::display),
            dst.service = service.as_ref().map(|service| &*service.hostname),
            dst.workload = name(destination),
            dst.namespace = namespace(destination),
            dst.identity = identity(destination),
            dst.cluster = cluster(destination),
            direction = direction($connection),
            $($rest)*
            $message
        );
    }};
}

/// A connection is open.
pub(super) fn opened(connection: &Connection) {
    line!(Level::DEBUG, "connection opened", connection, {});
}

/// It ended, or never was open; what `row` says of it.
pub(super) fn ended(connection: &Connection, row: &Row, moved: Moved, duration: Duration) {
    // Bytes are told from where the local workload stands.
    let (bytes_sent, bytes_recv) = match connection.direction {
        Direction::Outbound => (moved.requests, moved.responses),
        Direction::Inbound => (moved.responses, moved.requests),
    };
    let duration = format!("{}ms", duration.as_millis());
    match (&row.error, row.told) {
        (None, _) => line!(Level::INFO, "connection complete", connection, {
            bytes_sent, bytes_recv, duration = duration.as_str(),
        }),
        (Some(error), Told::Complete) => line!(Level::ERROR, "connection complete", connection, {
            bytes_sent, bytes_recv, duration = duration.as_str(), error = error.as_str(),
        }),
        (Some(error), Told::Early) => tracing::event!(
            target: "access",
            parent: None,
            Level::WARN,
            src.addr = %connection.source.address,
            dst.addr = %connection.destination.address,
            direction = direction(connection),
            error = error.as_str(),
            "connection failed"
        ),
    }
}

fn name(party: &Party) -> Option<&str> {
    party.workload.as_ref().map(|workload| &*workload.name).filter(|name| !name.is_empty())
}

fn namespace(party: &Party) -> Option<&str> {
    party.workload.as_ref().map(|workload| &*workload.namespace).filter(|namespace| !namespace.is_empty())
}

fn cluster(party: &Party) -> Option<&str> {
    party.workload.as_ref().map(|workload| &*workload.cluster_id).filter(|cluster| !cluster.is_empty())
}

fn identity(party: &Party) -> Option<String> {
    party.identity.as_ref().map(ToString::to_string)
}

const fn direction(connection: &Connection) -> &'static str {
    match connection.direction {
        Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
    }
}
