//! Which connection carries a new tunnel: one pool a pod and worker.
//!
//! Callers of one key share a dial; no lock is held over it, and a hung one blocks no other key and
//! nobody longer than its deadline. A tunnel that died before it was answered is asked for once more
//! on a fresh connection: no byte of the application has gone anywhere by then.

mod entry;

use crate::{
    head::{BaggageText, ConnectHead},
    limits::{self, Limits},
    open::{self, BeginError, Drive, Link, TunnelError},
    stream::Tunnel,
};
use entry::{Ask, Deliveries, Entry, Grant, LinkId, LinkIds};
use foldhash::fast::RandomState;
use http::StatusCode;
use mesh::Identity;
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tracing::Instrument;

/// What two tunnels must have in common to share a connection. Compared in full.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolKey {
    /// Whose certificate is shown.
    pub source: Identity,
    /// Who may be there, in the caller's order.
    pub expected: Arc<[Identity]>,
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
    shared: Arc<Shared<D>>,
}

/// A tunnel that was answered with 200.
#[derive(Debug)]
pub struct Opened<P> {
    /// The tunnel.
    pub tunnel: Tunnel,
    /// Who is at the other end of the connection.
    pub peer: P,
    /// What the peer says about the workload behind it.
    pub baggage: BaggageText,
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
    Begin(#[source] Arc<BeginError>),
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

/// Why a dial failed, for all who waited for it.
#[derive(Debug)]
enum DialFailure<E> {
    Dial(Arc<E>),
    Deadline(Duration),
    Begin(Arc<BeginError>),
}

struct Shared<D: Dial> {
    dial: D,
    limits: Limits,
    ids: LinkIds,
    entries: Mutex<HashMap<Arc<PoolKey>, Entry<D>, RandomState>>,
}

/// One place in one connection. Given back when dropped, to who waits longest.
struct Lease<D: Dial> {
    shared: Weak<Shared<D>>,
    key: Arc<PoolKey>,
    id: LinkId,
}

/// The right and the duty to dial for a key. Passed on to one who waits, if it is dropped.
struct Turn<D: Dial> {
    shared: Weak<Shared<D>>,
    key: Arc<PoolKey>,
}

/// A place in a connection, ready for use.
struct Place<D: Dial> {
    link: Link,
    peer: D::Peer,
    lease: Lease<D>,
}

impl<D: Dial> Pool<D> {
    /// An empty pool.
    pub fn new(dial: D, limits: Limits) -> Self {
        Self { shared: Arc::new(Shared { dial, limits, ids: LinkIds::default(), entries: Mutex::default() }) }
    }

    /// Opens a tunnel. Dropping the future gives up: the stream is reset, and a dial that others
    /// wait for is taken over by one of them.
    pub async fn open(&self, key: &PoolKey, head: &ConnectHead) -> Result<Opened<D::Peer>, OpenError<D::Error>> {
        let mut newer_than = None;
        loop {
            let Place { link, peer, lease } = self.place(key, newer_than).await?;
            let id = lease.id;
            match link.tunnel(head, Box::new(lease)).await {
                Ok((tunnel, baggage)) => return Ok(Opened { tunnel, peer, baggage }),
                Err(TunnelError::Stale(error)) => {
                    tracing::debug!(%error, "a pooled connection gave no tunnel");
                    self.shared.evict_unusable(key, id, &link);
                    if newer_than.replace(id).is_some() {
                        return Err(OpenError::Broken(error));
                    }
                }
                Err(TunnelError::Reset(error)) => return Err(OpenError::Broken(error)),
                Err(TunnelError::Refused(status)) => return Err(OpenError::Refused(status)),
                Err(TunnelError::Deadline(deadline)) => return Err(OpenError::AnswerDeadline(deadline)),
            }
        }
    }

    /// Connections that are up.
    pub fn connections(&self) -> usize {
        self.shared.lock().values().map(Entry::links).sum()
    }

    /// A place in a connection: in one that is up, in one that somebody dials, or in our own.
    async fn place(&self, key: &PoolKey, newer_than: Option<LinkId>) -> Result<Place<D>, OpenError<D::Error>> {
        // As long as the dial that we may be waiting for.
        let deadline = self.shared.limits.dial_deadline + self.shared.limits.handshake_deadline;
        let (ask, deliveries) = self.shared.change(key, |entry, turns| entry.ask(newer_than, turns));
        deliveries.send();
        let turn = match ask {
            Ask::Use(place) => return Ok(place),
            Ask::Full => return Err(OpenError::Full),
            Ask::Dial(turn) => turn,
            // Losing the race to the deadline loses only our place in the queue.
            Ask::Wait(granted) => match timeout(deadline, granted).await {
                Ok(Ok(Grant::Place(place))) => return Ok(place),
                Ok(Ok(Grant::Dial(turn))) => turn,
                Ok(Ok(Grant::Failed(failure))) => return Err(failure.into()),
                Ok(Err(_)) | Err(_) => return Err(OpenError::Full),
            },
        };
        match self.shared.connect(key).await {
            Ok((link, drive, peer)) => Ok(turn.done(&self.shared, link, drive, peer)),
            Err(failure) => {
                turn.failed(&self.shared, &failure);
                Err(failure.into())
            }
        }
    }
}

impl<D: Dial> Shared<D> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<PoolKey>, Entry<D>, RandomState>> {
        // The map is whole after each change, so a panic elsewhere does not make it unusable.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the entry of a key. What others get by it is handed to the caller, to be sent
    /// after the lock is gone: a place that nobody takes comes back through the same lock.
    fn change<R>(
        self: &Arc<Self>,
        key: &PoolKey,
        change: impl FnOnce(&mut Entry<D>, &entry::Context<'_, D>) -> R,
    ) -> (R, Deliveries<D>) {
        let mut entries = self.lock();
        let key = entries.get_key_value(key).map_or_else(|| Arc::new(key.clone()), |(key, _)| key.clone());
        let entry = entries.entry(key.clone()).or_default();
        let context = entry::Context { shared: self, key: &key, now: Instant::now() };
        let result = change(entry, &context);
        let deliveries = entry.settle(&context);
        if entry.is_empty() {
            entries.remove(&key);
        }
        (result, deliveries)
    }

    async fn connect(&self, key: &PoolKey) -> Result<(Link, Drive<D::Io>, D::Peer), DialFailure<D::Error>> {
        let deadline = self.limits.dial_deadline;
        let (io, peer) = timeout(deadline, self.dial.dial(key))
            .await
            .map_err(|_| DialFailure::Deadline(deadline))?
            .map_err(|error| DialFailure::Dial(Arc::new(error)))?;
        let (link, drive) = open::begin(io, &self.limits).await.map_err(|error| DialFailure::Begin(Arc::new(error)))?;
        Ok((link, drive, peer))
    }

    /// Takes a connection out that is of no more use; one that only refused a stream stays.
    fn evict_unusable(self: &Arc<Self>, key: &PoolKey, id: LinkId, link: &Link) {
        if !link.usable() {
            self.change(key, |entry, _| entry.remove(id)).1.send();
        }
    }
}

impl<D: Dial> Turn<D> {
    /// Adds the connection to the pool and takes the first place in it.
    fn done(self, shared: &Arc<Shared<D>>, link: Link, drive: Drive<D::Io>, peer: D::Peer) -> Place<D> {
        let add = |entry: &mut Entry<D>, context: &entry::Context<'_, D>| entry.add(link, peer, context);
        let (place, deliveries) = shared.change(&self.key, add);
        spawn(look_after(drive, Arc::downgrade(shared), self.key.clone(), place.lease.id), &self.key);
        deliveries.send();
        // Dropping the turn now ends it.
        place
    }

    fn failed(self, shared: &Arc<Shared<D>>, failure: &DialFailure<D::Error>) {
        shared.change(&self.key, |entry, _| entry.fail(shared.limits.pool_streams, failure)).1.send();
    }
}

impl<D: Dial> Drop for Turn<D> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.change(&self.key, |entry, _| entry.turn_ended()).1.send();
        }
    }
}

