//! What is told of the requests of a service: the service's Telemetry over the waypoint's, ready to
//! be asked.

use super::{
    outcome::Outcome,
    party::Shared,
    shape::{Changed, Row, Shape},
};
use mesh::route::telemetry::Telemetry;

/// What is told. Made once for the rules of a service, and asked for each request.
#[derive(Clone, Debug)]
pub struct Telling {
    log: bool,
    changes: Option<(Shape, Shared<Box<[Row]>>)>,
}

impl Telling {
    /// What a service says, and where it says nothing the waypoint; `log` is whether lines are
    /// written when neither says. What cannot be used is in the second part, for the log: a label
    /// that cannot be read is `unknown`, a filter that cannot be read lets every line through.
    pub fn of(service: Option<&Telemetry>, gateway: &Telemetry, log: bool) -> (Self, Vec<String>) {
        let mut complaints = Vec::new();
        let log = service
            .and_then(|telemetry| telemetry.access_log.as_ref())
            .or(gateway.access_log.as_ref())
            .map_or(log, |said| !said.disabled);
        let overrides = gateway.metrics.iter().chain(service.into_iter().flat_map(|telemetry| &telemetry.metrics));
        let shape = Shape::of(overrides, |complaint| complaints.push(complaint));
        let changes = shape.map(|shape| {
            let rows = Shared::new(shape.rows().into());
            (shape, rows)
        });
        (Self { log, changes }, complaints)
    }

    /// What is told where nobody says anything.
    pub fn plain(log: bool) -> Self {
        Self { log, changes: None }
    }

    /// Whether a request gets a line.
    pub(super) fn writes(&self, _outcome: &Outcome) -> bool {
        self.log
    }

    /// The changes of labels with their values for a request.
    pub(super) fn shape(&self, outcome: &Outcome) -> Option<Changed> {
        self.changes.as_ref().map(|(shape, rows)| Changed { rows: rows.clone(), values: shape.values(outcome) })
    }
}
