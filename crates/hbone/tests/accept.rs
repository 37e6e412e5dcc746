//! The receiving end answers what has the wrong form, and ends connections in order.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod support;

use bytes::Bytes;
use h2::{Reason, client};
use hbone::{
    accept::{self, ConnectionEnd, Drain, HandshakeError},
    head::BadConnect,
    open::{self, BeginError, TunnelError},
};
use http::{Method, Request, StatusCode};
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

const PIPE: usize = 64 << 10;

/// A client that says what it likes.
async fn stranger() -> (client::SendRequest<Bytes>, Served) {
    let (near, far) = tokio::io::duplex(PIPE);
    let served = serve(far, limits());
    let (send, connection) = client::handshake(near).await.unwrap();
    tokio::spawn(connection);
    (send, served)
}

#[tokio::test]
async fn what_is_no_connect_to_a_target_is_told_so() {
    let (mut send, mut served) = stranger().await;
    for (method, uri) in [(Method::GET, "http://web:80/"), (Method::POST, "http://web:80/"), (Method::CONNECT, "web")] {
        let request = Request::builder().method(method.clone()).uri(uri).body(()).unwrap();
        let (response, _body) = send.send_request(request, false).unwrap();
        let asked = served.request().await;
        let bad = asked.head().unwrap_err();
        assert_eq!(matches!(bad, BadConnect::Method(_)), method != Method::CONNECT, "{bad}");
        asked.refuse(StatusCode::BAD_REQUEST);
        assert_eq!(soon(response).await.unwrap().status(), StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn a_refused_tunnel_says_with_what() {
    let (link, mut served) = connected(PIPE).await;
    let head = head();
    let open = link.tunnel(&head, Box::new(()));
    let (opened, ()) = tokio::join!(open, async { served.request().await.refuse(StatusCode::UNAUTHORIZED) });
    assert!(matches!(opened, Err(TunnelError::Refused(StatusCode::UNAUTHORIZED))), "{opened:?}");
}

#[tokio::test]
async fn a_caller_that_gives_up_is_noticed_before_the_answer() {
    let (link, mut served) = connected(PIPE).await;
    let head = head();
    let mut open = Box::pin(link.tunnel(&head, Box::new(())));
    assert!(futures_util::poll!(&mut open).is_pending());
    let mut asked = served.request().await;
    drop(open);
    soon(asked.cancelled()).await;
    assert!(asked.accept(None).is_err());
}

#[tokio::test]
async fn a_drained_connection_ends_with_its_last_tunnel() {
    let (link, mut served) = connected(PIPE).await;
    let (mut near, mut far) = tunnel(&link, &mut served).await;
    served.drain.cancel();
    soon(async {
        while link.usable() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let refused = link.tunnel(&head(), Box::new(())).await;
    assert!(matches!(refused, Err(TunnelError::Stale(_))), "{refused:?}");
    near.write_all(b"still").await.unwrap();
    soon(far.read_exact(&mut [0; 5])).await.unwrap();
    near.shutdown().await.unwrap();
    far.shutdown().await.unwrap();
    drop((near, far));
    let end = soon(served.end).await.unwrap();
    assert!(matches!(end, ConnectionEnd::Closed), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_has_a_deadline() {
    let (link, mut served) = connected(PIPE).await;
    let (mut near, _far) = tunnel(&link, &mut served).await;
    served.drain.cancel();
    let end = soon(served.end).await.unwrap();
    assert!(matches!(end, ConnectionEnd::DrainDeadline), "{end:?}");
    assert!(soon(near.read(&mut [0; 1])).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanished_is_noticed_within_fifteen_seconds() {
    let limits = limits();
    let (near, far) = tokio::io::duplex(PIPE);
    let served = serve(far, limits.clone());
    let (link, drive) = open::begin(near, &limits).await.unwrap();
    // The client is not driven from here on: it answers nothing.
    let vanished_at = tokio::time::Instant::now();
    let end = soon(served.end).await.unwrap();
    assert!(matches!(end, ConnectionEnd::Silent), "{end:?}");
    assert!(vanished_at.elapsed() <= Duration::from_secs(16), "{:?}", vanished_at.elapsed());
    drop((link, drive));

    let (near, far) = tokio::io::duplex(PIPE);
    let drain = Drain { start: CancellationToken::new(), deadline: Duration::ZERO };
    let serving = async {
        let mut connection = accept::serve(far, &limits, drain).await.unwrap();
        let _ = tokio::time::timeout(Duration::from_secs(1), connection.next()).await;
        connection
    };
    // Nor is the server, once the connection stands.
    let (_connection, begun) = tokio::join!(serving, open::begin(near, &limits));
    let vanished_at = tokio::time::Instant::now();
    let error = soon(begun.unwrap().1).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(vanished_at.elapsed() <= Duration::from_secs(16));
}

#[tokio::test(start_paused = true)]
async fn a_quiet_peer_that_answers_stays() {
    let (link, mut served) = connected(PIPE).await;
    let (mut near, mut far) = tunnel(&link, &mut served).await;
    tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
    near.write_all(b"still here").await.unwrap();
    soon(far.read_exact(&mut [0; 10])).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_begins_is_given_up() {
    let limits = limits();
    let (near, far) = tokio::io::duplex(PIPE);
    let drain = Drain { start: CancellationToken::new(), deadline: Duration::ZERO };
    let served = soon(accept::serve(far, &limits, drain)).await;
    assert!(matches!(served, Err(HandshakeError::Deadline(_))));
    drop(near);

    let (near, _far) = tokio::io::duplex(PIPE);
    let begun = soon(open::begin(near, &limits)).await;
    assert!(matches!(begun, Err(BeginError::Deadline(_))));
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_told_apart() {
    let limits = limits();
    let (mut near, far) = tokio::io::duplex(PIPE);
    near.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let drain = Drain { start: CancellationToken::new(), deadline: Duration::ZERO };
    let served = soon(accept::serve(far, &limits, drain)).await;
    assert!(matches!(served, Err(HandshakeError::Protocol(_))));

    let (near, mut far) = tokio::io::duplex(PIPE);
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let begun = soon(open::begin(near, &limits)).await;
    assert!(matches!(begun, Err(BeginError::Protocol(_))));
}

#[tokio::test]
async fn a_peer_that_only_opens_and_resets_is_cut_off() {
    let (send, mut served) = stranger().await;
    let attack = tokio::spawn(async move {
        let mut sent = 0_u32;
        loop {
            let Ok(mut ready) = send.clone().ready().await else { return sent };
            let request = Request::builder().method(Method::CONNECT).uri("10.0.0.1:80").body(()).unwrap();
            let Ok((_response, mut body)) = ready.send_request(request, false) else { return sent };
            tokio::task::yield_now().await;
            body.send_reset(Reason::CANCEL);
            sent += 1;
            if sent.is_multiple_of(16) {
                tokio::task::yield_now().await;
            }
        }
    });
    let answering = tokio::spawn(async move {
        while let Some(mut request) = served.requests.recv().await {
            // What an inbound proxy does: begin to connect, and stop when the caller gives up.
            tokio::spawn(async move { request.cancelled().await });
        }
    });
    let end = soon(served.end).await.unwrap();
    let calm = match &end {
        ConnectionEnd::Flood => true,
        ConnectionEnd::Broken(error) => {
            error.to_string().contains("enhance your calm") || error.to_string().contains("load")
        }
        _ => false,
    };
    assert!(calm, "{end:?}");
    let sent = soon(attack).await.unwrap();
    assert!(sent < 100_000, "{sent} streams before the end");
    soon(answering).await.unwrap();
}
