//! Workloads and services by what they are looked up with.
//!
//! Where several claim one address or name, all are kept, so that the next takes over when one goes.

use crate::{
    Service, ServiceKey, Str, Workload,
    shards::Shards,
    workload::{NetworkAddress, Protocol},
};
use ipnet::IpNet;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Workloads {
    by_uid: Shards<Str, Arc<Workload>>,
    /// The one that answers first.
    by_address: Shards<NetworkAddress, Vec<Arc<Workload>>>,
    /// By (namespace, name).
    by_name: Shards<(Str, Str), Vec<Arc<Workload>>>,
}

impl Workloads {
    pub(super) fn get(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.by_uid.get(uid)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.by_uid.iter().map(|(_, workload)| workload)
    }

    pub(super) fn by_address(&self, network: &str, address: IpAddr) -> Option<&Arc<Workload>> {
        find(&self.by_address, network, address)?.first()
    }

    pub(super) fn of_pod(&self, namespace: &str, name: &str, service_account: &str) -> Option<&Arc<Workload>> {
        let all = self.by_name.find(&(namespace, name), |key| &*key.0 == namespace && &*key.1 == name)?;
        all.iter().find(|workload| &*workload.service_account == service_account)
    }

    /// The earlier one of the same uid must have been removed.
    pub(super) fn put(&mut self, workload: Arc<Workload>) {
        for key in addresses(&workload) {
            self.by_address.update(&key, |all| put_ranked(all, &workload), Vec::is_empty);
        }
        let name = (workload.namespace.clone(), workload.name.clone());
        self.by_name.update(&name, |all| put_ranked(all, &workload), Vec::is_empty);
        self.by_uid.insert(workload.uid.clone(), workload);
    }

    pub(super) fn remove(&mut self, workload: &Workload) {
        let take = |all: &mut Vec<Arc<Workload>>| all.retain(|other| other.uid != workload.uid);
        for key in addresses(workload) {
            self.by_address.update(&key, take, Vec::is_empty);
        }
        self.by_name.update(&(workload.namespace.clone(), workload.name.clone()), take, Vec::is_empty);
        self.by_uid.remove(&*workload.uid);
    }
}

fn addresses(workload: &Workload) -> impl Iterator<Item = NetworkAddress> {
    let named: &[IpAddr] = if workload.host_network { &[] } else { &workload.addresses };
    named.iter().map(|ip| NetworkAddress { network: workload.network.clone(), address: ip.to_canonical() })
}

/// A pod, then one that speaks HBONE, then the smaller uid.
fn rank(workload: &Workload) -> (bool, bool, &str) {
    (!workload.uid.contains("//Pod/"), workload.protocol != Protocol::Hbone, &workload.uid)
}

