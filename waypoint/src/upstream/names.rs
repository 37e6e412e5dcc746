//! Addresses of endpoints that have only a name.
//!
//! The system's resolver is asked, with a deadline; what it said is kept for a moment, and longer
//! where it then says nothing: an address that worked is better than none.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use mesh::Str;
use tokio::net::lookup_host;
use tokio::time::{Instant, timeout};

use super::failure::ConnectFailure;
use crate::limits::{NAME_DEADLINE, NAME_TTL, NAMES_MAX};

/// Names with their addresses.
#[derive(Debug, Default)]
pub struct Names {
    known: Mutex<HashMap<Str, (Instant, Vec<IpAddr>)>>,
}

impl Names {
    /// An address of `name`; `throw` chooses one of several.
    pub async fn resolve(&self, name: &Str, port: u16, throw: u64) -> Result<SocketAddr, ConnectFailure> {
        let known = self.known(name);
        let addresses = match &known {
            Some((at, addresses)) if at.elapsed() < NAME_TTL => addresses.clone(),
            _ => match (ask(name, port).await, known) {
                (Ok(addresses), _) => {
                    self.keep(name, &addresses);
                    addresses
                }
                (Err(_), Some((_, addresses))) => addresses,
                (Err(reason), None) => return Err(ConnectFailure::Name { name: name.clone(), reason }),
            },
        };
        let chosen = addresses.get((throw % addresses.len().max(1) as u64) as usize);
        let nothing = || ConnectFailure::Name { name: name.clone(), reason: "it has no address".into() };
        chosen.map(|ip| SocketAddr::new(*ip, port)).ok_or_else(nothing)
    }

    fn known(&self, name: &Str) -> Option<(Instant, Vec<IpAddr>)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn keep(&self, name: &Str, addresses: &[IpAddr]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= NAMES_MAX && !known.contains_key(name) {
            known.clear();
        }
        known.insert(name.clone(), (Instant::now(), addresses.to_vec()));
    }
}

async fn ask(name: &Str, port: u16) -> Result<Vec<IpAddr>, Str> {
    let found = match timeout(NAME_DEADLINE, lookup_host((&**name, port))).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(error.to_string().into()),
        Err(_) => return Err(format!("no answer within {NAME_DEADLINE:?}").into()),
    };
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip().to_canonical()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() { Err("it has no address".into()) } else { Ok(addresses) }
}
