//! Both ends joined over a bad link, in virtual time: whatever is lost, late or cut off, each
//! client ends up with what the server has, never sees a resource go back in time, and never
//! lacks a policy that one of its workloads names.
//!
//! A failure prints its seed; `PAIR_SEED=<n> cargo test -p xds --test pair` runs that one alone.

use mesh::{
    Change, Policy, Service, Str, Workload,
    policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Instant,
};
use xds::{
    Kind, Node,
    client::state::Client,
    server::{
        Catalog, Publisher, Scope, catalog,
        state::{Event, Pending, Session},
    },
    wire::{Request, Response},
};

const SEEDS: u64 = 2000;
const CLIENTS: usize = 3;
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

/// What the control plane was told last, and all that it was ever told.
#[derive(Default)]
struct Truth {
    resources: Resources,
    /// Per name: (number, whether it was there from then on).
    history: BTreeMap<(Kind, String), Vec<(u32, bool)>>,
    number: u32,
    additions: u64,
}

impl Truth {
    fn put(&mut self, kind: Kind, name: String, policies: Vec<Str>, changes: &mut Vec<Change>) {
        self.number += 1;
        let content = Content { number: self.number, policies };
        changes.push(change(kind, &name, &content));
        self.additions += 1;
        self.history.entry((kind, name.clone())).or_default().push((self.number, true));
        self.resources.insert((kind, name), content);
    }

    fn remove(&mut self, kind: Kind, name: String, changes: &mut Vec<Change>) {
        self.number += 1;
        let text = Str::from(name.as_str());
        changes.push(match kind {
            Kind::Address => Change::RemoveAddress(text),
            Kind::Authorization => Change::RemovePolicy(text),
            other => unreachable!("{other} is not for node proxies"),
        });
        self.history.entry((kind, name.clone())).or_default().push((self.number, false));
        self.resources.remove(&(kind, name));
    }

    /// Something happens. Workloads name only policies that are there, as an index sees to.
    fn change(&mut self, dice: &mut Dice) -> Vec<Change> {
        let mut changes = Vec::new();
        for _ in 0..=dice.roll(3) {
            match dice.roll(6) {
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
        (other, _) => unreachable!("{other} is not for node proxies"),
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
    fn apply(&mut self, changes: Vec<Change>, truth: &Truth) {
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
                Change::ServiceRules(_) | Change::RemoveServiceRules(_) => unreachable!("rules are for waypoints"),
                Change::GatewayRules(_) | Change::RemoveGatewayRules(_) => unreachable!("rules are for waypoints"),
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
                    let removal = history.iter().find(|(number, there)| !there && *number > reached);
                    if self.resources.remove(&key).is_some() {
                        let (number, _) =
                            removal.unwrap_or_else(|| panic!("{key:?} was never removed after {reached}"));
                        self.reached.insert(key, *number);
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
    now: Instant,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let (mut publisher, catalog) = catalog();
        publisher.set_synced();
        publisher.set_tombstones_max(if dice.one_in(2) { 2 } else { 1000 });
        let proxies = (0..CLIENTS).map(|n| Proxy {
            client: Client::new(Node::ztunnel(None, &format!("ztunnel-{n}"), "istio-system", "n1"), Kind::NODE_PROXY),
            applied: Applied::default(),
            stream: None,
            slowness: [2, 3, 20][n],
        });
        Self {
            proxies: proxies.collect(),
            dice,
            truth: Truth::default(),
            publisher,
            catalog,
            sessions: 0,
            now: Instant::now(),
        }
    }

    /// Another process with the same sources: it hears of them in another order.
    fn restart_server(&mut self) {
        let tombstones_max = if self.dice.one_in(2) { 2 } else { 1000 };
        (self.publisher, self.catalog) = catalog();
        self.publisher.set_tombstones_max(tombstones_max);
        self.publisher.set_synced();
        let there = self.truth.resources.iter().rev().map(|((kind, name), content)| change(*kind, name, content));
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
            session: Session::new(self.sessions, Scope::NodeProxy),
            requests,
            responses: VecDeque::new(),
        });
    }

    fn server_reads(&mut self, n: usize) {
        let Some(stream) = &mut self.proxies[n].stream else { return };
        if let Some(request) = stream.requests.pop_front() {
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
            Ok(outgoing) => stream.responses.extend(outgoing.into_iter().map(|outgoing| outgoing.response)),
            Err(_) => self.proxies[n].stream = None,
        }
    }

    fn client_reads(&mut self, n: usize) {
        let Proxy { client, applied, stream: Some(stream), .. } = &mut self.proxies[n] else { return };
        let Some(response) = stream.responses.pop_front() else { return };
        let received = client.receive(response).expect("only what was asked for comes");
        assert_eq!(received.refused, [], "what the server writes the client takes");
        applied.apply(received.changes, &self.truth);
        stream.requests.push_back(received.reply);
        if client.synced() {
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
        assert_eq!(proxy.applied.resources, world.truth.resources, "client {n}");
        for kind in Kind::NODE_PROXY.iter().copied() {
            assert_eq!(proxy.client.count(kind), world.catalog.contents().count(kind));
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