impl<D: Dial> Drop for Lease<D> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.change(&self.key, |entry, context| entry.give_back(self.id, context.now)).1.send();
        }
    }
}

/// Its end is noticed by the pool, from which it takes its connection, and by each of its tunnels.
#[expect(clippy::disallowed_methods, reason = "chassis is a floor above; the span names the task")]
fn spawn(task: impl Future<Output = ()> + Send + 'static, key: &PoolKey) {
    tokio::spawn(task.instrument(tracing::debug_span!("tunnels", to = %key.destination)));
}

/// Drives a connection and takes it out of the pool when it ends, or was idle for long.
async fn look_after<D: Dial>(drive: Drive<D::Io>, shared: Weak<Shared<D>>, key: Arc<PoolKey>, id: LinkId) {
    let mut drive = std::pin::pin!(drive);
    let expiry = std::pin::pin!(expire(&shared, &key, id));
    // Losing the expiry's arm loses a timer. Losing the drive's loses nothing: it goes on below.
    let end = tokio::select! {
        end = &mut drive => end,
        () = expiry => drive.await,
    };
    tracing::debug!(?end, "connection ended");
    if let Some(shared) = shared.upgrade() {
        shared.change(&key, |entry, _| entry.remove(id)).1.send();
    }
}

/// Returns when the connection was idle for long and is out of the pool, or the pool is gone.
async fn expire<D: Dial>(shared: &Weak<Shared<D>>, key: &PoolKey, id: LinkId) {
    let mut wait = match shared.upgrade() {
        Some(shared) => shared.limits.pool_idle.min(limits::POOL_SPARE_IDLE),
        None => return,
    };
    loop {
        tokio::time::sleep(wait).await;
        let Some(shared) = shared.upgrade() else { return };
        let idle = shared.limits.pool_idle;
        let (again, deliveries) = shared.change(key, |entry, context| entry.expire(id, context.now, idle));
        deliveries.send();
        match again {
            Some(again) => wait = again,
            None => return,
        }
    }
}

impl<E> Clone for DialFailure<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Dial(error) => Self::Dial(error.clone()),
            Self::Deadline(deadline) => Self::Deadline(*deadline),
            Self::Begin(error) => Self::Begin(error.clone()),
        }
    }
}

impl<E: std::error::Error + 'static> From<DialFailure<E>> for OpenError<E> {
    fn from(failure: DialFailure<E>) -> Self {
        match failure {
            DialFailure::Dial(error) => Self::Dial(error),
            DialFailure::Deadline(deadline) => Self::DialDeadline(deadline),
            DialFailure::Begin(error) => Self::Begin(error),
        }
    }
}
