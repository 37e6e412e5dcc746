//! Sockets of pods: made inside the pod's namespace, where they stay for life.
//!
//! Each carries the proxy's mark, without which the pod's own rules would send it back to us. A
//! listener is one of a group (`SO_REUSEPORT`), so that the next proxy process can open its own
//! before this one closes. IPv4 and IPv6 have a listener each: no address is ever in two spellings.

mod listener;
mod ports;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

pub use self::listener::Listener;
use self::ports::Ports;
use super::netns::Netns;

/// Connections that may wait to be accepted: what the kernel allows by default (`somaxconn`), and it cuts more down.
const BACKLOG: i32 = 4096;

/// Ports of our choice that are tried before the kernel chooses: enough unless most of them are in use.
const PORTS_TRIED: usize = 4;

/// What every socket of ours has in common.
#[derive(Clone, Debug)]
pub struct Options {
    /// `SO_MARK`; none where nothing is redirected.
    pub mark: Option<u32>,
    /// Listeners share their port with those of another process.
    pub share_ports: bool,
    /// IPv6 is to be used where the kernel has it.
    pub ipv6: bool,
    /// How a silent connection is probed.
    pub keepalive: Option<Keepalive>,
    /// Data that nobody acknowledges ends the connection after as long as probes would.
    pub user_timeout: bool,
}

/// How a silent connection is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe.
    pub time: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Probes without an answer that end the connection.
    pub retries: u32,
}

/// Makes the sockets of one pod.
#[derive(Clone, Debug)]
pub struct Sockets {
    netns: Option<Arc<Netns>>,
    options: Options,
    ports: Ports,
}

impl Sockets {
    /// Sockets inside `netns`; without one, where the process is.
    pub fn new(netns: Option<Arc<Netns>>, options: Options) -> Self {
        let ports = Ports::of(netns.as_deref());
        Self { netns, options, ports }
    }

