//! The way to the control plane: a TLS channel and the credentials of each request.
//!
//! Its server certificate is verified by host name against the root file, which is read anew for
//! each connection; the token is read anew for each request, because Kubernetes rotates both.
//! There is no way to leave the verification out.

use crate::{
    chain,
    limits::{CONNECT_DEADLINE, DIAL_PATIENCE, FILE_BYTES_MAX},
    tls::{ALPN, PROVIDER},
};
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{RootCertStore, version::TLS13};
use rustls_pki_types::ServerName;
use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    metadata::{MetadataKey, MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};

/// Where a PEM text or a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, read each time it is needed.
    File(PathBuf),
    /// Given as it is.
    Literal(String),
    /// The roots that this machine trusts, for a control plane with a public certificate.
    System,
}

/// How [`Source::System`] is written.
const SYSTEM: &str = "SYSTEM";

impl Source {
    /// What a text of the configuration means: the file of that path, or itself.
    pub fn of(text: String) -> Self {
        let is_path =
            !text.contains('\n') && (text.starts_with('/') || text.starts_with('.') || Path::new(&text).exists());
        if is_path { Self::File(text.into()) } else { Self::Literal(text) }
    }

    /// The same for roots, which may be `SYSTEM`.
    pub fn of_roots(text: String) -> Self {
        if text == SYSTEM { Self::System } else { Self::of(text) }
    }
}

/// How to reach the control plane and prove oneself to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPlane {
    /// `https://host:port`.
    pub address: Uri,
    /// The roots that its server certificate must come from.
    pub roots: Source,
    /// The bearer token; none for a control plane that asks for none.
    pub token: Option<Source>,
    /// Sent as `clusterid`.
    pub cluster_id: String,
    /// The name its certificate must have, if not the host of `address`.
    pub alternative_hostname: Option<String>,
    /// Further headers of each request.
    pub headers: Vec<(String, String)>,
}

/// Why the control plane cannot be addressed.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// The address is not usable.
    #[error("control plane address {0} is not of the form https://host:port")]
    Address(Uri),
    /// The name that its certificate should have is none.
    #[error("{0:?} is neither a host name nor an address that a certificate can have")]
    Hostname(String),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The roots are unusable.
    #[error("the root certificates of the control plane are unusable: {0}")]
    Roots(String),
    /// A header or the token has characters that no header may have.
    #[error("{0} is not usable as a header of a request")]
    Header(String),
    /// Nobody answers there.
    #[error("cannot connect to the control plane: {0}")]
    Connect(io::Error),
    /// It answers, but not as the control plane we trust.
    #[error("no TLS session with the control plane: {0}")]
    Handshake(io::Error),
    /// No answer in time.
    #[error("the control plane did not answer in time")]
    TimedOut,
}

/// Ping of an idle connection, and how long its answer may take: a control plane that is gone is
/// noticed within 40 s.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

impl Source {
    fn read(&self) -> Result<String, ControlPlaneError> {
        match self {
            Self::Literal(text) => Ok(text.clone()),
            // The text stands for them, so they are read once: packages replace them, rotations do not.
            Self::System => Ok(SYSTEM.to_owned()),
            Self::File(path) => {
                read(path).map_err(|source| ControlPlaneError::Unreadable { path: path.clone(), source })
            }
        }
    }
}

/// Blocking, on purpose: these files are small and projected into memory, and reading them in place
/// costs less than handing it to another thread.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if length as u64 > FILE_BYTES_MAX { Err(io::Error::other("the file is too large")) } else { Ok(text) }
}

impl ControlPlane {
    /// A channel that connects when first used, and again after each loss. HTTP/2 only; an idle
    /// connection is pinged.
    pub fn channel(&self) -> Result<Channel, ControlPlaneError> {
        let connector = Connector::new(self)?;
        let endpoint = Endpoint::from(self.address.clone())
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let connect = tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move { connector.connect().await.map(TokioIo::new) }
        });
        Ok(endpoint.connect_with_connector_lazy(connect))
    }

    /// One connection, for who speaks HTTP/2 on it without a channel.
    pub async fn connection(&self) -> Result<TlsStream<TcpStream>, ControlPlaneError> {
        Connector::new(self)?.connect().await
    }

    /// The metadata of one request: `authorization`, `clusterid` and the further headers.
    pub fn metadata(&self) -> Result<MetadataMap, ControlPlaneError> {
        let mut metadata = MetadataMap::new();
        let unusable = |name: &str| ControlPlaneError::Header(name.into());
        let mut put = |name: &str, value: &str| -> Result<(), ControlPlaneError> {
            let key = MetadataKey::from_bytes(name.as_bytes()).map_err(|_| unusable(name))?;
            metadata.insert(key, MetadataValue::try_from(value).map_err(|_| unusable(name))?);
            Ok(())
        };
        if let Some(token) = &self.token {
            put("authorization", &format!("Bearer {}", token.read()?.trim()))?;
        }
        put("clusterid", &self.cluster_id)?;
        self.headers.iter().try_for_each(|(name, value)| put(name, value))?;
        if let Some(bearer) = metadata.get_mut("authorization") {
            bearer.set_sensitive(true);
        }
        Ok(metadata)
    }
}

