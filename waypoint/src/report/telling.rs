//! What is told of the requests of a service: the service's Telemetry over the waypoint's, ready to
//! be asked.

use super::{
    outcome::Outcome,
    party::Shared,
    shape::{Changed, Row, Shape},
};
use mesh::route::{expression::Expression, telemetry::Telemetry};

/// What is told. Made once for the rules of a service, and asked for each request.
#[derive(Clone, Debug)]
pub struct Telling {
    log: bool,
    filter: Option<Expression>,
    changes: Option<(Shape, Shared<Box<[Row]>>)>,
}

impl Telling {
    /// What a service says, and where it says nothing the waypoint; `log` is whether lines are
    /// written when neither says. What cannot be used is in the second part, for the log: a label
    /// that cannot be read is `unknown`, a filter that cannot be read lets every line through.
    pub fn of(service: Option<&Telemetry>, gateway: &Telemetry, log: bool) -> (Self, Vec<String>) {
        let mut complaints = Vec::new();
        let said = service.and_then(|telemetry| telemetry.access_log.as_ref()).or(gateway.access_log.as_ref());
        let log = said.map_or(log, |said| !said.disabled);
        let filter = said.and_then(|said| said.filter.as_deref()).map(Expression::parse).transpose();
        let filter = filter.unwrap_or_else(|error| {
            complaints.push(format!("filter of the access log: {error}"));
            None
        });
        let overrides = gateway.metrics.iter().chain(service.into_iter().flat_map(|telemetry| &telemetry.metrics));
        let shape = Shape::of(overrides, |complaint| complaints.push(complaint));
        let changes = shape.map(|shape| {
            let rows = Shared::new(shape.rows().into());
            (shape, rows)
        });
        (Self { log, filter, changes }, complaints)
    }

    /// What is told where nobody says anything.
    pub fn plain(log: bool) -> Self {
        Self { log, filter: None, changes: None }
    }

    /// Whether a request gets a line.
    pub(super) fn writes(&self, outcome: &Outcome) -> bool {
        self.log && self.filter.as_ref().is_none_or(|filter| filter.is_true(outcome))
    }

    /// The changes of labels with their values for a request.
    pub(super) fn shape(&self, outcome: &Outcome) -> Option<Changed> {
        self.changes.as_ref().map(|(shape, rows)| Changed { rows: rows.clone(), values: shape.values(outcome) })
    }
}
