//! How requests and connections reach an endpoint.
//!
//! [`cluster`] (a destination: its endpoints, limits and health) · [`hosts`] (which endpoints there
//! are) · [`choose`] (which one takes the request) · [`connect`] (a tunnel or a plain connection to
//! it) · [`proxy_protocol`] (who calls, said at its beginning) · [`origination`] (TLS of our own inside
//! of that) · [`http`] (connections that are used again) · [`asking`] (requests of our own) · [`names`] (endpoints that have only a name) · [`failure`] (why it did not work).
//!
//! Nothing here decides whether a request may pass, or whether it is tried again.

pub mod asking;
pub mod choose;
pub mod cluster;
pub mod connect;
pub mod failure;
pub mod hosts;
pub mod http;
mod locality;
pub mod members;
pub mod names;
pub mod origination;
pub mod proxy_protocol;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hbone::pool::Pool;
use mesh::Identity;
use pki::cache::CertificateCache;

use crate::config::Settings;
use connect::TunnelDial;
use http::{AllClients, Clients};
use names::Names;

/// What one core has to reach endpoints with. Connections cross cores only where a limit on them is reached.
pub struct Upstream {
    /// Tunnels.
    pub tunnels: Pool<TunnelDial>,
    /// HTTP connections.
    pub clients: Arc<Clients>,
    /// Those of all cores.
    pub everyone: Arc<AllClients>,
    /// Addresses of names.
    pub names: Names,
    /// Who we are, to whomever we call.
    pub own: Identity,
    /// The address that tunnels are told apart by.
    pub own_ip: IpAddr,
}

impl Upstream {
    /// Without any connection yet.
    pub fn new(settings: &Settings, certificates: CertificateCache, everyone: Arc<AllClients>) -> Self {
        Self {
            tunnels: Pool::new(TunnelDial { certificates }, settings.tunnels.clone()),
            clients: everyone.add(),
            everyone,
            names: Names::default(),
            own: settings.own.identity.clone(),
            own_ip: settings.own.ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        }
    }
}
