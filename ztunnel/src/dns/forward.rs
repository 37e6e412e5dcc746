//! Asks other name servers.

use std::{future::Future, io, net::SocketAddr};
use tokio::net::{TcpStream, UdpSocket};

/// How other name servers are reached: with the sockets of a pod.
pub trait Reach: Send + Sync + 'static {
    /// A datagram socket at a port of the kernel's choice.
    fn datagrams_to(&self, server: SocketAddr) -> io::Result<UdpSocket>;
    /// A connection.
    fn connect(&self, server: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

impl Reach for crate::net::sockets::Sockets {
    fn datagrams_to(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        self.datagrams_to(server)
    }

    async fn connect(&self, server: SocketAddr) -> io::Result<TcpStream> {
        self.connect(server).await
    }
}

/// The name servers that a `resolv.conf` names, in order. Loopback addresses are left out: in a
/// pod's namespace they mean the pod.
pub fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let _ = resolv_conf;
    todo!()
}
