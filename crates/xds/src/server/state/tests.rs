//! What a session answers to what.

use super::super::{Catalog, Publisher, catalog};
use super::*;
use crate::wire::{self, Status};
use mesh::{Change, Policy, Service, Workload, policy::PolicyScope};
use prost::Message;
use std::sync::Arc;

struct World {
    publisher: Publisher,
    catalog: Catalog,
    session: Session,
}

fn workload(uid: &str, node: &str) -> Change {
    Change::Workload(Arc::new(Workload { node: node.into(), ..Workload::named(uid) }))
}

fn policy(name: &str) -> Change {
    Change::Policy(Arc::new(Policy {
        name: name.into(),
        namespace: "ns".into(),
        scope: PolicyScope::Global,
        action: mesh::policy::Action::Allow,
        rules: vec![],
        dry_run: false,
    }))
}

impl World {
    fn new(changes: impl IntoIterator<Item = Change>) -> Self {
        let (publisher, catalog) = catalog();
        let mut world = Self { publisher, catalog, session: Session::new(7, Scope::NodeProxy) };
        world.apply(changes);
        world
    }

    fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.publisher.apply(changes, Instant::now());
    }

    fn ask(&mut self, kind: Kind) -> Event {
        self.request(Request { type_url: kind.type_url().into(), ..Request::default() })
    }

    fn request(&mut self, request: Request) -> Event {
        self.session.request(request)
    }

    fn responses(&mut self) -> Vec<Response> {
        let outgoing = self.session.round(&self.catalog.contents()).expect("it is not behind");
        outgoing.into_iter().map(|outgoing| outgoing.response).collect()
    }

    /// `wds +a +b -c` a response.
    fn round(&mut self) -> Vec<String> {
        self.responses().iter().map(show).collect()
    }

    fn pending(&self) -> Pending {
        self.session.pending(*self.catalog.head().borrow())
    }
}

fn show(response: &Response) -> String {
    let kind = Kind::of_type_url(&response.type_url).expect("a kind of ours");
    let name = |bytes: &Bytes| wire::Resource::decode(bytes.clone()).expect("a resource").name;
    let added = response.resources.iter().map(|bytes| format!(" +{}", name(bytes)));
    let removed = response.removed_resources.iter().map(|name| format!(" -{name}"));
    format!("{}{}", kind.short(), added.chain(removed).collect::<String>())
}

const NOTHING: [&str; 0] = [];

#[test]
fn the_first_answer_is_everything_workloads_before_services() {
    let service = Change::Service(Arc::new(Service::named("shop", "web")));
    let mut world = World::new([service, workload("a", "1"), workload("b", "1")]);
    assert_eq!(world.ask(Kind::Address), Event::Asked(Kind::Address));
    assert_eq!(world.pending(), Pending::Urgent);
    assert_eq!(world.round(), ["wds +a +b +shop/web"]);
    assert_eq!(world.pending(), Pending::Nothing);
    assert_eq!(world.round(), NOTHING, "and nothing twice");
}

#[test]
fn a_first_request_is_answered_even_when_there_is_nothing() {
    let mut world = World::new([]);
    world.ask(Kind::Address);
    world.ask(Kind::Authorization);
    assert_eq!(world.round(), ["wads", "wds"]);
}

#[test]
fn a_client_that_resumes_is_sent_what_changed() {
    let mut world = World::new([workload("same", "1"), workload("different", "2"), workload("new", "1"), policy("p")]);
    let version = |change: &Change| codec::version(codec::encode(change).expect("content").hash);
    let claims = [
        ("same".to_owned(), version(&workload("same", "1"))),
        ("different".to_owned(), version(&workload("different", "1"))),
        ("gone".to_owned(), "1".to_owned()),
    ];
    world.request(Request {
        type_url: Kind::Address.type_url().into(),
        initial_resource_versions: claims.into(),
        ..Request::default()
    });
    assert!(world.session.asked_half(), "its second request is on the way");
    world.request(Request {
        type_url: Kind::Authorization.type_url().into(),
        initial_resource_versions: [("ns/p".to_owned(), String::new()), ("ns/q".to_owned(), String::new())].into(),
        ..Request::default()
    });
    assert!(!world.session.asked_half());
    assert_eq!(world.round(), ["wads +ns/p", "wds +different +new -gone", "wads -ns/q"]);
}

#[test]
fn policies_come_before_who_names_them_and_go_after() {
    let mut world = World::new([policy("old"), workload("a", "1")]);
    world.ask(Kind::Address);
    world.ask(Kind::Authorization);
    world.round();
    world.apply([Change::RemovePolicy("ns/old".into()), policy("new"), workload("a", "2")]);
    assert_eq!(world.round(), ["wads +ns/new", "wds +a", "wads -ns/old"]);
    world.apply([Change::RemovePolicy("ns/new".into())]);
    assert_eq!(world.round(), ["wads -ns/new"]);
}

#[test]
fn nonces_are_unique_and_answers_are_told_apart() {
    let mut world = World::new([]);
    world.ask(Kind::Address);
    let first = world.responses().remove(0).nonce;
    world.apply([workload("a", "1")]);
    let second = world.responses().remove(0).nonce;
    assert_ne!(first, second);
    let answer = |nonce: &str, refusal: Option<&str>| Request {
        type_url: Kind::Address.type_url().into(),
        response_nonce: nonce.into(),
        error_detail: refusal.map(|message| Status { code: 0, message: message.into() }),
        ..Request::default()
    };
    assert_eq!(world.request(answer("of another stream", None)), Event::Stale(Kind::Address));
    let nacked = world.request(answer(&second, Some("a: is bad")));
    assert_eq!(nacked, Event::Nacked(Kind::Address, "a: is bad".into()));
    assert_eq!(world.request(answer(&first, None)), Event::Stale(Kind::Address), "the later answer included it");
    assert_eq!(world.round(), NOTHING, "a NACK is not answered");
    assert_eq!(world.pending(), Pending::Nothing);
}

