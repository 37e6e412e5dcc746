//! A process that agrees on keys by post-quantum means only. It is one for its whole life, and so has
//! a test program of its own.
#![allow(clippy::unwrap_used, reason = "tests")]

use mesh::Identity;
use pki::{
    SystemClock,
    cache::Authority,
    own_authority::OwnAuthority,
    tls::{self, HandshakeError},
};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs, aws_lc_rs::kx_group},
    version::TLS13,
};
use rustls_pki_types::ServerName;
use std::{sync::Arc, time::Duration};
use tokio::io::duplex;

/// A peer that has one way to agree on keys, and believes nobody.
fn provider(group: &'static dyn SupportedKxGroup) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() })
}

#[tokio::test]
async fn peers_without_it_are_refused_at_both_ends() {
    tls::agree_on_keys_by_post_quantum_means_only();
    let authority = OwnAuthority::new("mesh", Duration::from_secs(3600), Arc::new(SystemClock)).unwrap();
    let identity = Identity::new("mesh", "shop", "web").unwrap();
    let certificate = authority.certify(&identity).await.unwrap();
    for (group, agrees) in [(kx_group::X25519, false), (kx_group::SECP256R1, false), (kx_group::X25519MLKEM768, true)] {
        let mut client = rustls::ClientConfig::builder_with_provider(provider(group))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        client.alpn_protocols = vec![tls::ALPN.to_vec()];
        let (near, far) = duplex(64 * 1024);
        let name = ServerName::try_from("web.shop.svc").unwrap();
        let dialling = async { tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, near).await };
        let (accepted, _) = tokio::join!(tls::accept(far, tls::server_config(&certificate)), dialling);
        match accepted.err().unwrap() {
            // Our certificate was seen, and not believed: until there the keys were agreed on.
            HandshakeError::Alert(_) => assert!(agrees, "{group:?}"),
            HandshakeError::Protocol(reason) => assert!(!agrees, "{group:?}: {reason}"),
            other => panic!("{group:?}: {other}"),
        }
    }
    let server = rustls::ServerConfig::builder_with_provider(provider(kx_group::X25519))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::server::ResolvesServerCertUsingSni::new()));
    let (near, far) = duplex(64 * 1024);
    let accepting = async { tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far).await };
    let (connected, _) = tokio::join!(tls::connect(near, tls::client_config(&certificate, &[identity])), accepting);
    assert!(matches!(connected.err().unwrap(), HandshakeError::Alert(_)));
}
