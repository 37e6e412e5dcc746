//! A process that also makes tunnels of TLS 1.2: as strict with them as with those of 1.3.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "handshake/forge.rs"]
#[allow(dead_code, reason = "shared with another test program, which uses the rest")]
mod forge;

use forge::{Ca, Leaf, honest, root};
use mesh::Identity;
use pki::tls::{self, HandshakeError};
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS12,
};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use tokio::io::duplex;

const WEB: &str = "spiffe://mesh/ns/shop/sa/web";
const CLIENT: &str = "spiffe://mesh/ns/shop/sa/client";

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Another's certificate with one's own key.
fn stolen(of: &CertifiedKey, by: &CertifiedKey) -> Arc<CertifiedKey> {
    Arc::new(CertifiedKey::new(of.cert.clone(), by.key.clone()))
}

#[tokio::test]
async fn an_old_peer_has_to_prove_as_much_as_a_new_one() {
    tls::also_speak_tls12();
    let mesh = root("mesh");
    let (ca, stranger) = (Ca::of(&mesh), root("mesh"));
    let good = |uri: &str| Leaf::good(uri).shown(&ca, &[]);
    let forged = |uri: &str| Leaf::good(uri).shown(&Ca::of(&stranger), &[]);
    let (web, client) = (honest(&mesh, WEB), honest(&mesh, CLIENT));
    let (expected, other): (Identity, Identity) = (WEB.parse().unwrap(), CLIENT.parse().unwrap());

    for (what, shown, taken) in [
        ("honest", good(CLIENT), true),
        ("another root", forged(CLIENT), false),
        ("another trust domain", good("spiffe://other/ns/shop/sa/client"), false),
        ("without the key", stolen(&good(CLIENT), &good(CLIENT)), false),
    ] {
        let (near, far) = duplex(64 * 1024);
        let old = old_client(shown, &ca);
        let name = ServerName::try_from("web.shop.svc").unwrap();
        let dialling = async { tokio_rustls::TlsConnector::from(old).connect(name, near).await };
        let (accepted, _dialled) = tokio::join!(tls::accept(far, tls::server_config(&web)), dialling);
        match accepted {
            Ok((stream, peer)) => {
                assert!(taken, "{what} was taken");
                assert_eq!(peer.identity(), &other);
                assert_eq!(stream.session().get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
            }
            Err(error) => assert!(!taken, "{what}: {error}"),
        }
    }
    for (what, shown, wanted, taken) in [
        ("honest", good(WEB), &expected, true),
        ("another root", forged(WEB), &expected, false),
        ("somebody else", good(WEB), &other, false),
        ("without the key", stolen(&good(WEB), &good(WEB)), &expected, false),
    ] {
        let (near, far) = duplex(64 * 1024);
        let accepting = async { tokio_rustls::TlsAcceptor::from(old_server(shown)).accept(far).await };
        let ours = tls::client_config(&client, std::slice::from_ref(wanted));
        let (connected, _accepted) = tokio::join!(tls::connect(near, ours), accepting);
        match connected {
            Ok((stream, _)) => {
                assert!(taken, "{what} was taken");
                assert_eq!(stream.session().get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
            }
            Err(error) => assert!(!taken && !matches!(error, HandshakeError::Io(_)), "{what}: {error}"),
        }
    }
    // Two that have 1.3 use it.
    let (near, far) = duplex(64 * 1024);
    let ours = tls::client_config(&client, &[expected]);
    let (accepted, _) = tokio::join!(tls::accept(far, tls::server_config(&web)), tls::connect(near, ours));
    assert_eq!(accepted.unwrap().0.session().get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
}

fn old_client(shown: Arc<CertifiedKey>, ca: &Ca) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(ca.der.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyName(
            rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
        )))
        .with_client_cert_resolver(Arc::new(Shows(shown)));
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    Arc::new(config)
}

fn old_server(shown: Arc<CertifiedKey>) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(shown)));
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    Arc::new(config)
}

/// Workloads have no host names, so an ordinary client must not look for one.
#[derive(Debug)]
struct AnyName(Arc<rustls::client::WebPkiServerVerifier>);

impl rustls::client::danger::ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls_pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls_pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
