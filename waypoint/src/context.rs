//! What every request and connection may use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chassis::drain::Signal;
use hbone::head::TraceParent;
use mesh::{Identity, Workload};
use pki::WorkloadCertificate;
use pki::cache::{CertificateCache, CertificateError};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::limit::Limiter;
use crate::limits::{CERTIFICATE_DEADLINE, MIRRORS_MAX};
use crate::live::Live;
use crate::report::{Asked, Party, Reporter, Shared};
use crate::rules::Preparations;
use crate::target::Target;
use crate::trace::Tracer;
use crate::upstream::Upstream;
use crate::upstream::cluster::{Clusters, Place};
use crate::upstream::http::AllClients;
use crate::view::CurrentView;

/// What all cores share.
pub struct Waypoint {
    /// What the operator set.
    pub settings: Settings,
    /// What is known of the mesh.
    pub view: CurrentView,
    /// Our certificate.
    pub certificates: CertificateCache,
    /// Rules, ready to be asked.
    pub rules: Preparations,
    /// Destinations.
    pub clusters: Clusters,
    /// HTTP connections to them, of all cores.
    pub clients: Arc<AllClients>,
    /// Open TCP connections.
    pub live: Live,
    /// Where requests are told of.
    pub reporter: Reporter,
    /// Rate limits.
    pub limiter: Limiter,
    /// Traces.
    pub tracer: Tracer,
    /// Cancelled when no new connection shall begin.
    pub draining: CancellationToken,
    /// Tells of the drain, and holds it up for what is under way.
    pub signal: Signal,
}

impl Waypoint {
    /// Our own certificate. Waits for the authority if it has to.
    pub async fn certificate(&self) -> Result<Arc<WorkloadCertificate>, CertificateError> {
        let fetched = timeout(CERTIFICATE_DEADLINE, self.certificates.fetch(&self.settings.own.identity)).await;
        fetched.unwrap_or(Err(CertificateError::TimedOut))
    }

    /// Our own workload, if the view has it.
    pub fn own_workload<'v>(&self, view: &'v mesh::View) -> Option<&'v Arc<Workload>> {
        let own = &self.settings.own;
        view.workload_of_pod(own.namespace(), &own.pod, own.identity.service_account())
    }

    /// From where destinations are seen.
    pub fn place<'v>(&'v self, view: &'v mesh::View) -> Place<'v> {
        let own = self.own_workload(view).map(|workload| &**workload);
        Place { view, own, network: &self.settings.network }
    }

    /// Whether there are replicas of us beside this one.
    pub fn has_siblings(&self) -> bool {
        let view = self.view.now();
        let Some(own) = self.own_workload(&view) else { return false };
        own.services.keys().any(|service| view.endpoints(service).nth(1).is_some())
    }
}

/// What one core has of its own.
pub struct Core {
    /// What all share.
    pub waypoint: Arc<Waypoint>,
    /// How endpoints are reached.
    pub upstream: Upstream,
    /// Copies of requests under way.
    pub mirrors: Arc<Semaphore>,
}

impl Core {
    /// A core without connections.
    pub fn new(waypoint: Arc<Waypoint>) -> Self {
        let upstream = Upstream::new(&waypoint.settings, waypoint.certificates.clone(), waypoint.clients.clone());
        Self { waypoint, upstream, mirrors: Arc::new(Semaphore::new(MIRRORS_MAX)) }
    }
}

/// One tunnel: who asks, from where, and for what.
#[derive(Debug)]
pub struct Call {
    /// Who asks, as the certificate proves.
    pub caller: Identity,
    /// Its address: node proxies keep it.
    pub from: SocketAddr,
    /// What was asked for.
    pub target: Target,
    /// Who asks, for the report.
    pub source: Party,
    /// What was asked for, for the report.
    pub asked: Shared<Asked>,
    /// The caller's span.
    pub trace: Option<TraceParent>,
}

/// A random number, and nothing that anybody could not guess at.
pub fn dice() -> u64 {
    rand::random()
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A throw of a die with a million faces.
pub fn throw() -> u32 {
    rand::random_range(0..1_000_000)
}

/// A time between `least` and `least + spread`, by lot.
pub fn spread(least: Duration, spread: Duration) -> Duration {
    least + spread.mul_f64(rand::random::<f64>())
}