#[test]
fn a_session_that_nobody_answers_remembers_few_nonces() {
    let mut world = World::new([]);
    world.ask(Kind::Address);
    for n in 0..1000 {
        world.apply([workload("a", &n.to_string())]);
        assert_eq!(world.round().len(), 1);
    }
    assert_eq!(world.session.kinds[0].nonces.len(), limits::NONCES_MAX);
}

#[test]
fn kinds_that_are_not_served_are_left_alone() {
    let mut world = World::new([workload("a", "1")]);
    let cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    let event = world.request(Request { type_url: cluster.into(), ..Request::default() });
    assert_eq!(event, Event::Unserved(cluster.into()));
    assert_eq!(world.round(), NOTHING);
}

#[test]
fn who_asks_for_names_gets_these_and_what_becomes_of_them() {
    let mut world = World::new([workload("a", "1"), workload("b", "1")]);
    let names = |subscribe: &[&str], unsubscribe: &[&str]| Request {
        type_url: Kind::Address.type_url().into(),
        resource_names_subscribe: subscribe.iter().map(|name| (*name).to_owned()).collect(),
        resource_names_unsubscribe: unsubscribe.iter().map(|name| (*name).to_owned()).collect(),
        ..Request::default()
    };
    world.request(names(&["*"], &["*"]));
    assert_eq!(world.round(), ["wds"], "explicit mode, and nothing asked for yet");
    world.request(names(&["a", "unknown"], &[]));
    assert_eq!(world.round(), ["wds +a -unknown"]);
    world.apply([workload("b", "2")]);
    assert_eq!(world.round(), NOTHING);
    world.apply([workload("a", "2"), workload("unknown", "1")]);
    assert_eq!(world.round(), ["wds +a +unknown"]);
    world.request(names(&[], &["a"]));
    world.apply([workload("a", "3")]);
    assert_eq!(world.round(), NOTHING);
}

#[test]
fn a_session_too_far_behind_is_told_to_begin_anew() {
    let mut world = World::new([]);
    world.publisher.set_tombstones_max(4);
    world.ask(Kind::Address);
    world.round();
    for n in 0..20 {
        world.apply([workload(&format!("w{n}"), "1")]);
        world.apply([Change::RemoveAddress(format!("w{n}").into())]);
    }
    assert_eq!(world.session.round(&world.catalog.contents()).map(|_| ()), Err(Behind));
}

#[test]
fn who_says_in_short_what_it_has_is_sent_the_buckets_that_differ() {
    let version = |change: &Change| codec::version(codec::encode(change).expect("content").hash);
    let has = [("same", "1"), ("different", "1"), ("gone", "1")];
    let has = has.map(|(name, node)| (name, version(&workload(name, node))));
    let claim = |has: &[(&'static str, String)]| Request {
        type_url: Kind::Address.type_url().into(),
        initial_resource_versions: [digests::claim(has.iter().map(|(name, version)| (*name, &**version)))].into(),
        ..Request::default()
    };
    let service = Change::Service(Arc::new(Service::named("shop", "web")));
    let mut world = World::new([service, workload("same", "1"), workload("different", "2"), workload("new", "1")]);
    world.apply([workload("went", "1"), Change::RemoveAddress("went".into())]);
    world.request(claim(&has));
    let response = world.responses().remove(0);
    let mut differ: Vec<usize> = ["different", "gone", "new", "shop/web"].map(digests::bucket).into();
    differ.sort_unstable();
    let mut want = differ.iter().map(|bucket| digests::resent(*bucket)).collect::<Vec<_>>();
    assert_eq!(response.removed_resources, want);
    let mut sent = show(&Response { removed_resources: vec![], ..response.clone() });
    assert!(sent.ends_with(" +shop/web"), "services come last: {sent}");
    for name in ["wds", " +different", " +new", " +shop/web"] {
        sent = sent.replace(name, "");
    }
    assert_eq!(sent, "");
    assert!(digests::known_to(&response.control_plane.expect("it says who it is").identifier));

    let now =
        [("same", "1"), ("different", "2"), ("new", "1")].map(|(name, node)| (name, version(&workload(name, node))));
    world.session = Session::new(8, Scope::NodeProxy);
    world.request(claim(&now));
    want = vec![digests::resent(digests::bucket("shop/web"))];
    assert_eq!(world.responses()[0].removed_resources, want, "a digest follows what changes");
    world.apply([workload("same", "2")]);
    assert_eq!(world.round(), ["wds +same"], "and then it hears of what changes");
}

#[test]
fn a_claim_that_cannot_be_read_is_a_resource_that_is_not_there() {
    let mut world = World::new([workload("a", "1")]);
    world.request(Request {
        type_url: Kind::Address.type_url().into(),
        initial_resource_versions: [(digests::CLAIM.to_owned(), "x".to_owned())].into(),
        ..Request::default()
    });
    assert_eq!(world.round(), ["wds +a -~digests-1"]);
}
