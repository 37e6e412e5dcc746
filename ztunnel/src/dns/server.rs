//! Talks with the pod, over UDP and TCP.

use super::{Zone, forward::Reach};
use crate::report::DnsMetrics;
use mesh::{View, Workload};
use std::{net::SocketAddr, sync::Arc};
use tokio::net::{TcpListener, UdpSocket};

/// What every pod's proxy has in common. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Proxy {
    zone: Zone,
    servers: Arc<[SocketAddr]>,
    metrics: DnsMetrics,
}

/// The pod that is served.
pub trait Pod: Send + Sync + 'static {
    /// The mesh now, and the pod in it.
    fn view(&self) -> (Arc<View>, Option<Arc<Workload>>);
}

impl Proxy {
    /// Answers from `zone`, and asks `servers` for the rest.
    pub fn new(zone: Zone, servers: &[SocketAddr], metrics: DnsMetrics) -> Self {
        Self { zone, servers: servers.into(), metrics }
    }

    /// Serves one pod on its sockets until the future is dropped. Only the pod itself is answered:
    /// what comes from another address than loopback and the pod's own is not read.
    pub async fn serve(
        &self,
        datagrams: Vec<UdpSocket>,
        listeners: Vec<TcpListener>,
        pod: Arc<impl Pod>,
        reach: Arc<impl Reach>,
    ) {
        let _ = (datagrams, listeners, pod, reach, &self.zone, &self.servers, &self.metrics);
        todo!()
    }
}
