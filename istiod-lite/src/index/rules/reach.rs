//! Which object has a say in the rules of which service, and what each object points to.
//!
//! Both are told anew whenever an object, or something it points to, is different; what was
//! recorded before and what is recorded now are then built again, and nothing else.

use crate::{
    facts::FactKey,
    index::{Index, Mesh},
};
use mesh::{ServiceKey, Str, route::Destination};
use std::collections::{BTreeMap, BTreeSet};

/// Something that objects point to. Objects that point to it are looked at again when it changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::index) enum Target {
    /// A service as it is published: whether it is there, its ports, its waypoint.
    Service(ServiceKey),
    /// Whichever services have this hostname.
    Host(Str),
    /// An object as it was told.
    Object(FactKey),
    /// The ReferenceGrants of a namespace.
    Grants(Str),
    /// The endpoints of a service: which there are, and their labels.
    Members(ServiceKey),
    /// The waypoints: which there are.
    Waypoints,
    /// What is told of requests wherever nobody says something closer.
    Telemetries,
}

/// How far an object reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::index) struct Reach {
    /// The services whose rules it has a say in, whether or not they are there.
    pub(in crate::index) services: BTreeSet<ServiceKey>,
    /// The Gateways (`namespace/name`) whose rules it has a say in.
    pub(in crate::index) gateways: BTreeSet<Str>,
    /// What it points to.
    pub(in crate::index) targets: BTreeSet<Target>,
}

impl Reach {
    /// Records that an object points to a destination, as it is named by its author.
    pub(in crate::index) fn point_to(&mut self, mesh: &Mesh, destination: &Destination) {
        if let Destination::Service { service, .. } = destination {
            self.targets.insert(match service.namespace.is_empty() {
                true => Target::Host(service.hostname.clone()),
                false => Target::Service(super::full_key(mesh, service)),
            });
        }
    }
}

/// The reach of an object as it was told; nothing for one that was not.
pub(super) fn reach(index: &Index, object: &FactKey) -> Reach {
    let mut reach = Reach::default();
    for of in super::REACHES {
        of(index, object, &mut reach);
    }
    reach
}

/// The reach of every object, both ways.
#[derive(Debug, Default)]
pub(super) struct Register {
    reaches: BTreeMap<FactKey, Reach>,
    about: BTreeMap<ServiceKey, BTreeSet<FactKey>>,
    about_gateway: BTreeMap<Str, BTreeSet<FactKey>>,
    pointing: BTreeMap<Target, BTreeSet<FactKey>>,
}

impl Register {
    /// Records a reach in place of the earlier one, which it gives back.
    pub(super) fn put(&mut self, object: &FactKey, new: Reach) -> Reach {
        let old = self.reaches.remove(object).unwrap_or_default();
        old.services.iter().for_each(|key| take(&mut self.about, key, object));
        old.gateways.iter().for_each(|key| take(&mut self.about_gateway, key, object));
        old.targets.iter().for_each(|target| take(&mut self.pointing, target, object));
        if new != Reach::default() {
            for key in &new.services {
                self.about.entry(key.clone()).or_default().insert(object.clone());
            }
            for key in &new.gateways {
                self.about_gateway.entry(key.clone()).or_default().insert(object.clone());
            }
            for target in &new.targets {
                self.pointing.entry(target.clone()).or_default().insert(object.clone());
            }
            self.reaches.insert(object.clone(), new);
        }
        old
    }

    /// How far an object reaches, as it was recorded.
    pub(super) fn reach(&self, object: &FactKey) -> Reach {
        self.reaches.get(object).cloned().unwrap_or_default()
    }

    /// The objects that have a say in the rules of a service.
    pub(super) fn about(&self, service: &ServiceKey) -> impl Iterator<Item = &FactKey> {
        self.about.get(service).into_iter().flatten()
    }

    /// The objects that have a say in the rules of a Gateway.
    pub(super) fn about_gateway(&self, gateway: &str) -> impl Iterator<Item = &FactKey> {
        self.about_gateway.get(gateway).into_iter().flatten()
    }

    /// The objects that point to something.
    pub(super) fn pointing(&self, target: &Target) -> Vec<FactKey> {
        self.pointing.get(target).into_iter().flatten().cloned().collect()
    }
}

pub(super) fn take<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(all) = map.get_mut(key) {
        all.remove(value);
        if all.is_empty() {
            map.remove(key);
        }
    }
}
