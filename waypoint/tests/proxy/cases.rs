//! What a waypoint does with requests and connections.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::policy::{Clause, Match, PathPattern, RequestMatch, Rule, StringMatch, Values};
use mesh::route::guard::{GuardAction, GuardPolicy};
use mesh::route::http::{Action, Backend, DirectResponse, HeaderEdit, HttpRoute, HttpRule, Precedence, Retry, RetryOn};
use mesh::route::{Destination, ServiceRules};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::endpoint;
use crate::world::{World, request};

/// `web` with one endpoint at this address.
pub(crate) fn web(ip: &str, port: u16) -> String {
    format!(
        "pod server ns=shop sa=server ip={ip} plain\nservice web ns=shop vip=10.1.0.1 80->{port} pods=server waypoint=wp\n"
    )
}

/// One rule for all requests of `web`.
fn rule(rules: &mut ServiceRules, rule: HttpRule) {
    rules.http.push(HttpRoute {
        name: "HTTPRoute/shop/web".into(),
        created: None,
        ports: Vec::new(),
        callers: None,
        precedence: Precedence::Specific,
        rules: vec![rule],
    });
}

fn to_web() -> Action {
    let destination =
        Destination::Service { service: "shop/web.shop.svc.cluster.local".parse().unwrap(), port: 80, subset: None };
    let (request_headers, response_headers) = Default::default();
    Action::Forward(vec![Backend { destination, weight: 1, request_headers, response_headers }])
}

#[tokio::test]
async fn a_request_reaches_its_endpoint_and_its_answer_the_caller() {
    let (port, _) = endpoint::echo("127.77.1.1:0").await;
    let world = World::new(&web("127.77.1.1", port)).await;
    let mut asked = request("POST", "/a/../b?c=d", "hello");
    asked.headers_mut().insert("x-forwarded-client-cert", "URI=spiffe://forged".parse().unwrap());
    asked.headers_mut().insert("connection", "x-secret".parse().unwrap());
    asked.headers_mut().insert("x-secret", "1".parse().unwrap());
    let answer = world.ask(asked).await;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    assert_eq!(answer.status(), 200, "{text}");
    for part in ["POST /b?c=d\n", "host: web\n", "x-forwarded-for: 127.0.0.1\n", "x-request-id: ", "5 bytes"] {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    for part in ["client-cert", "x-secret", "connection"] {
        assert!(!text.contains(part), "{part:?} is in {text}");
    }
    assert!(!answer.headers().contains_key("x-hop") && answer.headers().contains_key("x-envoy-upstream-service-time"));
}

#[tokio::test]
async fn requests_share_connections_to_their_endpoint() {
    let (port, hits) = endpoint::echo("127.77.1.2:0").await;
    let world = World::new(&web("127.77.1.2", port)).await;
    let mut sender = world.http1().await;
    for _ in 0..5 {
        sender.ready().await.unwrap();
        let answer = sender.send_request(request("GET", "/", "")).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap();
    }
    assert_eq!(hits.count(), 5);
    let cluster = world.waypoint.clusters.all().pop().unwrap();
    assert_eq!(cluster.breakers.connections.taken(), 1);
    assert_eq!(cluster.breakers.requests.taken(), 0);
}

#[tokio::test]
async fn http2_is_told_from_http1_by_its_first_bytes() {
    let (port, _) = endpoint::echo("127.77.1.3:0").await;
    let world = World::new(&web("127.77.1.3", port)).await;
    world.rules(|rules| {
        let pool =
            mesh::route::traffic::Pool { http: Some(mesh::route::traffic::HttpVersion::Http1), ..Default::default() };
        rules.traffic.push(mesh::route::Traffic { pool, ..Default::default() });
    });
    let tunnel = world.tunnel("10.1.0.1:80").await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tunnel)).await.unwrap();
    chassis::task::spawn("client", connection).detach();
    let mut asked = request("POST", "http://web/two", "hello");
    asked.headers_mut().remove("host");
    let answer = sender.send_request(asked).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"POST /two\n"), "{body:?}");
}

#[tokio::test]
async fn a_large_body_passes_both_ways() {
    let (port, _) = endpoint::echo("127.77.1.4:0").await;
    let world = World::new(&web("127.77.1.4", port)).await;
    let answer = world.ask(request("POST", "/", &"x".repeat(3 << 20))).await;
    assert!(answer.body().ends_with(b"3145728 bytes"));
}

fn deny_admin() -> GuardPolicy {
    let admin = PathPattern::Text(StringMatch::Prefix("/admin".into()));
    let wanted = RequestMatch { paths: Values { any_of: vec![admin], none_of: Vec::new() }, ..Default::default() };
    let one = Match { request: Some(Box::new(wanted)), ..Default::default() };
    GuardPolicy {
        namespace: "shop".into(),
        name: "no-admin".into(),
        action: GuardAction::Deny,
        dry_run: false,
        rules: vec![Rule { clauses: vec![Clause { matches: vec![one] }] }],
    }
}

