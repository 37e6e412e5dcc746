//! Requests that two readers could read differently, byte for byte.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use waypoint::limits::HEADERS_MAX;

use crate::cases::web;
use crate::endpoint;
use crate::world::World;

/// Sends bytes, and returns the status of the first answer; 0: none came.
async fn status(world: &World, sent: &[u8]) -> u16 {
    let mut tunnel = world.tunnel("10.1.0.1:80").await.unwrap();
    tunnel.write_all(sent).await.unwrap();
    let mut read = vec![0; 4096];
    let end = timeout(Duration::from_secs(10), tunnel.read(&mut read)).await.expect("an answer or an end");
    let read = &read[..end.unwrap_or(0)];
    let text = String::from_utf8_lossy(read);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn requests_that_could_be_read_in_two_ways_are_refused() {
    let (port, hits) = endpoint::echo("127.77.2.1:0").await;
    let world = World::new(&web("127.77.2.1", port)).await;
    let refused: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r2\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/3.0\r\nhost: a\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\ncontent-length: 1\r\n\r\nx",
        b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nhost: b:80\r\n\r\n",
        b"CONNECT a HTTP/1.1\r\nhost: a\r\n\r\n",
        b"CONNECT /a HTTP/1.1\r\nhost: a\r\n\r\n",
        b"CONNECT a:80 HTTP/1.0\r\nhost: a:80\r\n\r\n",
    ];
    for sent in refused {
        let found = status(&world, sent).await;
        assert!((400..=501).contains(&found) || found == 0, "{found}: {}", sent.escape_ascii());
    }
    assert_eq!(hits.count(), 0);
    let taken: &[&[u8]] = &[
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
    ];
    for sent in taken {
        assert_eq!(status(&world, sent).await, 200, "{}", sent.escape_ascii());
    }
}

#[tokio::test]
async fn a_request_with_both_lengths_hides_no_second_one() {
    let (port, hits) = endpoint::echo("127.77.2.2:0").await;
    let world = World::new(&format!(
        "pod server ns=shop sa=server ip=127.77.2.2 plain\nservice web ns=shop vip=10.1.0.1 80->{port} pods=server waypoint=wp\n"
    ))
    .await;
    let sent = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut tunnel = world.tunnel("10.1.0.1:80").await.unwrap();
    tunnel.write_all(sent).await.unwrap();
    let mut text = Vec::new();
    // The connection is closed after the first: its end comes, and no second answer.
    let _end = timeout(Duration::from_secs(10), tunnel.read_to_end(&mut text)).await.expect("an end");
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
    assert!(!text.contains("/hidden") && hits.count() <= 1, "{text}");
}

#[tokio::test]
async fn heads_have_so_many_fields_and_no_more() {
    let fields = |count: usize| (0..count).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    let ask = async |asked: usize, answered: usize| {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{}\r\n", fields(answered - 1));
        let (port, _) = endpoint::saying("127.77.2.9:0", answer).await;
        let request = format!("GET / HTTP/1.1\r\nhost: web\r\n{}\r\n", fields(asked - 1));
        status(&World::new(&web("127.77.2.9", port)).await, request.as_bytes()).await
    };
    assert_eq!(ask(HEADERS_MAX, HEADERS_MAX).await, 200);
    assert_eq!(ask(HEADERS_MAX + 1, 1).await, 431);
    assert_eq!(ask(1, HEADERS_MAX + 1).await, 502);
}
