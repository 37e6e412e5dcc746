//! Ours and h2, at either end: whatever is done, the same bytes arrive and the same ends are seen.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod support;

use futures_util::future::BoxFuture;
use hbone::{
    limits::{Engine, Limits},
    open::{self, Link, TunnelError},
    stream::Tunnel,
};
use http::StatusCode;
use proptest::prelude::*;
use std::{
    io::ErrorKind,
    sync::{Arc, Mutex},
};
use support::*;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Barrier,
    task::JoinSet,
};

/// How a tunnel is answered.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Accept,
    Refuse,
    Drop,
}

/// How it ends, once all its bytes have arrived.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The client ends its direction, then the server.
    Finish,
    /// The server first.
    FinishByServer,
    Reset,
    ResetByServer,
    Drop,
    DropByServer,
}

/// What becomes of one tunnel.
#[derive(Clone, Debug)]
struct Plan {
    answer: Answer,
    /// The lengths of what the client writes, and the server.
    writes: [Vec<usize>; 2],
    /// What each reads at a time.
    reads: [usize; 2],
    end: End,
}

/// What one side has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Refused(StatusCode),
    Reset,
    Ended { bytes: usize, read: Result<usize, ErrorKind>, write: Result<(), ErrorKind> },
}

/// What all have seen: of each tunnel the client, and the server.
type Outcome = Vec<[Option<Seen>; 2]>;

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let writes = || {
        prop_oneof![
            prop::collection::vec(1_usize..300, 0..40),
            prop::collection::vec(1_usize..100_000, 0..8),
            Just(vec![400_000; 3]),
        ]
    };
    let reads = || prop_oneof![1_usize..2000, Just(100_000_usize)];
    let answer = prop_oneof![8 => Just(Answer::Accept), 1 => Just(Answer::Refuse), 1 => Just(Answer::Drop)];
    let end = prop_oneof![
        3 => Just(End::Finish),
        3 => Just(End::FinishByServer),
        1 => Just(End::Reset),
        1 => Just(End::ResetByServer),
        1 => Just(End::Drop),
        1 => Just(End::DropByServer),
    ];
    let plan = (answer, [writes(), writes()], [reads(), reads()], end).prop_map(|(answer, writes, reads, end)| Plan {
        answer,
        writes,
        reads,
        end,
    });
    prop::collection::vec(plan, 1..12)
}

fn total(lengths: &[usize]) -> usize {
    lengths.iter().sum()
}

async fn write_all(to: &mut (impl AsyncWrite + Unpin), lengths: &[usize]) {
    let mut at = 0;
    for length in lengths {
        to.write_all(&pattern(at, *length)).await.unwrap();
        at += length;
    }
}

async fn read_all(from: &mut (impl AsyncRead + Unpin), total: usize, at_once: usize) {
    let (mut at, mut buffer) = (0, vec![0; at_once]);
    while at < total {
        let most = at_once.min(total - at);
        let read = from.read(&mut buffer[..most]).await.unwrap();
        assert!(read > 0, "it ended after {at} of {total} bytes");
        assert!(buffer[..read] == pattern(at, read), "bytes from {at} on are wrong");
        at += read;
    }
}

/// One side of a tunnel that was accepted, 0 for the client's.
async fn side(mut tunnel: Tunnel, plan: Plan, side: usize, all_here: Arc<Barrier>) -> Seen {
    let bytes = total(&plan.writes[1 - side]);
    let (mut read, mut write) = tokio::io::split(&mut tunnel);
    tokio::join!(write_all(&mut write, &plan.writes[side]), read_all(&mut read, bytes, plan.reads[side]));
    all_here.wait().await;
    let begins = match plan.end {
        End::Finish | End::Reset | End::Drop => side == 0,
        End::FinishByServer | End::ResetByServer | End::DropByServer => side == 1,
    };
    match (plan.end, begins) {
        (End::Finish | End::FinishByServer, true) => tunnel.shutdown().await.unwrap(),
        (End::Reset | End::ResetByServer, true) => {
            tunnel.reset();
            return Seen::Ended { bytes, read: Ok(0), write: Ok(()) };
        }
        (_, true) => return Seen::Ended { bytes, read: Ok(0), write: Ok(()) },
        (_, false) => {}
    }
    let read = tunnel.read(&mut [0]).await.map_err(|error| error.kind());
    let write = match (begins, &read) {
        (false, Ok(_)) => tunnel.shutdown().await.map_err(|error| error.kind()),
        _ => tunnel.write_all(b"x").await.map_err(|error| error.kind()),
    };
    Seen::Ended { bytes, read, write }
}

async fn client(link: Link, plan: Plan, all_here: Arc<Barrier>) -> Seen {
    match link.tunnel(&head(), Box::new(())).await {
        Ok((tunnel, _)) => side(tunnel, plan, 0, all_here).await,
        Err(TunnelError::Refused(status)) => Seen::Refused(status),
        Err(TunnelError::Reset(_)) => Seen::Reset,
        Err(error) => panic!("the connection broke: {error:?}"),
    }
}

async fn carry_out(plans: &[Plan], engines: [Engine; 2], windows: [u32; 2], pipe: usize) -> Outcome {
    let [ours, theirs] = engines.map(|engine| Limits {
        engine,
        stream_window_bytes: windows[0],
        connection_window_bytes: windows[1],
        ..Limits::default()
    });
    let (near, far) = tokio::io::duplex(pipe);
    let mut served = serve(far, theirs);
    let (link, drive) = open::begin(near, &ours).await.unwrap();
    let driving = tokio::spawn(drive);
    let outcome = Arc::new(Mutex::new(vec![[None, None]; plans.len()]));
    let note = |number: usize, side: usize, seen: BoxFuture<'static, Seen>| {
        let outcome: Arc<Mutex<Outcome>> = outcome.clone();
        async move {
            let seen = seen.await;
            outcome.lock().unwrap()[number][side] = Some(seen);
        }
    };
    let mut tasks = JoinSet::new();
    for (number, plan) in plans.iter().enumerate() {
        let all_here = Arc::new(Barrier::new(2));
        tasks.spawn(note(number, 0, Box::pin(client(link.clone(), plan.clone(), all_here.clone()))));
        // Asked one after the other, so that the server knows whom it answers.
        let request = served.request().await;
        match plan.answer {
            Answer::Drop => drop(request),
            Answer::Refuse => request.refuse(StatusCode::UNAUTHORIZED),
            Answer::Accept => {
                let tunnel = request.accept(None).unwrap();
                tasks.spawn(note(number, 1, Box::pin(side(tunnel, plan.clone(), 1, all_here))));
            }
        }
    }
    while let Some(task) = soon(tasks.join_next()).await {
        task.unwrap();
    }
    drop(link);
    soon(driving).await.unwrap().unwrap();
    let outcome = outcome.lock().unwrap();
    outcome.clone()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nobody_can_tell_the_engines_apart(
        plans in plans(),
        stream_window in prop_oneof![Just(65_535_u32), 65_535..200_000_u32, Just(4 << 20)],
        connection_window in prop_oneof![Just(65_535_u32), Just(16 << 20)],
        pipe in prop_oneof![100_usize..5000, Just(256 << 10)],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let carried_out = |engines| {
            runtime.block_on(carry_out(&plans, engines, [stream_window, connection_window], pipe))
        };
        let expected = carried_out([Engine::H2, Engine::H2]);
        for engines in [[Engine::Own, Engine::Own], [Engine::Own, Engine::H2], [Engine::H2, Engine::Own]] {
            prop_assert_eq!(&carried_out(engines), &expected, "{:?}", engines);
        }
    }
}
