//! How key sets are fetched.
//!
//! [`Fetch`] is what the store asks. [`Direct`] goes straight to a server outside the mesh; for
//! services of the mesh the waypoint's upstream is asked instead.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use std::{sync::Arc, time::Duration};
use tokio::{io, net::TcpStream};
use tokio_rustls::TlsConnector;

/// The largest key set: 100 keys of 2 KiB, and certificates beside them, are half of it.
pub const KEYS_BYTES_MAX: usize = 512 * 1024;

/// Fetches what is at a URI.
pub trait Fetch: Send + Sync + 'static {
    /// GETs the URI; the body of a 200, of no more than [`KEYS_BYTES_MAX`]. The store has a
    /// time-out of its own around it, and drops the future.
    fn fetch(&self, uri: Uri) -> BoxFuture<'static, Result<Bytes, FetchFailed>>;
}

/// Why nothing was fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchFailed {
    /// The URI cannot be asked.
    #[error("{0} is no http or https URI with a host")]
    Uri(String),
    /// No connection came about.
    #[error("{0}")]
    Unreachable(String),
    /// It answered otherwise than 200; redirections are not followed.
    #[error("it answered with status {0}")]
    Status(u16),
    /// The answer broke off, or is longer than it may be.
    #[error("its answer cannot be read, or is over 512 KiB: {0}")]
    Body(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    TooLate(Duration),
}

/// Asks servers outside the mesh, by plain HTTP/1.1 or by TLS 1.3 that believes the system's roots.
#[derive(Clone, Debug)]
pub struct Direct {
    tls: Arc<ClientConfig>,
}

impl Direct {
    /// Believes the certificate authorities of the system.
    pub fn new() -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
        Ok(Self { tls: Arc::new(config.with_root_certificates(roots).with_no_client_auth()) })
    }
}

impl Fetch for Direct {
    fn fetch(&self, uri: Uri) -> BoxFuture<'static, Result<Bytes, FetchFailed>> {
        let tls = self.tls.clone();
        Box::pin(async move {
            let secure = match uri.scheme_str() {
                Some("https") => true,
                Some("http") => false,
                _ => return Err(FetchFailed::Uri(uri.to_string())),
            };
            let host = uri.host().ok_or_else(|| FetchFailed::Uri(uri.to_string()))?;
            let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
            let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
            let unreachable = |error: io::Error| FetchFailed::Unreachable(error.to_string());
            let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(unreachable)?;
            if !secure {
                return get(tcp, &uri).await;
            }
            let name = host.try_into().map_err(|_| FetchFailed::Uri(uri.to_string()))?;
            get(TlsConnector::from(tls).connect(name, tcp).await.map_err(unreachable)?, &uri).await
        })
    }
}

async fn get(
    stream: impl io::AsyncRead + io::AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
) -> Result<Bytes, FetchFailed> {
    let failed = |error: hyper::Error| FetchFailed::Unreachable(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Dropped, and so ended, together with this fetch.
    let _connection = chassis::task::spawn("key-fetch", connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(header::ACCEPT, "application/json")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| FetchFailed::Uri(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(FetchFailed::Status(response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), KEYS_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| FetchFailed::Body(error.to_string()))
}
