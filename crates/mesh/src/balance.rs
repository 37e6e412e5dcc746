//! Which endpoint of a service takes a connection.

use crate::{Service, View, Workload, workload::PortMap};
use std::{net::IpAddr, sync::Arc};

/// One workload behind a service, with the ports it serves there.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint<'a> {
    /// The workload.
    pub workload: &'a Arc<Workload>,
    /// Service port → its port.
    pub ports: &'a PortMap,
}

/// What the choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct Hints<'a> {
    /// Who calls; `None` when nobody knows, and then no preference matches.
    pub source: Option<&'a Workload>,
    /// The address that was dialled.
    pub dialled: IpAddr,
    /// The service port that was dialled.
    pub port: u16,
    /// A uniformly random number, the only chance in the choice.
    pub dice: u64,
}

/// The endpoint that was chosen.
#[derive(Clone, Debug)]
pub struct Choice {
    /// The workload.
    pub workload: Arc<Workload>,
    /// Its address; `None`: its hostname must be resolved first, or it is behind a gateway.
    pub address: Option<IpAddr>,
    /// The port on the workload.
    pub port: u16,
}

/// Chooses an endpoint of `service`, or none when none can take the connection.
pub fn pick(view: &View, service: &Service, hints: &Hints<'_>) -> Option<Choice> {
    let _ = (view, service, hints);
    todo!("mesh room")
}
