//! What an application asks for by SOCKS5 (RFC 1928): CONNECT, without authentication.
//!
//! It listens on the loopback of the pod only, so whoever asks is the pod, as with what is redirected,
//! and is served the same. The answer is given when the connection is there, or is not.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use mesh::Workload;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Failure, Near, carry_on};
use crate::connection::End;
use crate::dns;
use crate::dns::answer::{Answer, Family};
use crate::inbound;
use crate::limits::SOCKS5_DEADLINE;
use crate::node::{LocalPod, Node};
use crate::outbound::connect::DialError;
use crate::pods::seats::Seat;

/// Where SOCKS5 is spoken in each pod.
pub const SOCKS5: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15080);

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// What is answered to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Succeeded = 0,
    Failed = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    Refused = 5,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name, to be resolved by us.
    Name(String, u16),
}

/// Why nothing is asked for that could be served.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It broke off.
    #[error("the application broke off: {0}")]
    Io(#[from] io::Error),
    /// It speaks something else.
    #[error("this is not SOCKS5 but version {0}")]
    Version(u8),
    /// It wants to prove who it is, which is not asked here.
    #[error("the application does not offer to go without authentication")]
    NoMethod,
    /// BIND or UDP.
    #[error("command {0} of SOCKS5 is not served, only CONNECT is")]
    Command(u8),
    /// A kind of address that does not exist.
    #[error("address kind {0} of SOCKS5 is not known")]
    AddressKind(u8),
    /// A name that is none.
    #[error("the name that was asked for is no hostname")]
    Name,
}

/// One connection, from accept to log line.
pub async fn serve(
    mut stream: TcpStream,
    from: SocketAddr,
    seat: Arc<Seat>,
    node: Arc<Node>,
    names: Option<dns::Proxy>,
) {
    let pod = &seat.pod;
    // Nothing is known of it yet that could be told of as a connection.
    let asked = match timeout(SOCKS5_DEADLINE, asked(&mut stream)).await {
        Ok(Ok(asked)) => asked,
        Ok(Err(error)) => return tracing::debug!(pod = &*pod.pod.name, %error, "SOCKS5"),
        Err(_late) => return tracing::debug!(pod = &*pod.pod.name, "SOCKS5: nothing was asked for in time"),
    };
    let source = node.workload_of(&pod.pod).await;
    let target = match asked {
        Target::Address(address) => Ok(address),
        Target::Name(name, port) => resolve(&name, port, source.as_deref(), pod, &node, names.as_ref()).await,
    };
    match target {
        // It comes over the loopback, and from the pod: others are to see the pod's address.
        Ok(target) => {
            carry_on(Near::asking(stream), own_address(source.as_deref(), from, target), target, seat.clone(), node)
                .await
        }
        Err(error) => {
            tracing::debug!(pod = &*pod.pod.name, %error, "SOCKS5");
            let _gone = timeout(SOCKS5_DEADLINE, answer(&mut stream, Reply::HostUnreachable)).await;
        }
    }
}

/// Reads what is asked for. What cannot be served is answered here.
pub async fn asked<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> Result<Target, AskError> {
    let [version, methods] = bytes(stream).await?;
    if version != VERSION {
        return Err(AskError::Version(version));
    }
    let mut offered = vec![0; methods.into()];
    stream.read_exact(&mut offered).await?;
    if !offered.contains(&NO_AUTHENTICATION) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Err(AskError::NoMethod);
    }
    stream.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let [version, command, _reserved, kind] = bytes(stream).await?;
    if version != VERSION {
        return Err(AskError::Version(version));
    }
    if command != CONNECT {
        answer(stream, Reply::NoSuchCommand).await?;
        return Err(AskError::Command(command));
    }
    match kind {
        1 => {
            let address = Ipv4Addr::from(bytes::<4, _>(stream).await?);
            Ok(Target::Address(SocketAddr::new(address.into(), port(stream).await?)))
        }
        4 => {
            let address = Ipv6Addr::from(bytes::<16, _>(stream).await?);
            Ok(Target::Address(SocketAddr::new(IpAddr::from(address).to_canonical(), port(stream).await?)))
        }
        3 => {
            let [length] = bytes(stream).await?;
            let mut name = vec![0; length.into()];
            stream.read_exact(&mut name).await?;
            let port = port(stream).await?;
            match String::from_utf8(name).ok().filter(|name| is_hostname(name)) {
                // Some write addresses as names.
                Some(name) => Ok(match name.parse::<IpAddr>() {
                    Ok(address) => Target::Address(SocketAddr::new(address, port)),
                    Err(_) => Target::Name(name, port),
                }),
                None => {
                    answer(stream, Reply::HostUnreachable).await?;
                    Err(AskError::Name)
                }
            }
        }
        other => {
            answer(stream, Reply::NoSuchAddress).await?;
            Err(AskError::AddressKind(other))
        }
    }
}

