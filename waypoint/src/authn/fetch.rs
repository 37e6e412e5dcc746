//! How key sets are fetched.
//!
//! [`Fetch`] is what the store asks. [`Direct`] goes straight to a server outside the mesh;
//! [`Through`] asks the waypoint's upstream where the host is a service of the mesh.

use crate::external::{Call, call::Asking};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use mesh::route::{Destination, traffic::HttpVersion};
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

/// Finds the destination that a host and port are, if the mesh knows them.
pub type Find = dyn Fn(&str, u16) -> Option<Destination> + Send + Sync;

/// Asks services of the mesh by the rules of their destinations, and others directly.
#[derive(Clone)]
pub struct Through {
    call: Arc<dyn Call>,
    find: Arc<Find>,
    direct: Direct,
}

impl std::fmt::Debug for Through {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Through").finish_non_exhaustive()
    }
}

impl Through {
    /// `find` says what is a service of the mesh.
    pub fn new(call: Arc<dyn Call>, find: Arc<Find>, direct: Direct) -> Self {
        Self { call, find, direct }
    }
}

impl Fetch for Through {
    fn fetch(&self, uri: Uri) -> BoxFuture<'static, Result<Bytes, FetchFailed>> {
        let plain = uri.scheme_str() == Some("http");
        // What is asked by https has its TLS from here to there, whoever carries it: direct.
        let host = uri.host().filter(|_| plain);
        let Some(destination) = host.and_then(|host| (self.find)(host, uri.port_u16().unwrap_or(80))) else {
            return self.direct.fetch(uri);
        };
        let call = self.call.clone();
        Box::pin(async move {
            let host = uri.authority().map_or("", |authority| authority.as_str()).to_owned();
            let request = Request::get(uri.clone())
                .header(header::HOST, host)
                .header(header::ACCEPT, "application/json")
                .body(tonic::body::Body::empty());
            let request = request.map_err(|error| FetchFailed::Uri(error.to_string()))?;
            let asking = Asking { destination, version: HttpVersion::Http1, request };
            let response = call.call(asking).await.map_err(|error| FetchFailed::Unreachable(error.to_string()))?;
            read(response).await
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
    read(response).await
}

async fn read<B>(response: Response<B>) -> Result<Bytes, FetchFailed>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if response.status() != StatusCode::OK {
        return Err(FetchFailed::Status(response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), KEYS_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| FetchFailed::Body(error.to_string()))
}