#[tokio::test]
async fn policy_refuses_before_anything_is_sent_on() {
    let (port, hits) = endpoint::echo("127.77.1.5:0").await;
    let world = World::new(&web("127.77.1.5", port)).await;
    world.rules(|rules| rules.guards.policies.push(deny_admin()));
    for path in ["/admin", "/x/../admin", "//admin/y", "/%61dmin"] {
        assert_eq!(world.get(path).await, (403, "RBAC: access denied".into()), "{path}");
    }
    assert_eq!(hits.count(), 0);
    assert_eq!(world.get("/other").await.0, 200);
}

#[tokio::test]
async fn what_nobody_can_answer_is_answered_with_503() {
    let world = World::new("service web ns=shop vip=10.1.0.1 80->8080 waypoint=wp\n").await;
    assert_eq!(world.get("/").await, (503, "no healthy upstream".into()));
    let world = World::new(&web("127.77.1.6", 1)).await;
    assert_eq!(world.get("/").await.0, 503);
}

#[tokio::test]
async fn another_endpoint_is_tried_when_one_cannot_be_reached() {
    let (port, hits) = endpoint::echo("127.77.1.7:0").await;
    let mesh = format!(
        "pod gone ns=shop sa=server ip=127.77.1.8 plain\npod server ns=shop sa=server ip=127.77.1.7 plain\n\
         service web ns=shop vip=10.1.0.1 80->{port} pods=server,gone waypoint=wp\n"
    );
    let world = World::new(&mesh).await;
    for n in 0..20 {
        assert_eq!(world.ask(request("POST", "/", "once")).await.status(), 200, "request {n}");
    }
    assert_eq!(hits.count(), 20);
}

#[tokio::test]
async fn what_may_have_been_processed_is_repeated_only_if_that_does_no_harm() {
    for (method, expected) in [("GET", 3), ("POST", 1)] {
        let (port, hits) = endpoint::closing("127.77.1.9:0").await;
        let world = World::new(&web("127.77.1.9", port)).await;
        let on = RetryOn { reset: true, ..Default::default() };
        let retry = Retry { attempts: 2, on, backoff: Some(Duration::from_millis(1)), ..Default::default() };
        world.rules(|rules| rule(rules, HttpRule { action: to_web(), retry: Some(retry), ..Default::default() }));
        assert_eq!(world.ask(request(method, "/", "")).await.status(), 503);
        assert_eq!(hits.count(), expected, "{method}");
    }
}

#[tokio::test]
async fn a_rule_answers_edits_and_gives_up() {
    let (port, hits) = endpoint::echo("127.77.1.10:0").await;
    let world = World::new(&web("127.77.1.10", port)).await;
    world.rules(|rules| {
        let respond = DirectResponse { status: 418, body: Some(("tea".into(), "text/x-tea".into())) };
        rule(rules, HttpRule { action: Action::Respond(respond), ..Default::default() });
    });
    assert_eq!(world.get("/").await, (418, "tea".into()));
    assert_eq!(hits.count(), 0);
    world.rules(|rules| {
        let mut edited = HttpRule { action: to_web(), ..Default::default() };
        edited.filters.request_headers = HeaderEdit { set: vec![("x-new".into(), "1".into())], ..Default::default() };
        edited.timeouts.request = Some(Duration::from_millis(100));
        rule(rules, edited);
    });
    let (status, text) = world.get("/").await;
    assert!(status == 200 && text.contains("x-new: 1\n"), "{text}");
    assert_eq!(world.get("/slow").await, (504, "upstream request timeout".into()));
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_an_error_and_to_grpc_unavailable() {
    let world = World::new(&web("127.77.1.20", 80)).await;
    world.rules(|rules| rule(rules, HttpRule { action: Action::Forward(Vec::new()), ..Default::default() }));
    assert_eq!(world.get("/").await.0, 500);
    let mut asked = request("POST", "/shop.Store/Buy", "");
    asked.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let answer = world.ask(asked).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["grpc-status"].to_str().unwrap()), (200, "14"));
}

#[tokio::test]
async fn what_is_not_bound_to_us_gets_no_tunnel() {
    let world = World::new("service web ns=shop vip=10.1.0.1 80->8080\n").await;
    assert!(world.tunnel("10.1.0.1:80").await.unwrap_err().contains("404"));
    assert!(world.tunnel("10.9.9.9:80").await.unwrap_err().contains("404"));
}

#[tokio::test]
async fn bytes_that_are_no_http_are_relayed_until_policy_forbids_it() {
    let port = endpoint::bytes("127.77.1.11:0", b"").await;
    let world = World::new(&web("127.77.1.11", port)).await;
    let mut tunnel = world.tunnel("10.1.0.1:80").await.unwrap();
    tunnel.write_all(b"\x00\x01hello").await.unwrap();
    let mut read = [0; 7];
    tunnel.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"\x00\x01hello");
    // A DENY policy that asks about requests keeps out what it cannot judge.
    world.rules(|rules| rules.guards.policies.push(deny_admin()));
    let end = timeout(Duration::from_secs(10), tunnel.read(&mut read)).await.expect("it is broken off");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    let port = endpoint::bytes("127.77.1.12:0", b"220 hello").await;
    let world = World::new(&web("127.77.1.12", port)).await;
    let mut tunnel = world.tunnel("10.1.0.1:80").await.unwrap();
    let mut read = [0; 9];
    timeout(Duration::from_secs(10), tunnel.read_exact(&mut read)).await.expect("in time").unwrap();
    assert_eq!(&read, b"220 hello");
}

