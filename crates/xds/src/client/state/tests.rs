//! What a client answers to what.

use super::*;
use crate::{codec, wire};
use mesh::{Policy, Service, Workload};
use prost::Message;
use std::sync::Arc;

fn client() -> Client {
    Client::new(Node::ztunnel(None, "ztunnel-1", "istio-system", "n1").with("MESH_ID", "m"), Kind::NODE_PROXY)
}

#[test]
fn a_waypoint_names_itself_and_asks_for_its_rules() {
    let ip = Some("10.0.0.9".parse().expect("an address"));
    let node = Node::waypoint(ip, "wp-1", "shop", "wp", "example.org");
    assert_eq!(node.id, "waypoint~10.0.0.9~wp-1.shop~shop.svc.example.org");
    assert_eq!((node.proxy_type(), node.namespace(), node.service_account()), ("waypoint", Some("shop"), Some("wp")));
    let asked: Vec<String> =
        Client::new(node, Kind::WAYPOINT).open().into_iter().map(|request| request.type_url).collect();
    assert_eq!(asked, [Kind::Address, Kind::ServiceRules, Kind::GatewayRules].map(Kind::type_url));
}

/// The first requests of a stream of a node proxy.
fn opened(client: &mut Client) -> [Request; 2] {
    client.open().try_into().expect("a node proxy asks for two kinds")
}

fn workload(uid: &str) -> bytes::Bytes {
    codec::encode(&Change::Workload(Arc::new(Workload::named(uid)))).expect("it has content").bytes
}

fn version(bytes: &bytes::Bytes) -> String {
    wire::Resource::decode(bytes.clone()).expect("it is a resource").version
}

fn broken(name: &str) -> bytes::Bytes {
    let any = wire::Any { type_url: Kind::Address.type_url().into(), value: vec![0x0a, 0x7f].into() };
    wire::Resource { name: name.into(), resource: Some(any), ..Default::default() }.encode_to_vec().into()
}

fn response(kind: Kind, nonce: &str, resources: &[bytes::Bytes], removed: &[&str]) -> Response {
    Response {
        type_url: kind.type_url().into(),
        nonce: nonce.into(),
        resources: resources.to_vec(),
        removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
        ..Response::default()
    }
}

fn names(changes: &[Change]) -> Vec<String> {
    let name = |change: &Change| match change {
        Change::RemoveAddress(name) | Change::RemovePolicy(name) => format!("-{name}"),
        other => format!("+{}", crate::resource::of_change(other).1),
    };
    changes.iter().map(name).collect()
}

#[test]
fn a_stream_begins_with_one_wildcard_request_a_kind_and_both_carry_the_node() {
    let [addresses, policies] = opened(&mut client());
    assert_eq!(addresses.type_url, "type.googleapis.com/istio.workload.Address");
    assert_eq!(policies.type_url, "type.googleapis.com/istio.security.Authorization");
    for request in [addresses, policies] {
        let node = Node::of_wire(request.node.expect("it carries the node"));
        assert_eq!(node.id, "ztunnel~1.1.1.1~ztunnel-1.istio-system~istio-system.svc.cluster.local");
        assert_eq!((node.namespace(), node.node_name()), (Some("istio-system"), Some("n1")));
        assert_eq!(node.metadata.get("MESH_ID").map(String::as_str), Some("m"));
        assert!(request.resource_names_subscribe.is_empty() && request.resource_names_unsubscribe.is_empty());
        assert!(request.initial_resource_versions.is_empty() && request.response_nonce.is_empty());
    }
}

#[test]
fn an_ack_is_kind_and_nonce_and_nothing_else() {
    let mut client = client();
    let received = client.receive(response(Kind::Address, "n1", &[workload("a")], &[])).expect("it was asked for");
    assert_eq!(names(&received.changes), ["+a"]);
    let expected =
        Request { type_url: Kind::Address.type_url().into(), response_nonce: "n1".into(), ..Request::default() };
    assert_eq!(received.reply, expected);
}

