//! What is told of requests and connections: exactly one line and one count for each, at its end.
//!
//! Rooms: [`outcome`] (how it ended) · [`flags`] (what went wrong, in Envoy's letters) · [`party`]
//! (who is at each end) · [`access`] and `line` (the line) · [`writer`] (lines out, without anybody waiting) ·
//! `series` and `scrape` (the counts) · `shape` (what users change of labels) · [`attribute`] and
//! `facts` (fields by name) · [`messages`] (of gRPC, counted) · [`telling`] (what is told of a
//! service's requests) · [`decision`] (a header that explains a refusal).
//!
//! The path of a request does here: one look-up in a map under a lock for reading, some atomic
//! additions, and one line that is handed to a thread. Nothing here is awaited.

pub mod access;
pub mod attribute;
pub mod decision;
mod facts;
pub mod flags;
mod line;
pub mod messages;
pub mod outcome;
pub mod party;
mod scrape;
mod series;
mod shape;
pub mod telling;
pub mod writer;

pub use flags::{Flag, Flags};
pub use messages::Messages;
pub use outcome::{ORIGINAL_PATH, Outcome, Protocol, Security, details};
pub use party::{Asked, Party, Shared};
pub use series::OpenConnection;
pub use telling::Telling;
pub use writer::Writer;

use access::Format;
use chassis::metrics::Registry;
use hbone::relay::Meter;
use series::{AllSeries, Key};
use std::sync::Arc;

/// Where requests are told of. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Reporter {
    series: AllSeries,
    log: Option<(Writer, Format)>,
}

impl Reporter {
    /// A reporter whose counts are in `registry`, and whose lines go to `log` if anywhere.
    pub fn new(registry: &mut Registry, log: Option<(Writer, Format)>) -> Self {
        let series = AllSeries::default();
        registry.register_collector(Box::new(series.clone()));
        if let Some((writer, _)) = &log {
            registry.register_collector(Box::new(writer.clone()));
        }
        Self { series, log }
    }

    /// A request ended.
    pub fn request(&self, outcome: &Outcome, telling: &Telling) {
        self.series.of(Key::of(outcome, telling.shape(outcome))).request(outcome);
        self.write(outcome, telling);
    }

    /// A connection that is not HTTP is open; it is counted from now on, and told with
    /// [`connection`](Self::connection) at its end.
    pub fn opened(&self, outcome: &Outcome, telling: &Telling, meter: Arc<Meter>) -> OpenConnection {
        self.series.open(Key::of(outcome, telling.shape(outcome)), meter)
    }

    /// A connection ended. One that never was open (`open` is none) counts as opened and closed,
    /// with its flags.
    pub fn connection(&self, outcome: &Outcome, telling: &Telling, open: Option<OpenConnection>) {
        if open.is_none() {
            drop(self.opened(outcome, telling, Arc::default()));
        }
        drop(open);
        self.write(outcome, telling);
    }

    fn write(&self, outcome: &Outcome, telling: &Telling) {
        if let Some((writer, format)) = self.log.as_ref().filter(|_| telling.writes(outcome)) {
            writer.send(format.line(outcome));
        }
    }

    /// Lines that were lost because they could not be written fast enough.
    pub fn lines_dropped(&self) -> u64 {
        self.log.as_ref().map_or(0, |(writer, _)| writer.dropped())
    }

    /// Waits until the lines are written, a second at most. Blocks the thread.
    pub fn flush(&self) {
        if let Some((writer, _)) = &self.log {
            writer.flush();
        }
    }
}

#[cfg(test)]
mod tests;
