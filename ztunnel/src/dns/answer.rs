//! What the mesh says about a name. Pure.

use mesh::{Str, View, Workload};
use std::net::IpAddr;

/// What all answers of this proxy have in common.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The cluster's domain, `cluster.local`.
    pub domain: Str,
    /// AAAA records are given.
    pub ipv6: bool,
    /// Breaks ties between services of one name, where the client's own namespace has none.
    pub preferred_namespace: Option<Str>,
}

/// Which addresses were asked for. Everything else is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A.
    V4,
    /// AAAA.
    V6,
}

/// What to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The mesh knows the name. No address of the family: an empty answer, which is final.
    Known {
        /// The name behind the one that was asked for, when that had a search suffix too much.
        canonical: Option<String>,
        /// The addresses, in no order.
        addresses: Vec<IpAddr>,
    },
    /// The mesh does not know it; others may.
    Forward,
    /// Nobody knows who asks.
    UnknownClient,
}

/// Answers one question of a pod. `name` may be in any case and end with a dot.
pub fn answer(view: &View, client: Option<&Workload>, zone: &Zone, name: &str, family: Family) -> Answer {
    let _ = (view, client, zone, name, family);
    todo!()
}
