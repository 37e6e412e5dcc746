//! What people would pick instead, as they would set it up: Envoy, haproxy, nginx.

pub mod envoy;
pub mod haproxy;
pub mod nginx;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use std::net::SocketAddr;

/// From one port to one address.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Where it listens.
    pub port: u16,
    /// Where it goes.
    pub to: SocketAddr,
}

/// Certificates for the two ends of a peer's TLS, by a root of their own. PEM.
pub struct Certificates {
    /// The root.
    pub root: String,
    /// The client's chain and key.
    pub client: (String, String),
    /// The server's.
    pub server: (String, String),
}

impl Certificates {
    /// New ones: P-256 and a SPIFFE name, as the mesh's own are.
    pub fn new() -> Result<Self> {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(DnType::CommonName, "peers' root");
        let key = KeyPair::generate().context("no key for a root")?;
        let certificate = root.self_signed(&key).context("a root does not sign itself")?;
        let issuer = Issuer::new(root, key);
        let leaf = |name: &str| -> Result<(String, String)> {
            let mut params = CertificateParams::default();
            let name = format!("spiffe://cluster.local/ns/peer/sa/{name}").try_into()?;
            params.subject_alt_names = vec![SanType::URI(name)];
            let key = KeyPair::generate()?;
            Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
        };
        Ok(Self { root: certificate.pem(), client: leaf("client")?, server: leaf("server")? })
    }
}