#[tokio::test]
async fn a_workload_is_reached_by_its_address() {
    let (port, _) = endpoint::echo("127.77.1.13:0").await;
    let world = World::new("pod server ns=shop sa=server ip=127.77.1.13 plain waypoint=wp\n").await;
    let mut tunnel = world.tunnel(&format!("127.77.1.13:{port}")).await.unwrap();
    tunnel.write_all(b"GET /direct HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = Vec::new();
    tunnel.read_to_end(&mut text).await.unwrap();
    assert!(String::from_utf8_lossy(&text).contains("GET /direct"), "{}", text.escape_ascii());
}

#[tokio::test]
async fn a_drain_lets_requests_finish_and_ends_connections() {
    let (port, _) = endpoint::echo("127.77.1.14:0").await;
    let world = World::new(&web("127.77.1.14", port)).await;
    let mut sender = world.http1().await;
    let answer = sender.send_request(request("GET", "/", "")).await.unwrap();
    answer.into_body().collect().await.unwrap();
    world.process.drain.start(Duration::from_secs(20));
    world.waypoint.draining.cancel();
    // An idle connection is ended, and with the last one the drain is over.
    let ended = timeout(Duration::from_secs(10), async {
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    ended.expect("the connection is ended");
    drop(sender);
    assert!(world.process.drain.finish().await, "{} left", world.process.drain.outstanding());
}

#[tokio::test]
async fn a_drain_is_told_to_kept_connections_in_their_next_answer() {
    let (port, _) = endpoint::echo("127.77.1.18:0").await;
    let world = World::new(&web("127.77.1.18", port)).await;
    let mut sender = world.http1().await;
    let answer = sender.send_request(request("GET", "/", "")).await.unwrap();
    assert_eq!(answer.headers().get("connection"), None);
    answer.into_body().collect().await.unwrap();
    world.process.drain.start(Duration::from_secs(20));
    world.waypoint.draining.cancel();
    // Whoever wanted to close the idle connection would have done so by now.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let answer = sender.send_request(request("GET", "/", "")).await.expect("the connection is still there");
    assert_eq!((answer.status().as_u16(), &answer.headers()["connection"]), (200, &"close".parse().unwrap()));
    answer.into_body().collect().await.unwrap();
    let ended = timeout(Duration::from_secs(10), async {
        while !sender.is_closed() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    ended.expect("the connection is ended");
}

#[tokio::test]
async fn websockets_are_bytes_once_both_sides_agree() {
    let greeting = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    let port = endpoint::bytes("127.77.1.15:0", greeting).await;
    let world = World::new(&web("127.77.1.15", port)).await;
    let mut tunnel = world.tunnel("10.1.0.1:80").await.unwrap();
    let asked = b"GET /chat HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    tunnel.write_all(asked).await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(tunnel.read_u8().await.unwrap());
    }
    let text = String::from_utf8_lossy(&read).into_owned();
    assert!(text.starts_with("HTTP/1.1 101") && text.contains("upgrade: websocket"), "{text}");
    tunnel.write_all(b"ping").await.unwrap();
    let mut seen = Vec::new();
    // The endpoint sends back the request's head too.
    timeout(Duration::from_secs(10), async {
        while !seen.ends_with(b"ping") {
            seen.push(tunnel.read_u8().await.unwrap());
        }
    })
    .await
    .expect("it comes back");
}

#[tokio::test]
async fn without_rules_nothing_is_served() {
    let (port, hits) = endpoint::echo("127.77.1.16:0").await;
    let world = World::untold(&web("127.77.1.16", port)).await;
    let web = "shop/web.shop.svc.cluster.local";
    assert_eq!(world.get("/").await, (503, "the waypoint has no rules of its own yet".into()));
    world.own_rules();
    let answer = world.ask(request("GET", "/", "")).await;
    assert_eq!(
        (answer.status().as_u16(), &**answer.body()),
        (503, &b"the waypoint has no rules for this service yet"[..])
    );
    assert_eq!(answer.headers()["connection"], "close");
    let mut tunnel = world.tunnel("10.1.0.1:80").await.unwrap();
    tunnel.write_all(b"\x00\x01hello").await.unwrap();
    let end = timeout(Duration::from_secs(10), tunnel.read(&mut [0; 7])).await.expect("it is closed");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert_eq!(hits.count(), 0);

    world.rules(|_| {});
    assert_eq!(world.get("/").await.0, 200);
    world.waypoint.view.apply(vec![mesh::Change::RemoveServiceRules(web.into())]);
    assert_eq!(world.get("/").await.0, 503);
    assert_eq!(hits.count(), 1);
}
