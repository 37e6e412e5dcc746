//! Watching, against a server that plays an API server and its troubles.

use chassis::objects::ObjectEvent;
use cluster::{
    Client, limits, resource,
    watch::{Kind, Watches},
};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::api_server::{ApiServer, Trouble, until};
use tokio::time::timeout;

const PODS: &str = "/api/v1/pods";
const ROUTES: &str = "/apis/gateway.networking.k8s.io/v1/httproutes";
const ROUTES_BETA: &str = "/apis/gateway.networking.k8s.io/v1beta1/httproutes";

fn object(name: &str, spec: u64) -> Value {
    json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

fn open(server: &ApiServer, kinds: Vec<Kind>) -> Watches {
    Watches::open(&Client::at(&server.url()).expect("a good address"), kinds)
}

fn pods() -> Kind {
    Kind::of(resource::POD)
}

fn routes() -> Kind {
    Kind::of(resource::HTTP_ROUTE).or_versions(&["v1beta1"]).may_be_absent()
}

async fn next(watches: &mut Watches) -> Vec<String> {
    let events = timeout(Duration::from_secs(30), watches.next()).await.expect("something happened");
    let mut shown: Vec<_> = events.into_iter().map(show).collect();
    shown.sort();
    shown
}

/// What happens until so many events came.
async fn gather(watches: &mut Watches, count: usize) -> Vec<String> {
    let mut shown = Vec::new();
    while shown.len() < count {
        shown.extend(next(watches).await);
    }
    shown.sort();
    shown
}

fn show(event: ObjectEvent) -> String {
    match event {
        ObjectEvent::Applied(object) => format!("+{} {} {}", object.kind, object.name, object.value["spec"]),
        ObjectEvent::Removed(key) => format!("-{} {}", key.kind, key.name),
        ObjectEvent::Problem(problem) => panic!("{problem}"),
    }
}

#[tokio::test]
async fn everything_is_told_first_and_then_what_changes() {
    let server = ApiServer::start().await;
    let many = limits::PAGE_OBJECTS as usize * 2 + 7;
    for n in 0..many {
        server.put(PODS, object(&format!("p{n}"), 1));
    }
    server.put("/api/v1/services", object("web", 1));
    let mut watches = open(&server, vec![pods(), Kind::of(resource::SERVICE)]);
    let first = next(&mut watches).await;
    assert_eq!(first.len(), many + 1);
    assert!(first.contains(&"+Service web 1".to_owned()));
    assert_eq!(server.requests("GET /api/v1/pods?fieldSelector=&labelSelector=&limit"), 3, "three pages");

    server.put(PODS, object("p1", 2));
    assert_eq!(next(&mut watches).await, ["+Pod p1 2"]);
    server.remove(PODS, "shop", "p1");
    assert_eq!(next(&mut watches).await, ["-Pod p1"]);
    // Nothing but its version is different.
    server.put(PODS, object("p2", 1));
    server.put(PODS, object("p3", 2));
    assert_eq!(next(&mut watches).await, ["+Pod p3 2"]);
}

#[tokio::test]
async fn an_empty_cluster_is_an_answer_too() {
    let server = ApiServer::start().await;
    let mut watches = open(&server, vec![pods(), routes()]);
    assert_eq!(next(&mut watches).await, [""; 0]);
}

#[tokio::test]
async fn what_happens_while_nobody_asks_is_merged() {
    let server = ApiServer::start().await;
    let mut watches = open(&server, vec![pods()]);
    assert_eq!(next(&mut watches).await, [""; 0]);
    for n in 0..100 {
        server.put(PODS, object("a", n));
    }
    server.put(PODS, object("b", 1));
    server.remove(PODS, "shop", "b");
    server.put(PODS, object("last", 1));
    // The stream is in order, so that the rest has come when the last has.
    let mut all = Vec::new();
    while !all.contains(&"+Pod last 1".to_owned()) {
        all.extend(next(&mut watches).await);
    }
    assert!(all.contains(&"+Pod a 99".to_owned()) && all.contains(&"-Pod b".to_owned()), "{all:?}");
    // An answer that was given up loses nothing.
    let given_up = timeout(Duration::from_millis(1), watches.next()).await;
    assert!(given_up.is_err());
    server.put(PODS, object("a", 1000));
    assert_eq!(next(&mut watches).await, ["+Pod a 1000"]);
}

#[tokio::test]
async fn a_broken_watch_goes_on_where_it_was() {
    let server = ApiServer::start().await;
    server.put(PODS, object("a", 1));
    let mut watches = open(&server, vec![pods()]);
    assert_eq!(next(&mut watches).await, ["+Pod a 1"]);
    until("the watch", || server.requests("watch=true") == 1).await;
    server.cut();
    server.put(PODS, object("b", 1));
    assert_eq!(next(&mut watches).await, ["+Pod b 1"]);
    assert_eq!(server.requests("limit="), 1, "there was no need to list again");
}

#[tokio::test]
async fn a_watch_that_is_too_old_lists_again_and_loses_no_deletion() {
    let server = ApiServer::start().await;
    for name in ["a", "b", "c"] {
        server.put(PODS, object(name, 1));
    }
    let mut watches = open(&server, vec![pods()]);
    assert_eq!(next(&mut watches).await.len(), 3);
    until("the watch", || server.requests("watch=true") == 1).await;
    // While we cannot watch, one goes, one changes, one comes, and the server forgets about all that.
    server.trouble("watch=true", Trouble::Status(503));
    server.cut();
    server.remove(PODS, "shop", "a");
    server.put(PODS, object("b", 2));
    server.put(PODS, object("d", 1));
    server.compact();
    assert_eq!(gather(&mut watches, 3).await, ["+Pod b 2", "+Pod d 1", "-Pod a"]);
    server.put(PODS, object("c", 2));
    assert_eq!(next(&mut watches).await, ["+Pod c 2"]);
}

/// A pod that is told once, though lists and watches first meet these troubles, and one that comes later.
async fn survives(in_lists: &[Trouble], in_watches: &[Trouble]) {
    let server = ApiServer::start().await;
    server.put(PODS, object("a", 1));
    for trouble in in_lists {
        server.trouble("limit=", trouble.clone());
    }
    for trouble in in_watches {
        server.trouble("watch=true", trouble.clone());
    }
    let mut watches = open(&server, vec![pods()]);
    assert_eq!(next(&mut watches).await, ["+Pod a 1"]);
    until("the last watch", || server.requests("watch=true") > in_watches.len()).await;
    server.put(PODS, object("b", 1));
    assert_eq!(next(&mut watches).await, ["+Pod b 1"]);
}

#[tokio::test]
async fn trouble_while_listing_is_survived() {
    let refused = [429, 500, 410, 401].map(Trouble::Status);
    survives(&refused, &[]).await;
    survives(&[Trouble::Break, Trouble::Break], &[]).await;
}

#[tokio::test]
async fn trouble_while_watching_is_survived() {
    survives(&[], &[504, 503, 429, 500].map(Trouble::Status)).await;
    survives(&[], &[Trouble::Break, Trouble::InStream(410), Trouble::InStream(500)]).await;
}

#[tokio::test]
async fn a_watch_that_is_refused_is_not_the_end() {
    survives(&[], &[410, 403, 404].map(Trouble::Status)).await;
}

#[tokio::test]
async fn a_server_that_restarts_changes_nothing_but_what_changed() {
    let mut server = ApiServer::start().await;
    server.put(PODS, object("a", 1));
    server.put(PODS, object("b", 1));
    let mut watches = open(&server, vec![pods()]);
    assert_eq!(next(&mut watches).await.len(), 2);
    until("the watch", || server.requests("watch=true") == 1).await;
    server.stop().await;
    server.remove(PODS, "shop", "a");
    server.put(PODS, object("c", 1));
    let silent = timeout(Duration::from_secs(1), watches.next()).await;
    assert!(silent.is_err(), "nothing is known to have changed");
    server.start_again().await;
    assert_eq!(gather(&mut watches, 2).await, ["+Pod c 1", "-Pod a"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() {
    let mut server = ApiServer::start().await;
    server.stop().await;
    let mut watches = open(&server, vec![pods()]);
    server.put(PODS, object("a", 1));
    let early = timeout(Duration::from_millis(300), watches.next()).await;
    assert!(early.is_err());
    server.start_again().await;
    assert_eq!(next(&mut watches).await, ["+Pod a 1"]);
}

#[tokio::test]
async fn a_definition_that_comes_later_is_picked_up_and_one_that_goes_takes_its_objects() {
    let server = ApiServer::start().await;
    let mut watches = open(&server, vec![pods(), routes()]);
    assert_eq!(next(&mut watches).await, [""; 0]);
    until("the watch of definitions", || {
        server.requests("customresourcedefinitions?fieldSelector=&labelSelector=&watch") > 0
    })
    .await;
    server.put(ROUTES, object("r", 1));
    server.define("gateway.networking.k8s.io", &["v1", "v1beta1"], "httproutes");
    assert_eq!(next(&mut watches).await, ["+HTTPRoute r 1"]);
    server.put(ROUTES, object("r", 2));
    assert_eq!(next(&mut watches).await, ["+HTTPRoute r 2"]);
    server.undefine("gateway.networking.k8s.io", "httproutes");
    assert_eq!(next(&mut watches).await, ["-HTTPRoute r"]);
    server.put(ROUTES, object("s", 1));
    server.define("gateway.networking.k8s.io", &["v1"], "httproutes");
    assert_eq!(next(&mut watches).await, ["+HTTPRoute s 1"]);
}

#[tokio::test]
async fn a_server_that_does_not_serve_a_kind_yet_takes_nothing_away() {
    let server = ApiServer::start().await;
    server.define("gateway.networking.k8s.io", &["v1"], "httproutes");
    server.put(ROUTES, object("r", 1));
    let mut watches = open(&server, vec![routes()]);
    assert_eq!(next(&mut watches).await, ["+HTTPRoute r 1"]);
    let looks = || server.requests("customresourcedefinitions/httproutes");
    server.hide("gateway.networking.k8s.io", "httproutes");
    until("a look at the definition", || looks() > 1).await;
    server.define("gateway.networking.k8s.io", &["v1"], "httproutes");
    server.put(ROUTES, object("s", 1));
    assert_eq!(next(&mut watches).await, ["+HTTPRoute s 1"], "and no removal");
}

#[tokio::test]
async fn the_best_version_that_is_served_is_read() {
    let server = ApiServer::start().await;
    server.define("gateway.networking.k8s.io", &["v1alpha2", "v1beta1"], "httproutes");
    server.put(ROUTES_BETA, object("r", 1));
    let mut watches = open(&server, vec![routes()]);
    let events = watches.next().await;
    let [ObjectEvent::Applied(object)] = &events[..] else { panic!("{events:?}") };
    assert_eq!(object.api_version, "gateway.networking.k8s.io/v1beta1");
    assert_eq!(object.key().group, "gateway.networking.k8s.io");
}

#[tokio::test]
async fn selectors_choose_at_the_server() {
    let server = ApiServer::start().await;
    for (name, node) in [("a", "n1"), ("b", "n2")] {
        server.put(PODS, json!({"metadata": {"namespace": "shop", "name": name, "labels": {"app": name}}, "spec": {"nodeName": node}}));
    }
    let mut by_node = open(&server, vec![pods().fields("spec.nodeName=n1")]);
    assert_eq!(next(&mut by_node).await, ["+Pod a {\"nodeName\":\"n1\"}"]);
    let mut by_label = open(&server, vec![pods().labels("app=b").in_namespace("shop").metadata_only()]);
    assert_eq!(next(&mut by_label).await, ["+Pod b {\"nodeName\":\"n2\"}"]);
    let mut elsewhere = open(&server, vec![pods().in_namespace("other")]);
    assert_eq!(next(&mut elsewhere).await, [""; 0]);
}
