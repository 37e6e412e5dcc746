//! Asks the mesh's authority for certificates, and believes no answer that is not what was asked.

use crate::{
    cache::{Authority, Certifying},
    control_plane::{ControlPlane, ControlPlaneError},
};
use mesh::Identity;
use std::time::Duration;

/// For whom a process asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A node proxy asks for the pods of its node.
    ForOthers,
    /// A process asks for itself: the token says who that is.
    ForItself,
}

/// The certificate RPC as an [`Authority`].
#[derive(Debug)]
pub struct CaClient {}

impl CaClient {
    /// A client that asks for certificates that live `ttl`. Connects when first used.
    pub fn new(control_plane: ControlPlane, ask: Ask, ttl: Duration) -> Result<Self, ControlPlaneError> {
        let _ = (control_plane, ask, ttl);
        todo!()
    }
}

impl Authority for CaClient {
    fn certify<'a>(&'a self, identity: &'a Identity) -> Certifying<'a> {
        let _ = identity;
        todo!()
    }
}
