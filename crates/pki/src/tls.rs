//! The two ends of a tunnel's handshake.
//!
//! TLS 1.3 only (1.2 for old peers where an operator says so), both sides prove themselves, ALPN is `h2`, AES-128-GCM first where the peer agrees,
//! post-quantum key exchange first with fallback. No SNI, no resumption, no early data: each
//! connection is checked against the roots of now. Deadlines are the caller's.

mod stream;

pub use stream::{Stream, is_revocation};

use crate::{
    certificate::WorkloadCertificate,
    clock::{Clock, SystemClock, TlsTime, unix_time},
    verify::{ClientVerifier, End, Peer, PeerRefused, ServerVerifier, Trust, refusal},
};
use mesh::Identity;
use rustls::{
    CommonState, SignatureScheme, SupportedProtocolVersion,
    client::{ResolvesClientCert, Resumption},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::ServerName;
use std::{
    net::Ipv4Addr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// The only protocol of a tunnel.
pub const ALPN: &[u8] = b"h2";

/// A tunnel as its server holds it.
pub type ServerStream<IO> = Stream<tokio_rustls::server::TlsStream<IO>>;

/// A tunnel as its client holds it.
pub type ClientStream<IO> = Stream<tokio_rustls::client::TlsStream<IO>>;

/// Whether keys are agreed on by post-quantum means only. Read once, with the first handshake.
static ONLY_POST_QUANTUM: AtomicBool = AtomicBool::new(false);

/// From here on this process agrees on keys by X25519MLKEM768 only, with tunnels and with its control
/// plane, and refuses peers that do not have it. To be said before the first certificate is asked for.
pub fn agree_on_keys_by_post_quantum_means_only() {
    ONLY_POST_QUANTUM.store(true, Ordering::SeqCst);
}

/// Whether tunnels may also be of TLS 1.2. Read once, as the above.
static TLS12_TOO: AtomicBool = AtomicBool::new(false);

/// From here on this process also makes tunnels of TLS 1.2 (ECDHE and AES-GCM only) with peers that
/// have no 1.3; with others nothing changes. To be said before the first certificate is asked for.
pub fn also_speak_tls12() {
    TLS12_TOO.store(true, Ordering::SeqCst);
}

pub(crate) fn speaks_tls12() -> bool {
    TLS12_TOO.load(Ordering::SeqCst)
}

/// The versions of a tunnel.
fn versions() -> &'static [&'static SupportedProtocolVersion] {
    static USUAL: [&SupportedProtocolVersion; 1] = [&TLS13];
    static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
    if speaks_tls12() { &BOTH } else { &USUAL }
}

/// What both ends agree on. AES-128-GCM is first for its speed; it is as far from being broken as
/// the P-256 keys that authenticate the session.
pub(crate) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    let mut kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    if !ONLY_POST_QUANTUM.load(Ordering::SeqCst) {
        kx_groups.extend([aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1, aws_lc_rs::kx_group::SECP384R1]);
    }
    let mut cipher_suites =
        vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256, aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384];
    if speaks_tls12() {
        cipher_suites.extend([
            aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ]);
    }
    Arc::new(CryptoProvider { cipher_suites, kx_groups, ..aws_lc_rs::default_provider() })
});

/// Why no tunnel came to be.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// We do not believe the peer.
    #[error(transparent)]
    Refused(#[from] PeerRefused),
    /// The peer showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// The peer ended the handshake, by a TLS alert; most often it does not believe us.
    #[error("the peer refused the handshake: {0}")]
    Alert(String),
    /// The peer did not speak TLS 1.3 as we do, or our own certificate has expired.
    #[error("no TLS session as this mesh wants it: {0}")]
    Protocol(String),
    /// The peer did not agree to HTTP/2.
    #[error("the peer did not agree to HTTP/2 (ALPN h2)")]
    NoHttp2,
    /// The connection broke.
    #[error("the connection broke during the handshake: {0}")]
    Io(std::io::Error),
}

/// The server's end of tunnels. It always verifies: there is no other way to make one.
#[derive(Clone)]
pub struct ServerEnd {
    config: Arc<rustls::ServerConfig>,
    trust: Trust,
    clock: Arc<dyn Clock>,
}

/// The client's end of tunnels. It always verifies: there is no other way to make one.
#[derive(Clone)]
pub struct ClientEnd {
    config: Arc<rustls::ClientConfig>,
    trust: Trust,
    clock: Arc<dyn Clock>,
}

/// What a pod's tunnel listener says: mutual TLS, peers of the same trust domain.
/// Built once for each certificate.
pub fn server_config(certificate: &WorkloadCertificate) -> Arc<ServerEnd> {
    certificate.server(|| server_config_at(certificate, Arc::new(SystemClock)))
}

