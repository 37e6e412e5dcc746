//! WebSocket and CONNECT, between callers and endpoints of either version of HTTP.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use chassis::task;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::policy::{Clause, Match, RequestMatch, Rule, StringMatch, Values};
use mesh::route::guard::{GuardAction, GuardPolicy};
use mesh::route::http::{Action, DirectResponse, HttpMatch, HttpRoute, HttpRule, Precedence};
use mesh::route::text::TextMatch;
use mesh::route::traffic::{HttpVersion, Pool};
use mesh::route::{ServiceRules, Traffic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use waypoint::serve::switch;

use crate::endpoint;
use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(10);

fn web(ip: &str, port: u16) -> String {
    format!(
        "pod server ns=shop sa=server ip={ip} plain\nservice web ns=shop vip=10.1.0.1 80->{port} pods=server waypoint=wp\n"
    )
}

/// Writes a head to `web`, and reads that of the answer; what comes after it is the tunnel's.
async fn asked(world: &World, head: &str) -> (String, hbone::stream::Tunnel) {
    let mut tunnel = world.tunnel("10.1.0.1:80").await.unwrap();
    tunnel.write_all(head.as_bytes()).await.unwrap();
    let text = head_of(&mut tunnel).await;
    (text, tunnel)
}

async fn head_of(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut read = Vec::new();
    let whole = async {
        while !read.ends_with(b"\r\n\r\n") {
            read.push(stream.read_u8().await.unwrap());
        }
    };
    timeout(PATIENCE, whole).await.expect("a head");
    String::from_utf8(read).unwrap()
}

/// Whether what is written comes back, perhaps behind other bytes.
async fn echoes(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), word: &str) -> String {
    stream.write_all(word.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    let back = async {
        while !seen.ends_with(word.as_bytes()) {
            seen.push(stream.read_u8().await.unwrap());
        }
    };
    timeout(PATIENCE, back).await.expect("it comes back");
    String::from_utf8(seen).unwrap()
}

type Sender = http2::SendRequest<Empty<Bytes>>;

/// A caller's connection of HTTP/2. It does not wait for the settings that allow it to ask for WebSocket.
async fn http2(world: &World) -> Sender {
    let tunnel = world.tunnel("10.1.0.1:80").await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tunnel)).await.unwrap();
    task::spawn("client", connection).detach();
    sender
}

fn websocket(uri: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::builder().method(Method::CONNECT).uri(uri).body(Empty::new()).unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    request
}

async fn answered(sender: &mut Sender, request: Request<Empty<Bytes>>) -> Response<Incoming> {
    timeout(PATIENCE, sender.send_request(request)).await.expect("an answer").unwrap()
}

/// Agrees to WebSocket as HTTP/1.1 wants it, or not quite, and sends back what comes.
async fn websocket_server(address: &str, good: bool) -> u16 {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    task::spawn("endpoint", async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = head_of(&mut stream).await;
            let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap_or("-");
            let key = if good { key } else { "another" };
            let accept = switch::accept(&key.parse().unwrap()).to_str().unwrap().to_owned();
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: \
                 {accept}\r\nx-version: {}\r\n\r\n",
                head.lines().find_map(|line| line.strip_prefix("sec-websocket-version: ")).unwrap_or("-")
            );
            let _gone = stream.write_all(answer.as_bytes()).await;
            let (mut read, mut write) = stream.split();
            let _end = tokio::io::copy(&mut read, &mut write).await;
        }
    })
    .detach();
    port
}

/// Agrees to WebSocket without saying that it has read the key, and sends back what comes.
async fn agrees_and_echoes(mut stream: TcpStream) {
    head_of(&mut stream).await;
    let answer = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
    stream.write_all(answer).await.unwrap();
    let (mut read, mut write) = stream.split();
    let _end = tokio::io::copy(&mut read, &mut write).await;
}

/// Speaks HTTP/2, takes a CONNECT if it is told to, and sends back what comes.
async fn http2_server(address: &str, extended: bool) -> u16 {
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    task::spawn("endpoint", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut first = [0; 3];
            stream.peek(&mut first).await.unwrap();
            if &first != b"PRI" {
                // The same server in HTTP/1.1, where it knows WebSocket.
                task::spawn("endpoint connection", agrees_and_echoes(stream)).detach();
                continue;
            }
            let service = hyper::service::service_fn(|mut request: Request<Incoming>| async move {
                let said = format!(
                    "{} {} {}",
                    request.method(),
                    request.uri(),
                    request.extensions().get::<Protocol>().map_or("-", Protocol::as_str)
                );
                let upgrade = hyper::upgrade::on(&mut request);
                task::spawn("endpoint stream", async move {
                    let Ok(upgraded) = upgrade.await else { return };
                    let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
                    let _end = tokio::io::copy(&mut read, &mut write).await;
                })
                .detach();
                Ok::<_, Infallible>(Response::builder().header("x-said", said).body(Empty::<Bytes>::new()).unwrap())
            });
            let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            if extended {
                builder.enable_connect_protocol();
            }
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            task::spawn("endpoint connection", async move {
                let _end = connection.await;
            })
            .detach();
        }
    })
    .detach();
    port
}

