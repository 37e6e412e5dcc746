//! The addresses of an endpoint that has only a name.

use super::forward::Reach;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Asks the node's name servers, and remembers what they said for as long as they allow.
#[derive(Clone, Debug)]
pub struct Resolver {
    servers: Arc<[SocketAddr]>,
}

impl Resolver {
    /// Asks these servers. Without `ipv6` no AAAA is asked for.
    pub fn new(servers: &[SocketAddr], ipv6: bool) -> Self {
        let _ = ipv6;
        Self { servers: servers.into() }
    }

    /// Every address of a name. `NotFound`: there is none; `TimedOut`: nobody said within 5 s.
    pub async fn resolve(&self, reach: &impl Reach, name: &str) -> io::Result<Vec<IpAddr>> {
        let _ = (reach, name, &self.servers);
        todo!()
    }
}