/// As [`server_config`], by another clock.
pub fn server_config_at(certificate: &WorkloadCertificate, clock: Arc<dyn Clock>) -> ServerEnd {
    let mut config =
        rustls::ServerConfig::builder_with_details(Arc::clone(&PROVIDER), Arc::new(TlsTime(Arc::clone(&clock))))
            .with_protocol_versions(versions())
            .expect("our cipher suites are those of these versions")
            .with_client_cert_verifier(Arc::new(ClientVerifier::new(certificate)))
            .with_cert_resolver(Arc::new(Unexpired::new(certificate, Arc::clone(&clock))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    ServerEnd { config: Arc::new(config), trust: Trust::of(certificate), clock }
}

/// What a pod says when it opens a tunnel to one of `expected`. Nobody is expected if that is empty.
pub fn client_config(certificate: &WorkloadCertificate, expected: &[Identity]) -> Arc<ClientEnd> {
    Arc::new(client_config_at(certificate, expected, Arc::new(SystemClock)))
}

/// As [`client_config`], by another clock.
pub fn client_config_at(certificate: &WorkloadCertificate, expected: &[Identity], clock: Arc<dyn Clock>) -> ClientEnd {
    let mut config =
        rustls::ClientConfig::builder_with_details(Arc::clone(&PROVIDER), Arc::new(TlsTime(Arc::clone(&clock))))
            .with_protocol_versions(versions())
            .expect("our cipher suites are those of these versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(certificate, expected)))
            .with_client_cert_resolver(Arc::new(Unexpired::new(certificate, Arc::clone(&clock))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    ClientEnd { config: Arc::new(config), trust: Trust::of(certificate), clock }
}

/// What the control plane says to those who connect to it: TLS 1.3 and HTTP/2 with the certificate that
/// `resolver` gives. Clients prove themselves by token, not by certificate.
pub fn serving_config(resolver: Arc<dyn ResolvesServerCert>) -> rustls::ServerConfig {
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])
        .expect("our cipher suites are those of TLS 1.3")
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.ignore_client_order = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config
}

/// The server's end of the handshake. The caller gives the deadline.
pub async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    end: Arc<ServerEnd>,
) -> Result<(ServerStream<IO>, Peer), HandshakeError> {
    let stream = tokio_rustls::TlsAcceptor::from(Arc::clone(&end.config)).accept(io).await.map_err(failed)?;
    let peer = proven(stream.get_ref().1, &end.trust, End::Client, &*end.clock)?;
    Ok((Stream::new(stream, &peer), peer))
}

/// The client's end of the handshake. The caller gives the deadline.
///
/// TLS 1.3 lets the client finish first: a server that does not believe us says so only afterwards,
/// as an error of the first read.
pub async fn connect<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    end: Arc<ClientEnd>,
) -> Result<(ClientStream<IO>, Peer), HandshakeError> {
    // The API wants a name. It is neither sent (no SNI) nor compared (the verifier looks at the SPIFFE URI).
    let name = ServerName::from(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(&end.config)).connect(name, io).await.map_err(failed)?;
    let peer = proven(stream.get_ref().1, &end.trust, End::Server, &*end.clock)?;
    Ok((Stream::new(stream, &peer), peer))
}

/// Who is at the other end, once the handshake is over.
fn proven(session: &CommonState, trust: &Trust, end: End, clock: &dyn Clock) -> Result<Peer, HandshakeError> {
    // rustls refuses another protocol, but lets pass a peer that names none.
    if session.alpn_protocol() != Some(ALPN) {
        return Err(HandshakeError::NoHttp2);
    }
    let certificates = session.peer_certificates().ok_or(HandshakeError::NoCertificate)?;
    Ok(Peer::of_handshake(certificates, trust.clone(), end, unix_time(clock.now().wall))?)
}

/// What a failed handshake means.
fn failed(error: std::io::Error) -> HandshakeError {
    use rustls::Error;
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return HandshakeError::Io(error);
    };
    match tls {
        Error::NoCertificatesPresented => HandshakeError::NoCertificate,
        Error::NoApplicationProtocol => HandshakeError::NoHttp2,
        Error::AlertReceived(alert) => HandshakeError::Alert(format!("{alert:?}")),
        other => match refusal(other) {
            Some(refused) => HandshakeError::Refused(refused),
            None => HandshakeError::Protocol(other.to_string()),
        },
    }
}

/// Shows our certificate as long as it holds. A peer must not have to tell us that we are too late.
#[derive(Debug)]
struct Unexpired {
    key: Arc<CertifiedKey>,
    not_after: SystemTime,
    clock: Arc<dyn Clock>,
}

impl Unexpired {
    fn new(certificate: &WorkloadCertificate, clock: Arc<dyn Clock>) -> Self {
        Self { key: Arc::clone(certificate.key()), not_after: certificate.not_after(), clock }
    }

    fn key(&self) -> Option<Arc<CertifiedKey>> {
        (self.clock.now().wall < self.not_after).then(|| Arc::clone(&self.key))
    }
}

impl ResolvesServerCert for Unexpired {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key()
    }
}

impl ResolvesClientCert for Unexpired {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.key()
    }

    fn has_certs(&self) -> bool {
        true
    }
}
