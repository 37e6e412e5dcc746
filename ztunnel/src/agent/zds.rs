//! The node proxies that are connected, and what they are told of pods.
//!
//! Each connection has one task, which speaks in lock-step: a message, its answer, the next. A
//! new connection first hears of every pod there is. A pod is added at the newest connection
//! only, so that a new proxy takes over from an old one, and deleted at all. A connection that
//! says something unasked, or does not answer in time, is closed: its proxy comes back and hears
//! everything anew.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::task;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::limits::{ZDS_ACCEPT_INTERVAL, ZDS_CONNECTIONS_MAX, ZDS_DEADLINE, ZDS_QUEUED_MAX};
use super::socket;
use crate::net::netns::Netns;
use crate::net::seqpacket::{Seqpacket, SeqpacketListener};
use crate::pods::protocol::{self, MESSAGE_BYTES_MAX, Pod, Request};

/// Why a proxy did not take a pod.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// None is connected.
    #[error("no ztunnel connection")]
    NotConnected,
    /// The connection ended before the answer.
    #[error("the connection to ztunnel was lost before it answered")]
    Lost,
    /// It says why.
    #[error("ztunnel does not take the pod: {0}")]
    Refused(String),
}

/// Why a connection was closed from our side, or by the proxy.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("it did not {0} in time")]
    Late(&'static str),
    #[error("it hung up")]
    HungUp,
    #[error("it spoke unasked")]
    Unasked,
    #[error("it speaks another protocol: {0}")]
    Message(#[from] protocol::MessageError),
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
}

/// A pod as proxies are told of it.
#[derive(Debug, Clone)]
enum Entry {
    /// With its namespace.
    Add(Pod, Arc<Netns>),
    /// It is in, but its namespace has not been found again.
    Keep,
}

/// What is said to a proxy, and who waits for the answer.
#[derive(Debug)]
struct Act {
    request: Request<Arc<Netns>>,
    answer: oneshot::Sender<Result<(), ProposeError>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Every pod that a new proxy is told of, by uid.
    roster: BTreeMap<String, Entry>,
    /// Connections, oldest first.
    connections: Vec<(u64, mpsc::Sender<Act>)>,
    /// How many there have been.
    count: u64,
}

/// The proxies of this node. Clones are the same.
#[derive(Debug, Clone)]
pub struct Proxies {
    shared: Arc<Mutex<Shared>>,
    /// How many connections there have been, for those who wait for one; and how many there are.
    connected: watch::Sender<(u64, usize)>,
}

impl Default for Proxies {
    fn default() -> Self {
        Self { shared: Arc::default(), connected: watch::Sender::new((0, 0)) }
    }
}

impl Proxies {
    /// How many proxies have ever connected, and how many are connected now; changes are told.
    pub fn connected(&self) -> watch::Receiver<(u64, usize)> {
        self.connected.subscribe()
    }

    /// Has the newest proxy take a pod, and every later one too until it is [withdrawn](Self::withdraw).
    pub async fn propose(&self, pod: Pod, netns: Arc<Netns>) -> Result<(), ProposeError> {
        let newest = {
            let mut shared = self.lock();
            shared.roster.insert(pod.uid.to_string(), Entry::Add(pod.clone(), netns.clone()));
            shared.connections.last().map(|(_, acts)| acts.clone())
        };
        let Some(newest) = newest else { return Err(ProposeError::NotConnected) };
        ask(&newest, Request::Add(pod, netns)).await
    }

    /// Says that a pod is in whose namespace is not at hand. It counts for proxies to come.
    pub fn keep(&self, uid: &str) {
        self.lock().roster.entry(uid.to_owned()).or_insert(Entry::Keep);
    }

    /// Has all proxies let go of a pod, and what is open in it go on for so long, or for the proxies' own time. When this
    /// returns they have, or are gone.
    pub async fn withdraw(&self, uid: &str, patience: Option<Duration>) -> Result<(), ProposeError> {
        let all: Vec<_> = {
            let mut shared = self.lock();
            shared.roster.remove(uid);
            shared.connections.iter().map(|(_, acts)| acts.clone()).collect()
        };
        let asked = all.iter().map(|acts| ask(acts, Request::Del(uid.into(), patience)));
        for answer in futures_util::future::join_all(asked).await {
            match answer {
                // A proxy that is gone will not hear of the pod when it returns.
                Ok(()) | Err(ProposeError::Lost | ProposeError::NotConnected) => {}
                Err(refused) => return Err(refused),
            }
        }
        Ok(())
    }

    /// Accepts proxies at a path until dropped.
    pub async fn serve(&self, path: &Path) -> io::Result<()> {
        let listener = socket::listen(path, SeqpacketListener::bind)?;
        loop {
            let next = Instant::now() + ZDS_ACCEPT_INTERVAL;
            match listener.accept().await {
                Ok(connection) => self.admit(connection),
                // The peer may be gone already, or descriptors are short for a moment.
                Err(error) => tracing::warn!(%error, "cannot accept a ztunnel connection"),
            }
            sleep_until(next).await;
        }
    }

    fn admit(&self, connection: Seqpacket) {
        let own = nix::unistd::geteuid().as_raw();
        match connection.peer_uid() {
            Ok(peer) if peer == own || peer == 0 => {}
            Ok(peer) => return tracing::warn!(peer, "refused a ztunnel connection of another user"),
            Err(error) => return tracing::warn!(%error, "refused a ztunnel connection of an unknown user"),
        }
        if self.lock().connections.len() >= ZDS_CONNECTIONS_MAX {
            return tracing::warn!("refused a ztunnel connection, there are {ZDS_CONNECTIONS_MAX} already");
        }
        let proxies = self.clone();
        task::spawn("zds connection", async move { proxies.attend(connection).await }).detach();
    }

    /// A connection from its greeting to its end.
    async fn attend(&self, connection: Seqpacket) {
        let hello = async {
            let Some(first) = in_time("greet", connection.receive(MESSAGE_BYTES_MAX)).await? else {
                return Err(ConnectionError::HungUp);
            };
            Ok(protocol::decode_hello(&first.bytes, &first.descriptors)?)
        };
        if let Err(error) = hello.await {
            return tracing::warn!(%error, "refused a ztunnel connection");
        }
        let (acts, queue) = mpsc::channel(ZDS_QUEUED_MAX);
        // Registered before the roster is read: what changes from now on is in the queue.
        let (number, roster) = {
            let mut shared = self.lock();
            shared.count += 1;
            let number = shared.count;
            shared.connections.push((number, acts));
            (number, shared.roster.clone())
        };
        self.tell_connected();
        tracing::info!(connection = number, pods = roster.len(), "ztunnel connected");
        let ended = converse(&connection, roster, queue).await;
        self.lock().connections.retain(|(other, _)| *other != number);
        self.tell_connected();
        if let Err(error) = ended {
            tracing::info!(connection = number, %error, "ztunnel disconnected");
        }
    }

    fn tell_connected(&self) {
        let shared = self.lock();
        self.connected.send_replace((shared.count, shared.connections.len()));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Held for a few lines that do not panic; what they guard is whole between them.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The snapshot, and then whatever is asked, one after the other.
async fn converse(
    connection: &Seqpacket,
    roster: BTreeMap<String, Entry>,
    mut queue: mpsc::Receiver<Act>,
) -> Result<(), ConnectionError> {
    for (uid, entry) in roster {
        let request = match entry {
            Entry::Add(pod, netns) => Request::Add(pod, netns),
            Entry::Keep => Request::Keep(uid.as_str().into()),
        };
        if let Err(reason) = exchange(connection, &request).await? {
            // It tries again by itself and is not ready meanwhile.
            tracing::warn!(uid, reason, "ztunnel could not take a pod of the snapshot");
        }
    }
    if let Err(reason) = exchange(connection, &Request::SnapshotSent).await? {
        tracing::warn!(reason, "ztunnel does not accept the end of the snapshot");
    }
    loop {
        // Cancelled, neither arm loses anything.
        let act = tokio::select! {
            act = queue.recv() => act,
            heard = connection.receive(MESSAGE_BYTES_MAX) => return Err(match heard? {
                Some(_) => ConnectionError::Unasked,
                None => ConnectionError::HungUp,
            }),
        };
        let Some(Act { request, answer }) = act else { return Ok(()) };
        let result = exchange(connection, &request).await;
        let told = match &result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(ProposeError::Refused(reason.clone())),
            Err(_) => Err(ProposeError::Lost),
        };
        let _nobody_waits_any_more = answer.send(told);
        let _answered: Result<(), String> = result?;
    }
}

/// One message and its answer.
async fn exchange(
    connection: &Seqpacket,
    request: &Request<Arc<Netns>>,
) -> Result<Result<(), String>, ConnectionError> {
    let borrowed = match request {
        Request::Add(pod, netns) => Request::Add(pod.clone(), netns.as_fd()),
        Request::Keep(uid) => Request::Keep(uid.clone()),
        Request::Del(uid, patience) => Request::Del(uid.clone(), *patience),
        Request::SnapshotSent => Request::SnapshotSent,
    };
    let (bytes, descriptor) = match protocol::encode_request(&borrowed) {
        Ok(encoded) => encoded,
        // Names that are too long for the protocol concern one pod, not the connection.
        Err(error) => return Ok(Err(error.to_string())),
    };
    in_time("read a message", connection.send(&bytes, descriptor)).await?;
    let Some(answer) = in_time("answer", connection.receive(MESSAGE_BYTES_MAX)).await? else {
        return Err(ConnectionError::HungUp);
    };
    Ok(protocol::decode_ack(&answer.bytes, &answer.descriptors)?)
}

async fn ask(acts: &mpsc::Sender<Act>, request: Request<Arc<Netns>>) -> Result<(), ProposeError> {
    let (answer, answered) = oneshot::channel();
    // The connection's task answers or ends within its own deadlines.
    acts.send(Act { request, answer }).await.map_err(|_| ProposeError::Lost)?;
    answered.await.unwrap_or(Err(ProposeError::Lost))
}

async fn in_time<T>(what: &'static str, act: impl Future<Output = io::Result<T>>) -> Result<T, ConnectionError> {
    Ok(timeout(ZDS_DEADLINE, act).await.map_err(|_| ConnectionError::Late(what))??)
}

#[cfg(test)]
mod tests;
