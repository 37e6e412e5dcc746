//! Builds what is marked, and says what is different to whom.

use super::{
    CONTRIBUTORS, Conditions, GATEWAY_CONTRIBUTORS, OBJECT_CONDITIONS, Reach, Scene, Target, closed,
    reach::{Register, take},
    resolve,
};
use crate::{
    facts::{Condition, FactKey},
    index::Index,
};
use mesh::{
    Change, ServiceKey, Str,
    route::{Compiled, CompiledGateway, GatewayRules, ServiceRules, Unusable},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use xds::server::{Audience, Publication};

/// What is known of rules: who has a say, what was built, and what was published.
#[derive(Debug, Default)]
pub(in crate::index) struct Rules {
    register: Register,
    refused: BTreeMap<FactKey, Vec<Str>>,
    services: BTreeMap<ServiceKey, Built<Compiled>>,
    gateways: BTreeMap<Str, Built<CompiledGateway>>,
    /// The services of which the rules have something to say of an object.
    mentions: BTreeMap<FactKey, BTreeSet<ServiceKey>>,
    /// Whose rules send to a service.
    senders: BTreeMap<ServiceKey, BTreeSet<Sender>>,
    published: BTreeMap<ServiceKey, (Arc<Compiled>, Arc<BTreeSet<Str>>)>,
    published_gateways: BTreeMap<Str, Arc<CompiledGateway>>,
    /// The conditions that come from here, by object; an object may have others.
    said: BTreeMap<FactKey, Vec<Condition>>,
    marked: Marked,
    /// The services whose rules were built, in order.
    #[cfg(test)]
    pub(super) log: Vec<ServiceKey>,
}

#[derive(Debug, Default)]
struct Marked {
    services: BTreeSet<ServiceKey>,
    gateways: BTreeSet<Str>,
    objects: BTreeSet<FactKey>,
}

/// Whose rules send somewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sender {
    Service(ServiceKey),
    Gateway(Str),
}

/// What building gave.
#[derive(Debug)]
struct Built<T> {
    rules: Option<Arc<T>>,
    /// Whether nobody may ask, because what was said cannot be used.
    closed: bool,
    conditions: Conditions,
    sends_to: BTreeSet<ServiceKey>,
    waypoints: Vec<Str>,
}

impl<T> Built<T> {
    /// What was good when it was built.
    fn good(&self) -> Option<&Arc<T>> {
        self.rules.as_ref().filter(|_| !self.closed)
    }
}

impl<T> Default for Built<T> {
    fn default() -> Self {
        let (conditions, sends_to) = (Conditions::default(), BTreeSet::new());
        Self { rules: None, closed: false, conditions, sends_to, waypoints: Vec::new() }
    }
}

impl Rules {
    pub(in crate::index) fn mark_service(&mut self, key: &ServiceKey) {
        self.marked.services.insert(key.clone());
    }

    pub(in crate::index) fn mark_gateway(&mut self, gateway: &Str) {
        self.marked.gateways.insert(gateway.clone());
    }

    pub(super) fn touch(&mut self, object: &FactKey, new: Reach) {
        self.marked.objects.insert(object.clone());
        self.marked.services.extend(new.services.iter().cloned());
        self.marked.gateways.extend(new.gateways.iter().cloned());
        let old = self.register.put(object, new);
        self.marked.services.extend(old.services);
        self.marked.gateways.extend(old.gateways);
    }

    pub(super) fn pointing(&self, target: &Target) -> Vec<FactKey> {
        self.register.pointing(target)
    }

    /// Whether that is news.
    pub(super) fn refuse(&mut self, object: &FactKey, reasons: &[Str]) -> bool {
        match reasons {
            [] => self.refused.remove(object).is_some(),
            reasons => self.refused.insert(object.clone(), reasons.to_vec()).as_deref() != Some(reasons),
        }
    }

    pub(super) fn refused(&self, object: &FactKey) -> &[Str] {
        self.refused.get(object).map_or(&[], Vec::as_slice)
    }

    /// Records where a sender sends now. The waypoints of those services may be others, then.
    fn link(&mut self, sender: &Sender, old: &BTreeSet<ServiceKey>, new: &BTreeSet<ServiceKey>) {
        old.iter().for_each(|key| take(&mut self.senders, key, sender));
        for key in new {
            self.senders.entry(key.clone()).or_default().insert(sender.clone());
        }
    }

    /// The waypoints that need the rules of a service.
    fn audience(&self, key: &ServiceKey) -> BTreeSet<Str> {
        let own = self.services.get(key).map(|built| built.waypoints.clone()).unwrap_or_default();
        let senders = self.senders.get(key).into_iter().flatten();
        let through = senders.flat_map(|sender| match sender {
            Sender::Service(key) => self.services.get(key).map(|built| built.waypoints.clone()).unwrap_or_default(),
            Sender::Gateway(gateway) => vec![gateway.clone()],
        });
        own.into_iter().chain(through).collect()
    }
}

