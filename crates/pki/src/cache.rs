//! The certificates of every identity this process speaks for, kept fresh.
//!
//! [`crate::schedule`] decides, this asks and waits. An expired certificate is never handed out; one
//! that still holds is kept when its renewal fails.

use crate::{
    certificate::{CertificateRefused, WorkloadCertificate},
    chain::Certificate,
    clock::Clock,
    limits::{CERTIFY_DEADLINE, FETCH_WAIT_MAX, IDENTITIES_MAX},
    revocation::Revocations,
    schedule::{Next, Priority, Schedule, Ticket, Validity},
};
use foldhash::fast::RandomState;
use mesh::Identity;
use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};

/// A future of an [`Authority`].
pub type Certifying<'a> = Pin<Box<dyn Future<Output = Result<WorkloadCertificate, CertificateError>> + Send + 'a>>;

/// Somebody who gives certificates.
pub trait Authority: Send + Sync + 'static {
    /// A new key and its certificate for `identity`. The cache gives up on it after a deadline.
    fn certify<'a>(&'a self, identity: &'a Identity) -> Certifying<'a>;
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The authority did not answer.
    #[error("the certificate authority cannot be reached: {0}")]
    Unreachable(String),
    /// The authority said no.
    #[error("the certificate authority refused {identity}: {message}")]
    Refused {
        /// For whom we asked.
        identity: Identity,
        /// Its status and words.
        message: String,
    },
    /// What it sent is no certificate of ours.
    #[error("the certificate authority's answer is unusable: {0}")]
    Unusable(#[from] CertificateRefused),
    /// The token that proves us to the authority cannot be read, or no key be made.
    #[error("cannot ask the certificate authority: {0}")]
    CannotAsk(String),
    /// No answer in time.
    #[error("the certificate authority did not answer in time")]
    TimedOut,
    /// Too many identities at once.
    #[error("over {IDENTITIES_MAX} identities at once")]
    TooMany,
    /// The identity was dropped while somebody waited.
    #[error("{0} is no longer served here")]
    Forgotten(Identity),
}

/// How an identity stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateState {
    /// A certificate that holds.
    Available,
    /// The first request has not ended.
    Initializing,
    /// None that holds, and why.
    Unavailable(CertificateError),
}

/// One identity, as the config dump shows it.
#[derive(Clone, Debug)]
pub struct CertificateStatus {
    /// Whose.
    pub identity: Identity,
    /// How it stands.
    pub state: CertificateState,
    /// The certificate, even if it is over.
    pub certificate: Option<Arc<WorkloadCertificate>>,
}

impl CertificateStatus {
    /// Leaf and intermediates.
    pub fn chain(&self) -> &[Certificate] {
        self.certificate.as_ref().map_or(&[], |c| c.chain())
    }

    /// The trusted roots.
    pub fn roots(&self) -> &[Certificate] {
        self.certificate.as_ref().map_or(&[], |c| c.roots())
    }
}

/// A handle to the certificates. Cloning it is cheap.
#[derive(Clone)]
pub struct CertificateCache {
    shared: Arc<Shared>,
}

/// The work behind a [`CertificateCache`]: run it as a task, as long as the cache is used.
pub struct Driver {
    shared: Arc<Shared>,
    authority: Arc<dyn Authority>,
    revocations: Option<Revocations>,
}

struct Shared {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    /// Wakes the driver when something new is wanted.
    wanted: Notify,
}

#[derive(Default)]
struct State {
    schedule: Schedule,
    slots: HashMap<Identity, Slot, RandomState>,
}

/// What is known of one identity.
#[derive(Default)]
struct Slot {
    certificate: Option<Arc<WorkloadCertificate>>,
    last_error: Option<CertificateError>,
    /// Tells those who wait that a request has ended.
    ended: watch::Sender<()>,
}

impl CertificateCache {
    /// An empty cache, and the driver to be spawned for it.
    pub fn new(authority: Arc<dyn Authority>, clock: Arc<dyn Clock>) -> (Self, Driver) {
        let shared = Arc::new(Shared { state: Mutex::default(), clock, wanted: Notify::new() });
        (Self { shared: Arc::clone(&shared) }, Driver { shared, authority, revocations: None })
    }

    /// The certificate of `identity`. If there is none that holds, waits until the request that is
    /// under way, or the next, has ended. The identity is kept and renewed from here on, until forgotten.
    pub async fn fetch(&self, identity: &Identity) -> Result<Arc<WorkloadCertificate>, CertificateError> {
        let mut ended = match self.shared.look(identity)? {
            Look::Usable(certificate) => return Ok(certificate),
            Look::Wait(ended) => ended,
        };
        match timeout_at(Instant::now() + FETCH_WAIT_MAX, ended.changed()).await {
            Err(_) => Err(CertificateError::TimedOut),
            Ok(Err(_)) => Err(CertificateError::Forgotten(identity.clone())),
            Ok(Ok(())) => self.shared.outcome(identity),
        }
    }

    /// Asks for a certificate that will be needed soon.
    pub fn warm(&self, identity: &Identity) {
        let now = self.shared.clock.now();
        let mut state = self.shared.lock();
        if state.schedule.want(identity, Priority::Warmup, now).is_err() {
            tracing::warn!(%identity, "not warmed: {}", CertificateError::TooMany);
            return;
        }
        state.slots.entry(identity.clone()).or_default();
        self.shared.wanted.notify_one();
    }

    /// Nobody here is `identity` any more: its key is dropped.
    pub fn forget(&self, identity: &Identity) {
        let mut state = self.shared.lock();
        state.schedule.forget(identity);
        state.slots.remove(identity);
    }

