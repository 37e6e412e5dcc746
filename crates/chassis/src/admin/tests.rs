use super::*;
use crate::drain;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn routes() -> Routes {
    let ready = Ready::new();
    std::mem::forget(ready.register("state manager"));
    Routes::new()
        .get("/echo", "what was asked", |request| async move {
            text(StatusCode::OK, query(&request, "x").unwrap_or_default())
        })
        .post("/echo", "what was sent", |request| async move { text(StatusCode::OK, request.into_body()) })
        .metrics(Arc::new(Exposition::new(Registry::default())))
        .ready("/healthz/ready", ready)
        .logging(Level::fixed())
        .index("test")
}

/// Sends bytes, and returns all that comes back.
async fn exchange(sent: &[u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_drain, signal) = drain::channel();
    let _server = task::spawn("server", serve(listener, Arc::new(routes()), signal));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _refused_early = stream.write_all(sent).await;
    let mut answer = Vec::new();
    let _reset = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// The status and the body of one request.
async fn check(request: &str, status: u16, body: &str) {
    let answer = exchange(format!("{request} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    assert!(answer.contains(body), "{request}: {answer}");
}

#[tokio::test]
async fn paths_and_methods_that_are_there_are_answered_and_others_refused() {
    check("GET /echo?y=1&x=a%20b%2Fc+d", 200, "\r\n\r\na b/c d").await;
    check("GET /echo?x=%zz%4", 200, "%zz%4").await;
    check("POST /healthz/ready", 405, "allow: GET").await;
    check("DELETE /echo", 405, "allow: GET, POST").await;
    check("GET /nothing", 404, "not found").await;
    check("GET /healthz/ready", 500, "pending: state manager").await;
    check("HEAD /metrics", 200, "version=0.0.4").await;
    check("GET /stats/prometheus", 200, "version=0.0.4").await;
    check("GET /", 200, "<a href=\"/metrics\">").await;
    check("POST /logging?level=debug,access=off", 200, "current log level is debug,access=off").await;
    check("POST /logging?level=loud", 400, "no level").await;
    check("GET /logging", 405, "").await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let head = format!("GET /echo HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    assert!(exchange(head.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let body = format!(
        "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 100000\r\n\r\n{}",
        "y".repeat(100_000)
    );
    let answer = exchange(body.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(exchange(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go() {
    let began = std::time::Instant::now();
    exchange(b"GET /echo HTTP/1.1\r\n").await;
    assert!(began.elapsed() < limits::ADMIN_REQUEST_TIMEOUT * 2);
}

#[tokio::test]
async fn strangers_beyond_the_places_are_turned_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (drain, signal) = drain::channel();
    let server = task::spawn("server", serve(listener, Arc::new(routes()), signal));
    let mut idle = Vec::new();
    for _ in 0..limits::ADMIN_CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // An answer says that the place is taken.
        stream.write_all(b"GET /echo HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        idle.push(stream);
    }
    let mut late = TcpStream::connect(address).await.unwrap();
    assert!(matches!(late.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    drain.start(Duration::ZERO);
    drain.finish().await;
    assert_eq!(server.await, Ok(()));
}
