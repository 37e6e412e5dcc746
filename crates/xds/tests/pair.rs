//! Both ends joined over a bad link, in virtual time: whatever is lost, late or cut off, each
//! client ends up with what the server has for it, never sees a resource go back in time or one
//! that is not for it, and never lacks a policy that one of its workloads names.
//!
//! A failure prints its seed; `PAIR_SEED=<n> cargo test -p xds --test pair` runs that one alone.

use mesh::{
    Change, Policy, Service, Str, Workload,
    policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch},
    route::{Compiled, ServiceRules, Traffic},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};
use xds::{
    Kind, Node,
    client::state::Client,
    digests,
    server::{
        Audience, Catalog, Publication, Publisher, Scope, catalog,
        state::{Event, Pending, Session},
    },
    wire::{Request, Response},
};

const SEEDS: u64 = 600;
/// The first of them are node proxies, the last [`WAYPOINTS`] are waypoints.
const CLIENTS: usize = 5;
const WAYPOINTS: usize = 2;
const STEPS: usize = 100;

/// A small generator (splitmix64): a seed says everything.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

/// A resource as the test sees it: a number that rises with each change, and the policies it names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    number: u32,
    policies: Vec<Str>,
}

type Resources = BTreeMap<(Kind, String), Content>;

/// The waypoints that see a resource; none: everybody whose kind it is.
type Seers = Option<BTreeSet<Str>>;

fn sees(seers: &Seers, scope: &Scope) -> bool {
    match (seers, scope) {
        (None, _) => true,
        (Some(names), Scope::Waypoint(name)) => names.contains(name),
        (Some(_), Scope::NodeProxy) => false,
    }
}

fn publication(change: Change, seers: &Seers) -> Publication {
    let audience = seers.clone().map_or(Audience::Everyone, |names| Audience::Waypoints(Arc::new(names)));
    Publication { change, audience }
}

/// What the control plane was told last, and all that it was ever told.
#[derive(Default)]
struct Truth {
    resources: Resources,
    /// Who sees the rules.
    seers: BTreeMap<(Kind, String), Seers>,
    /// Per name: (number, who saw it from then on).
    history: BTreeMap<(Kind, String), Vec<(u32, Seers)>>,
    number: u32,
    additions: u64,
}

impl Truth {
    fn put(&mut self, kind: Kind, name: String, policies: Vec<Str>, changes: &mut Vec<Publication>) {
        let content = Content { number: self.number + 1, policies };
        self.publish((kind, name), content, None, changes);
    }

    fn publish(&mut self, key: (Kind, String), content: Content, seers: Seers, changes: &mut Vec<Publication>) {
        self.number += 1;
        changes.push(publication(change(key.0, &key.1, &content), &seers));
        self.additions += 1;
        self.history.entry(key.clone()).or_default().push((self.number, seers.clone()));
        self.seers.insert(key.clone(), seers);
        self.resources.insert(key, content);
    }

    /// Other rules, or another audience, or both.
    fn put_rules(&mut self, dice: &mut Dice, changes: &mut Vec<Publication>) {
        let key = (Kind::ServiceRules, format!("ns/s{}", dice.roll(4)));
        let fresh = Content { number: self.number + 1, policies: Vec::new() };
        let content = self.resources.get(&key).filter(|_| dice.one_in(2)).cloned().unwrap_or(fresh);
        let waypoints = (0..WAYPOINTS).filter(|_| dice.one_in(2)).map(|n| format!("ns/g{n}").into()).collect();
        let seers = if dice.one_in(10) { None } else { Some(waypoints) };
        self.publish(key, content, seers, changes);
    }

    /// What somebody ends up with.
    fn visible(&self, scope: &Scope) -> Resources {
        let there = self.resources.iter().filter(|(key, _)| scope.kinds().contains(&key.0));
        let seen = there.filter(|(key, _)| sees(&self.seers[*key], scope));
        seen.map(|(key, content)| (key.clone(), content.clone())).collect()
    }