    /// Everything held, by identity.
    pub fn dump(&self) -> Vec<CertificateStatus> {
        let now = self.shared.clock.now();
        let state = self.shared.lock();
        let status = |(identity, slot): (&Identity, &Slot)| CertificateStatus {
            identity: identity.clone(),
            state: match &slot.last_error {
                _ if state.schedule.usable(identity, now) => CertificateState::Available,
                Some(error) => CertificateState::Unavailable(error.clone()),
                None if slot.certificate.is_some() => {
                    CertificateState::Unavailable(CertificateError::Unusable(CertificateRefused::Expired))
                }
                None => CertificateState::Initializing,
            },
            certificate: slot.certificate.clone(),
        };
        let mut all: Vec<_> = state.slots.iter().map(status).collect();
        all.sort_by(|a, b| a.identity.cmp(&b.identity));
        all
    }
}

enum Look {
    Usable(Arc<WorkloadCertificate>),
    Wait(watch::Receiver<()>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, identity: &Identity) -> Result<Look, CertificateError> {
        let now = self.clock.now();
        let mut state = self.lock();
        if let Some(certificate) = state.usable(identity, now) {
            return Ok(Look::Usable(certificate));
        }
        state.schedule.want(identity, Priority::RealTime, now).map_err(|_| CertificateError::TooMany)?;
        let ended = state.slots.entry(identity.clone()).or_default().ended.subscribe();
        self.wanted.notify_one();
        Ok(Look::Wait(ended))
    }

    /// What the request that just ended brought.
    fn outcome(&self, identity: &Identity) -> Result<Arc<WorkloadCertificate>, CertificateError> {
        let now = self.clock.now();
        let state = self.lock();
        if let Some(certificate) = state.usable(identity, now) {
            return Ok(certificate);
        }
        let error = state.slots.get(identity).and_then(|slot| slot.last_error.clone());
        Err(error.unwrap_or(CertificateError::TimedOut))
    }

    fn finish(&self, ticket: &Ticket, answer: Result<WorkloadCertificate, CertificateError>) {
        let now = self.clock.now();
        let dice = rand::random::<f64>();
        let mut state = self.lock();
        let answer = match answer {
            Ok(certificate) => {
                let validity = Validity { not_before: certificate.not_before(), not_after: certificate.not_after() };
                let over = validity.not_after <= now.wall;
                let taken = state.schedule.issued(ticket, validity, dice, now);
                if over { Err(CertificateRefused::Expired.into()) } else { Ok(taken.then(|| Arc::new(certificate))) }
            }
            Err(error) => {
                state.schedule.failed(ticket, dice, now);
                Err(error)
            }
        };
        let Some(slot) = state.slots.get_mut(&ticket.identity) else { return };
        match answer {
            Ok(None) => return,
            Ok(Some(certificate)) => {
                tracing::debug!(identity = %ticket.identity, serial = certificate.serial(), "certificate issued");
                slot.certificate = Some(certificate);
                slot.last_error = None;
            }
            Err(error) => {
                tracing::warn!(identity = %ticket.identity, %error, "no certificate");
                slot.last_error = Some(error);
            }
        }
        slot.ended.send_replace(());
    }
}

impl State {
    fn usable(&self, identity: &Identity, now: crate::clock::Now) -> Option<Arc<WorkloadCertificate>> {
        let usable = self.schedule.usable(identity, now);
        self.slots.get(identity).filter(|_| usable).and_then(|slot| slot.certificate.clone())
    }
}

impl Driver {
    /// The certificates from here on believe nobody whom these lists revoke.
    pub fn heeding(self, revocations: Revocations) -> Self {
        Self { revocations: Some(revocations), ..self }
    }

    fn heedful(&self, certificate: WorkloadCertificate) -> WorkloadCertificate {
        match &self.revocations {
            Some(revocations) => certificate.heeding(revocations),
            None => certificate,
        }
    }

    /// Fetches and renews. Ends only when dropped.
    pub async fn run(self) {
        let mut asking = JoinSet::new();
        let mut tickets: HashMap<tokio::task::Id, Ticket> = HashMap::new();
        loop {
            let now = self.shared.clock.now();
            let next = self.shared.lock().schedule.next(now);
            let pause = match next {
                Next::Ask(ticket) => {
                    let (authority, identity) = (Arc::clone(&self.authority), ticket.identity.clone());
                    let task =
                        asking.spawn(async move { timeout(CERTIFY_DEADLINE, authority.certify(&identity)).await });
                    tickets.insert(task.id(), ticket);
                    continue;
                }
                Next::Wait(pause) => Some(pause),
                Next::Idle => None,
            };
            // Cancelling any arm loses nothing: what has not been joined stays in the set.
            let joined = tokio::select! {
                Some(joined) = asking.join_next_with_id() => joined,
                () = self.shared.wanted.notified() => continue,
                () = sleep(pause.unwrap_or_default()), if pause.is_some() => continue,
            };
            let (id, answer) = match joined {
                Ok((id, Ok(answer))) => (id, answer.map(|certificate| self.heedful(certificate))),
                Ok((id, Err(_))) => (id, Err(CertificateError::TimedOut)),
                Err(panicked) => (panicked.id(), Err(CertificateError::CannotAsk(panicked.to_string()))),
            };
            if let Some(ticket) = tickets.remove(&id) {
                self.shared.finish(&ticket, answer);
            }
        }
    }
}

impl fmt::Debug for CertificateCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateCache").field("identities", &self.shared.lock().slots.len()).finish()
    }
}

#[cfg(test)]
mod tests;