impl Index {
    /// Every service whose rules are published, with them and the waypoints that get them.
    pub fn service_rules(&self) -> impl Iterator<Item = (&Arc<Compiled>, &BTreeSet<Str>)> {
        self.rules.published.values().map(|(rules, audience)| (rules, &**audience))
    }

    /// Every Gateway whose rules are published, with them.
    pub fn gateway_rules(&self) -> impl Iterator<Item = &Arc<CompiledGateway>> {
        self.rules.published_gateways.values()
    }

    pub(in crate::index) fn settle_rules(&mut self, added: &mut Vec<Publication>, removed: &mut Vec<Publication>) {
        let Marked { services, gateways, mut objects } = std::mem::take(&mut self.rules.marked);
        let mut looked_at = services.clone();
        for key in services {
            let new = self.build_service(&key);
            let old = self.rules.services.remove(&key).unwrap_or_default();
            old.conditions.objects().for_each(|object| take(&mut self.rules.mentions, object, &key));
            for object in new.conditions.objects() {
                self.rules.mentions.entry(object.clone()).or_default().insert(key.clone());
            }
            objects.extend(old.conditions.objects().chain(new.conditions.objects()).cloned());
            self.rules.link(&Sender::Service(key.clone()), &old.sends_to, &new.sends_to);
            if old.sends_to != new.sends_to || old.waypoints != new.waypoints {
                looked_at.extend(old.sends_to.union(&new.sends_to).cloned());
            }
            #[cfg(test)]
            self.rules.log.push(key.clone());
            if self.services.contains_key(&key) || new.conditions != Conditions::default() {
                self.rules.services.insert(key, new);
            }
        }
        for gateway in gateways {
            let new = self.build_gateway(&gateway);
            let old = self.rules.gateways.remove(&gateway).unwrap_or_default();
            objects.extend(old.conditions.objects().chain(new.conditions.objects()).cloned());
            self.rules.link(&Sender::Gateway(gateway.clone()), &old.sends_to, &new.sends_to);
            looked_at.extend(old.sends_to.union(&new.sends_to).cloned());
            self.publish_gateway(&gateway, new.rules.clone(), added, removed);
            if new.rules.is_some() || new.conditions != Conditions::default() {
                self.rules.gateways.insert(gateway, new);
            }
        }
        for key in looked_at {
            self.publish_service(key, added, removed);
        }
        for object in objects {
            self.say(&object);
        }
    }

    fn build_service(&self, key: &ServiceKey) -> Built<Compiled> {
        let objects: Vec<FactKey> = self.rules.register.about(key).cloned().collect();
        let waypoints = self.waypoints_of(key);
        let scene = Scene { index: self, objects: &objects, waypoints: &waypoints };
        let (mut rules, mut conditions) = (ServiceRules::of(key.clone()), Conditions::default());
        CONTRIBUTORS.iter().for_each(|contribute| contribute(&scene, &mut rules, &mut conditions));
        let mut sends_to = resolve::service(&scene, &mut rules, &mut |from, condition| {
            if let Some(object) = resolve::object(from) {
                conditions.fail(&object, condition);
            }
        });
        let built = |rules, closed, sends_to, conditions| Built {
            rules,
            closed,
            sends_to,
            conditions,
            waypoints: waypoints.clone(),
        };
        // A waypoint serves nothing that it has no rules for: they go there when they say nothing, too.
        let needless = waypoints.is_empty() && rules == ServiceRules::of(key.clone());
        if needless || !self.services.contains_key(key) {
            return built(None, false, BTreeSet::new(), conditions);
        }
        let last = self.rules.services.get(key).and_then(Built::good);
        if let Some(last) = last.filter(|last| *last.rules() == rules) {
            return built(Some(last.clone()), false, sends_to, conditions);
        }
        let guards = rules.guards.clone();
        match Compiled::new(rules) {
            Ok(rules) => built(Some(Arc::new(rules)), false, sends_to, conditions),
            Err(unusable) => {
                let stays = last.and_then(|last| closed::guarded(last, guards));
                let closed = stays.is_none();
                blame(&unusable, closed, &objects, &mut conditions);
                let rules = stays.or_else(|| closed::service(key));
                sends_to = rules.iter().flat_map(|rules| resolve::sends_to(&mut rules.rules().clone())).collect();
                built(rules, closed, sends_to, conditions)
            }
        }
    }