fn over_http2(rules: &mut ServiceRules) {
    let pool = Pool { http: Some(HttpVersion::Http2), ..Default::default() };
    rules.traffic.push(Traffic { pool, ..Default::default() });
}

fn route(rules: &mut ServiceRules, all: Vec<HttpRule>) {
    rules.http.push(HttpRoute {
        name: "HTTPRoute/shop/web".into(),
        created: None,
        ports: Vec::new(),
        callers: None,
        precedence: Precedence::Specific,
        rules: all,
    });
}

#[tokio::test]
async fn a_connect_becomes_bytes_once_the_endpoint_agrees() {
    let port = endpoint::bytes("127.77.4.1:0", b"HTTP/1.1 200 Fine\r\ncontent-length: 5\r\nx-end: 1\r\n\r\n").await;
    let world = World::new(&web("127.77.4.1", port)).await;
    let (head, mut tunnel) =
        asked(&world, "CONNECT Far.example:443 HTTP/1.1\r\nhost: far.example:443\r\nx-a: 1\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("x-end: 1"), "{head}");
    // What follows has no length.
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    let seen = echoes(&mut tunnel, "ping").await;
    assert!(
        seen.starts_with("CONNECT far.example:443 HTTP/1.1\r\n") && seen.contains("host: far.example:443"),
        "{seen}"
    );
    assert!(seen.contains("x-a: 1") && seen.contains("x-request-id: "), "{seen}");
    tunnel.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, tunnel.read_to_end(&mut rest)).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn what_follows_a_connect_that_is_refused_is_no_request() {
    let port = endpoint::bytes("127.77.4.2:0", b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n").await;
    let world = World::new(&web("127.77.4.2", port)).await;
    let smuggled = "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: web\r\n\r\n";
    let (head, mut tunnel) = asked(&world, smuggled).await;
    assert!(head.starts_with("HTTP/1.1 403 ") && head.contains("connection: close"), "{head}");
    let mut rest = Vec::new();
    let _end = timeout(PATIENCE, tunnel.read_to_end(&mut rest)).await.expect("it ends");
    assert!(rest.is_empty(), "{}", rest.escape_ascii());
}

#[tokio::test]
async fn policies_and_rules_are_asked_of_a_connect() {
    let port = endpoint::bytes("127.77.4.3:0", b"HTTP/1.1 200 Fine\r\n\r\n").await;
    let world = World::new(&web("127.77.4.3", port)).await;
    let of_authority = |authority: &str, status: u16| HttpRule {
        matches: vec![HttpMatch { authority: Some(TextMatch::Exact(authority.into())), ..Default::default() }],
        action: Action::Respond(DirectResponse { status, body: None }),
        ..Default::default()
    };
    world.rules(|rules| {
        let methods = Values { any_of: vec![StringMatch::Exact("CONNECT".into())], none_of: Vec::new() };
        let hosts = Values { any_of: vec![StringMatch::Exact("denied.example".into())], none_of: Vec::new() };
        let wanted = RequestMatch { methods, hosts, ..Default::default() };
        let clause = Clause { matches: vec![Match { request: Some(Box::new(wanted)), ..Default::default() }] };
        rules.guards.policies.push(GuardPolicy {
            namespace: "shop".into(),
            name: "no".into(),
            action: GuardAction::Deny,
            dry_run: false,
            rules: vec![Rule { clauses: vec![clause] }],
        });
        route(rules, vec![of_authority("tea.example:443", 418), of_authority("ok.example:443", 200)]);
    });
    for (host, status) in [("denied.example:443", 403), ("tea.example:443", 418), ("else.example:443", 404)] {
        let (head, _) = asked(&world, &format!("CONNECT {host} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {head}");
    }
    // An answer of our own is no agreement, whatever its status.
    let (head, _) = asked(&world, "CONNECT ok.example:443 HTTP/1.1\r\nhost: ok.example:443\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[tokio::test]
async fn a_connect_of_http2_is_a_stream_that_becomes_bytes() {
    let port = endpoint::bytes("127.77.4.4:0", b"HTTP/1.1 200 Fine\r\n\r\n").await;
    let world = World::new(&web("127.77.4.4", port)).await;
    world.rules(|rules| {
        let pool = Pool { http: Some(HttpVersion::Http1), ..Default::default() };
        rules.traffic.push(Traffic { pool, ..Default::default() });
    });
    let mut sender = http2(&world).await;
    let request = Request::builder().method(Method::CONNECT).uri("far.example:443").body(Empty::new()).unwrap();
    let mut answer = answered(&mut sender, request).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    assert!(echoes(&mut stream, "ping").await.starts_with("CONNECT far.example:443 HTTP/1.1\r\n"));
    let port = http2_server("127.77.4.5:0", false).await;
    let world = World::new(&web("127.77.4.5", port)).await;
    world.rules(over_http2);
    let (head, mut tunnel) = asked(&world, "CONNECT far.example:443 HTTP/1.1\r\nhost: far.example:443\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("x-said: CONNECT far.example:443 -"), "{head}");
    assert_eq!(echoes(&mut tunnel, "ping").await, "ping");
}

#[tokio::test]
async fn websocket_over_http2_reaches_an_endpoint_of_http1() {
    let port = websocket_server("127.77.4.6:0", true).await;
    let world = World::new(&web("127.77.4.6", port)).await;
    let mut sender = http2(&world).await;
    for _ in 0..3 {
        let mut answer = answered(&mut sender, websocket("http://web/chat")).await;
        assert_eq!((answer.status(), &answer.headers()["x-version"]), (StatusCode::OK, &"13".parse().unwrap()));
        assert!(!answer.headers().contains_key("sec-websocket-accept") && !answer.headers().contains_key("upgrade"));
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        assert_eq!(echoes(&mut stream, "ping").await, "ping");
    }
    let mut other = websocket("http://web/chat");
    other.extensions_mut().insert(Protocol::from_static("connect-udp"));
    assert_eq!(answered(&mut sender, other).await.status(), StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn what_agrees_to_something_else_agrees_to_nothing() {
    let port = websocket_server("127.77.4.7:0", false).await;
    let world = World::new(&web("127.77.4.7", port)).await;
    let answer = answered(&mut http2(&world).await, websocket("http://web/chat")).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    // One that knows no WebSocket answers as if it were any request.
    let (port, _) = endpoint::echo("127.77.4.8:0").await;
    let world = World::new(&web("127.77.4.8", port)).await;
    let answer = answered(&mut http2(&world).await, websocket("http://web/chat")).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(world.get("/").await.0, 200);
}

#[tokio::test]
async fn websocket_reaches_an_endpoint_of_http2_where_it_takes_it() {
    for (ip, extended) in [("127.77.4.9", true), ("127.77.4.10", false)] {
        let port = http2_server(&format!("{ip}:0"), extended).await;
        let world = World::new(&web(ip, port)).await;
        world.rules(over_http2);
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let head = format!(
            "GET /chat HTTP/1.1\r\nhost: web\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: {key}\r\n\r\n"
        );
        let (head, mut tunnel) = asked(&world, &head).await;
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket"), "{head}");
        if extended {
            assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
            assert!(head.contains("x-said: CONNECT http://web/chat websocket"), "{head}");
        }
        assert_eq!(echoes(&mut tunnel, "ping").await, "ping", "{extended}");
        let mut answer = answered(&mut http2(&world).await, websocket("http://web/chat")).await;
        if !extended {
            // It does not say that it has read the key.
            assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
            continue;
        }
        assert_eq!(answer.status(), StatusCode::OK);
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        assert_eq!(echoes(&mut stream, "ping").await, "ping");
    }
}

#[tokio::test]
async fn requests_go_on_beside_a_websocket() {
    let port = http2_server("127.77.4.11:0", true).await;
    let world = World::new(&web("127.77.4.11", port)).await;
    world.rules(over_http2);
    let mut sender = http2(&world).await;
    let mut answer = answered(&mut sender, websocket("http://web/chat")).await;
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    for n in 0..3 {
        assert_eq!(echoes(&mut stream, "ping").await, "ping");
        let request = Request::get(format!("http://web/{n}")).body(Empty::new()).unwrap();
        let answer = answered(&mut sender, request).await;
        assert_eq!(answer.headers()["x-said"], format!("GET http://web/{n} -"));
        answer.into_body().collect().await.unwrap();
    }
}
