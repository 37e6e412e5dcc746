//! A tunnel keeps its promises towards the connection it shares with others.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod support;

use hbone::{limits::Limits, relay::Tcp};
use std::{
    future::poll_fn,
    io::ErrorKind,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

const PIPE: usize = 64 << 10;

#[tokio::test]
async fn sixty_four_stalled_tunnels_do_not_stop_another() {
    const STALLED: usize = 64;
    const TOTAL: usize = 8 << 20;
    let (link, mut served) = connected(PIPE).await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let Path { mut client, server, outbound, inbound } = path(&link, &mut served).await;
        let writer = tokio::spawn(async move {
            send_pattern(&mut client, TOTAL, 256 << 10).await;
            client
        });
        stalled.push((writer, server, outbound, inbound));
    }
    // All that can be taken for the stalled ones has been when nothing moves any more.
    let moved = |stalled: &[(_, _, Relaying, Relaying)]| -> u64 {
        stalled.iter().map(|(_, _, outbound, _)| outbound.meter.sent.load(std::sync::atomic::Ordering::Relaxed)).sum()
    };
    let mut before = u64::MAX;
    while before != moved(&stalled) {
        before = moved(&stalled);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let Path { mut client, mut server, .. } = path(&link, &mut served).await;
    let another =
        async { tokio::join!(send_pattern(&mut client, 8 << 20, 64 << 10), expect_pattern(&mut server, 8 << 20)) };
    tokio::time::timeout(PATIENCE, another).await.expect("the other tunnel is stopped by the stalled ones");
    for (writer, mut server, ..) in stalled {
        soon(expect_pattern(&mut server, TOTAL)).await;
        soon(writer).await.unwrap();
    }
}

#[tokio::test]
async fn sixty_four_tunnels_that_are_only_flushed_do_not_stop_another() {
    const STALLED: usize = 64;
    const TOTAL: usize = 8 << 20;
    let (link, mut served) = connected(PIPE).await;
    let (go, written) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let (mut near, mut far) = tunnel(&link, &mut served).await;
        let (go, written) = (go.clone(), written.clone());
        let writer = tokio::spawn(async move {
            for at in (0..TOTAL).step_by(64 << 10) {
                near.write_all(&pattern(at, 64 << 10)).await.unwrap();
                written.fetch_add(64 << 10, Relaxed);
            }
            near.shutdown().await.unwrap();
            near
        });
        // As hyper does while nobody reads the body that it carries.
        let reader = tokio::spawn(async move {
            let mut gone = std::pin::pin!(go.cancelled());
            poll_fn(|cx| {
                assert!(Pin::new(&mut far).poll_flush(cx).is_ready());
                gone.as_mut().poll(cx)
            })
            .await;
            expect_pattern(&mut far, TOTAL).await;
        });
        stalled.push((writer, reader));
    }
    // As much as the connection grants to begin with, but for what does not fill a write.
    let full = (16 << 20) - STALLED * (64 << 10);
    soon(async {
        while written.load(Relaxed) < full {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut near, mut far) = tunnel(&link, &mut served).await;
    let another =
        async { tokio::join!(send_pattern(&mut near, 16 << 20, 64 << 10), expect_pattern(&mut far, 16 << 20)) };
    tokio::time::timeout(PATIENCE, another).await.expect("the other tunnel is stopped by the stalled ones");
    go.cancel();
    for (writer, reader) in stalled {
        let _near = soon(writer).await.unwrap();
        soon(reader).await.unwrap();
    }
}

#[tokio::test]
async fn a_writer_that_flushes_does_not_rob_a_reader_elsewhere() {
    let (link, mut served) = connected(PIPE).await;
    let (mut near, far) = tunnel(&link, &mut served).await;
    let (mut read, mut write) = tokio::io::split(far);
    let reader = tokio::spawn(async move {
        let mut byte = [0; 1];
        for _ in 0..2 {
            read.read_exact(&mut byte).await.unwrap();
        }
    });
    near.write_all(b"1").await.unwrap();
    let mut echoed = [0; 1];
    for _ in 0..100 {
        // The reader waits by now, for the second byte.
        write.write_all(b"x").await.unwrap();
        soon(near.read_exact(&mut echoed)).await.unwrap();
        write.flush().await.unwrap();
    }
    near.write_all(b"2").await.unwrap();
    soon(reader).await.unwrap();
}

#[tokio::test]
async fn a_chatty_tunnel_with_a_slow_reader_does_not_kill_the_connection() {
    const CHATTY: usize = 100_000;
    let (link, mut served) = connected(PIPE).await;
    let (mut near, far) = tunnel(&link, &mut served).await;
    let (dialled, mut server) = tcp().await;
    // Small sockets, so that the relay stalls early.
    socket2::SockRef::from(&server).set_recv_buffer_size(4096).unwrap();
    socket2::SockRef::from(&dialled).set_send_buffer_size(4096).unwrap();
    let _relaying = relaying(far, Tcp::from(dialled));
    let bytes = pattern(0, CHATTY);
    for byte in &bytes {
        // Each one is a DATA frame of its own.
        near.write_all(std::slice::from_ref(byte)).await.unwrap();
        if rand::random_ratio(1, 100) {
            tokio::task::yield_now().await;
        }
    }
    let (mut other, mut far_other) = tunnel(&link, &mut served).await;
    soon(other.write_all(b"alive")).await.unwrap();
    soon(far_other.read_exact(&mut [0; 5])).await.unwrap();
    soon(near.shutdown()).await.unwrap();
    socket2::SockRef::from(&server).set_recv_buffer_size(1 << 20).unwrap();
    soon(expect_pattern(&mut server, CHATTY)).await;
}

#[tokio::test]
async fn empty_writes_send_nothing() {
    let (link, mut served) = connected(PIPE).await;
    let (mut near, mut far) = tunnel(&link, &mut served).await;
    for _ in 0..500 {
        // 100 empty DATA frames would be the end of the connection.
        assert_eq!(near.write(b"").await.unwrap(), 0);
        near.flush().await.unwrap();
        near.write_all(b"x").await.unwrap();
    }
    near.shutdown().await.unwrap();
    let mut all = Vec::new();
    soon(far.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all.len(), 500);
}

#[tokio::test]
async fn a_write_waits_when_the_peer_grants_nothing() {
    let limits = limits();
    let most = limits.stream_window_bytes as usize;
    let (link, mut served) = connected_with(PIPE, limits).await;
    let (mut near, far) = tunnel(&link, &mut served).await;
    let piece = vec![0; 100_000];
    let mut accepted = 0;
    // Far reads nothing, so after what was granted a write must wait, and no more be taken.
    soon(async {
        while accepted < most {
            accepted += near.write(&piece).await.unwrap();
        }
    })
    .await;
    assert_eq!(accepted, most, "taken and granted");
    assert!(futures_util::poll!(std::pin::pin!(near.write(&piece))).is_pending());
    drop(far);
}

#[tokio::test]
async fn idle_tunnels_hold_no_credit() {
    // A connection window as small as HTTP/2 allows, and streams that could each take all of it.
    let limits = Limits { stream_window_bytes: 65_535, connection_window_bytes: 65_535, ..limits() };
    let (link, mut served) = connected_with(PIPE, limits).await;
    let mut idle = Vec::new();
    for _ in 0..50 {
        let (mut near, mut far) = tunnel(&link, &mut served).await;
        near.write_all(b"hello").await.unwrap();
        soon(far.read_exact(&mut [0; 5])).await.unwrap();
        // A write that began and was given up must not keep what it asked for.
        let mut some = Box::pin(async { near.write(&[0; 10]).await.map(|_| ()) });
        let _ = futures_util::poll!(&mut some);
        drop(some);
        idle.push((near, far));
    }
    let (mut near, mut far) = tunnel(&link, &mut served).await;
    soon(async { tokio::join!(send_pattern(&mut near, 1 << 20, 50_000), expect_pattern(&mut far, 1 << 20)) }).await;
}

#[tokio::test]
async fn tunnels_that_wait_for_each_other_do_not_deadlock() {
    let (link, mut served) = connected(PIPE).await;
    // The far end reads the first only after it has read the second, which is written last.
    let Path { client: mut first, server: mut first_server, .. } = path(&link, &mut served).await;
    let Path { client: mut second, server: mut second_server, .. } = path(&link, &mut served).await;
    let write_first = tokio::spawn(async move { send_pattern(&mut first, 24 << 20, 1 << 20).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let write_second = tokio::spawn(async move { send_pattern(&mut second, 24 << 20, 1 << 20).await });
    soon(expect_pattern(&mut second_server, 24 << 20)).await;
    soon(expect_pattern(&mut first_server, 24 << 20)).await;
    soon(write_first).await.unwrap();
    soon(write_second).await.unwrap();
}

#[tokio::test]
async fn a_dropped_tunnel_reads_as_reset_at_the_other_end() {
    let (link, mut served) = connected(PIPE).await;
    let (near, mut far) = tunnel(&link, &mut served).await;
    drop(near);
    let error = soon(far.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let error = soon(async {
        loop {
            if let Err(error) = far.write(b"x").await {
                return error;
            }
        }
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_thousand_aborted_tunnels_leave_their_credit_behind() {
    let (link, mut served) = connected(PIPE).await;
    for _ in 0..1000 {
        let (near, mut far) = tunnel(&link, &mut served).await;
        let piece = vec![0; 100_000];
        soon(far.write_all(&piece)).await.unwrap();
        // Aborted with bytes underway that nobody reads.
        drop(near);
    }
    let (mut near, mut far) = tunnel(&link, &mut served).await;
    soon(async { tokio::join!(send_pattern(&mut far, 32 << 20, 1 << 20), expect_pattern(&mut near, 32 << 20)) }).await;
}

#[tokio::test]
async fn writing_after_the_end_is_an_error() {
    let (link, mut served) = connected(PIPE).await;
    let (mut near, _far) = tunnel(&link, &mut served).await;
    near.shutdown().await.unwrap();
    near.shutdown().await.unwrap();
    let written = poll_fn(|cx| match Pin::new(&mut near).poll_write(cx, b"x") {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => panic!("it can never be ready"),
    })
    .await;
    assert_eq!(written.unwrap_err().kind(), ErrorKind::BrokenPipe);
}
