//! TLS of our own to an endpoint, inside whatever carries it: what a policy wants, made ready once.
//!
//! TLS 1.3 only, as everywhere here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use mesh::Str;
use mesh::route::traffic::{HttpVersion, TlsOrigination, TlsRoots};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::Raw;
use super::failure::ConnectFailure;
use crate::limits::ORIGINATION_DEADLINE;

/// What a policy wants, made ready.
#[derive(Debug)]
pub struct Origination {
    number: u64,
    server_name: Option<Str>,
    config: Result<Arc<ClientConfig>, Str>,
}

/// A connection to an endpoint, in TLS of our own or not.
#[derive(Debug)]
pub enum Io {
    /// As it is.
    Raw(Raw),
    /// In TLS.
    Tls(Box<TlsStream<Raw>>),
}

impl Origination {
    /// Makes it ready. What cannot be used is told when a connection is wanted: no connection comes
    /// about, and never one without TLS.
    pub fn new(settings: &TlsOrigination) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Relaxed);
        Self { number, server_name: settings.server_name.clone(), config: config(settings).map(Arc::new) }
    }

    /// A number of its own: connections by other settings are other connections.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The name in the handshake, where the policy does not say: the host of the request.
    pub fn name<'a>(&'a self, host: &'a str) -> &'a str {
        self.server_name.as_deref().unwrap_or(host)
    }

    /// Begins TLS.
    pub async fn begin(&self, raw: Raw, host: &str, http: Option<HttpVersion>) -> Result<Io, ConnectFailure> {
        let failed = |reason: String| ConnectFailure::Origination(reason.into());
        let config = self.config.as_ref().map_err(|reason| ConnectFailure::Origination(reason.clone()))?;
        let mut config = ClientConfig::clone(config);
        config.alpn_protocols = match http {
            Some(HttpVersion::Http1) => vec![b"http/1.1".to_vec()],
            Some(HttpVersion::Http2) => vec![b"h2".to_vec()],
            None => Vec::new(),
        };
        let host = self.name(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| failed(format!("{host:?} is no server name")))?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, raw);
        let stream = timeout(ORIGINATION_DEADLINE, handshake)
            .await
            .map_err(|_| failed(format!("no TLS within {ORIGINATION_DEADLINE:?}")))?
            .map_err(|error| failed(error.to_string()))?;
        let agreed = stream.get_ref().1.alpn_protocol();
        if http == Some(HttpVersion::Http2) && agreed != Some(b"h2") {
            return Err(failed("the endpoint does not agree to HTTP/2 (ALPN h2)".into()));
        }
        Ok(Io::Tls(Box::new(stream)))
    }
}

fn config(settings: &TlsOrigination) -> Result<ClientConfig, Str> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match &settings.roots {
        TlsRoots::Anybody => Arc::new(Anybody(provider.clone())),
        TlsRoots::Missing { reason } => return Err(reason.clone()),
        TlsRoots::System => named(settings, system_roots()?, &provider)?,
        TlsRoots::Pem(pem) => named(settings, pem_roots(pem)?, &provider)?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| -> Str { error.to_string().into() })?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match &settings.client {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let chain: Vec<_> = certificates(chain)?;
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
                .map_err(|error| -> Str { format!("the client's key is no PEM: {error}").into() })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("the client's certificate cannot be used: {error}").into())
        }
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Str> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        Ok(_) => Err("there is no certificate in the PEM".into()),
        Err(error) => Err(format!("the certificates are no PEM: {error}").into()),
    }
}

fn pem_roots(pem: &str) -> Result<RootCertStore, Str> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| -> Str { format!("a root cannot be used: {error}").into() })?;
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, Str> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err("the system has no certificate authorities".into()) } else { Ok(roots) }
}

fn named(
    settings: &TlsOrigination,
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Str> {
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| -> Str { error.to_string().into() })?;
    match settings.subject_alt_names.is_empty() {
        true => Ok(inner),
        false => Ok(Arc::new(OneOf { names: settings.subject_alt_names.clone(), inner })),
    }
}

/// Believes a certificate that holds and has one of these names.
#[derive(Debug)]
struct OneOf {
    names: Vec<Str>,
    inner: Arc<WebPkiServerVerifier>,
}

impl OneOf {
    fn has_one(&self, leaf: &CertificateDer<'_>) -> Result<bool, rustls::Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let spiffe = pki::chain::identity(leaf).ok().map(|identity| identity.to_string());
        Ok(self.names.iter().any(|name| match &spiffe {
            Some(spiffe) if **name == **spiffe => true,
            _ => ServerName::try_from(&**name).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok()),
        }))
    }
}

impl ServerCertVerifier for OneOf {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.inner.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            // The chain is judged before the name, so that with these only the name is wrong.
            Ok(_)
            | Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => {}
            Err(error) => return Err(error),
        }
        match self.has_one(leaf)? {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Believes whoever holds the key of the certificate that is shown: the policy says so.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, leaf, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Raw(raw) => Pin::new(raw).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Raw(raw) => Pin::new(raw).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Raw(raw) => Pin::new(raw).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Raw(raw) => Pin::new(raw).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
