//! xDS: what a control plane sends to a proxy, and what a proxy sends to a control plane.

use bytes::Bytes;
use mesh::{
    Change, View, fixture,
    policy::{Clause, Match, RequestMatch, Rule, StringMatch},
    route::{
        Backend, Compiled, CompiledGateway, Destination, GatewayRules, HttpRoute, HttpRule, ServiceRules,
        guard::{GuardAction, GuardPolicy},
        http::{Action, HttpMatch, Precedence},
        text::PathMatch,
    },
};
use prost::Message;
use std::sync::Arc;
use xds::{
    Kind, Node,
    client::state::Client,
    codec,
    server::{Scope, state::Session},
    wire::{Request, Response},
};

/// A mesh that has something of everything.
const SHOP: &str = "
pod client ns=shop sa=client ip=10.0.0.1 node=n1
pod server-1 ns=shop sa=server ip=10.0.0.2,fd00::2 node=n2 region=eu zone=a waypoint=shop/wp policies=shop/only
pod wp ns=shop sa=wp ip=10.0.0.9 node=n1 plain
service web ns=shop vip=10.1.0.1 80->8080 pods=server-1 waypoint=shop/wp lb=failover:network,region
service wp ns=shop vip=10.1.0.9 15008->15008 pods=wp
allow only ns=shop for=server-1 principal=cluster.local/ns/shop/sa/client port=8080
deny nobody ns=shop source-ip=10.9.0.0/16 not-namespace=bank
";

/// What is taken of a response makes a view, and is written as it was read.
pub(crate) fn response(input: &[u8]) {
    let Ok(response) = Response::decode(input) else { return };
    let mut client = Client::new(Node::default(), &Kind::ALL);
    client.open();
    let Ok(received) = client.receive(response) else { return };
    for change in &received.changes {
        let Some(encoded) = codec::encode(change) else { continue };
        let again =
            codec::decode(received.kind, &encoded.bytes, &mut codec::Names::new()).expect("what we write we can read");
        let twice = codec::encode(&again.change).expect("it added something before");
        assert_eq!(encoded.bytes, twice.bytes, "writing is not stable");
    }
    let view = View::default().apply(received.changes);
    let _ = (view.workloads().count(), view.services().count(), view.policies().count());
}

/// Rules of a service and of a waypoint that have a route and a guard.
fn rules() -> [Change; 2] {
    let service: mesh::ServiceKey = "shop/web".parse().expect("a key");
    let destination = Destination::Service { service: service.clone(), port: 80, subset: None };
    let backend =
        Backend { destination, weight: 1, request_headers: Default::default(), response_headers: Default::default() };
    let matched = HttpMatch { path: Some(PathMatch::PathPrefix("/a".into())), ..HttpMatch::default() };
    let rule = HttpRule { matches: vec![matched], action: Action::Forward(vec![backend]), ..HttpRule::default() };
    let route = HttpRoute {
        name: "HTTPRoute/shop/web".into(),
        created: None,
        ports: vec![80],
        callers: None,
        precedence: Precedence::Specific,
        rules: vec![rule],
    };
    let mut asked = RequestMatch::default();
    asked.methods.any_of.push(StringMatch::Exact("POST".into()));
    let matches = vec![Match { request: Some(asked.into()), ..Match::default() }];
    let guard = GuardPolicy {
        namespace: "shop".into(),
        name: "no-posts".into(),
        action: GuardAction::Deny,
        dry_run: false,
        rules: vec![Rule { clauses: vec![Clause { matches }] }],
    };
    let (mut of_service, mut of_gateway) = (ServiceRules::of(service), GatewayRules::of("shop".into(), "wp".into()));
    of_service.http.push(route);
    of_service.guards.policies.push(guard.clone());
    of_gateway.guards.policies.push(guard);
    [
        Change::ServiceRules(Arc::new(Compiled::new(of_service).expect("good rules"))),
        Change::GatewayRules(Arc::new(CompiledGateway::new(of_gateway).expect("good rules"))),
    ]
}

pub(crate) fn response_seeds() -> Vec<Vec<u8>> {
    let mut changes = fixture::changes(SHOP);
    changes.extend(rules());
    let encoded: Vec<_> = changes
        .iter()
        .filter_map(|change| Some((xds::resource::of_change(change).0, codec::encode(change)?.bytes)))
        .collect();
    let of = |kind: Kind, resources: Vec<Bytes>, removed: &[&str]| {
        let response = Response {
            resources,
            type_url: kind.type_url().into(),
            nonce: "1".into(),
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            ..Response::default()
        };
        response.encode_to_vec()
    };
    let all = |kind| encoded.iter().filter(|(of, _)| *of == kind).map(|(_, bytes)| bytes.clone()).collect();
    let mut seeds = vec![
        of(Kind::Address, all(Kind::Address), &["shop/gone"]),
        of(Kind::Authorization, all(Kind::Authorization), &[]),
        of(Kind::Address, vec![], &[]),
    ];
    seeds.extend(encoded.iter().map(|(kind, bytes)| of(*kind, vec![bytes.clone()], &[])));
    seeds
}

/// A session takes any request, and a second one after it.
pub(crate) fn request(input: &[u8]) {
    let (first, second) = input.split_at(input.len() / 2);
    for scope in [Scope::NodeProxy, Scope::Waypoint("shop/wp".into())] {
        let mut session = Session::new(1, scope);
        for part in [input, first, second] {
            if let Ok(request) = Request::decode(part) {
                let _ = session.request(request);
                let _ = session.asked_half();
            }
        }
    }
}

pub(crate) fn request_seeds() -> Vec<Vec<u8>> {
    let id = "ztunnel~10.0.0.1~ztunnel.istio-system~istio-system.svc".into();
    let mut client = Client::new(Node { id, ..Node::default() }, &Kind::ALL);
    let mut seeds: Vec<_> = client.open().iter().map(Message::encode_to_vec).collect();
    for response in response_seeds() {
        let Ok(response) = Response::decode(&response[..]) else { continue };
        if let Ok(received) = client.receive(response) {
            seeds.push(received.reply.encode_to_vec());
        }
    }
    seeds.extend(client.open().iter().map(Message::encode_to_vec));
    seeds
}
