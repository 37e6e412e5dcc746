//! Spans → a collector, in batches, by OTLP over gRPC. Nobody who serves a request waits: when the
//! queue is full a span is dropped and counted.

use super::{Own, span::resource};
use crate::external::call::{Call, CallFailed, Grpc, within};
use chassis::{backoff::Backoff, task::Task};
use mesh::route::Destination;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, trace_service_client::TraceServiceClient},
    common::v1::InstrumentationScope,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

/// Spans that wait. At 4 KiB a span 16 MiB; at 1 % of 20,000 requests a second, 20 seconds of a
/// collector that does not answer.
pub(super) const SPANS_QUEUED_MAX: usize = 4 * 1024;

/// Spans in one message: 2 MiB, half of what gRPC servers take at most.
const BATCH_MAX: usize = 512;

/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// How long a collector may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a batch is sent before it is dropped; with the waits between them that is some 15 s.
const TRIES_MAX: u32 = 5;

/// The way to one collector. Dropping it ends its task.
#[derive(Debug)]
pub(super) struct Exporter {
    queue: mpsc::Sender<Span>,
    _task: Task<()>,
}

/// Spans that no collector got.
pub(super) type Dropped = Arc<AtomicU64>;

impl Exporter {
    pub(super) fn start(
        call: Arc<dyn Call>,
        to: Destination,
        own: Arc<Own>,
        dropped: Dropped,
        runtime: &Handle,
    ) -> Self {
        let (queue, spans) = mpsc::channel(SPANS_QUEUED_MAX);
        let task = chassis::task::spawn_on(runtime, "spans", export(call, to, own, dropped, spans));
        Self { queue, _task: task }
    }

    /// Hands over a span; false: there is no room.
    pub(super) fn send(&self, span: Span) -> bool {
        self.queue.try_send(span).is_ok()
    }
}

async fn export(
    call: Arc<dyn Call>,
    to: Destination,
    own: Arc<Own>,
    dropped: Dropped,
    mut spans: mpsc::Receiver<Span>,
) {
    while let Some(first) = spans.recv().await {
        let batch = gather(first, &mut spans).await;
        let count = batch.len() as u64;
        match send(&call, &to, &own, batch).await {
            Ok(rejected) => {
                dropped.fetch_add(rejected.min(count), Relaxed);
            }
            Err(error) => {
                dropped.fetch_add(count, Relaxed);
                tracing::warn!("{count} spans are lost, the collector does not take them: {error}");
            }
        }
    }
}

async fn gather(first: Span, spans: &mut mpsc::Receiver<Span>) -> Vec<Span> {
    let mut batch = vec![first];
    let deadline = Instant::now() + GATHER;
    while batch.len() < BATCH_MAX {
        // Receiving is cancel safe: what is not received stays in the queue.
        match timeout_at(deadline, spans.recv()).await {
            Ok(Some(span)) => batch.push(span),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}

/// Sends a batch until it is taken; how many of it were rejected.
async fn send(call: &Arc<dyn Call>, to: &Destination, own: &Own, batch: Vec<Span>) -> Result<u64, CallFailed> {
    let scope =
        InstrumentationScope { name: "waypoint".into(), version: own.version.to_string(), ..Default::default() };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: batch, ..ScopeSpans::default() }];
    let spans = ResourceSpans { resource: Some(resource(own)), scope_spans, ..ResourceSpans::default() };
    let request = ExportTraceServiceRequest { resource_spans: vec![spans] };
    let mut waits = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
    loop {
        let way = Grpc::to(call.clone(), to.clone());
        let origin = way.origin();
        let mut client = TraceServiceClient::with_origin(way, origin);
        let request = request.clone();
        let answer = async {
            let answer = client.export(request).await;
            answer.map_err(|status| CallFailed::Unreachable(status.to_string()))
        };
        match within(EXPORT_TIMEOUT, answer).await {
            Ok(answer) => {
                let rejected = answer.into_inner().partial_success.map_or(0, |partial| partial.rejected_spans);
                return Ok(u64::try_from(rejected).unwrap_or_default());
            }
            Err(error) if waits.attempts() + 1 >= TRIES_MAX => return Err(error),
            Err(_) => sleep(waits.next(rand::random())).await,
        }
    }
}
