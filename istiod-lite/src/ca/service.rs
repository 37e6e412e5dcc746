//! The certificate RPC: who asks, may they, is there room, sign.
//!
//! Callers are told what kind of failure it was, never why; why is in the log.

use super::{
    policy::{self, Policy},
    rate::Buckets,
    root::Root,
};
use crate::{
    authn::{self, Authenticator, Caller},
    facts::PodLookup,
};
use pki::{
    Clock,
    ca_server::{Answering, CertificateRequest, Certify},
    issue::{IssueError, Lifetimes},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};
use tonic::Status;

/// Requests worked on at once. Signing takes a core for a tenth of a millisecond; what takes long is
/// asking somebody else about a token, and nobody should be asked more at once.
const CONCURRENT_MAX: usize = 64;

/// How long a request may wait for its turn. Whoever waited longer gives up anyway.
const TURN_WAIT_MAX: Duration = Duration::from_secs(2);

/// Answers requests for certificates.
pub struct CertificateAuthority {
    root: Arc<Root>,
    authenticator: Arc<dyn Authenticator>,
    policy: Policy,
    pods: Arc<dyn PodLookup>,
    lifetimes: Lifetimes,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    turns: Semaphore,
    buckets: Mutex<Buckets<Caller>>,
}

impl CertificateAuthority {
    /// An authority that signs with `root` for whom `authenticator` believes and `policy` allows.
    pub fn new(
        root: Arc<Root>,
        authenticator: Arc<dyn Authenticator>,
        policy: Policy,
        pods: Arc<dyn PodLookup>,
        lifetimes: Lifetimes,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        let (turns, buckets) = (Semaphore::new(CONCURRENT_MAX), Mutex::default());
        Self { root, authenticator, policy, pods, lifetimes, clock, metrics, turns, buckets }
    }

    async fn answer(&self, request: CertificateRequest) -> Result<Vec<String>, Status> {
        self.metrics.requests.inc();
        let turn = timeout(TURN_WAIT_MAX, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Status::resource_exhausted("too many requests at once")) };
        let caller = self.authenticated(&request).await?;
        let now = self.clock.now();
        if !self.buckets.lock().unwrap_or_else(PoisonError::into_inner).take(caller.clone(), now.monotonic.into_std()) {
            return Err(Status::resource_exhausted("too many requests of this caller"));
        }
        let requested = request.impersonated.as_deref();
        let identity = policy::decide(&self.policy, &caller, requested, &*self.pods).map_err(|denied| {
            tracing::warn!(caller = %caller.identity, pod = ?caller.pod, %denied, "certificate denied");
            self.metrics.authentication_failures.inc();
            Status::unauthenticated("request impersonation authentication failure")
        })?;
        let issuer = self.root.issuer();
        match issuer.issue(&request.csr, &identity, request.ttl_seconds, self.lifetimes, now.wall) {
            Ok(elements) => {
                tracing::debug!(caller = %caller.identity, %identity, "certificate issued");
                self.metrics.issued.inc();
                Ok(elements)
            }
            Err(error) => {
                tracing::warn!(caller = %caller.identity, %identity, %error, "certificate not issued");
                Err(self.metrics.not_issued(&error))
            }
        }
    }

    async fn authenticated(&self, request: &CertificateRequest) -> Result<Caller, Status> {
        authn::caller(&*self.authenticator, &request.metadata).await.map_err(|error| {
            tracing::info!(%error, "caller not believed");
            self.metrics.authentication_failures.inc();
            Status::unauthenticated("request authenticate failure")
        })
    }
}

impl Certify for CertificateAuthority {
    fn certify(&self, request: CertificateRequest) -> Answering<'_> {
        Box::pin(self.answer(request))
    }
}

/// What is counted, under the names of Istio's authority.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    requests: Counter,
    issued: Counter,
    authentication_failures: Counter,
    bad_requests: Counter,
    sign_errors: Family<SignError, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignError {
    error: &'static str,
}

impl Metrics {
    /// Counters that are shown in `registry`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let mut add = |name, help, counter: &Counter| registry.register(name, help, counter.clone());
        add("citadel_server_csr_count", "Requests for certificates received", &metrics.requests);
        add("citadel_server_success_cert_issuance_count", "Certificates issued", &metrics.issued);
        add(
            "citadel_server_authentication_failure_count",
            "Requests whose caller was not believed or not allowed",
            &metrics.authentication_failures,
        );
        add("citadel_server_csr_parsing_err_count", "Requests that could not be read", &metrics.bad_requests);
        registry.register(
            "citadel_server_csr_sign_err_count",
            "Requests that could not be signed",
            metrics.sign_errors.clone(),
        );
        metrics
    }

    /// Counts a refusal of the issuer and says how to answer it.
    fn not_issued(&self, error: &IssueError) -> Status {
        let sign_error = |label| self.sign_errors.get_or_create(&SignError { error: label }).inc();
        match error {
            IssueError::Request(bad) => {
                self.bad_requests.inc();
                Status::invalid_argument(format!("CSR signing error: {bad}"))
            }
            IssueError::Lifetime { .. } => {
                sign_error("TTL_ERROR");
                Status::invalid_argument(error.to_string())
            }
            IssueError::Expired => {
                sign_error("CA_NOT_READY");
                Status::internal("the CA is not ready")
            }
            IssueError::Sign(_) => {
                sign_error("CERT_GEN_ERROR");
                Status::internal("CSR signing error")
            }
        }
    }
}

#[cfg(test)]
mod tests;
