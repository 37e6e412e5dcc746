//! An authority inside the process itself, for tests without a control plane (`FAKE_CA`).
//!
//! Its root is made at the start, kept nowhere and known to nobody else, so whoever it certifies is
//! believed by this process alone.

use crate::{
    cache::{Authority, CertificateError, Certifying},
    certificate::WorkloadCertificate,
    clock::Clock,
    csr,
    issue::{Issuer, IssuerError, Lifetimes, ROOT_LIFETIME},
};
use mesh::Identity;
use std::{sync::Arc, time::Duration};

/// Certifies whoever this process says it speaks for.
#[derive(Debug)]
pub struct OwnAuthority {
    issuer: Issuer,
    ttl: Duration,
    clock: Arc<dyn Clock>,
}

impl OwnAuthority {
    /// With a new root. Its certificates live `ttl`.
    pub fn new(trust_domain: &str, ttl: Duration, clock: Arc<dyn Clock>) -> Result<Self, IssuerError> {
        let issuer = Issuer::self_signed(trust_domain, ROOT_LIFETIME, clock.now().wall)?;
        Ok(Self { issuer, ttl, clock })
    }

    fn issue(&self, identity: &Identity) -> Result<WorkloadCertificate, CertificateError> {
        let cannot = |reason: &dyn ToString| CertificateError::CannotAsk(reason.to_string());
        let made = csr::request(identity).map_err(|e| cannot(&e))?;
        let ttl = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let elements = self.issuer.issue(&made.csr, identity, ttl, Lifetimes::default(), self.clock.now().wall);
        let message =
            |e: &dyn ToString| CertificateError::Refused { identity: identity.clone(), message: e.to_string() };
        Ok(WorkloadCertificate::new(made.key, &elements.map_err(|e| message(&e))?)?)
    }
}

impl Authority for OwnAuthority {
    fn certify<'a>(&'a self, identity: &'a Identity) -> Certifying<'a> {
        Box::pin(async move { self.issue(identity) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemClock;

    #[tokio::test]
    async fn whoever_it_certifies_is_believed_by_whom_else_it_certifies_and_by_nobody_else() {
        let authority = || OwnAuthority::new("mesh", Duration::from_secs(60), Arc::new(SystemClock)).unwrap();
        let (ours, theirs) = (authority(), authority());
        let identity = Identity::new("mesh", "shop", "web").unwrap();
        let certificate = ours.certify(&identity).await.unwrap();
        assert_eq!(certificate.identity(), &identity);
        let root = |authority: &OwnAuthority| authority.issuer.roots()[0].der.clone();
        assert_eq!(certificate.roots()[0].der, root(&ours));
        assert_ne!(root(&ours), root(&theirs));
        let life = certificate.not_after().duration_since(certificate.not_before()).unwrap();
        assert!(life <= Duration::from_secs(60 + 130), "{life:?}");
    }

    #[tokio::test]
    async fn a_life_that_is_not_given_is_an_error_and_no_shorter_one() {
        let year = Duration::from_secs(365 * 24 * 3600);
        let authority = OwnAuthority::new("mesh", year, Arc::new(SystemClock)).unwrap();
        let identity = Identity::new("mesh", "shop", "web").unwrap();
        assert!(matches!(authority.certify(&identity).await, Err(CertificateError::Refused { .. })));
    }
}
