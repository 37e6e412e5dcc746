//! A connection to an endpoint: through a tunnel to its node, or as it is.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hbone::head::{ConnectHead, Forwarded, TraceParent};
use hbone::pool::{Dial, OpenError, PoolKey};
use hbone::stream::Tunnel;
use mesh::Workload;
use pki::Peer;
use pki::cache::{CertificateCache, CertificateError};
use pki::tls::ClientStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Upstream;
use super::cluster::Hosts;
use super::failure::{ConnectFailure, DialError, chain};
use super::hosts::{Host, Place};
use super::proxy_protocol::{self, Ends};
use crate::limits::{CERTIFICATE_DEADLINE, CONNECT_DEADLINE, TLS_ACCEPT_DEADLINE};

/// A connection to an endpoint.
#[derive(Debug)]
pub enum Raw {
    /// A tunnel.
    Tunnel(Box<Tunnel>),
    /// TCP.
    Tcp(TcpStream),
}

/// What the endpoint's node is told with a tunnel. For its logs and metrics only.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Who we are.
    pub own: Option<Arc<Workload>>,
    /// For whom we ask.
    pub forwarded: Option<Forwarded>,
    /// The span.
    pub trace: Option<TraceParent>,
}

impl Upstream {
    /// Connects to an endpoint, and says who calls where the policy wants that: before anything else,
    /// TLS of our own too.
    pub async fn reach(
        &self,
        hosts: &Hosts,
        host: &Host,
        ends: Option<Ends>,
        told: &Told,
        throw: u64,
    ) -> Result<Raw, ConnectFailure> {
        // Apart: it is 11 kB of handshakes, and who waits here is a request that would carry their room.
        let mut raw = Box::pin(self.connect(&host.place, told, hosts.traffic.pool.connect_timeout, throw)).await?;
        if let Some(version) = hosts.traffic.proxy_protocol {
            let header = proxy_protocol::header(version, ends.as_ref());
            let said = async {
                raw.write_all(&header).await?;
                raw.flush().await
            };
            let said = timeout(CONNECT_DEADLINE, said).await.map_err(|_| ConnectFailure::Deadline(CONNECT_DEADLINE))?;
            said.map_err(|error| ConnectFailure::Tcp(Arc::new(error)))?;
        }
        Ok(raw)
    }

    /// Connects to an endpoint.
    async fn connect(
        &self,
        place: &Place,
        told: &Told,
        deadline: Option<Duration>,
        throw: u64,
    ) -> Result<Raw, ConnectFailure> {
        let deadline = deadline.unwrap_or(CONNECT_DEADLINE);
        let connecting = async {
            match place {
                Place::Tunnel { to, authority, expected } => {
                    let key = PoolKey {
                        source: self.own.clone(),
                        expected: expected.clone(),
                        destination: *to,
                        source_ip: self.own_ip,
                    };
                    let head = ConnectHead {
                        baggage: told.own.as_deref().map(Into::into).unwrap_or_default(),
                        forwarded: told.forwarded.clone(),
                        traceparent: told.trace,
                        ..ConnectHead::to(authority.clone())
                    };
                    let opened = self.tunnels.open(&key, &head).await.map_err(no_tunnel)?;
                    Ok(Raw::Tunnel(Box::new(opened.tunnel)))
                }
                Place::Plain(address) => tcp(*address).await,
                Place::Name(name, port) => tcp(self.names.resolve(name, *port, throw).await?).await,
            }
        };
        timeout(deadline, connecting).await.unwrap_or(Err(ConnectFailure::Deadline(deadline)))
    }
}

async fn tcp(address: SocketAddr) -> Result<Raw, ConnectFailure> {
    let failed = |error| ConnectFailure::Tcp(Arc::new(error));
    let stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(Raw::Tcp(stream))
}

fn no_tunnel(error: OpenError<DialError>) -> ConnectFailure {
    match error {
        OpenError::Full => ConnectFailure::Full,
        OpenError::Refused(status) => ConnectFailure::Refused(status),
        other => ConnectFailure::Tunnel(chain(&other).into()),
    }
}

/// Dials the connections that tunnels go through.
#[derive(Clone)]
pub struct TunnelDial {
    /// Has our certificate.
    pub certificates: CertificateCache,
}

impl Dial for TunnelDial {
    type Io = ClientStream<TcpStream>;
    type Peer = Peer;
    type Error = DialError;

    async fn dial(&self, key: &PoolKey) -> Result<(Self::Io, Peer), DialError> {
        let certificate = timeout(CERTIFICATE_DEADLINE, self.certificates.fetch(&key.source))
            .await
            .unwrap_or(Err(CertificateError::TimedOut))?;
        let tcp = timeout(CONNECT_DEADLINE, TcpStream::connect(key.destination)).await;
        let tcp = tcp.map_err(|_| DialError::ConnectDeadline(CONNECT_DEADLINE))?.map_err(DialError::Connect)?;
        tcp.set_nodelay(true).map_err(DialError::Connect)?;
        let handshake = pki::tls::connect(tcp, pki::tls::client_config(&certificate, &key.expected));
        match timeout(TLS_ACCEPT_DEADLINE, handshake).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(DialError::TlsDeadline(TLS_ACCEPT_DEADLINE)),
        }
    }
}

impl AsyncRead for Raw {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_read(cx, buf),
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Raw {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_write(cx, buf),
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_flush(cx),
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tunnel(tunnel) => Pin::new(tunnel).poll_shutdown(cx),
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
        }
    }
}
