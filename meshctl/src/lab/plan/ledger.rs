//! Who has which address. Kept from plan to plan, so that nothing that stays
//! changes its address, and an address is used again as late as possible.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::lab::manifest::Key;

/// Pods a node can hold: what is left of its /24 without the network, the
/// node's own address and the broadcast address.
const PODS_PER_NODE: u8 = 253;
/// Nodes a lab can have: one /24 each of the pods' /16.
pub(crate) const NODES_MAX: u16 = 250;
/// Services a lab can have, of the /16 set aside for them; the first 255 are
/// left for those with an address of their own choice.
const SERVICES_MAX: u16 = 60_000;
/// The address of the cluster's name server, as everywhere.
pub(crate) const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Addresses given out so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    nodes: BTreeMap<String, u16>,
    pods: BTreeMap<Key, Seat>,
    services: BTreeMap<Key, u16>,
    /// By node, the place given out last.
    last_place: BTreeMap<String, u8>,
    last_service: u16,
    last_serial: u64,
}

/// Where a pod runs and which of the node's addresses it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub node: String,
    /// The last byte of its address; `None` if it uses the node's own.
    pub place: Option<u8>,
    /// Different for every pod there ever was in this lab.
    pub serial: u64,
    /// What it was seated with: another spec is another pod.
    pub fingerprint: u64,
}

/// There is no address left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no address left for it")]
pub(crate) struct Full;

impl Ledger {
    /// The number of a node, from 1.
    pub(crate) fn node(&mut self, name: &str) -> Result<u16, Full> {
        if let Some(number) = self.nodes.get(name) {
            return Ok(*number);
        }
        let number = (1..=NODES_MAX).find(|number| !self.nodes.values().any(|taken| taken == number)).ok_or(Full)?;
        self.nodes.insert(name.to_owned(), number);
        Ok(number)
    }

    /// The seat of a pod; the one it has, or a new one on `node` if it has
    /// none, is to move, or is another pod than before.
    pub(crate) fn pod(&mut self, key: &Key, node: &str, own_address: bool, fingerprint: u64) -> Result<Seat, Full> {
        if let Some(seat) = self.pods.get(key)
            && seat.node == node
            && seat.fingerprint == fingerprint
        {
            return Ok(seat.clone());
        }
        let place = if own_address { Some(self.free_place(node)?) } else { None };
        self.last_serial += 1;
        let seat = Seat { node: node.to_owned(), place, serial: self.last_serial, fingerprint };
        self.pods.insert(key.clone(), seat.clone());
        Ok(seat)
    }

    /// Where a pod sits now, if it does.
    pub(crate) fn seat(&self, key: &Key) -> Option<&Seat> {
        self.pods.get(key)
    }

    /// How many pods sit on a node.
    pub(crate) fn crowd(&self, node: &str) -> usize {
        self.pods.values().filter(|seat| seat.node == node).count()
    }

    /// The number of a service within the services' addresses.
    pub(crate) fn service(&mut self, key: &Key) -> Result<u16, Full> {
        if let Some(number) = self.services.get(key) {
            return Ok(*number);
        }
        let after = |last: u16| (last.max(255) + 1..SERVICES_MAX).chain(256..last.max(256));
        let number =
            after(self.last_service).find(|number| !self.services.values().any(|taken| taken == number)).ok_or(Full)?;
        self.last_service = number;
        self.services.insert(key.clone(), number);
        Ok(number)
    }

    /// Forgets those that are not there any more.
    pub(crate) fn keep(
        &mut self,
        node: impl Fn(&str) -> bool,
        pod: impl Fn(&Key) -> bool,
        service: impl Fn(&Key) -> bool,
    ) {
        self.nodes.retain(|name, _| node(name));
        self.pods.retain(|key, _| pod(key));
        self.services.retain(|key, _| service(key));
    }

    fn free_place(&mut self, node: &str) -> Result<u8, Full> {
        let last = self.last_place.get(node).copied().unwrap_or(1);
        let taken = |place: u8| self.pods.values().any(|seat| seat.node == node && seat.place == Some(place));
        let place =
            (last.saturating_add(1)..=PODS_PER_NODE + 1).chain(2..=last).find(|place| !taken(*place)).ok_or(Full)?;
        self.last_place.insert(node.to_owned(), place);
        Ok(place)
    }
}

/// The addresses of pods on node `number`.
pub(crate) fn pod_networks(number: u16) -> [IpNet; 2] {
    [
        Ipv4Net::new_assert(Ipv4Addr::new(10, 244, low_byte(number), 0), 24).into(),
        Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x244, number, 0, 0, 0, 0), 64).into(),
    ]
}

/// The addresses of the pod at `place` of node `number`, IPv4 first. Place 1
/// is the node's own end of its pods' links.
pub(crate) fn pod_addresses(number: u16, place: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(10, 244, low_byte(number), place).into(),
        Ipv6Addr::new(0xfd00, 0x10, 0x244, number, 0, 0, 0, place.into()).into(),
    ]
}

/// The addresses of node `number`.
pub(crate) fn node_addresses(number: u16) -> [IpAddr; 2] {
    [Ipv4Addr::new(172, 18, 1, low_byte(number)).into(), Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, number).into()]
}

/// The address behind which the nodes see one another.
pub(crate) fn fabric_addresses() -> [IpAddr; 2] {
    [Ipv4Addr::new(172, 18, 0, 1).into(), Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 1, 0).into()]
}

/// The addresses of service `number`.
pub(crate) fn service_addresses(number: u16) -> [IpAddr; 2] {
    let [high, low] = number.to_be_bytes();
    [Ipv4Addr::new(10, 96, high, low).into(), Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, number).into()]
}

/// Everything that is an address of a pod, service or node.
pub(crate) fn cluster_networks() -> Vec<IpNet> {
    vec![
        Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16).into(),
        Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16).into(),
        Ipv4Net::new_assert(Ipv4Addr::new(172, 18, 0, 0), 16).into(),
        Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0), 16).into(),
    ]
}

fn low_byte(number: u16) -> u8 {
    number.to_be_bytes()[1]
}
