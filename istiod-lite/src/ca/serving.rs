//! The certificate that the control plane itself shows, from its own root.
//!
//! Made when a connection asks for it and kept to half of its life, or until the issuer changes.

use super::root::Root;
use pki::{Clock, issue::Issuer};
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// Life of a serving certificate. It is made anew at half of it, without any round trip.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Names under which a control plane of this namespace is reached: by its services, with the domain of
/// the cluster or without, and by those of its revision.
pub fn hostnames(namespace: &str, revision: &str, domain: &str) -> Vec<String> {
    let mut services = ["istiod", "istiod-remote", "istio-pilot"].map(str::to_owned).to_vec();
    if revision != "default" {
        services.push(format!("istiod-{revision}"));
    }
    let mut names: Vec<_> = services.iter().map(|service| format!("{service}.{namespace}.svc")).collect();
    names.extend(services.iter().map(|service| format!("{service}.{namespace}.svc.{domain}")));
    names.extend([format!("istiod.{namespace}"), "istiod".into(), "localhost".into()]);
    names
}

/// The server's end of TLS on 15012: our certificate, TLS 1.3, HTTP/2, no client certificate.
pub fn tls_config(root: Arc<Root>, hostnames: Vec<String>, clock: Arc<dyn Clock>) -> Arc<rustls::ServerConfig> {
    Arc::new(pki::tls::serving_config(Arc::new(Serving { root, hostnames, clock, made: Mutex::new(None) })))
}

struct Serving {
    root: Arc<Root>,
    hostnames: Vec<String>,
    clock: Arc<dyn Clock>,
    made: Mutex<Option<Made>>,
}

struct Made {
    key: Arc<CertifiedKey>,
    by: Arc<Issuer>,
    at: SystemTime,
}

impl Serving {
    fn key(&self) -> Option<Arc<CertifiedKey>> {
        let (issuer, now) = (self.root.issuer(), self.clock.now().wall);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // A date before it was made is a clock that was set back: then nobody knows how old it is.
        let fresh = |made: &Made| {
            Arc::ptr_eq(&made.by, &issuer) && now.duration_since(made.at).is_ok_and(|age| age < LIFETIME / 2)
        };
        if let Some(made) = made.as_ref().filter(|made| fresh(made)) {
            return Some(Arc::clone(&made.key));
        }
        match issuer.issue_serving(&self.hostnames, LIFETIME, now) {
            Ok(key) => {
                let key = Arc::new(key);
                *made = Some(Made { key: Arc::clone(&key), by: issuer, at: now });
                Some(key)
            }
            Err(error) => {
                tracing::error!(%error, "no certificate for the control plane itself");
                made.as_ref().map(|made| Arc::clone(&made.key))
            }
        }
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key()
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("hostnames", &self.hostnames).finish_non_exhaustive()
    }
}
