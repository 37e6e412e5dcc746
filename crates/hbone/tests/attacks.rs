//! A peer that abuses HTTP/2 is cut off or held back, costs little memory, and its neighbours
//! notice nothing.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod support;

use std::time::{Duration, Instant};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    task::JoinHandle,
};

const PIPE: usize = 64 << 10;
/// What an attacker may get rid of before it is cut off or held back.
const BYTES_MAX: usize = 24 << 20;
/// How long a neighbour may wait; a thousand times what it does, for machines that do much else.
const NEIGHBOUR_WAITS_MAX: Duration = Duration::from_secs(10);
/// How much the process may grow by all attacks together.
const GROWTH_BYTES_MAX: usize = 48 << 20;
/// Method CONNECT and authority 10.0.0.1:80 as literals.
const CONNECT: &[u8] = b"\x02\x07CONNECT\x01\x0b10.0.0.1:80";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A stream is opened as it should be, and then this is done to it.
fn opened(stream: u32, then: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, stream, CONNECT);
    then.iter().for_each(|then| bytes.extend(then));
    bytes
}

/// How an attack goes on: its bytes for the round of this number, from 0.
type Round = fn(u32) -> Vec<u8>;

const ATTACKS: &[(&str, Round)] = &[
    ("rapid reset", |n| opened(2 * n + 1, &[frame(RESET, 0, 2 * n + 1, &[0, 0, 0, 8])])),
    ("made to reset: window update of 0", |n| opened(2 * n + 1, &[frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0; 4])])),
    ("made to reset: window overflow", |n| {
        opened(2 * n + 1, &[frame(WINDOW_UPDATE, 0, 2 * n + 1, &[0x7f, 0xff, 0xff, 0xff])])
    }),
    ("made to reset: data after the end", |n| {
        let id = 2 * n + 1;
        opened(id, &[frame(DATA, END_STREAM, id, b"x"), frame(DATA, 0, id, b"x")])
    }),
    ("made to reset: a second head", |n| opened(2 * n + 1, &[frame(HEADERS, END_HEADERS, 2 * n + 1, CONNECT)])),
    ("made to reset: depends on itself", |n| {
        let id = 2 * n + 1;
        opened(id, &[frame(PRIORITY, 0, id, &[id.to_be_bytes().as_slice(), &[16]].concat())])
    }),
    ("head without an end", |n| match n {
        0 => frame(HEADERS, 0, 1, CONNECT),
        _ => frame(CONTINUATION, 0, 1, &[b"\0\x01a\x7f\x80\x01".as_slice(), &[b'x'; 255]].concat()),
    }),
    ("head of empty parts", |n| match n {
        0 => frame(HEADERS, 0, 1, CONNECT),
        _ => frame(CONTINUATION, 0, 1, b""),
    }),
    ("header bomb", |n| {
        // One entry of 4,000 bytes goes into the table and is then named 16,000 times in each head.
        let entry = [b"\x40\x01a\x7f\xa1\x1e".as_slice(), &[b'x'; 4000]].concat();
        let block = [CONNECT, if n == 0 { &entry } else { b"" }, &[0xbe; 16_000]].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, &block)
    }),
    ("pings that nobody reads the answers of", |_| frame(PING, 0, 0, b"pingpong")),
    ("settings that nobody reads the answers of", |_| frame(SETTINGS, 0, 0, b"")),
    ("empty data", |n| match n {
        0 => opened(1, &[]),
        _ => frame(DATA, 0, 1, b""),
    }),
    ("padded data", |n| match n {
        0 => opened(1, &[]),
        _ => frame(DATA, 8, 1, &[[255].as_slice(), &[0; 255]].concat()),
    }),
    ("streams beyond the limit", |n| opened(2 * n + 1, &[])),
    ("garbage", |n| n.wrapping_mul(0x9e37_79b9).to_be_bytes().repeat(64)),
];

/// A server as an inbound proxy is one: each tunnel is answered, and read to its end.
fn victim() -> (DuplexStream, JoinHandle<()>) {
    let (near, far) = tokio::io::duplex(PIPE);
    let mut served = serve(far, limits());
    let serving = tokio::spawn(async move {
        while let Some(request) = served.requests.recv().await {
            if let Ok(mut tunnel) = request.accept(None) {
                tokio::spawn(async move { tokio::io::copy(&mut tunnel, &mut tokio::io::sink()).await });
            }
        }
    });
    (near, serving)
}

/// Goes on until it is cut off, held back, or has had its way. Returns the bytes it got rid of.
async fn attack(mut victim: DuplexStream, round: Round) -> Option<usize> {
    let mut sent = 0;
    victim.write_all(PREFACE).await.unwrap();
    for number in 0.. {
        let bytes = round(number);
        match tokio::time::timeout(Duration::from_secs(1), victim.write_all(&bytes)).await {
            Ok(Ok(())) => sent += bytes.len(),
            Ok(Err(_)) | Err(_) => return Some(sent),
        }
        if sent > BYTES_MAX {
            return None;
        }
    }
    None
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn whoever_abuses_a_connection_loses_it_and_nobody_else_does() {
    let (link, mut served) = connected(PIPE).await;
    let before = resident_bytes();
    for (name, round) in ATTACKS {
        let (near, serving) = victim();
        let begun = Instant::now();
        let attacking = tokio::spawn(attack(near, *round));
        let mut slowest = Duration::ZERO;
        while !attacking.is_finished() {
            // A neighbour all the while.
            let asked = Instant::now();
            let (mut near, mut far) = tunnel(&link, &mut served).await;
            near.write_all(b"hello").await.unwrap();
            far.read_exact(&mut [0; 5]).await.unwrap();
            slowest = slowest.max(asked.elapsed());
        }
        let sent = attacking.await.unwrap();
        println!("{name}: {sent:?} bytes in {:?}, slowest neighbour {slowest:?}", begun.elapsed());
        assert!(sent.is_some(), "{name}: nothing stops it");
        assert!(slowest < NEIGHBOUR_WAITS_MAX, "{name}: a neighbour waited {slowest:?}");
        soon(serving).await.unwrap();
    }
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "the attacks cost {growth} bytes");
}