    fn remove(&mut self, kind: Kind, name: String, changes: &mut Vec<Publication>) {
        self.number += 1;
        let text = Str::from(name.as_str());
        let change = match kind {
            Kind::Address => Change::RemoveAddress(text),
            Kind::Authorization => Change::RemovePolicy(text),
            Kind::ServiceRules => Change::RemoveServiceRules(text),
            Kind::GatewayRules => Change::RemoveGatewayRules(text),
        };
        changes.push(change.into());
        self.history.entry((kind, name.clone())).or_default().push((self.number, Some(BTreeSet::new())));
        self.resources.remove(&(kind, name));
    }

    /// Something happens. Workloads name only policies that are there, as an index sees to.
    fn change(&mut self, dice: &mut Dice) -> Vec<Publication> {
        let mut changes = Vec::new();
        for _ in 0..=dice.roll(3) {
            match dice.roll(9) {
                0 | 1 => {
                    let existing: Vec<Str> = self
                        .resources
                        .keys()
                        .filter(|(k, _)| *k == Kind::Authorization)
                        .map(|(_, n)| n[..].into())
                        .collect();
                    let named = existing.into_iter().filter(|_| dice.one_in(2)).collect();
                    self.put(Kind::Address, format!("w{}", dice.roll(8)), named, &mut changes);
                }
                2 => self.put(Kind::Address, format!("ns/s{}", dice.roll(4)), Vec::new(), &mut changes),
                3 => self.put(Kind::Authorization, format!("ns/p{}", dice.roll(4)), Vec::new(), &mut changes),
                4 => {
                    let name =
                        if dice.one_in(3) { format!("ns/s{}", dice.roll(4)) } else { format!("w{}", dice.roll(8)) };
                    self.remove(Kind::Address, name, &mut changes);
                }
                5 | 6 => self.put_rules(dice, &mut changes),
                7 => self.remove(Kind::ServiceRules, format!("ns/s{}", dice.roll(4)), &mut changes),
                _ => {
                    let gone = format!("ns/p{}", dice.roll(4));
                    self.remove(Kind::Authorization, gone.clone(), &mut changes);
                    let names_it = |content: &Content| content.policies.iter().any(|policy| **policy == *gone);
                    let naming: Vec<(String, Vec<Str>)> = self
                        .resources
                        .iter()
                        .filter(|(_, content)| names_it(content))
                        .map(|((_, name), content)| (name.clone(), content.policies.clone()))
                        .collect();
                    for (name, mut policies) in naming {
                        policies.retain(|policy| **policy != *gone);
                        self.put(Kind::Address, name, policies, &mut changes);
                    }
                }
            }
        }
        changes
    }
}

fn change(kind: Kind, name: &str, content: &Content) -> Change {
    let number: Str = content.number.to_string().into();
    match (kind, name.split_once('/')) {
        (Kind::Address, None) => Change::Workload(Arc::new(Workload {
            node: number,
            authorization_policies: content.policies.clone(),
            ..Workload::named(name)
        })),
        (Kind::Address, Some((namespace, hostname))) => {
            Change::Service(Arc::new(Service { name: number, ..Service::named(namespace, hostname) }))
        }
        (Kind::Authorization, Some((namespace, name))) => Change::Policy(Arc::new(Policy {
            name: name.into(),
            namespace: namespace.into(),
            scope: PolicyScope::WorkloadSelector,
            action: Action::Deny,
            rules: vec![rule_that_says(number)],
            dry_run: false,
        })),
        (Kind::Authorization, None) => unreachable!("policies have a namespace"),
        (Kind::ServiceRules, _) => {
            let mut rules = ServiceRules::of(name.parse().expect("a key"));
            rules.traffic.push(Traffic { name: number, ..Traffic::default() });
            Change::ServiceRules(Arc::new(Compiled::new(rules).expect("good rules")))
        }
        (Kind::GatewayRules, _) => unreachable!("rules of services are enough"),
    }
}