#[test]
fn a_bad_resource_is_refused_alone_and_named_with_its_reason() {
    let mut client = client();
    let resources = [broken("x"), workload("a"), broken("y"), bytes::Bytes::from_static(&[0xff])];
    let received = client.receive(response(Kind::Address, "n1", &resources, &[])).expect("it was asked for");
    assert_eq!(names(&received.changes), ["+a"], "the good one is in force");
    let detail = received.reply.error_detail.expect("it is a NACK");
    assert_eq!((detail.code, &*received.reply.response_nonce), (0, "n1"));
    assert!(detail.message.starts_with("x: cannot be parsed: ") && detail.message.contains("; y: "), "{detail:?}");
    assert_eq!(received.refused.len(), 3);
    let [again, _] = opened(&mut client);
    assert_eq!(again.initial_resource_versions.into_keys().collect::<Vec<_>>(), ["a"], "only what was taken");
}

#[test]
fn when_an_update_is_refused_what_was_known_stays_known() {
    let mut client = client();
    let good = workload("a");
    client.receive(response(Kind::Address, "n1", std::slice::from_ref(&good), &[])).expect("asked for");
    let received = client.receive(response(Kind::Address, "n2", &[broken("a")], &[])).expect("asked for");
    assert!(received.changes.is_empty() && received.reply.error_detail.is_some());
    let [again, _] = opened(&mut client);
    assert_eq!(again.initial_resource_versions.get("a"), Some(&version(&good)), "so the server sends it again");
}

#[test]
fn updates_come_before_removals() {
    let mut client = client();
    let both = response(Kind::Address, "n1", &[workload("a"), workload("b")], &["a", "c"]);
    let received = client.receive(both).expect("asked for");
    assert_eq!(names(&received.changes), ["+a", "+b", "-a", "-c"]);
    assert_eq!(client.count(Kind::Address), 1);
}

#[test]
fn the_client_is_synced_when_one_stream_answered_every_kind() {
    let mut client = client();
    client.open();
    client.receive(response(Kind::Address, "n1", &[], &[])).expect("asked for");
    assert!(!client.synced());
    client.open();
    client.receive(response(Kind::Authorization, "n1", &[], &[])).expect("asked for");
    assert!(!client.synced(), "the other answer was of another stream");
    client.receive(response(Kind::Address, "n2", &[], &[])).expect("asked for");
    assert!(client.synced() && client.current());
    client.open();
    assert!(client.synced() && !client.current());
}

#[test]
fn after_a_lost_stream_the_client_says_what_it_has() {
    let mut client = client();
    let service = codec::encode(&Change::Service(Arc::new(Service::named("shop", "web.shop")))).expect("content").bytes;
    let all = [workload("a"), workload("b"), service.clone()];
    client.receive(response(Kind::Address, "n1", &all, &[])).expect("asked for");
    client.receive(response(Kind::Address, "n2", &[], &["b"])).expect("asked for");
    let policy = Policy {
        name: "p".into(),
        namespace: "shop".into(),
        scope: mesh::policy::PolicyScope::Global,
        action: mesh::policy::Action::Deny,
        rules: vec![],
        dry_run: false,
    };
    let policy = codec::encode(&Change::Policy(Arc::new(policy))).expect("content").bytes;
    client.receive(response(Kind::Authorization, "n3", &[policy], &[])).expect("asked for");
    let [addresses, policies] = opened(&mut client);
    let expected = [("a".to_owned(), version(&all[0])), ("shop/web.shop".to_owned(), version(&service))];
    assert_eq!(addresses.initial_resource_versions, expected.into());
    assert_eq!(policies.initial_resource_versions, [("shop/p".to_owned(), String::new())].into());
}

