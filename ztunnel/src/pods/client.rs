//! Asks the node agent for pods, and does what it says: opens, keeps and closes their listeners.
//!
//! What a message means is decided in [`super::state`]. An add that fails is answered with its
//! error and tried again here; meanwhile the process is not ready.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::backoff::Backoff;
use chassis::ready::{Ready, Token};
use chassis::run::Process;
use chassis::task;
use mesh::Str;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::listeners::{Listening, Opener};
use super::protocol::{Pod, Request};
use super::seats::workers_of;
use super::session::{ProxyEnd, SessionError};
use super::state::{Added, Broken, Deleted, State};
use crate::limits::{AGENT_BACKOFF, LAST_WORDS, POD_LEAVES, POD_LEAVES_ALIVE, START_AGAIN};
use crate::net::netns::{Netns, NetnsId};
use crate::report::NodeMetrics;

/// The name under which readiness waits for the agent and its pods.
const READY_TASK: &str = "workload proxy manager";

/// Looks after the pods of this node.
pub struct Client {
    opener: Opener,
    workers: Vec<Handle>,
    agent: PathBuf,
    ready: Ready,
    metrics: NodeMetrics,
    not_ready: Option<Token>,
    is_connected: bool,
    state: State<NetnsId>,
    running: HashMap<Str, Listening>,
    failing: HashMap<Str, (Pod, Arc<Netns>)>,
    try_again: Option<Instant>,
    draining: TaskTracker,
    /// The process ends: what drains still has only as long as that.
    hurry: CancellationToken,
    next_worker: usize,
    pending: Pending,
}

/// The pods that wait for their listeners, for whoever asks. Cloning it shares it.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    pods: Arc<Mutex<Vec<Pod>>>,
}

impl Pending {
    /// The pods.
    pub fn all(&self) -> Vec<Pod> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, pods: Vec<Pod>) {
        *self.pods.lock().unwrap_or_else(PoisonError::into_inner) = pods;
    }
}