fn rule_that_says(text: Str) -> Rule {
    let mut said = Match::default();
    said.namespaces.any_of.push(StringMatch::Exact(text));
    Rule { clauses: vec![Clause { matches: vec![said] }] }
}

fn said_by(rule: &Rule) -> &Str {
    match &rule.clauses[0].matches[0].namespaces.any_of[0] {
        StringMatch::Exact(text) => text,
        other => panic!("{other:?} is not what was written"),
    }
}

/// What a client made of what it was sent.
#[derive(Default)]
struct Applied {
    resources: Resources,
    /// Per name: the latest number it is known to have reached.
    reached: BTreeMap<(Kind, String), u32>,
}

impl Applied {
    fn apply(&mut self, changes: Vec<Change>, truth: &Truth, scope: &Scope) {
        for change in changes {
            let (key, content) = match &change {
                Change::Workload(w) => {
                    let content = Content {
                        number: w.node.parse().expect("a number"),
                        policies: w.authorization_policies.clone(),
                    };
                    ((Kind::Address, w.uid.to_string()), Some(content))
                }
                Change::Service(s) => {
                    let content = Content { number: s.name.parse().expect("a number"), policies: Vec::new() };
                    ((Kind::Address, s.key().to_string()), Some(content))
                }
                Change::Policy(p) => {
                    let number = said_by(&p.rules[0]).parse().expect("a number");
                    ((Kind::Authorization, p.key()), Some(Content { number, policies: Vec::new() }))
                }
                Change::ServiceRules(rules) => {
                    let rules = rules.rules();
                    let number = rules.traffic[0].name.parse().expect("a number");
                    let key = (Kind::ServiceRules, rules.service.to_string());
                    let ever = truth.history[&key].iter().any(|(_, seers)| sees(seers, scope));
                    assert!(ever, "{key:?} was never for {scope:?}");
                    (key, Some(Content { number, policies: Vec::new() }))
                }
                Change::RemoveServiceRules(name) => ((Kind::ServiceRules, name.to_string()), None),
                Change::GatewayRules(_) | Change::RemoveGatewayRules(_) => unreachable!("there are none"),
                Change::RemoveAddress(name) => ((Kind::Address, name.to_string()), None),
                Change::RemovePolicy(name) => ((Kind::Authorization, name.to_string()), None),
            };
            let reached = self.reached.get(&key).copied().unwrap_or(0);
            match content {
                Some(content) => {
                    assert!(content.number >= reached, "{key:?} went back from {reached} to {}", content.number);
                    self.reached.insert(key.clone(), content.number);
                    self.resources.insert(key, content);
                }
                None => {
                    let history = truth.history.get(&key).map(Vec::as_slice).unwrap_or_default();
                    let removal = history.iter().find(|(number, seers)| !sees(seers, scope) && *number > reached);
                    if self.resources.remove(&key).is_some() {
                        let (number, _) =
                            removal.unwrap_or_else(|| panic!("{key:?} was never removed after {reached}"));
                        // Rules that come back may be as they were.
                        if key.0 != Kind::ServiceRules {
                            self.reached.insert(key, *number);
                        }
                    }
                }
            }
        }
    }

    fn lacks_no_policy_it_names(&self) {
        for ((_, name), content) in &self.resources {
            for policy in &content.policies {
                let there = self.resources.contains_key(&(Kind::Authorization, policy.to_string()));
                assert!(there, "{name} names {policy}, which the client has not got");
            }
        }
    }
}

/// One client, the stream it has, and the server's end of it.
struct Proxy {
    scope: Scope,
    client: Client,
    applied: Applied,
    stream: Option<Stream>,
    /// How rarely it gets to read.
    slowness: u64,
}

struct Stream {
    session: Session,
    requests: VecDeque<Request>,
    responses: VecDeque<Response>,
}