/// Makes connections, each verified against the roots of that moment.
#[derive(Clone, Debug)]
struct Connector {
    host: String,
    port: u16,
    name: ServerName<'static>,
    roots: Source,
    made: Arc<Mutex<Option<Made>>>,
}

/// The last text of the roots, and what was made of it.
#[derive(Debug)]
struct Made {
    roots: String,
    config: Arc<rustls::ClientConfig>,
}

impl Connector {
    fn new(to: &ControlPlane) -> Result<Self, ControlPlaneError> {
        let wrong = || ControlPlaneError::Address(to.address.clone());
        if to.address.scheme_str() != Some("https") {
            return Err(wrong());
        }
        let host = to.address.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let port = to.address.port_u16().ok_or_else(wrong)?;
        let name = to.alternative_hostname.clone().unwrap_or_else(|| host.clone());
        let name = ServerName::try_from(name.clone()).map_err(|_| ControlPlaneError::Hostname(name))?;
        Ok(Self { host, port, name, roots: to.roots.clone(), made: Arc::default() })
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>, ControlPlaneError> {
        let config = self.config()?;
        let tcp = timeout(CONNECT_DEADLINE, dial(|| TcpStream::connect((self.host.as_str(), self.port))));
        let tcp = tcp.await.map_err(|_| ControlPlaneError::TimedOut)?.map_err(ControlPlaneError::Connect)?;
        watch_for_death(&tcp).map_err(ControlPlaneError::Connect)?;
        let tls = timeout(CONNECT_DEADLINE, TlsConnector::from(config).connect(self.name.clone(), tcp));
        let tls = tls.await.map_err(|_| ControlPlaneError::TimedOut)?.map_err(ControlPlaneError::Handshake)?;
        match tls.get_ref().1.alpn_protocol() {
            Some(ALPN) => Ok(tls),
            _ => Err(ControlPlaneError::Handshake(io::Error::other("the server does not speak HTTP/2"))),
        }
    }

    /// The TLS configuration for the roots of now. Roots that cannot be read leave those of the last
    /// connection in force: a file half written must not cut us off.
    fn config(&self) -> Result<Arc<rustls::ClientConfig>, ControlPlaneError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let last = made.take();
        let fresh = self.roots.read().and_then(|roots| match &last {
            Some(last) if last.roots == roots => Ok(Made { roots, config: Arc::clone(&last.config) }),
            _ => self.trusted(&roots).and_then(config_of).map(|config| Made { roots, config }),
        });
        let now = match (fresh, last) {
            (Ok(fresh), _) => fresh,
            (Err(error), Some(last)) => {
                tracing::warn!(%error, "going on with the roots of the last connection");
                last
            }
            (Err(error), None) => return Err(error),
        };
        Ok(Arc::clone(&made.insert(now).config))
    }

    fn trusted(&self, roots: &str) -> Result<RootCertStore, ControlPlaneError> {
        let unusable = |reason: &dyn ToString| ControlPlaneError::Roots(reason.to_string());
        let mut store = RootCertStore::empty();
        if self.roots == Source::System {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                let reason = format!("this machine trusts no roots ({}); install ca-certificates", reasons.join("; "));
                return Err(ControlPlaneError::Roots(reason));
            }
            return Ok(store);
        }
        for root in chain::parse_pem(roots).map_err(|e| unusable(&e))? {
            store.add(root.der).map_err(|e| unusable(&e))?;
        }
        Ok(store)
    }
}

/// Where nobody answers at all, the address stands for several, of which one has just vanished: it is asked again, and
/// leads to another one.
async fn dial<T, F: Future<Output = io::Result<T>>>(attempt: impl Fn() -> F) -> io::Result<T> {
    loop {
        match timeout(DIAL_PATIENCE, attempt()).await {
            Ok(dialled) => return dialled,
            Err(_) => tracing::debug!("nobody answers at the control plane's address, asking again"),
        }
    }
}

fn config_of(store: RootCertStore) -> Result<Arc<rustls::ClientConfig>, ControlPlaneError> {
    let unusable = |reason: &dyn ToString| ControlPlaneError::Roots(reason.to_string());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| unusable(&e))?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// Small messages go at once, and a peer that vanished without a word is noticed: 300 s idle, then
/// 9 probes 75 s apart, as Istio does; the HTTP/2 ping is what notices first.
fn watch_for_death(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(300))
        .with_interval(Duration::from_secs(75))
        .with_retries(9);
    socket2::SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests;