/// Why the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The agent sends what is no message.
    #[error("the node agent does not speak ZDS: {0}")]
    Message(#[from] super::protocol::MessageError),
    /// The agent does not keep to the order of things.
    #[error(transparent)]
    Order(#[from] Broken),
}

impl Client {
    /// Serves the pods that the agent at `agent` tells of on `workers`, of which there is one at least.
    pub fn new(opener: Opener, workers: Vec<Handle>, agent: PathBuf, ready: Ready, metrics: NodeMetrics) -> Self {
        let not_ready = Some(ready.register(READY_TASK));
        Self {
            opener,
            workers,
            agent,
            ready,
            metrics,
            not_ready,
            is_connected: false,
            state: State::default(),
            running: HashMap::new(),
            failing: HashMap::new(),
            try_again: None,
            draining: TaskTracker::new(),
            hurry: CancellationToken::new(),
            next_worker: 0,
            pending: Pending::default(),
        }
    }

    /// The pods that wait for their listeners.
    pub fn pending(&self) -> Pending {
        self.pending.clone()
    }

    /// Serves until the process drains, and drains every pod.
    pub async fn run(mut self, process: Process) -> anyhow::Result<()> {
        let _guard = process.signal.guard();
        let mut signal = process.signal.clone();
        let mut backoff = Backoff::new(AGENT_BACKOFF.0, AGENT_BACKOFF.1).with_jitter(0.2);
        // Cut short by the drain in the middle of a message, nothing is lost: the session ends with it.
        tokio::select! {
            fatal = self.serve(&mut backoff) => match fatal {
                Ok(never) => match never {},
                Err(fatal) => return Err(fatal.into()),
            },
            _deadline = signal.draining() => {}
        }
        self.drain_all(process.grace).await;
        Ok(())
    }

    async fn serve(&mut self, backoff: &mut Backoff) -> Result<std::convert::Infallible, Fatal> {
        loop {
            let ended = match ProxyEnd::connect(&self.agent).await {
                Ok(mut session) => {
                    tracing::info!(agent = %self.agent.display(), "connected to the node agent");
                    self.is_connected = true;
                    self.state.connected();
                    self.tell_ready();
                    self.converse(&mut session, backoff).await?
                }
                Err(error) => error,
            };
            if std::mem::take(&mut self.is_connected) {
                tracing::warn!(%ended, "lost the node agent; the pods it told of are served on");
            } else {
                tracing::debug!(%ended, agent = %self.agent.display(), "cannot reach the node agent");
            }
            self.tell_ready();
            self.pause(backoff.next(rand::random())).await;
        }
    }

    /// Takes and answers requests until the session ends in a way that another one may mend.
    async fn converse(&mut self, session: &mut ProxyEnd, backoff: &mut Backoff) -> Result<SessionError, Fatal> {
        loop {
            let request = tokio::select! {
                request = session.next() => request,
                () = at(self.try_again) => {
                    self.start_again().await;
                    continue;
                }
            };
            let request = match request {
                Ok(request) => request,
                Err(SessionError::Message(error)) => return Err(error.into()),
                Err(error) => return Ok(error),
            };
            backoff.reset();
            let answer = self.obey(request).await?;
            self.tell_ready();
            if let Err(error) = session.answer(answer.as_ref().copied().map_err(String::as_str)).await {
                return Ok(error);
            }
        }
    }

    /// Waits, and goes on to try what failed.
    async fn pause(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = at(self.try_again) => self.start_again().await,
            }
        }
    }

    async fn obey(&mut self, request: Request) -> Result<Result<(), String>, Fatal> {
        match request {
            Request::Add(pod, netns) => Ok(self.add(pod, netns).await),
            Request::Keep(uid) => Ok(Ok(self.state.keep(&uid)?)),
            Request::Del(uid, patience) => {
                if self.state.delete(&uid) == Deleted::Now {
                    let grace = patience.unwrap_or_else(|| self.opener.grace.min(POD_LEAVES));
                    self.stop(&uid, Some(grace.min(POD_LEAVES_ALIVE)));
                }
                Ok(Ok(()))
            }
            Request::SnapshotSent => {
                for uid in self.state.snapshot_ends()? {
                    self.stop(&uid, None);
                }
                tracing::info!(pods = self.running.len(), "the node agent has told of every pod");
                Ok(Ok(()))
            }
        }
    }

    async fn add(&mut self, pod: Pod, netns: std::os::fd::OwnedFd) -> Result<(), String> {
        let netns = match Netns::from_fd(netns) {
            Ok(netns) => Arc::new(netns),
            Err(error) => return Err(format!("failure to start proxy: {error}")),
        };
        let uid = pod.uid.clone();
        match self.state.add(&uid, netns.id()) {
            Added::Known if self.running.contains_key(&uid) => return Ok(()),
            // It is named again while it waits to be tried again: it is tried now.
            Added::Known | Added::New => {}
            Added::Moved => self.stop(&uid, None),
        }
        self.start(pod, netns).await
    }

    async fn start(&mut self, pod: Pod, netns: Arc<Netns>) -> Result<(), String> {
        let uid = pod.uid.clone();
        let workers = workers_of(self.next_worker, &self.workers);
        self.next_worker += 1;
        match self.opener.open(pod.clone(), Some(netns.clone()), workers).await {
            Ok(listening) => {
                tracing::info!(pod = &*pod.name, namespace = &*pod.namespace, uid = &*uid, netns = %netns.id(), "serving pod");
                self.failing.remove(&uid);
                self.running.insert(uid, listening);
                self.metrics.pod_started();
                Ok(())
            }
            Err(error) => {
                tracing::warn!(pod = &*pod.name, namespace = &*pod.namespace, %error, "cannot serve pod, will try again");
                self.failing.insert(uid, (pod, netns));
                self.try_again.get_or_insert_with(|| Instant::now() + START_AGAIN);
                Err(format!("failure to start proxy: {error}"))
            }
        }
    }

    async fn start_again(&mut self) {
        self.try_again = None;
        for (pod, netns) in self.failing.values().cloned().collect::<Vec<_>>() {
            // A failure is logged, and leads to the next try.
            let _failed = self.start(pod, netns).await;
        }
        self.tell_ready();
    }

    /// Closes the listeners of a pod: at once, or when its connections have ended.
    fn stop(&mut self, uid: &str, grace: Option<Duration>) {
        self.failing.remove(uid);
        let Some(listening) = self.running.remove(uid) else { return };
        let pod = listening.pod.clone();
        tracing::info!(pod = &*pod.pod.name, namespace = &*pod.pod.namespace, uid, "pod is no longer served");
        match grace {
            Some(grace) => {
                let (hurry, process) = (self.hurry.clone(), self.opener.grace);
                let drain = self.draining.track_future(listening.drain_until(grace, async move {
                    hurry.cancelled().await;
                    sleep(process.saturating_sub(LAST_WORDS)).await;
                }));
                task::spawn("drain a pod", drain).detach();
            }
            None => listening.end(),
        }
        self.metrics.pod_stopped();
        if !self.running.values().any(|other| other.pod.identity == pod.identity) {
            self.opener.node.certificates.forget(&pod.identity);
        }
    }

    async fn drain_all(&mut self, grace: Duration) {
        self.hurry.cancel();
        for (_, listening) in self.running.drain() {
            task::spawn("drain a pod", self.draining.track_future(listening.drain(grace.min(self.opener.grace))))
                .detach();
        }
        self.draining.close();
        self.draining.wait().await;
    }

    /// Not ready: while the agent is away, before it has told everything, while a pod is failing.
    fn tell_ready(&mut self) {
        self.metrics.pods(self.running.len(), self.failing.len());
        self.pending.set(self.failing.values().map(|(pod, _)| pod.clone()).collect());
        let is_ready = self.is_connected && self.state.is_complete() && self.failing.is_empty();
        match (is_ready, &self.not_ready) {
            (true, Some(_)) => self.not_ready = None,
            (false, None) => self.not_ready = Some(self.ready.register(READY_TASK)),
            _ => {}
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
