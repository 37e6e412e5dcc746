//! Writing, leading and telling, against a server that plays an API server.

use chassis::run::Process;
use cluster::{
    CallError, Client,
    events::{Event, Recorder, Reference},
    lease::{self, Lease},
    resource,
    token::Review,
};
use serde_json::json;
use std::time::Duration;
use testkit::api_server::{ApiServer, Trouble, until};
use tokio::time::timeout;

const MAPS: &str = "/api/v1/configmaps";
const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";
const EVENTS: &str = "/api/v1/events";

async fn server() -> (ApiServer, Client) {
    let server = ApiServer::start().await;
    let client = Client::at(&server.url()).expect("a good address");
    (server, client)
}

#[tokio::test]
async fn an_object_is_made_read_changed_and_removed() {
    let (server, client) = server().await;
    let map = |text: &str| json!({"metadata": {"namespace": "shop", "name": "m"}, "data": {"k": text}});
    let maps = &resource::CONFIG_MAP;
    assert!(matches!(client.get(maps, "shop", "m").await, Err(CallError::NotFound(_))));
    let made = client.create(maps, &map("1")).await.expect("it is new");
    assert!(matches!(client.create(maps, &map("1")).await, Err(CallError::AlreadyExists(_))));
    client.apply(maps, &map("2"), "me", true).await.expect("it is applied");
    assert_eq!(server.requests("PATCH /api/v1/namespaces/shop/configmaps/m?fieldManager=me&force=true"), 1);
    // What was read first is not what is there now.
    assert!(matches!(client.replace(maps, &made).await, Err(CallError::Conflict(_))));
    client.merge_patch(maps, "shop", "m", "", &json!({"data": {"l": "3"}})).await.expect("it is patched");
    let now = client.get(maps, "shop", "m").await.expect("it is there");
    assert_eq!(now["data"], json!({"k": "2", "l": "3"}));
    assert_eq!(client.list(maps, Some("shop"), "").await.map(|all| all.len()), Ok(1));
    assert!(matches!(client.delete(maps, "shop", "m", Some("another")).await, Err(CallError::Conflict(_))));
    let uid = now["metadata"]["uid"].as_str();
    assert_eq!(client.delete(maps, "shop", "m", uid).await, Ok(()));
    assert_eq!(client.delete(maps, "shop", "m", uid).await, Ok(()), "gone is gone");
    assert!(server.object(MAPS, "shop", "m").is_none());
}

#[tokio::test]
async fn a_call_says_how_it_failed() {
    let (server, client) = server().await;
    for (trouble, transient) in [
        (Trouble::Status(429), true),
        (Trouble::Status(503), true),
        (Trouble::Break, true),
        (Trouble::Status(403), false),
        (Trouble::Status(422), false),
    ] {
        server.trouble("configmaps", trouble.clone());
        let error = client.get(&resource::CONFIG_MAP, "shop", "m").await.expect_err("there is trouble");
        assert_eq!(error.is_transient(), transient, "{trouble:?}: {error}");
    }
}

#[tokio::test]
async fn a_token_is_whose_the_server_says() {
    let (server, client) = server().await;
    let user = json!({"username": "system:serviceaccount:shop:web", "groups": ["system:serviceaccounts"]});
    server.token("good", json!({"authenticated": true, "audiences": ["istio-ca"], "user": user}));
    let audiences = ["istio-ca".to_owned()];
    let Ok(Review::Holds(user)) = client.review_token("good", &audiences).await else { panic!("it holds") };
    assert_eq!(user.username, "system:serviceaccount:shop:web");
    assert!(matches!(client.review_token("bad", &audiences).await, Ok(Review::Refused(_))));
}

#[tokio::test]
async fn one_leads_and_gives_back_what_it_had() {
    let (server, client) = server().await;
    let lease = |me: &str| Lease { namespace: "istio-system".into(), name: "writer".into(), me: me.into() };
    let (first, second) = (Process::detached(), Process::detached());
    let mut a = lease::campaign(&first, client.clone(), lease("a"));
    timeout(Duration::from_secs(5), a.wait_for(|leads| *leads)).await.expect("in time").expect("it leads");
    let mut b = lease::campaign(&second, client, lease("b"));
    until("a look of the other", || server.requests("GET /apis/coordination") >= 2).await;
    assert!(!*b.borrow());
    first.drain.start(Duration::from_secs(5));
    assert!(first.drain.finish().await, "it was given back in time");
    assert!(!*a.borrow());
    let held = server.object(LEASES, "istio-system", "writer").expect("it is there");
    assert_eq!(held["spec"]["holderIdentity"], "");
    // The other asks again every few seconds.
    timeout(Duration::from_secs(12), b.wait_for(|leads| *leads)).await.expect("in time").expect("it leads");
}

#[tokio::test]
async fn an_event_is_written_once() {
    let (server, client) = server().await;
    let recorder = Recorder::start(client, "istiod-lite", "istiod-0");
    let object =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": "web", "uid": "u"}});
    let event = |message: &str| Event {
        about: Reference::of(&object),
        warning: true,
        reason: "Refused".into(),
        message: message.into(),
    };
    for message in ["a", "a", "a", "b"] {
        recorder.record(event(message));
    }
    until("both events", || server.objects(EVENTS).len() == 2).await;
    assert_eq!(server.requests("POST /api/v1/namespaces/shop/events"), 2);
    let written = &server.objects(EVENTS)[0];
    assert_eq!(written["involvedObject"]["uid"], "u");
    assert_eq!(written["type"], "Warning");
}
