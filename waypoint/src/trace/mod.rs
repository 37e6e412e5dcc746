//! Traces: which trace a request belongs to, whether it is recorded, and its span for a collector.
//!
//! Rooms: [`context`] (headers in and out) · [`settings`] (what is traced of a service) · `span` (a
//! request as a span) · `export` (spans out). One span a request, of kind "server"; further tries
//! have none of their own. Whether a trace is recorded is the caller's word if it says one, else
//! chance. Nothing here is awaited by a request.

pub mod context;
mod export;
pub mod settings;
mod span;

pub use context::Context;
pub use settings::Settings;

use crate::{digits, external::Call, report::Outcome};
use export::{Dropped, Exporter};
use http::{HeaderMap, HeaderName, HeaderValue};
use mesh::{Str, route::Destination};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering::Relaxed},
};
use tokio::runtime::Handle;

/// This waypoint, as spans name it.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Name of the Gateway.
    pub name: Str,
    /// Its namespace.
    pub namespace: Str,
    /// Name of the pod.
    pub pod: Str,
    /// Address of the pod.
    pub address: Str,
    /// Cluster.
    pub cluster: Str,
    /// Mesh; "" if it has no name.
    pub mesh_id: Str,
    /// Version of the program.
    pub version: Str,
}

impl Own {
    /// As Istio's proxies name themselves.
    fn node_id(&self) -> String {
        let Self { address, pod, namespace, .. } = self;
        format!("waypoint~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local")
    }
}

/// Where spans are begun and ended. Cloning it is cheap.
#[derive(Clone)]
pub struct Tracer {
    own: Arc<Own>,
    call: Arc<dyn Call>,
    runtime: Handle,
    /// One a collector.
    exporters: Arc<RwLock<Exporters>>,
    dropped: Dropped,
}

/// Collectors, and the way to each.
type Exporters = Vec<(Destination, Arc<Exporter>)>;

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("own", &self.own).finish_non_exhaustive()
    }
}

/// A request that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Our span.
    pub context: Context,
    /// The caller's, if it named one.
    pub parent: Option<Context>,
    /// Whether it is recorded.
    pub sampled: bool,
}

/// Collectors at a time. Telemetry names one, or one for a team; each has a queue of 16 MiB. Spans
/// for further ones are dropped and counted.
const COLLECTORS_MAX: usize = 8;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id of a request that is taken over from a caller.
const REQUEST_ID_BYTES_MAX: usize = 128;

impl Tracer {
    /// A tracer whose spans go out by `call`, from tasks on `runtime`.
    pub fn new(own: Own, call: Arc<dyn Call>, runtime: Handle) -> Self {
        Self { own: Arc::new(own), call, runtime, exporters: Arc::default(), dropped: Dropped::default() }
    }

    /// A request begins: reads its trace, and writes ours for the backend in its place. `chance` is
    /// random.
    pub fn begin(&self, headers: &mut HeaderMap, settings: &Settings, chance: Chance) -> Span {
        let parent = Context::of(headers);
        let said = parent.map_or_else(|| context::wish(headers), |parent| parent.sampled);
        let sampled = said.unwrap_or_else(|| settings.sampling.takes(chance.throw));
        let above = parent.unwrap_or_else(|| Context::new(chance.trace, chance.span));
        let context = above.child(chance.span, sampled);
        context.write(parent.as_ref(), headers);
        Span { context, parent, sampled }
    }

    /// It ended.
    pub fn end(&self, span: &Span, outcome: &Outcome, settings: &Settings) {
        let Some(collector) = settings.collector.as_ref().filter(|_| span.sampled) else { return };
        let sent = self.exporter(collector).is_some_and(|exporter| {
            let span = span::span(&self.own, span, outcome, settings);
            exporter.send(span)
        });
        if !sent {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Spans that no collector got.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    fn exporter(&self, collector: &Destination) -> Option<Arc<Exporter>> {
        let find = |all: &[(Destination, Arc<Exporter>)]| {
            all.iter().find(|(known, _)| known == collector).map(|(_, exporter)| exporter.clone())
        };
        if let Some(found) = find(&self.exporters.read().unwrap_or_else(PoisonError::into_inner)) {
            return Some(found);
        }
        let mut all = self.exporters.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = find(&all) {
            return Some(found);
        }
        if all.len() >= COLLECTORS_MAX {
            return None;
        }
        let (call, own, dropped) = (self.call.clone(), self.own.clone(), self.dropped.clone());
        let exporter = Arc::new(Exporter::start(call, collector.clone(), own, dropped, &self.runtime));
        all.push((collector.clone(), exporter.clone()));
        Some(exporter)
    }
}

/// What Prometheus reads of it: register a clone.
impl Collector for Tracer {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("waypoint_spans_dropped", "Spans that no collector got");
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(self.dropped()).encode(metric)
    }
}

/// What chance says of a request.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    /// The id of a trace that begins here.
    pub trace: u128,
    /// The id of our span.
    pub span: u64,
    /// A throw of a die with a million faces.
    pub throw: u32,
}

impl Chance {
    /// Throws.
    pub fn throw() -> Self {
        Self { trace: rand::random(), span: rand::random(), throw: rand::random_range(0..1_000_000) }
    }
}

/// Keeps the id of a request, or gives it one (a random UUID): `random` is random. Returns it.
pub fn request_id(headers: &mut HeaderMap, random: u128) -> Str {
    let good = |id: &&str| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX;
    let mut ids = headers.get_all(REQUEST_ID).into_iter();
    let only = ids.next().filter(|_| ids.next().is_none()).and_then(|id| id.to_str().ok()).filter(good);
    if let Some(id) = only {
        return id.into();
    }
    let id = uuid(random);
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, value);
    }
    id.into()
}

const UUID_BYTES: usize = 36;

/// A UUID of version 4 (RFC 9562 §5.4).
fn uuid(random: u128) -> String {
    let bits = (random & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let mut text = String::with_capacity(UUID_BYTES);
    for (from, width) in [(96, 8), (80, 4), (64, 4), (48, 4), (0, 12)] {
        text.push_str(if text.is_empty() { "" } else { "-" });
        digits::hexadecimal(&mut text, bits >> from, width);
    }
    text
}

#[cfg(test)]
mod tests;
