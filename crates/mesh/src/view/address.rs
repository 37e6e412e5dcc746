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
    by_address: Shards<NetworkAddress, Claims<Workload>>,
    /// By (namespace, name).
    by_name: Shards<(Str, Str), Claims<Workload>>,
}

/// All that claim one key; the one that answers comes first. It is copied with the leaf that it is in.
type Claims<T> = Arc<[Arc<T>]>;

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

    /// Puts one in place of the `earlier` of the same uid.
    pub(super) fn put(&mut self, workload: Arc<Workload>, earlier: Option<&Workload>) {
        let put = |all: &mut Claims<Workload>| *all = ranked(all, &workload);
        if let Some(earlier) = earlier {
            for key in addresses(earlier).filter(|key| addresses(&workload).all(|kept| kept != *key)) {
                self.by_address.update(&key, without(earlier), is_empty);
            }
            if name(earlier) != name(&workload) {
                self.by_name.update(&name(earlier), without(earlier), is_empty);
            }
        }
        for key in addresses(&workload) {
            self.by_address.update(&key, put, is_empty);
        }
        self.by_name.update(&name(&workload), put, is_empty);
        self.by_uid.insert(workload.uid.clone(), workload);
    }

    pub(super) fn remove(&mut self, workload: &Workload) {
        for key in addresses(workload) {
            self.by_address.update(&key, without(workload), is_empty);
        }
        self.by_name.update(&name(workload), without(workload), is_empty);
        self.by_uid.remove(&*workload.uid);
    }
}

fn is_empty<T>(all: &Claims<T>) -> bool {
    all.is_empty()
}

/// The claims with another one, in place of those that it `replaces` and behind those that come `before`.
fn with<T>(all: &Claims<T>, another: &Arc<T>, replaces: impl Fn(&T) -> bool, before: impl Fn(&T) -> bool) -> Claims<T> {
    let mut others: Vec<_> = all.iter().filter(|other| !replaces(other)).collect();
    others.insert(others.partition_point(|other| before(other)), another);
    others.into_iter().cloned().collect()
}

fn without(workload: &Workload) -> impl FnOnce(&mut Claims<Workload>) {
    |all| *all = all.iter().filter(|other| other.uid != workload.uid).cloned().collect()
}

fn name(workload: &Workload) -> (Str, Str) {
    (workload.namespace.clone(), workload.name.clone())
}

fn addresses(workload: &Workload) -> impl Iterator<Item = NetworkAddress> {
    let named: &[IpAddr] = if workload.host_network { &[] } else { &workload.addresses };
    named.iter().map(|ip| NetworkAddress { network: workload.network.clone(), address: ip.to_canonical() })
}

/// A pod, then one that speaks HBONE, then the smaller uid.
fn rank(workload: &Workload) -> (bool, bool, &str) {
    (!workload.uid.contains("//Pod/"), workload.protocol != Protocol::Hbone, &workload.uid)
}

fn ranked(all: &Claims<Workload>, workload: &Arc<Workload>) -> Claims<Workload> {
    with(all, workload, |other| other.uid == workload.uid, |other| rank(other) < rank(workload))
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Services {
    by_key: Shards<ServiceKey, Arc<Service>>,
    by_vip: Shards<NetworkAddress, Claims<Service>>,
    by_range: Shards<(Str, IpNet), Claims<Service>>,
    /// How many ranges there are of each length: (IPv6, prefix length) → count. Only these are tried.
    range_lengths: BTreeMap<(bool, u8), usize>,
    /// In lower case.
    by_hostname: Shards<Str, Claims<Service>>,
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
        let put = |all: &mut Claims<Service>| *all = sorted(all, &service);
        for vip in &service.vips {
            self.by_vip.update(&canonical(vip), put, is_empty);
        }
        for range in ranges(&service) {
            *self.range_lengths.entry(length(&range.1)).or_default() += 1;
            self.by_range.update(&range, put, is_empty);
        }
        self.by_hostname.update(&service.hostname.to_ascii_lowercase().into(), put, is_empty);
        self.by_key.insert(key, service);
        true
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, key: &ServiceKey) -> bool {
        let Some(service) = self.by_key.remove(key) else { return false };
        let take = |all: &mut Claims<Service>| {
            *all = all.iter().filter(|other| !Arc::ptr_eq(other, &service)).cloned().collect();
        };
        for vip in &service.vips {
            self.by_vip.update(&canonical(vip), take, is_empty);
        }
        for range in ranges(&service) {
            if let Some(count) = self.range_lengths.get_mut(&length(&range.1)) {
                *count -= 1;
            }
            self.by_range.update(&range, take, is_empty);
        }
        self.range_lengths.retain(|_, count| *count > 0);
        self.by_hostname.update(&service.hostname.to_ascii_lowercase().into(), take, is_empty);
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

fn sorted(all: &Claims<Service>, service: &Arc<Service>) -> Claims<Service> {
    let order = |service: &Service| (service.namespace.clone(), service.hostname.clone());
    with(all, service, |other| order(other) == order(service), |other| order(other) < order(service))
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