struct World {
    dice: Dice,
    truth: Truth,
    publisher: Publisher,
    catalog: Catalog,
    proxies: Vec<Proxy>,
    sessions: u64,
    /// This server has never heard of digests.
    is_old: bool,
    now: Instant,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let (mut publisher, catalog) = catalog();
        publisher.set_synced();
        publisher.set_tombstones_max(if dice.one_in(2) { 2 } else { 1000 });
        let scope = |n| match n < CLIENTS - WAYPOINTS {
            true => Scope::NodeProxy,
            false => Scope::Waypoint(format!("ns/g{}", n + WAYPOINTS - CLIENTS).into()),
        };
        let proxies = (0..CLIENTS).map(|n| {
            let node = Node::ztunnel(None, &format!("proxy-{n}"), "istio-system", "n1");
            let mut client = Client::new(node, scope(n).kinds());
            // The first says always one by one what it has.
            client.set_digests_from(if n == 0 || !seed.is_multiple_of(4) { usize::MAX } else { n });
            Proxy { scope: scope(n), client, applied: Applied::default(), stream: None, slowness: [2, 3, 20, 3, 10][n] }
        });
        Self {
            proxies: proxies.collect(),
            dice,
            truth: Truth::default(),
            publisher,
            catalog,
            sessions: 0,
            is_old: false,
            now: Instant::now(),
        }
    }

    /// Another process with the same sources: it hears of them in another order.
    fn restart_server(&mut self) {
        let tombstones_max = if self.dice.one_in(2) { 2 } else { 1000 };
        self.is_old = self.dice.one_in(3);
        (self.publisher, self.catalog) = catalog();
        self.publisher.set_tombstones_max(tombstones_max);
        self.publisher.set_synced();
        let there = self.truth.resources.iter().rev();
        let there = there.map(|(key, content)| publication(change(key.0, &key.1, content), &self.truth.seers[key]));
        self.publisher.apply(there.collect::<Vec<_>>(), self.now);
        self.truth.additions = self.truth.resources.len() as u64;
        for proxy in &mut self.proxies {
            proxy.stream = None;
        }
    }

    fn connect(&mut self, n: usize) {
        self.sessions += 1;
        let requests = self.proxies[n].client.open().into();
        self.proxies[n].stream = Some(Stream {
            session: Session::new(self.sessions, self.proxies[n].scope.clone()),
            requests,
            responses: VecDeque::new(),
        });
    }

    fn server_reads(&mut self, n: usize) {
        let Some(stream) = &mut self.proxies[n].stream else { return };
        if let Some(mut request) = stream.requests.pop_front() {
            if self.is_old
                && let Some(claim) = request.initial_resource_versions.remove(digests::CLAIM)
            {
                request.initial_resource_versions.insert("what is this".into(), claim);
            }
            match stream.session.request(request) {
                Event::Asked(_) | Event::Acked(_) | Event::Stale(_) => {}
                event @ (Event::Nacked(..) | Event::Unserved(_)) => panic!("{event:?}"),
            }
        }
    }

    fn server_writes(&mut self, n: usize) {
        let head = *self.catalog.head().borrow();
        let Some(stream) = &mut self.proxies[n].stream else { return };
        let room = stream.responses.len() < 3;
        if !room || stream.session.asked_half() || stream.session.pending(head) == Pending::Nothing {
            return;
        }
        match stream.session.round(&self.catalog.contents()) {
            Ok(outgoing) => stream.responses.extend(outgoing.into_iter().map(|outgoing| {
                let mut response = outgoing.response;
                response.control_plane.take_if(|_| self.is_old);
                response
            })),
            Err(_) => self.proxies[n].stream = None,
        }
    }

    fn client_reads(&mut self, n: usize) {
        let Proxy { client, applied, scope, stream: Some(stream), .. } = &mut self.proxies[n] else { return };
        let Some(response) = stream.responses.pop_front() else { return };
        let received = client.receive(response).expect("only what was asked for comes");
        assert_eq!(received.refused, [], "what the server writes the client takes");
        applied.apply(received.changes, &self.truth, scope);
        stream.requests.push_back(received.reply);
        if client.synced() && *scope == Scope::NodeProxy {
            applied.lacks_no_policy_it_names();
        }
    }

    fn step(&mut self, changes_go_on: bool, trouble_goes_on: bool) {
        if changes_go_on && self.dice.one_in(3) {
            let changes = self.truth.change(&mut self.dice);
            self.publisher.apply(changes, self.now);
        }
        if trouble_goes_on && self.dice.one_in(120) {
            self.restart_server();
        }
        for n in 0..CLIENTS {
            if self.proxies[n].stream.is_none() {
                if self.dice.one_in(4) {
                    self.connect(n);
                }
                continue;
            }
            // A stream breaks, and with it everything that is under way, in both directions.
            if trouble_goes_on && self.dice.one_in(25) {
                self.proxies[n].stream = None;
                continue;
            }
            for _ in 0..self.dice.roll(3) {
                self.server_reads(n);
            }
            if self.dice.one_in(2) {
                self.server_writes(n);
            }
            if self.dice.one_in(self.proxies[n].slowness) {
                self.client_reads(n);
            }
        }
    }

    fn quiet(&self) -> bool {
        let head = *self.catalog.head().borrow();
        self.proxies.iter().all(|proxy| match &proxy.stream {
            Some(stream) => {
                proxy.client.current()
                    && stream.requests.is_empty()
                    && stream.responses.is_empty()
                    && stream.session.pending(head) == Pending::Nothing
            }
            None => false,
        })
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step(true, true);
    }
    let mut steps = 0;
    while !world.quiet() {
        world.step(false, false);
        steps += 1;
        assert!(steps < 10_000, "it does not come to rest");
    }
    for (n, proxy) in world.proxies.iter().enumerate() {
        let visible = world.truth.visible(&proxy.scope);
        assert_eq!(proxy.applied.resources, visible, "client {n}");
        for kind in proxy.scope.kinds() {
            let expected = visible.keys().filter(|(of, _)| of == kind).count();
            assert_eq!(proxy.client.count(*kind), expected, "client {n} and {kind}");
        }
    }
    let encodes = world.catalog.contents().encodes();
    assert_eq!(encodes, world.truth.additions, "one encoding a change, whatever the number of clients");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test that failed is run again by its seed")]
