//! A certificate authority for tests, and peers that it proves.
//!
//! There is no other way to a [`pki::Peer`] than a handshake, so [`peer`] does one.

use mesh::Identity;
use pki::{
    WorkloadCertificate,
    cache::{Authority, CertificateError, Certifying},
    csr,
    issue::{Issuer, Lifetimes, ROOT_LIFETIME},
    tls,
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// An authority that issues to whoever asks. Can be told to fail.
#[derive(Debug)]
pub struct FakeCa {
    issuer: Issuer,
    ttl: Duration,
    failing: Mutex<Option<CertificateError>>,
    asked: AtomicU64,
}

impl FakeCa {
    /// A new root; its certificates live for an hour.
    pub fn new() -> Self {
        Self::with_ttl(Duration::from_secs(3600))
    }

    /// A new root; its certificates live for `ttl`.
    pub fn with_ttl(ttl: Duration) -> Self {
        let issuer =
            Issuer::self_signed("cluster.local", ROOT_LIFETIME, SystemTime::now()).expect("a root can be made");
        Self { issuer, ttl, failing: Mutex::new(None), asked: AtomicU64::new(0) }
    }

    /// The signer.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// A certificate for `spiffe://cluster.local/ns/<namespace>/sa/<service account>`.
    pub fn certificate(&self, namespace: &str, service_account: &str) -> Arc<WorkloadCertificate> {
        let identity = Identity::new("cluster.local", namespace, service_account).expect("a good name");
        Arc::new(self.issue(&identity))
    }

    /// A certificate for `identity`.
    pub fn issue(&self, identity: &Identity) -> WorkloadCertificate {
        let made = csr::request(identity).expect("a key can be made");
        let ttl = i64::try_from(self.ttl.as_secs()).expect("a short life");
        let elements = self.issuer.issue(&made.csr, identity, ttl, Lifetimes::default(), SystemTime::now());
        WorkloadCertificate::new(made.key, &elements.expect("a good request")).expect("a good certificate")
    }

    /// From now on every request fails like this; `None`: works again.
    pub fn fail_with(&self, error: Option<CertificateError>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// How often somebody asked through [`Authority`].
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Default for FakeCa {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority for FakeCa {
    fn certify<'a>(&'a self, identity: &'a Identity) -> Certifying<'a> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move { failing.map_or_else(|| Ok(self.issue(identity)), Err) })
    }
}

/// The peer that a server sees when the holder of `certificate` connects: a real handshake in memory.
pub async fn peer(ca: &FakeCa, certificate: &WorkloadCertificate) -> pki::Peer {
    let server = ca.certificate("testkit", "server");
    let (near, far) = tokio::io::duplex(16 * 1024);
    let client = tls::client_config(certificate, &[server.identity().clone()]);
    let (accepted, connected) = tokio::join!(tls::accept(far, tls::server_config(&server)), tls::connect(near, client));
    connected.expect("the fake CA is believed");
    accepted.expect("the fake CA is believed").1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_peer_is_who_its_certificate_names() {
        let ca = FakeCa::new();
        let web = ca.certificate("shop", "web");
        assert_eq!(peer(&ca, &web).await.identity(), web.identity());
    }
}