    /// Listens on a port of every address: a listener a family, IPv4 first, IPv6 where there is any.
    pub fn listen_everywhere(&self, port: u16) -> io::Result<Vec<Listener>> {
        let mut listeners = vec![self.listen((Ipv4Addr::UNSPECIFIED, port).into())?];
        if self.options.ipv6 {
            match self.listen((Ipv6Addr::UNSPECIFIED, port).into()) {
                Ok(listener) => listeners.push(listener),
                Err(error) if no_such_family(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(listeners)
    }

    /// Listens at one address. Connections that are accepted have what every connection of ours has: in Linux
    /// they get it from their listener.
    pub fn listen(&self, address: SocketAddr) -> io::Result<Listener> {
        let socket = self.inside(|| self.bound(Type::STREAM, address))?;
        self.tune(&SockRef::from(&socket))?;
        socket.listen(BACKLOG)?;
        Listener::new(socket.into())
    }

    /// A socket for datagrams at one address.
    pub fn datagrams(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.inside(|| self.bound(Type::DGRAM, address))?;
        UdpSocket::from_std(socket.into())
    }

    /// A datagram socket for questions to the outside, with the mark, at a port of the kernel's choice.
    pub fn datagrams_to(&self, peer: SocketAddr) -> io::Result<UdpSocket> {
        let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = self.inside(|| {
            let socket = self.socket(Domain::for_address(peer), Type::DGRAM)?;
            socket.bind(&SocketAddr::new(any, 0).into())?;
            Ok(socket)
        })?;
        UdpSocket::from_std(socket.into())
    }

    /// Connects to `target`, from the address that the kernel chooses. The caller gives the deadline.
    pub async fn connect(&self, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.inside(|| self.socket(Domain::for_address(target), Type::STREAM))?;
        self.finish(socket, target).await
    }

    /// Connects to `target` from an address of the pod's own.
    pub async fn connect_from(&self, source: IpAddr, target: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.inside(|| {
            let socket = self.socket(Domain::for_address(target), Type::STREAM)?;
            bind_address(&socket, source)?;
            Ok(socket)
        })?;
        self.finish(socket, target).await
    }

    /// Connects to `target` in the name of somebody else, whose address this is. It needs the right
    /// to be transparent, see [`Self::can_be_transparent`].
    pub async fn connect_as(&self, source: IpAddr, target: SocketAddr) -> io::Result<TcpStream> {
        let open = |port| {
            self.inside(|| {
                let socket = self.socket(Domain::for_address(target), Type::STREAM)?;
                set_transparent(&socket, target.is_ipv4())?;
                match port {
                    Some(port) => {
                        socket.set_reuse_address(true)?;
                        socket.bind(&SocketAddr::new(source, port).into())?;
                    }
                    None => bind_address(&socket, source)?,
                }
                Ok(socket)
            })
        };
        for _ in 0..PORTS_TRIED {
            let connected = match open(Some(self.ports.apart(rand::random()))) {
                Ok(socket) => self.finish(socket, target).await,
                Err(error) => Err(error),
            };
            match connected {
                Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {}
                result => return result,
            }
        }
        self.finish(open(None)?, target).await
    }

    /// Whether connections may be made in the name of others here.
    pub fn can_be_transparent(&self) -> bool {
        self.inside(|| set_transparent(&self.socket(Domain::IPV4, Type::STREAM)?, true)).is_ok()
    }

    fn inside<T>(&self, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match &self.netns {
            Some(netns) => netns.run(act)?,
            None => act(),
        }
    }

    fn socket(&self, domain: Domain, kind: Type) -> io::Result<Socket> {
        let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
        let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
        if let Some(mark) = self.options.mark {
            socket.set_mark(mark)?;
        }
        Ok(socket)
    }

    fn bound(&self, kind: Type, address: SocketAddr) -> io::Result<Socket> {
        let socket = self.socket(Domain::for_address(address), kind)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if kind == Type::STREAM {
            // Connections of a process before us that linger must not keep us out.
            socket.set_reuse_address(true)?;
        }
        socket.set_reuse_port(self.options.share_ports)?;
        socket.bind(&address.into())?;
        Ok(socket)
    }

    async fn finish(&self, socket: Socket, target: SocketAddr) -> io::Result<TcpStream> {
        self.tune(&SockRef::from(&socket))?;
        TcpSocket::from_std_stream(socket.into()).connect(target).await
    }

    fn tune(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        if let Some(keepalive) = self.options.keepalive {
            let probes = TcpKeepalive::new()
                .with_time(keepalive.time)
                .with_interval(keepalive.interval)
                .with_retries(keepalive.retries);
            socket.set_tcp_keepalive(&probes)?;
            if self.options.user_timeout {
                // As long as it takes the probes to give up.
                socket.set_tcp_user_timeout(Some(keepalive.time + keepalive.interval * keepalive.retries))?;
            }
        }
        Ok(())
    }
}

/// Where a redirected connection wanted to go; its own end where it was not redirected.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let local = stream.local_addr()?;
    let socket = SockRef::from(stream);
    let original = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    // Without an answer the kernel keeps no track of this connection, so nothing has changed it.
    Ok(original.ok().and_then(|address| address.as_socket()).unwrap_or(local))
}

/// Makes closing a connection a reset: for one whose other end failed, as TCP itself would say it.
pub fn reset(stream: TcpStream) {
    // An error means that the connection is gone already.
    let _ = stream.set_zero_linger();
    drop(stream);
}

/// Resolves when the peer has reset the connection, whoever reads from it or does not. An end of its
/// direction is none: it may be all that the peer had to say, and the answer is still waited for.
pub async fn hung_up(stream: &TcpStream) {
    // An error says that the runtime ends, and everything with it.
    let _ = stream.ready(Interest::ERROR).await;
}

fn bind_address(socket: &Socket, source: IpAddr) -> io::Result<()> {
    // The port is chosen at connect, for the pair of ends: else each source address had only as
    // many connections as there are ports, whatever their number of targets. The option is of the
    // IP level and holds for IPv6 too.
    setsockopt(&socket.as_fd(), IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(source, 0).into())
}

fn set_transparent(socket: &Socket, ipv4: bool) -> io::Result<()> {
    if ipv4 { socket.set_ip_transparent_v4(true) } else { socket.set_ip_transparent_v6(true) }
}

fn no_such_family(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EAFNOSUPPORT};
    matches!(error.raw_os_error(), Some(EAFNOSUPPORT | EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests;
