//! The stream: keeps one up for as long as the process lives, and applies what comes before it
//! is acknowledged. What to ask and answer is decided in [`super::state`].

use crate::{Kind, Node, limits, resource};
use mesh::Change;
use std::{future::Future, sync::Arc, time::Duration};
use tonic::{metadata::MetadataMap, transport::Channel};

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who it says it is.
    pub node: Node,
    /// Longest pause between two attempts; [`limits::BACKOFF_MAX`] unless there is a reason.
    pub backoff_max: Duration,
}

impl Config {
    /// The usual configuration of a node.
    pub fn new(node: Node) -> Self {
        Self { node, backoff_max: limits::BACKOFF_MAX }
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
pub async fn run(config: Config, dial: impl Dial, sink: impl Sink, report: Arc<dyn Report>) {
    let _ = (config, dial, sink, report, resource::of_change);
    todo!("next landing")
}
