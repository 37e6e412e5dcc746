//! An application's connection through two relays and a tunnel behaves like a TCP connection.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use hbone::relay::{RelayEnd, Side, Tcp};
use std::{io::ErrorKind, sync::atomic::Ordering, time::Duration};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PIPE: usize = 64 << 10;

async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.unwrap();
    bytes
}

fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[tokio::test]
async fn each_direction_ends_alone() {
    let (link, mut served) = connected(PIPE).await;
    let mut path = path(&link, &mut served).await;
    path.client.write_all(b"question").await.unwrap();
    path.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut path.server).await, b"question");
    path.server.write_all(b"a late answer").await.unwrap();
    path.server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut path.client).await, b"a late answer");
    let end = soon(path.outbound.end).await.unwrap();
    assert!(matches!(end, RelayEnd::Closed { first: Side::Downstream }), "{end:?}");
    let end = soon(path.inbound.end).await.unwrap();
    assert!(matches!(end, RelayEnd::Closed { first: Side::Downstream }), "{end:?}");
    assert_eq!(path.outbound.meter.sent.load(Ordering::Relaxed), 8);
    assert_eq!(path.outbound.meter.received.load(Ordering::Relaxed), 13);
}

#[tokio::test]
async fn a_server_may_speak_and_end_first() {
    let (link, mut served) = connected(PIPE).await;
    let mut path = path(&link, &mut served).await;
    path.server.write_all(b"220 hello").await.unwrap();
    path.server.shutdown().await.unwrap();
    assert_eq!(read_all(&mut path.client).await, b"220 hello");
    path.client.write_all(b"bye").await.unwrap();
    path.client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut path.server).await, b"bye");
    let end = soon(path.outbound.end).await.unwrap();
    assert!(matches!(end, RelayEnd::Closed { first: Side::Upstream }), "{end:?}");
}

/// What the other application sees when this one resets.
async fn reset_is_seen(reset_by: Side, half_closed: Option<Side>) {
    let (link, mut served) = connected(PIPE).await;
    let mut path = path(&link, &mut served).await;
    path.client.write_all(b"ping").await.unwrap();
    path.server.read_exact(&mut [0; 4]).await.unwrap();
    match half_closed {
        Some(Side::Downstream) => {
            path.client.shutdown().await.unwrap();
            assert_eq!(read_all(&mut path.server).await, b"");
        }
        Some(Side::Upstream) => {
            path.server.shutdown().await.unwrap();
            assert_eq!(read_all(&mut path.client).await, b"");
        }
        None => {}
    }
    let (broken, other) = match reset_by {
        Side::Downstream => (path.client, path.server),
        Side::Upstream => (path.server, path.client),
    };
    reset(broken);
    let seen = soon(other.ready(tokio::io::Interest::ERROR)).await;
    assert!(seen.is_ok(), "{seen:?}");
    let error = other.take_error().unwrap().expect("a reset connection has an error");
    // Linux calls it a broken pipe where the peer had ended its direction before.
    let expected = match half_closed == Some(reset_by) {
        true => ErrorKind::BrokenPipe,
        false => ErrorKind::ConnectionReset,
    };
    assert_eq!(error.kind(), expected, "{reset_by:?} {half_closed:?}");
    for (end, place) in [(path.outbound.end, "outbound"), (path.inbound.end, "inbound")] {
        match soon(end).await.unwrap() {
            RelayEnd::Broken { by, error } => {
                assert_eq!((by, error.kind()), (reset_by, ErrorKind::ConnectionReset), "{place}: {error}");
            }
            end => panic!("{place} ended {end:?}"),
        }
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_at_the_other_end() {
    for by in [Side::Downstream, Side::Upstream] {
        reset_is_seen(by, None).await;
    }
}

#[tokio::test]
async fn a_reset_after_an_end_is_one_too() {
    for by in [Side::Downstream, Side::Upstream] {
        for half_closed in [Side::Downstream, Side::Upstream] {
            reset_is_seen(by, Some(half_closed)).await;
        }
    }
}

#[tokio::test]
async fn a_cancelled_relay_resets_both_ends() {
    let (link, mut served) = connected(PIPE).await;
    let mut path = path(&link, &mut served).await;
    path.inbound.cancel.cancel();
    let end = soon(path.inbound.end).await.unwrap();
    assert!(matches!(end, RelayEnd::Cancelled), "{end:?}");
    for stream in [&mut path.client, &mut path.server] {
        let error = soon(stream.read(&mut [0; 1])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn sixty_four_mebibytes_each_way_arrive_whole() {
    const TOTAL: usize = 64 << 20;
    let (link, mut served) = connected(PIPE).await;
    let path = path(&link, &mut served).await;
    let (mut client, mut server) = (path.client, path.server);
    let question =
        async { tokio::join!(send_pattern(&mut client, TOTAL, 1 << 20), expect_pattern(&mut server, TOTAL)) };
    tokio::time::timeout(PATIENCE * 5, question).await.unwrap();
    let answer = async { tokio::join!(send_pattern(&mut server, TOTAL, 70_001), expect_pattern(&mut client, TOTAL)) };
    tokio::time::timeout(PATIENCE * 5, answer).await.unwrap();
    assert_eq!(path.outbound.meter.sent.load(Ordering::Relaxed), TOTAL as u64);
    assert_eq!(path.inbound.meter.received.load(Ordering::Relaxed), TOTAL as u64);
}

#[tokio::test]
async fn many_small_writes_arrive_whole() {
    const TOTAL: usize = 20_000;
    let (link, mut served) = connected(PIPE).await;
    let Path { mut client, mut server, .. } = path(&link, &mut served).await;
    client.set_nodelay(true).unwrap();
    soon(async { tokio::join!(send_pattern(&mut client, TOTAL, 1), expect_pattern(&mut server, TOTAL)) }).await;
}

#[tokio::test]
async fn two_tcp_connections_can_be_joined_without_a_tunnel() {
    let (mut client, captured) = tcp().await;
    let (dialled, mut server) = tcp().await;
    let joined = relaying(Tcp::from(captured), Tcp::from(dialled));
    send_pattern(&mut client, 3_000, 1_000).await;
    expect_pattern(&mut server, 3_000).await;
    send_pattern(&mut server, 500, 500).await;
    expect_pattern(&mut client, 500).await;
    let end = soon(joined.end).await.unwrap();
    assert!(matches!(end, RelayEnd::Closed { first: Side::Downstream }), "{end:?}");
}
