//! The stream: keeps one up for as long as the process lives, and applies what comes before it
//! is acknowledged. What to ask and answer is decided in [`super::state`].

use super::state::Client;
use crate::{
    Kind, Node, limits,
    wire::{self, Request, Response},
};
use mesh::Change;
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, metadata::MetadataMap, transport::Channel};
use tonic_prost::ProstCodec;

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it says it is.
    pub node: Node,
    /// What it asks for, in this order.
    pub kinds: &'static [Kind],
    /// Longest pause between two attempts; [`limits::BACKOFF_MAX`] unless there is a reason.
    pub backoff_max: Duration,
}

impl Config {
    /// The usual configuration of a node proxy.
    pub fn new(node: Node) -> Self {
        Self { node, kinds: Kind::NODE_PROXY, backoff_max: limits::BACKOFF_MAX }
    }

    /// The usual configuration of a waypoint.
    pub fn waypoint(node: Node) -> Self {
        Self { kinds: Kind::WAYPOINT, ..Self::new(node) }
    }
}

/// Why the control plane cannot even be dialled: a root or token that cannot be read, an address
/// that does not resolve, a handshake that failed.
pub type DialError = Box<dyn std::error::Error + Send + Sync>;

/// How the control plane is reached. Asked anew for each stream, because roots and tokens rotate.
/// A closure that returns a future is one.
pub trait Dial: Send {
    /// A channel and the metadata of the stream on it (`authorization`, `clusterid`).
    /// Keepalive and connect timeout are the channel's own.
    fn dial(&mut self) -> impl Future<Output = Result<(Channel, MetadataMap), DialError>> + Send;
}

impl<F, R> Dial for F
where
    F: FnMut() -> R + Send,
    R: Future<Output = Result<(Channel, MetadataMap), DialError>> + Send,
{
    fn dial(&mut self) -> impl Future<Output = Result<(Channel, MetadataMap), DialError>> + Send {
        self()
    }
}

/// Where the changes go.
pub trait Sink: Send {
    /// Takes one response's changes, in order and in one piece; it is acknowledged afterwards.
    /// It must not wait for anything.
    fn apply(&mut self, changes: Vec<Change>);

    /// Everything that was there when the client first connected has been applied. Called once.
    fn synced(&mut self);
}

/// Why a stream ended, as Istio's `istio_xds_connection_terminations_total{reason}` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Termination {
    /// There was no connection.
    ConnectionError,
    /// The stream broke.
    Error,
    /// The server asked to connect again, or went away in an orderly manner.
    Reconnect,
    /// The server ended the stream without an error.
    Complete,
}

/// What is counted.
pub trait Report: Send + Sync {
    /// A response was read.
    fn message(&self, kind: Kind, bytes: usize) {
        let _ = (kind, bytes);
    }

    /// A resource was refused.
    fn refused(&self, kind: Kind) {
        let _ = kind;
    }

    /// A stream is up, or no more.
    fn connected(&self, up: bool) {
        let _ = up;
    }

    /// A stream, or the attempt at one, ended.
    fn terminated(&self, reason: Termination) {
        let _ = reason;
    }
}

/// Counts nothing.
impl Report for () {}

/// Keeps a stream to the control plane until the future is dropped.
pub async fn run(config: Config, mut dial: impl Dial, mut sink: impl Sink, report: Arc<dyn Report>) {
    let mut client = Client::new(config.node, config.kinds);
    let mut announced = false;
    let mut pause = limits::BACKOFF_MIN;
    loop {
        let began = Instant::now();
        let mut stream = Stream { client: &mut client, sink: &mut sink, report: &*report, announced: &mut announced };
        let end = stream.run(&mut dial).await;
        report.terminated(end.reason());
        let lasted = began.elapsed();
        if end.was_good(lasted, client.current()) {
            pause = limits::BACKOFF_MIN;
        }
        // Half of the pause is chance: a thousand proxies that lost the same server come back spread out.
        let wait = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        tracing::warn!(error = %end, retry_in = ?wait, lasted = ?lasted, "stream to the control plane ended");
        tokio::time::sleep(wait).await;
        pause = (pause * 2).min(config.backoff_max);
    }
}

/// One stream.
struct Stream<'a, S> {
    client: &'a mut Client,
    sink: &'a mut S,
    report: &'a dyn Report,
    announced: &'a mut bool,
}