#[test]
fn what_was_not_asked_for_is_not_answered() {
    let response =
        Response { type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".into(), ..Response::default() };
    assert!(client().receive(response).is_err());
}

#[test]
fn the_reasons_of_a_hundred_thousand_refusals_fit_into_a_request() {
    let resources: Vec<_> = (0..100_000).map(|n| broken(&format!("resource-{n}"))).collect();
    let received = client().receive(response(Kind::Address, "n1", &resources, &[])).expect("asked for");
    let message = received.reply.error_detail.expect("it is a NACK").message;
    assert!(message.len() < 2 * limits::NACK_BYTES_MAX, "{} bytes", message.len());
    assert!(message.ends_with(" more"), "{message}");
}

fn knowing(mut response: Response) -> Response {
    response.control_plane = Some(wire::ControlPlane { identifier: "istiod-lite digests-1".into() });
    response
}

/// A client that has `a` and `b`, of a server that knows digests or does not, on a new stream; with what it says first.
fn back(server_knows: bool) -> (Client, Request) {
    let mut client = client();
    client.set_digests_from(2);
    client.open();
    let first = response(Kind::Address, "n1", &[workload("a"), workload("b")], &[]);
    client.receive(if server_knows { knowing(first) } else { first }).expect("asked for");
    let [addresses, _] = opened(&mut client);
    (client, addresses)
}

#[test]
fn what_it_has_is_said_in_short_to_who_knows_how() {
    let said = |knows| back(knows).1.initial_resource_versions.into_keys().collect::<Vec<_>>();
    assert_eq!(said(false), ["a", "b"]);
    assert_eq!(said(true), [digests::CLAIM]);
    let (mut client, _) = back(true);
    client.set_digests_from(3);
    let [again, _] = opened(&mut client);
    assert_eq!(again.initial_resource_versions.len(), 2, "it is not worth it for so few");
}

#[test]
fn what_is_missing_in_a_bucket_that_was_sent_whole_is_gone() {
    let bucket = |name| digests::resent(digests::bucket(name));
    assert_ne!(bucket("a"), bucket("b"));
    let (mut client, _) = back(true);
    let received = client.receive(knowing(response(Kind::Address, "n2", &[], &[]))).expect("asked for");
    assert_eq!(names(&received.changes), [""; 0], "nothing differs");

    let (mut client, _) = back(true);
    let answer = knowing(response(Kind::Address, "n2", &[workload("c")], &[&bucket("a"), &bucket("c")]));
    let received = client.receive(answer).expect("asked for");
    assert_eq!(names(&received.changes), ["+c", "-a"]);
    assert_eq!(client.count(Kind::Address), 2);
    let later = response(Kind::Address, "n3", &[workload("d")], &[&bucket("b"), "c"]);
    let received = client.receive(later).expect("asked for");
    assert!(names(&received.changes).ends_with(&["-c".into()]) && client.count(Kind::Address) == 2, "only at first");
}

#[test]
fn a_resource_that_was_sent_and_refused_is_not_gone() {
    for (bad, want) in [(broken("a"), &["-b"][..]), (bytes::Bytes::from_static(&[0xff]), &[])] {
        let (mut client, _) = back(true);
        let resent = ["a", "b"].map(|name| digests::resent(digests::bucket(name)));
        let answer = knowing(response(Kind::Address, "n2", &[bad], &resent.each_ref().map(|name| &**name)));
        let received = client.receive(answer).expect("asked for");
        assert_eq!(
            (names(&received.changes), received.refused.len()),
            (want.iter().map(|it| (*it).into()).collect(), 1)
        );
    }
}

#[test]
fn who_does_not_understand_it_has_sent_everything() {
    let mut answers = vec![response(Kind::Address, "n2", &[workload("b")], &[digests::CLAIM])];
    answers.push(response(Kind::Address, "n2", &[workload("b")], &[]));
    answers.push(knowing(answers[0].clone()));
    for answer in answers {
        let (mut client, _) = back(true);
        assert_eq!(names(&client.receive(answer).expect("asked for").changes), ["+b", "-a"]);
        assert_eq!(client.count(Kind::Address), 1);
    }
}