fn over_a_bad_link_every_client_ends_up_with_what_the_server_has() {
    let seeds = match std::env::var("PAIR_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("PAIR_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| run(seed)) {
            eprintln!("failed with PAIR_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Connects a client that has everything to a server that restarted: how many resources it is sent.
fn resent_after_restart(change_between: bool) -> (usize, Vec<String>) {
    let mut world = World::new(7);
    for n in 0..100 {
        let name = format!("w{n}");
        let mut changes = Vec::new();
        world.truth.put(Kind::Address, name, Vec::new(), &mut changes);
        world.publisher.apply(changes, world.now);
    }
    world.connect(0);
    let deliver = |world: &mut World| {
        let mut sent = Vec::new();
        for _ in 0..10 {
            world.server_reads(0);
            world.server_reads(0);
            world.server_writes(0);
            if let Some(response) = world.proxies[0].stream.as_ref().and_then(|stream| stream.responses.front()) {
                sent.push(response.clone());
            }
            world.client_reads(0);
        }
        sent
    };
    assert_eq!(deliver(&mut world).iter().map(|response| response.resources.len()).sum::<usize>(), 100);
    if change_between {
        world.truth.put(Kind::Address, "w3".into(), Vec::new(), &mut Vec::new());
        world.truth.remove(Kind::Address, "w4".into(), &mut Vec::new());
    }
    world.restart_server();
    world.connect(0);
    let sent = deliver(&mut world);
    let removed = sent.iter().flat_map(|response| response.removed_resources.clone()).collect();
    (sent.iter().map(|response| response.resources.len()).sum(), removed)
}

#[test]
fn after_a_restart_only_what_changed_is_sent() {
    assert_eq!(resent_after_restart(false), (0, vec![]));
    assert_eq!(resent_after_restart(true), (1, vec!["w4".to_owned()]));
}
