//! `Gateway` and `GatewayClass`, as far as they describe waypoints.

use super::{LabelSelector, Meta};
use mesh::Str;
use std::net::IpAddr;

/// A `Gateway`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gateway {
    /// Name and labels.
    pub meta: Meta,
    /// The name of its class.
    pub class: Str,
    /// Its listeners.
    pub listeners: Vec<Listener>,
    /// Where it can be reached, as whoever deployed it says (`status.addresses`).
    pub addresses: Vec<GatewayAddress>,
    /// It tells backends who the caller is (`x-forwarded-client-cert`).
    pub forward_client_identity: bool,
    /// What of it could not be read, by field.
    pub refused: Vec<Str>,
}

/// A listener of a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: Str,
    /// Its port; 0 when it cannot be read.
    pub port: u16,
    /// What is spoken: `HBONE`.
    pub protocol: Str,
    /// The namespaces that may attach to it.
    pub admits: Admits,
}

/// The namespaces that may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admits {
    /// The gateway's own.
    #[default]
    Same,
    /// All.
    All,
    /// Those with these labels.
    Selected(LabelSelector),
    /// None, or what is said cannot be read.
    None,
}

/// Where a gateway can be reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GatewayAddress {
    /// As this service.
    Hostname(Str),
    /// At this address.
    Ip(IpAddr),
}

/// A `GatewayClass`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayClass {
    /// Name and labels.
    pub meta: Meta,
    /// Who serves its gateways.
    pub controller: Str,
}