async fn bytes<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn port<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<u16> {
    Ok(u16::from_be_bytes(bytes(stream).await?))
}

fn is_hostname(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

/// Answers a request. The address that follows is one that nobody reads.
pub(super) async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, reply: Reply) -> io::Result<()> {
    stream.write_all(&[VERSION, reply as u8, 0, 1, 0, 0, 0, 0, 0, 0]).await
}

/// What is answered when a connection could not be made.
pub(super) fn reply_to(end: &End) -> Reply {
    let denied = |reject: &inbound::Reject| match reject {
        inbound::Reject::Denied(_) => Reply::NotAllowed,
        _ => Reply::Failed,
    };
    match end {
        End::Rejected(_) => Reply::NotAllowed,
        End::Refused(reject) => denied(reject),
        End::Unreachable(failure) => match failure {
            Failure::Connect(error) if error.kind() == io::ErrorKind::ConnectionRefused => Reply::Refused,
            Failure::Connect(_) | Failure::ConnectDeadline(_) | Failure::Resolve { .. } => Reply::HostUnreachable,
            Failure::Refused(reject) => denied(reject),
            Failure::NotServed(failure) => match &**failure {
                inbound::Failure::Connect(_) => Reply::Refused,
                _ => Reply::HostUnreachable,
            },
            Failure::Tunnel(error) => match error {
                hbone::pool::OpenError::Refused(status) if matches!(status.as_u16(), 401 | 403) => Reply::NotAllowed,
                hbone::pool::OpenError::Refused(_) => Reply::Refused,
                hbone::pool::OpenError::Dial(dial) if !matches!(**dial, DialError::Certificate(_)) => {
                    Reply::HostUnreachable
                }
                _ => Reply::Failed,
            },
            Failure::Certificate(_) | Failure::PodGone | Failure::Gone => Reply::Failed,
        },
        End::Relayed(_) | End::BrokenOff(_) | End::NotServed(_) => Reply::Failed,
    }
}

/// The address of a name: as the mesh says, and else as the node's name servers do.
async fn resolve(
    name: &str,
    port: u16,
    source: Option<&Workload>,
    pod: &LocalPod,
    node: &Node,
    names: Option<&dns::Proxy>,
) -> io::Result<SocketAddr> {
    let view = node.view.now();
    let known = |family| names.map(|names| names.known(&view, source, name, family));
    // IPv4 first, as the mesh's services have it more often.
    for family in [Family::V4, Family::V6] {
        if let Some(Answer::Known { addresses, .. }) = known(family)
            && let Some(address) = super::choose(&addresses, family == Family::V4)
        {
            return Ok(SocketAddr::new(address, port));
        }
    }
    let addresses = node.resolver.resolve(&pod.sockets, name).await?;
    let address = super::choose(&addresses, true).ok_or(io::ErrorKind::NotFound)?;
    Ok(SocketAddr::new(address, port))
}

/// The pod's own address of the family of `target`, with the port that the application has.
fn own_address(source: Option<&Workload>, from: SocketAddr, target: SocketAddr) -> SocketAddr {
    let own = source.map(|source| source.addresses.as_slice()).unwrap_or_default();
    let alike = own.iter().find(|address| address.is_ipv4() == target.is_ipv4());
    SocketAddr::new(alike.or_else(|| own.first()).copied().unwrap_or_else(|| from.ip()), from.port())
}

#[cfg(test)]
mod tests;
