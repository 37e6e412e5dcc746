//! A peer that is cut off is told why, also if it goes on to talk.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod support;

use hbone::accept::ConnectionEnd;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A frame of 16 MiB less one byte, which is more than anybody takes.
const TOO_LARGE: &[u8] = b"\xff\xff\xff\0\0\0\0\0\x01";
const GO_AWAY: u8 = 7;
const FRAME_SIZE_ERROR: u32 = 6;

#[tokio::test]
async fn a_peer_that_goes_on_to_talk_hears_why_it_is_cut_off() {
    let (mut near, far) = tcp().await;
    let served = serve(far, limits());
    near.write_all(PREFACE).await.unwrap();
    near.write_all(TOO_LARGE).await.unwrap();
    // More than the buffers of two sockets take: it is still being written when the end is decided.
    soon(near.write_all(&vec![0; 6 << 20])).await.unwrap();
    let mut said = Vec::new();
    soon(near.read_to_end(&mut said)).await.unwrap();
    let mut frames = said.as_slice();
    let mut told = None;
    while let Some((head, rest)) = frames.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, rest) = rest.split_at(length);
        frames = rest;
        if head[3] == GO_AWAY {
            told = Some(u32::from_be_bytes(*payload[4..].first_chunk().unwrap()));
        }
    }
    assert_eq!(told, Some(FRAME_SIZE_ERROR));
    drop(near);
    assert!(matches!(soon(served.end).await.unwrap(), ConnectionEnd::Broken(_)));
}