    fn build_gateway(&self, gateway: &Str) -> Built<CompiledGateway> {
        let Some((namespace, name)) = gateway.split_once('/') else { return Built::default() };
        let objects: Vec<FactKey> = self.rules.register.about_gateway(gateway).cloned().collect();
        let waypoints = vec![gateway.clone()];
        let scene = Scene { index: self, objects: &objects, waypoints: &waypoints };
        let mut rules = GatewayRules::of(namespace.into(), name.into());
        let mut conditions = Conditions::default();
        GATEWAY_CONTRIBUTORS.iter().for_each(|contribute| contribute(&scene, &mut rules, &mut conditions));
        let sends_to = resolve::gateway(&scene, &mut rules, &mut |from, condition| {
            if let Some(object) = resolve::object(from) {
                conditions.fail(&object, condition);
            }
        });
        if !self.waypoints.contains_key(&(rules.namespace.clone(), rules.name.clone())) {
            return Built { conditions, waypoints, ..Built::default() };
        }
        let last = self.rules.gateways.get(gateway).and_then(|built| Some((built.good()?, &built.sends_to)));
        let guards = rules.guards.clone();
        match CompiledGateway::new(rules) {
            Ok(rules) => Built { rules: Some(Arc::new(rules)), closed: false, conditions, sends_to, waypoints },
            Err(unusable) => {
                let stays = last.and_then(|(last, _)| closed::guarded_gateway(last, guards));
                let closed = stays.is_none();
                blame(&unusable, closed, &objects, &mut conditions);
                let rules = stays.or_else(|| closed::gateway(namespace.into(), name.into()));
                // Who may ask is of now, and the rest of before.
                let before = last.into_iter().flat_map(|(_, sends_to)| sends_to.clone());
                Built { rules, closed, conditions, sends_to: before.chain(sends_to).collect(), waypoints }
            }
        }
    }

    fn publish_service(&mut self, key: ServiceKey, added: &mut Vec<Publication>, removed: &mut Vec<Publication>) {
        let audience = self.rules.audience(&key);
        let rules = self.rules.services.get(&key).and_then(|built| built.rules.clone());
        let Some(rules) = rules.filter(|_| !audience.is_empty()) else {
            if self.rules.published.remove(&key).is_some() {
                removed.push(Change::RemoveServiceRules(key.to_string().into()).into());
            }
            return;
        };
        let same = |(old, to): &(Arc<Compiled>, Arc<BTreeSet<Str>>)| Arc::ptr_eq(old, &rules) && **to == audience;
        if !self.rules.published.get(&key).is_some_and(same) {
            let audience = Arc::new(audience);
            self.rules.published.insert(key, (rules.clone(), audience.clone()));
            added.push(Publication { change: Change::ServiceRules(rules), audience: Audience::Waypoints(audience) });
        }
    }

    fn publish_gateway(
        &mut self,
        gateway: &Str,
        rules: Option<Arc<CompiledGateway>>,
        added: &mut Vec<Publication>,
        removed: &mut Vec<Publication>,
    ) {
        let published = &mut self.rules.published_gateways;
        match rules {
            Some(rules) if published.get(gateway).is_some_and(|old| old.rules() == rules.rules()) => {}
            Some(rules) => {
                published.insert(gateway.clone(), rules.clone());
                let audience = Audience::Waypoints(Arc::new([gateway.clone()].into()));
                added.push(Publication { change: Change::GatewayRules(rules), audience });
            }
            None => {
                if published.remove(gateway).is_some() {
                    removed.push(Change::RemoveGatewayRules(gateway.clone()).into());
                }
            }
        }
    }

    /// Says what became of an object, from all that was built of it; what others said of it stays.
    fn say(&mut self, object: &FactKey) {
        let mut conditions = Conditions::default();
        OBJECT_CONDITIONS.iter().for_each(|of| of(self, object, &mut conditions));
        let reach = self.rules.register.reach(object);
        let mentioning = self.rules.mentions.get(object).into_iter().flatten();
        for built in mentioning.filter_map(|key| self.rules.services.get(key)) {
            conditions.say_of(object, &built.conditions);
        }
        for built in reach.gateways.iter().filter_map(|key| self.rules.gateways.get(key)) {
            conditions.say_of(object, &built.conditions);
        }
        let new = conditions.into_sorted(object);
        let old = match new.is_empty() {
            true => self.rules.said.remove(object),
            false => self.rules.said.insert(object.clone(), new.clone()),
        };
        let old = old.unwrap_or_default();
        let before = self.conditions.get(object).cloned().unwrap_or_default();
        let others = before.iter().filter(|condition| !old.contains(condition) && !new.contains(condition)).cloned();
        let all: Vec<Condition> = others.chain(new.iter().cloned()).collect();
        if all != before {
            self.set_conditions(object.clone(), all);
        }
    }
}

/// Tells those whose part of the rules cannot be used, or all of them if it is not clear whose.
fn blame(unusable: &Unusable, closed: bool, objects: &[FactKey], conditions: &mut Conditions) {
    let named: Vec<&FactKey> = objects.iter().filter(|object| unusable.place.contains(&*object.text())).collect();
    let blamed = if named.is_empty() { objects.iter().collect() } else { named };
    let instead = if closed { "nobody may ask until it can be used" } else { "the last good rules stay" };
    for object in blamed {
        let message = format!("{unusable}; {instead}");
        conditions.fail(object, Condition::unmet("Accepted", "UnsupportedValue", message));
    }
}
