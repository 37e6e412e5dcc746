//! What HTTP/2 costs a tunnel, without sockets and TLS: both ends of a connection in one thread,
//! over a pipe in memory. To be counted, not timed:
//!
//! ```text
//! cargo build --release -p hbone --example engine
//! valgrind --tool=callgrind target/release/examples/engine own bulk 64
//! ```
//!
//! The first argument is the engine (`own`, `h2`), the second what is done, the third how often:
//! * `bulk`: so many MB through one tunnel, in pieces of 64 KiB;
//! * `many`: so many MB through each of 16 tunnels at once;
//! * `chat`: so many questions and answers of 100 bytes through one tunnel;
//! * `tunnels`: so many tunnels, one after the other, each with one question and its answer.
//! * `idle`: so many connections with 100 tunnels each that have said a word and wait; prints what
//!   memory one of these takes, both ends together.
//!
//! The difference between two runs is what the difference between their numbers costs.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "an example")]

use bytes::Bytes;
use hbone::{
    accept::{self, Drain},
    head::{Authority, ConnectHead},
    limits::{Engine, Limits},
    open::{self, Link},
    stream::Tunnel,
};
use std::{future::poll_fn, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

const MB: usize = 1 << 20;
const PIECE: usize = 64 << 10;

/// What the far end does with each tunnel.
async fn serve(io: tokio::io::DuplexStream, limits: Limits) {
    let drain = Drain { start: CancellationToken::new(), deadline: Duration::ZERO };
    let mut connection = accept::serve(io, &limits, drain).await.unwrap();
    while let Some(request) = connection.next().await {
        tokio::spawn(async move {
            let Ok(mut tunnel) = request.accept(None) else { return };
            // A small question is answered, of a large one only the end.
            while let Some(bytes) = poll_fn(|cx| tunnel.poll_take(cx)).await.unwrap() {
                tunnel.delivered(bytes.len());
                if bytes.len() == 100 {
                    give(&mut tunnel, bytes).await;
                }
            }
            tunnel.finish().unwrap();
        });
    }
}

async fn give(tunnel: &mut Tunnel, mut bytes: Bytes) {
    while !bytes.is_empty() {
        poll_fn(|cx| tunnel.poll_give(cx, &mut bytes)).await.unwrap();
    }
}

async fn open(link: &Link) -> Tunnel {
    let head = ConnectHead::to(Authority::parse("10.0.0.1:80").unwrap());
    link.tunnel(&head, Box::new(())).await.unwrap().0
}

async fn bulk(mut tunnel: Tunnel, megabytes: usize) {
    let piece = Bytes::from(vec![7; PIECE]);
    for _ in 0..megabytes * MB / PIECE {
        give(&mut tunnel, piece.clone()).await;
    }
    end(tunnel).await;
}

async fn chat(tunnel: &mut Tunnel, times: usize) {
    let mut answer = [0; 100];
    for _ in 0..times {
        tunnel.write_all(&[7; 100]).await.unwrap();
        tunnel.read_exact(&mut answer).await.unwrap();
    }
}

/// A connection with this many tunnels that wait.
async fn idle(limits: &Limits, tunnels: usize) -> Vec<Tunnel> {
    let (near, far) = tokio::io::duplex(256 << 10);
    tokio::spawn(serve(far, limits.clone()));
    let (link, drive) = open::begin(near, limits).await.unwrap();
    tokio::spawn(drive);
    let mut all = Vec::with_capacity(tunnels);
    for _ in 0..tunnels {
        let mut tunnel = open(&link).await;
        chat(&mut tunnel, 1).await;
        all.push(tunnel);
    }
    all
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

async fn end(mut tunnel: Tunnel) {
    tunnel.shutdown().await.unwrap();
    assert_eq!(tunnel.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, what, number] = arguments.as_slice() else {
        panic!("usage: engine own|h2 bulk|many|chat|tunnels|idle N")
    };
    let engine = if engine == "h2" { Engine::H2 } else { Engine::Own };
    let limits = Limits { engine, ..Limits::default() };
    let number: usize = number.parse().unwrap();
    let (near, far) = tokio::io::duplex(256 << 10);
    let serving = tokio::spawn(serve(far, limits.clone()));
    let (link, drive) = open::begin(near, &limits).await.unwrap();
    let driving = tokio::spawn(drive);
    match what.as_str() {
        "bulk" => bulk(open(&link).await, number).await,
        "many" => {
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..16 {
                all.spawn(bulk(open(&link).await, number));
            }
            all.join_all().await;
        }
        "chat" => {
            let mut tunnel = open(&link).await;
            chat(&mut tunnel, number).await;
            end(tunnel).await;
        }
        "idle" => {
            let _warm = idle(&limits, 100).await;
            let before = resident_bytes();
            let mut all = Vec::with_capacity(number);
            for _ in 0..number {
                all.push(idle(&limits, 100).await);
            }
            let of_tunnels = resident_bytes() - before;
            let mut bare = Vec::with_capacity(number);
            for _ in 0..number {
                bare.push(idle(&limits, 1).await);
            }
            let of_connections = resident_bytes() - before - of_tunnels;
            println!("{} bytes a tunnel", (of_tunnels - of_connections) / (99 * number));
            println!("{} bytes a connection with one", of_connections / number);
            std::process::exit(0);
        }
        _ => {
            for _ in 0..number {
                let mut tunnel = open(&link).await;
                chat(&mut tunnel, 1).await;
                end(tunnel).await;
            }
        }
    }
    drop(link);
    driving.await.unwrap().unwrap();
    serving.await.unwrap();
}
