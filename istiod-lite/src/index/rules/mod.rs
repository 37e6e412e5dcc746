//! What waypoints do with requests: the rules of each service and of each Gateway, and who gets them.
//!
//! Rules are built one service at a time, by [`CONTRIBUTORS`] in their order: plain functions that
//! look at what was told and add what their kinds say, naming destinations as their authors did.
//! Then destinations are looked up ([`resolve`]), the whole is compiled, and what cannot be used
//! leaves the last good rules in place, or closes where there are none ([`closed`]). Every object that has a say is told what became of it
//! ([`conditions`]). What must be built again follows from what each object reaches ([`reach`]).
//!
//! To add a kind: a table in `Told`, its arm in `Index::tell` (through [`Index::tell_rules`]), a
//! function in [`REACHES`] and one in [`CONTRIBUTORS`] or [`GATEWAY_CONTRIBUTORS`], and its name in
//! [`crate::facts::Kind::RULES`]. An object that concerns all services of a namespace reaches those
//! that are there; a service that comes later is built anyway, and its contributor finds the object
//! in `Told`.
//!
//! Rules are published only to the waypoints that need them: those that serve the service, and
//! those that serve a service whose rules send to it. Whatever a waypoint serves has rules, also such
//! that say nothing, and so has its Gateway: a waypoint refuses what it has no rules for.

mod attach;
mod closed;
mod conditions;
mod delegate;
mod destination_rule;
mod gateway_api;
mod gateways;
mod guards;
mod hosts;
mod providers;
mod publish;
mod reach;
mod reading;
mod resolve;
mod sections;
mod targets;
mod telemetry;
mod tls;
mod traffic;
mod traffic_policy;
mod virtual_service;

pub(in crate::index) use conditions::Conditions;
pub(in crate::index) use publish::Rules;
pub(in crate::index) use reach::{Reach, Target};
pub(crate) use resolve::without_destinations;

use super::{Index, Mesh};
use crate::facts::FactKey;
use mesh::{
    Service, ServiceKey, Str,
    route::{GatewayRules, ServiceRules},
};

/// What a contributor may look at.
#[derive(Clone, Copy)]
pub(in crate::index) struct Scene<'a> {
    /// Everything that was told and built before rules are.
    pub(in crate::index) index: &'a Index,
    /// The objects that reach what is built, in the order of their keys.
    pub(in crate::index) objects: &'a [FactKey],
    /// The waypoints that serve it: `namespace/name` of Gateways.
    pub(in crate::index) waypoints: &'a [Str],
}

impl<'a> Scene<'a> {
    /// A service as it is published.
    fn service(&self, key: &ServiceKey) -> Option<&'a Service> {
        self.index.services.get(key).map(|service| &**service)
    }
}

/// Adds what some kinds say to the rules of a service.
pub(in crate::index) type Contributor = fn(&Scene<'_>, &mut ServiceRules, &mut Conditions);

/// Adds what some kinds say to the rules of a Gateway.
pub(in crate::index) type GatewayContributor = fn(&Scene<'_>, &mut GatewayRules, &mut Conditions);

/// Adds how far an object reaches, if it is of one of the kinds that the function knows.
pub(in crate::index) type ReachOf = fn(&Index, &FactKey, &mut Reach);

/// Who adds to the rules of a service, in this order. Policies of Gateway API over how a service is
/// reached come last: they complete what is there.
pub(in crate::index) const CONTRIBUTORS: &[Contributor] = &[
    gateway_api::contribute,
    virtual_service::contribute,
    destination_rule::contribute,
    traffic_policy::contribute,
    guards::contribute,
    telemetry::contribute,
    traffic::contribute,
    tls::contribute,
];

/// Who adds to the rules of a Gateway, in this order.
pub(in crate::index) const GATEWAY_CONTRIBUTORS: &[GatewayContributor] = &[
    gateways::contribute,
    guards::contribute_to_gateway,
    traffic_policy::contribute_to_gateway,
    telemetry::contribute_to_gateway,
];

/// How far each kind reaches.
pub(in crate::index) const REACHES: &[ReachOf] = &[
    gateways::reach,
    gateway_api::reach,
    virtual_service::reach,
    destination_rule::reach,
    traffic_policy::reach,
    guards::reach,
    telemetry::reach,
    traffic::reach,
    tls::reach,
];

/// Says of an object what no service and no Gateway says of it: that there is none for it, say.
pub(in crate::index) type ObjectConditions = fn(&Index, &FactKey, &mut Conditions);

/// Who says something of objects as such.
pub(in crate::index) const OBJECT_CONDITIONS: &[ObjectConditions] = &[
    gateway_api::of_object,
    virtual_service::of_object,
    destination_rule::of_object,
    traffic_policy::of_object,
    guards::of_object,
    telemetry::of_object,
    traffic::of_object,
    tls::of_object,
];

/// The key with the mesh's domain, which those who wrote the name did not have to know.
pub(in crate::index) fn full_key(mesh: &Mesh, key: &ServiceKey) -> ServiceKey {
    if !key.hostname.ends_with(".svc") {
        return key.clone();
    }
    ServiceKey { namespace: key.namespace.clone(), hostname: format!("{}.{}", key.hostname, mesh.domain).into() }
}

impl Index {
    /// Takes in something told of an object that has a say in rules, or that such objects point to.
    pub(in crate::index) fn tell_rules(&mut self, object: &FactKey, put: impl FnOnce(&mut super::told::Told)) {
        self.touch(object);
        put(&mut self.told);
        self.object_changed(object);
    }

    /// Looks again at an object that is told differently now, and at those that point to it.
    pub(in crate::index) fn object_changed(&mut self, object: &FactKey) {
        self.touch(object);
        self.target_changed(&Target::Object(object.clone()));
    }

    /// Marks what an object reached before, and what it reaches now.
    pub(in crate::index) fn touch(&mut self, object: &FactKey) {
        let reach = reach::reach(self, object);
        self.rules.touch(object, reach);
    }

    /// Looks again at every object that points to something.
    pub(in crate::index) fn target_changed(&mut self, target: &Target) {
        for object in self.rules.pointing(target) {
            self.touch(&object);
        }
    }

    /// A service is published differently, or not any more.
    pub(in crate::index) fn published_service_changed(&mut self, key: &ServiceKey) {
        self.rules.mark_service(key);
        self.target_changed(&Target::Service(key.clone()));
        self.target_changed(&Target::Host(key.hostname.clone()));
    }

    /// The waypoints that serve a service: `namespace/name` of their Gateways.
    fn waypoints_of(&self, key: &ServiceKey) -> Vec<Str> {
        self.waypoint_of_service(key).into_iter().collect()
    }

    /// Why an object cannot be understood as it is now. What is known of it stays.
    pub(in crate::index) fn refuse(&mut self, object: &FactKey, reasons: &[Str]) {
        if self.rules.refuse(object, reasons) {
            self.touch(object);
            if object.kind == crate::facts::Kind::AuthorizationPolicy {
                self.say_of_policy(object);
            }
            if object.kind == crate::facts::Kind::Gateway {
                self.look_at_gateways([(object.namespace.clone(), object.name.clone())].into());
            }
        }
    }

    /// Why an object cannot be understood as it is now; empty for one that can.
    pub(in crate::index) fn refused(&self, object: &FactKey) -> &[Str] {
        self.rules.refused(object)
    }
}

#[cfg(test)]
mod tests;