impl<S: Sink> Stream<'_, S> {
    async fn run(&mut self, dial: &mut impl Dial) -> End {
        let opened = tokio::time::timeout(limits::OPEN_TIMEOUT, self.open(dial)).await;
        let (requests, mut responses) = match opened {
            Ok(Ok(stream)) => stream,
            Ok(Err(end)) => return end,
            Err(_) => return End::OpenTimeout,
        };
        tracing::info!("connected to the control plane");
        let _up = Up::new(self.report);
        let first_answers = tokio::time::Instant::now() + limits::FIRST_ANSWER_TIMEOUT;
        loop {
            let next = if self.client.current() {
                responses.message().await
            } else {
                match tokio::time::timeout_at(first_answers, responses.message()).await {
                    Ok(next) => next,
                    Err(_) => return End::Silent,
                }
            };
            let reply = match next {
                Ok(Some(response)) => self.take(response),
                Ok(None) => return End::Complete,
                Err(status) => return End::Broken(Box::new(status)),
            };
            let Some(reply) = reply else { continue };
            match tokio::time::timeout(limits::OPEN_TIMEOUT, requests.send(reply)).await {
                Ok(Ok(())) => {}
                // The stream says itself why it is over.
                Ok(Err(_)) => continue,
                Err(_) => return End::Silent,
            }
        }
    }

    async fn open(&mut self, dial: &mut impl Dial) -> Result<(mpsc::Sender<Request>, Streaming<Response>), End> {
        let (channel, metadata) = dial.dial().await.map_err(End::Dial)?;
        let (requests, outgoing) = mpsc::channel(REQUESTS_QUEUED_MAX);
        for request in self.client.open() {
            requests.try_send(request).expect("an empty queue has room for the first requests");
        }
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(limits::RESPONSE_BYTES_MAX);
        grpc.ready().await.map_err(|error| End::Dial(error.into()))?;
        let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
        *request.metadata_mut() = metadata;
        let codec = ProstCodec::<Request, Response>::default();
        let path = http::uri::PathAndQuery::from_static(wire::METHOD);
        let responses = grpc.streaming(request, path, codec).await.map_err(|status| End::Refused(Box::new(status)))?;
        Ok((requests, responses.into_inner()))
    }

    /// Applies a response, and only then says what to answer.
    fn take(&mut self, response: Response) -> Option<Request> {
        let bytes = response.resources.iter().map(bytes::Bytes::len).sum();
        let received = match self.client.receive(response) {
            Ok(received) => received,
            Err(unasked) => {
                tracing::warn!("{unasked}");
                return None;
            }
        };
        self.report.message(received.kind, bytes);
        for refused in &received.refused {
            self.report.refused(received.kind);
            tracing::warn!(resource = refused.name, reason = %refused.reason, "refused a resource, what was known of it stays");
        }
        tracing::debug!(kind = received.kind.short(), changes = received.changes.len(), bytes, "received");
        if !received.changes.is_empty() {
            self.sink.apply(received.changes);
        }
        if self.client.synced() && !std::mem::replace(self.announced, true) {
            tracing::info!("everything that was there has been applied");
            self.sink.synced();
        }
        Some(received.reply)
    }
}

/// Says that a stream is up for as long as it lives.
struct Up<'a>(&'a dyn Report);

impl<'a> Up<'a> {
    fn new(report: &'a dyn Report) -> Self {
        report.connected(true);
        Self(report)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        self.0.connected(false);
    }
}

/// How a stream ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the control plane cannot be reached: {}", chain(&**.0))]
    Dial(DialError),
    #[error("the control plane did not take the stream within {:?}", limits::OPEN_TIMEOUT)]
    OpenTimeout,
    #[error("the control plane refused the stream: {}", chain(.0))]
    Refused(Box<Status>),
    #[error("the stream broke: {}", chain(.0))]
    Broken(Box<Status>),
    #[error("the control plane took the stream and then said or read nothing")]
    Silent,
    #[error("the control plane ended the stream")]
    Complete,
}

impl End {
    fn reason(&self) -> Termination {
        match self {
            Self::Dial(_) | Self::OpenTimeout | Self::Refused(_) => Termination::ConnectionError,
            Self::Broken(status) if benign(status) => Termination::Reconnect,
            Self::Broken(_) | Self::Silent => Termination::Error,
            Self::Complete => Termination::Complete,
        }
    }

    /// Whether the next attempt may come as soon as after the first failure.
    fn was_good(&self, lasted: Duration, answered: bool) -> bool {
        answered
            && match self {
                Self::Dial(_) | Self::OpenTimeout | Self::Refused(_) | Self::Silent => false,
                Self::Broken(status) => benign(status) || lasted > limits::GOOD_STREAM,
                Self::Complete => true,
            }
    }
}

/// Ends that a server causes by restarting, draining or reaching its stream's maximum age.
fn benign(status: &Status) -> bool {
    matches!(status.code(), Code::Unknown | Code::Cancelled | Code::DeadlineExceeded)
        || status.message().contains("transport is closing")
        || status.message().contains("received prior goaway")
}

/// An error with its causes: the outermost is often only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A first request for each kind and an answer to each response in flight; the server does not wait for answers.
const REQUESTS_QUEUED_MAX: usize = 16;