fn put_ranked(all: &mut Vec<Arc<Workload>>, workload: &Arc<Workload>) {
    all.retain(|other| other.uid != workload.uid);
    let at = all.partition_point(|other| rank(other) < rank(workload));
    all.insert(at, workload.clone());
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Services {
    by_key: Shards<ServiceKey, Arc<Service>>,
    by_vip: Shards<NetworkAddress, Vec<Arc<Service>>>,
    by_range: Shards<(Str, IpNet), Vec<Arc<Service>>>,
    /// How many ranges there are of each length: (IPv6, prefix length) → count. Only these are tried.
    range_lengths: BTreeMap<(bool, u8), usize>,
    /// In lower case.
    by_hostname: Shards<Str, Vec<Arc<Service>>>,
}

impl Services {
    pub(super) fn get(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.by_key.find(key, |candidate| candidate == key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.by_key.iter().map(|(_, service)| service)
    }

    pub(super) fn by_vip(&self, network: &str, vip: IpAddr, from: &str) -> Option<&Arc<Service>> {
        let vip = vip.to_canonical();
        let exact = find(&self.by_vip, network, vip).and_then(|all| prefer(all, from));
        exact.or_else(|| {
            let lengths = self.range_lengths.range((vip.is_ipv6(), 0)..=(vip.is_ipv6(), u8::MAX)).rev();
            lengths.into_iter().find_map(|(&(_, length), _)| {
                let range = IpNet::new(vip, length).ok()?.trunc();
                prefer(self.by_range.find(&(network, range), |key| &*key.0 == network && key.1 == range)?, from)
            })
        })
    }

    pub(super) fn by_hostname(&self, hostname: &str, from: &str) -> Option<&Arc<Service>> {
        let hostname = hostname.strip_suffix('.').unwrap_or(hostname).to_ascii_lowercase();
        let named = |name: &str| prefer(self.by_hostname.get(name)?, from);
        named(&hostname).or_else(|| {
            let parents = hostname.match_indices('.').map(|(at, _)| &hostname[at..]);
            parents.into_iter().find_map(|parent| named(&format!("*{parent}")))
        })
    }

    /// Whether that changed something.
    pub(super) fn put(&mut self, service: Arc<Service>) -> bool {
        let key = service.key();
        if self.get(&key) == Some(&service) {
            return false;
        }
        self.remove(&key);
        let put = |all: &mut Vec<Arc<Service>>| put_sorted(all, &service);
        for vip in &service.vips {
            self.by_vip.update(&canonical(vip), put, Vec::is_empty);
        }
        for range in ranges(&service) {
            *self.range_lengths.entry(length(&range.1)).or_default() += 1;
            self.by_range.update(&range, put, Vec::is_empty);
        }
        self.by_hostname.update(&service.hostname.to_ascii_lowercase().into(), put, Vec::is_empty);
        self.by_key.insert(key, service);
        true
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, key: &ServiceKey) -> bool {
        let Some(service) = self.by_key.remove(key) else { return false };
        let take = |all: &mut Vec<Arc<Service>>| all.retain(|other| !Arc::ptr_eq(other, &service));
        for vip in &service.vips {
            self.by_vip.update(&canonical(vip), take, Vec::is_empty);
        }
        for range in ranges(&service) {
            if let Some(count) = self.range_lengths.get_mut(&length(&range.1)) {
                *count -= 1;
            }
            self.by_range.update(&range, take, Vec::is_empty);
        }
        self.range_lengths.retain(|_, count| *count > 0);
        self.by_hostname.update(&service.hostname.to_ascii_lowercase().into(), take, Vec::is_empty);
        true
    }
}

fn canonical(vip: &NetworkAddress) -> NetworkAddress {
    NetworkAddress { network: vip.network.clone(), address: vip.address.to_canonical() }
}

fn ranges(service: &Service) -> impl Iterator<Item = (Str, IpNet)> {
    service.cidr_vips.iter().map(|(network, range)| (network.clone(), crate::policy::canonical_net(*range).trunc()))
}

fn length(range: &IpNet) -> (bool, u8) {
    (matches!(range, IpNet::V6(_)), range.prefix_len())
}

fn put_sorted(all: &mut Vec<Arc<Service>>, service: &Arc<Service>) {
    let order = |service: &Service| (service.namespace.clone(), service.hostname.clone());
    all.retain(|other| order(other) != order(service));
    let at = all.partition_point(|other| order(other) < order(service));
    all.insert(at, service.clone());
}

/// Of those that are visible from a namespace: its own, then the canonical one, then the first.
fn prefer<'a>(all: &'a [Arc<Service>], from: &str) -> Option<&'a Arc<Service>> {
    let visible = all.iter().filter(|service| !service.namespace_only || &*service.namespace == from);
    visible.min_by_key(|service| (&*service.namespace != from, !service.canonical))
}

fn find<'a, V>(map: &'a Shards<NetworkAddress, V>, network: &str, address: IpAddr) -> Option<&'a V> {
    let address = address.to_canonical();
    // `NetworkAddress` hashes its fields in this order.
    map.find(&(network, address), |key| &*key.network == network && key.address == address)
}
