//! Which connection carries a new tunnel: one pool a pod and worker.
//!
//! Callers of one key share a dial; no lock is held over it, and a hung one blocks no other key and
//! nobody longer than its deadline. A tunnel that died before it was answered is asked for once more
//! on a fresh connection: no byte of the application has gone anywhere by then.

use crate::{
    head::{Baggage, ConnectHead},
    limits::Limits,
    stream::Tunnel,
};
use http::StatusCode;
use mesh::{Identity, Str};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// What two tunnels must have in common to share a connection. Compared in full.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Whose certificate is shown.
    pub source: Identity,
    /// URI names of which the peer's certificate must have one, in the caller's order.
    pub expected: Arc<[Str]>,
    /// Where the peer listens, HBONE port included.
    pub destination: SocketAddr,
    /// The address dialled from.
    pub source_ip: IpAddr,
}

/// How a connection is made: TCP, TLS and the check of the peer's identity.
pub trait Dial: Send + Sync + 'static {
    /// The finished TLS stream.
    type Io: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// What the handshake proved of the peer; in the mesh, `Arc<pki::verify::Peer>`.
    type Peer: Clone + Send + Sync + 'static;
    /// Why there is no connection. Shared by all who waited for it.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Makes one. It may be dropped at any await, and is after [`Limits::dial_deadline`].
    fn dial(&self, key: &PoolKey) -> impl Future<Output = Result<(Self::Io, Self::Peer), Self::Error>> + Send;
}

/// Connections to many peers, and who waits for them. Dropping it lets each close once its
/// tunnels have ended.
pub struct Pool<D: Dial> {
    _dial: D,
    _limits: Limits,
}

/// A tunnel that was answered with 200.
pub struct Opened<P> {
    /// The tunnel.
    pub tunnel: Tunnel,
    /// Who is at the other end of the connection.
    pub peer: P,
    /// What the peer says about the workload behind it.
    pub baggage: Baggage,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum OpenError<E: std::error::Error + 'static> {
    /// The peer could not be reached, or is not who it should be.
    #[error("no connection to the peer")]
    Dial(#[source] Arc<E>),
    /// The dial took too long.
    #[error("no connection to the peer within {0:?}")]
    DialDeadline(Duration),
    /// TLS is up, but the peer does not speak HTTP/2, or not in time.
    #[error("the peer does not begin HTTP/2")]
    Handshake(#[source] Arc<io::Error>),
    /// All connections that one key may have are full, and so is the queue, or it took too long.
    #[error("all connections to the peer are full")]
    Full,
    /// The peer refused the tunnel with this status.
    #[error("the peer refused the tunnel with {0}")]
    Refused(StatusCode),
    /// The peer reset the stream, or the connection broke, twice if it was worth another try.
    #[error("the tunnel broke before it was answered")]
    Broken(#[source] io::Error),
    /// No answer in time.
    #[error("the peer did not answer the CONNECT within {0:?}")]
    AnswerDeadline(Duration),
}

impl<D: Dial> Pool<D> {
    /// An empty pool.
    pub fn new(dial: D, limits: Limits) -> Self {
        Self { _dial: dial, _limits: limits }
    }

    /// Opens a tunnel. Dropping the future gives up: the stream is reset, and a dial that others
    /// wait for is taken over by one of them.
    pub async fn open(&self, _key: &PoolKey, _head: &ConnectHead) -> Result<Opened<D::Peer>, OpenError<D::Error>> {
        todo!()
    }

    /// Connections that are up.
    pub fn connections(&self) -> usize {
        todo!()
    }
}
