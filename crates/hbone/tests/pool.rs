//! Callers of one key share connections, and nobody waits for what cannot come.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod support;

use hbone::{
    accept::Request,
    limits::{Limits, POOL_SPARE_IDLE},
    pool::{Dial, OpenError, Opened, Pool, PoolKey},
};
use http::StatusCode;
use mesh::Identity;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

const PIPE: usize = 64 << 10;

/// What a dial to a port does.
#[derive(Clone, Copy, PartialEq)]
enum Port {
    /// Connects to a server that accepts every tunnel.
    Good,
    /// Connects to a server that hands its requests to the test.
    Asking,
    /// Connects to a server that resets the first tunnel it is asked for by closing the connection.
    Dying,
    /// Never returns.
    Hanging,
    /// Fails after a moment.
    Failing,
    /// TLS is up, HTTP/2 never comes.
    Mute,
}

#[derive(Debug, thiserror::Error)]
#[error("nobody is there")]
struct Nobody;

/// Dials servers that live in this process.
#[derive(Clone)]
struct Network {
    limits: Limits,
    dials: Arc<AtomicUsize>,
    accepted: mpsc::UnboundedSender<(usize, hbone::stream::Tunnel)>,
    asked: mpsc::UnboundedSender<Request>,
    drains: Arc<Mutex<Vec<CancellationToken>>>,
    ends: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
}

struct World {
    network: Network,
    accepted: mpsc::UnboundedReceiver<(usize, hbone::stream::Tunnel)>,
    asked: mpsc::UnboundedReceiver<Request>,
    pool: Arc<Pool<Network>>,
}

fn world(client: Limits, server: Limits) -> World {
    let (accepted_sender, accepted) = mpsc::unbounded_channel();
    let (asked_sender, asked) = mpsc::unbounded_channel();
    let network = Network {
        limits: server,
        dials: Arc::default(),
        accepted: accepted_sender,
        asked: asked_sender,
        drains: Arc::default(),
        ends: Arc::default(),
    };
    let pool = Arc::new(Pool::new(network.clone(), client));
    World { network, accepted, asked, pool }
}

impl World {
    /// Closes a server's connection without a word.
    fn kill(&self, number: usize) {
        self.network.ends.lock().unwrap()[number].abort();
    }

    fn dials(&self) -> usize {
        self.network.dials.load(Ordering::Relaxed)
    }
}

impl Dial for Network {
    type Io = DuplexStream;
    type Peer = usize;
    type Error = Nobody;

    async fn dial(&self, key: &PoolKey) -> Result<(DuplexStream, usize), Nobody> {
        let number = self.dials.fetch_add(1, Ordering::Relaxed);
        let port = port_of(key);
        tokio::time::sleep(Duration::from_millis(5)).await;
        match port {
            Port::Hanging => std::future::pending().await,
            Port::Failing => return Err(Nobody),
            _ => {}
        }
        let (near, far) = tokio::io::duplex(PIPE);
        if port == Port::Mute {
            tokio::spawn(async move {
                let _open = far;
                std::future::pending::<()>().await;
            });
            return Ok((near, number));
        }
        let mut served = serve(far, self.limits.clone());
        self.drains.lock().unwrap().push(served.drain.clone());
        let network = self.clone();
        self.ends.lock().unwrap().push(served.end.abort_handle());
        tokio::spawn(async move {
            while let Some(request) = served.requests.recv().await {
                match port {
                    Port::Asking => drop(network.asked.send(request)),
                    Port::Dying => {
                        served.end.abort();
                        return;
                    }
                    _ => {
                        if let Ok(tunnel) = request.accept(None) {
                            let _ = network.accepted.send((number, tunnel));
                        }
                    }
                }
            }
        });
        Ok((near, number))
    }
}

fn identity(service_account: &str) -> Identity {
    Identity::new("cluster.local", "shop", service_account).unwrap()
}

fn key(port: Port) -> PoolKey {
    PoolKey {
        source: identity("client"),
        expected: Arc::new([identity("web")]),
        destination: format!("10.0.0.{}:15008", port as u8).parse().unwrap(),
        source_ip: "10.0.0.100".parse().unwrap(),
    }
}

fn port_of(key: &PoolKey) -> Port {
    let ports = [Port::Good, Port::Asking, Port::Dying, Port::Hanging, Port::Failing, Port::Mute];
    ports.into_iter().find(|port| key.destination.ip().to_string() == format!("10.0.0.{}", *port as u8)).unwrap()
}

async fn open(world: &World, port: Port) -> Result<Opened<usize>, OpenError<Nobody>> {
    soon(world.pool.open(&key(port), &head())).await
}

fn opening(world: &World, key: PoolKey) -> tokio::task::JoinHandle<Result<Opened<usize>, OpenError<Nobody>>> {
    let pool = world.pool.clone();
    tokio::spawn(async move { pool.open(&key, &head()).await })
}

#[tokio::test]
async fn a_hundred_callers_share_one_dial() {
    let world = world(limits(), limits());
    let callers: Vec<_> = (0..100).map(|_| opening(&world, key(Port::Good))).collect();
    let mut tunnels = Vec::new();
    for caller in callers {
        tunnels.push(soon(caller).await.unwrap().unwrap());
    }
    assert_eq!(world.dials(), 1);
    tunnels.push(open(&world, Port::Good).await.unwrap());
    assert_eq!(world.dials(), 2, "the hundred and first needs another connection");
    drop(tunnels);
    open(&world, Port::Good).await.unwrap();
    assert_eq!(world.dials(), 2, "connections whose tunnels ended are used again");
}

#[tokio::test]
async fn as_many_connections_are_dialled_at_once_as_the_callers_need() {
    let world = world(limits(), limits());
    let callers: Vec<_> = (0..450).map(|_| opening(&world, key(Port::Good))).collect();
    let mut tunnels = Vec::new();
    for caller in callers {
        tunnels.push(soon(caller).await.unwrap().unwrap());
    }
    assert_eq!(world.dials(), 5);
}

#[tokio::test]
async fn the_peers_limit_of_streams_is_kept() {
    let world = world(limits(), Limits { server_streams: 3, ..limits() });
    let mut tunnels = Vec::new();
    for _ in 0..7 {
        tunnels.push(open(&world, Port::Good).await.unwrap());
    }
    assert_eq!(world.dials(), 3);
    assert_eq!(tunnels.iter().map(|opened| opened.peer).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2]);
}

#[tokio::test]
async fn keys_that_differ_in_anything_share_nothing() {
    let world = world(limits(), limits());
    let base = key(Port::Good);
    let other = |change: &dyn Fn(&mut PoolKey)| {
        let mut key = base.clone();
        change(&mut key);
        key
    };
    let keys = [
        base.clone(),
        other(&|key| key.source = identity("other")),
        other(&|key| key.expected = Arc::new([identity("other")])),
        other(&|key| key.expected = Arc::new([])),
        other(&|key| key.destination.set_port(15009)),
        other(&|key| key.source_ip = "10.0.0.101".parse().unwrap()),
        other(&|key| key.source_ip = "::ffff:10.0.0.100".parse().unwrap()),
    ];
    let mut tunnels = Vec::new();
    for key in &keys {
        tunnels.push(soon(world.pool.open(key, &head())).await.unwrap());
    }
    assert_eq!(world.dials(), keys.len());
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(soon(world.pool.open(key, &head())).await.unwrap().peer, number);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_dial_stops_no_other_key_and_nobody_for_ever() {
    let world = world(limits(), limits());
    let stuck: Vec<_> = (0..100).map(|_| opening(&world, key(Port::Hanging))).collect();
    let begun = tokio::time::Instant::now();
    open(&world, Port::Good).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(100));
    for caller in stuck {
        let refused = caller.await.unwrap();
        assert!(matches!(refused, Err(OpenError::DialDeadline(_))), "{refused:?}");
    }
    assert!(begun.elapsed() <= limits().dial_deadline + Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_peer_without_http2_is_given_up_within_five_seconds() {
    let world = world(limits(), limits());
    let begun = tokio::time::Instant::now();
    let callers: Vec<_> = (0..10).map(|_| opening(&world, key(Port::Mute))).collect();
    for caller in callers {
        let refused = caller.await.unwrap();
        assert!(matches!(refused, Err(OpenError::Begin(_))), "{refused:?}");
    }
    assert!(begun.elapsed() <= Duration::from_secs(5));
    assert_eq!(world.dials(), 1);
}

#[tokio::test]
async fn a_failed_dial_fails_for_all_who_waited() {
    let world = world(limits(), limits());
    let callers: Vec<_> = (0..50).map(|_| opening(&world, key(Port::Failing))).collect();
    for caller in callers {
        let refused = soon(caller).await.unwrap();
        assert!(matches!(refused, Err(OpenError::Dial(_))), "{refused:?}");
    }
    assert_eq!(world.dials(), 1);
    assert!(open(&world, Port::Failing).await.is_err());
    assert_eq!(world.dials(), 2, "the next caller tries again");
}

#[tokio::test]
async fn a_dial_whose_caller_went_away_is_taken_over() {
    let world = world(limits(), limits());
    let first = opening(&world, key(Port::Good));
    tokio::task::yield_now().await;
    let others: Vec<_> = (0..20).map(|_| opening(&world, key(Port::Good))).collect();
    tokio::task::yield_now().await;
    first.abort();
    for caller in others {
        soon(caller).await.unwrap().unwrap();
    }
    assert_eq!(world.dials(), 2);
}

#[tokio::test]
async fn a_tunnel_that_died_unanswered_is_asked_for_once_more() {
    let mut world = world(limits(), limits());
    let caller = opening(&world, key(Port::Asking));
    let _unanswered = soon(world.asked.recv()).await.unwrap();
    world.kill(0);
    let asked_again = soon(world.asked.recv()).await.unwrap();
    let _far = asked_again.accept(None).unwrap();
    assert_eq!(soon(caller).await.unwrap().unwrap().peer, 1);
}

#[tokio::test]
async fn a_tunnel_that_the_peer_gave_up_itself_is_not() {
    let mut world = world(limits(), limits());
    let caller = opening(&world, key(Port::Asking));
    drop(soon(world.asked.recv()).await.unwrap());
    let refused = soon(caller).await.unwrap();
    assert!(matches!(refused, Err(OpenError::Broken(_))), "{refused:?}");
    assert_eq!(world.dials(), 1);
}

#[tokio::test]
async fn a_peer_that_always_dies_unanswered_is_asked_twice() {
    let world = world(limits(), limits());
    let refused = open(&world, Port::Dying).await;
    assert!(matches!(refused, Err(OpenError::Broken(_))), "{refused:?}");
    assert_eq!(world.dials(), 2);
    assert_eq!(world.pool.connections(), 0);
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    let mut world = world(limits(), limits());
    let caller = opening(&world, key(Port::Asking));
    soon(world.asked.recv()).await.unwrap().refuse(StatusCode::UNAUTHORIZED);
    let refused = soon(caller).await.unwrap();
    assert!(matches!(refused, Err(OpenError::Refused(StatusCode::UNAUTHORIZED))), "{refused:?}");
    assert_eq!(world.dials(), 1);
}

#[tokio::test]
async fn a_draining_peer_gets_no_new_tunnels_and_keeps_its_old_ones() {
    let mut world = world(limits(), limits());
    let mut old = open(&world, Port::Good).await.unwrap();
    let (_, mut far) = soon(world.accepted.recv()).await.unwrap();
    world.network.drains.lock().unwrap()[0].cancel();
    // It may take a few before the word is here.
    soon(async { while open(&world, Port::Good).await.unwrap().peer == old.peer {} }).await;
    assert_eq!((old.peer, world.dials()), (0, 2));
    old.tunnel.write_all(b"still").await.unwrap();
    soon(far.read_exact(&mut [0; 5])).await.unwrap();
}

#[tokio::test]
async fn a_dead_connection_leaves_at_once() {
    let world = world(limits(), limits());
    let mut opened = open(&world, Port::Good).await.unwrap();
    assert_eq!(world.pool.connections(), 1);
    world.kill(0);
    assert!(soon(opened.tunnel.read(&mut [0; 1])).await.is_err());
    soon(async {
        while world.pool.connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(open(&world, Port::Good).await.unwrap().peer, 1);
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_closes_after_its_time_and_a_used_one_does_not() {
    let idle = limits().pool_idle;
    let world = world(limits(), limits());
    let opened = open(&world, Port::Good).await.unwrap();
    tokio::time::sleep(idle * 3).await;
    assert_eq!(world.pool.connections(), 1, "it is in use");
    drop(opened);
    tokio::time::sleep(idle - Duration::from_secs(5)).await;
    assert_eq!(world.pool.connections(), 1, "not yet");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.pool.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_connections_that_are_all_unused_one_stays_for_long() {
    let client = Limits { pool_streams: 1, ..limits() };
    let idle = client.pool_idle;
    let world = world(client, limits());
    let opened = [open(&world, Port::Good).await.unwrap(), open(&world, Port::Good).await.unwrap()];
    tokio::time::sleep(POOL_SPARE_IDLE * 3).await;
    assert_eq!(world.pool.connections(), 2, "both are in use");
    let [used, unused] = opened;
    drop(unused);
    tokio::time::sleep(POOL_SPARE_IDLE * 3).await;
    assert_eq!(world.pool.connections(), 2, "the other one is full");
    drop(used);
    tokio::time::sleep(POOL_SPARE_IDLE * 3).await;
    assert_eq!(world.pool.connections(), 1, "one was spare");
    tokio::time::sleep(idle).await;
    assert_eq!(world.pool.connections(), 0);
}

#[tokio::test]
async fn callers_beyond_the_last_connection_wait_for_a_place() {
    let client = Limits { pool_streams: 1, pool_connections_per_key: 1, ..limits() };
    let world = world(client, limits());
    let first = open(&world, Port::Good).await.unwrap();
    let second = opening(&world, key(Port::Good));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!second.is_finished());
    drop(first);
    soon(second).await.unwrap().unwrap();
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn callers_do_not_wait_for_a_place_for_ever() {
    let client = Limits { pool_streams: 1, pool_connections_per_key: 1, ..limits() };
    let world = world(client, limits());
    let _first = open(&world, Port::Good).await.unwrap();
    let second = opening(&world, key(Port::Good)).await.unwrap();
    assert!(matches!(second, Err(OpenError::Full)), "{second:?}");
}

#[tokio::test]
async fn nothing_is_lost_when_callers_give_up_anywhere() {
    let client = Limits { pool_streams: 4, pool_connections_per_key: 3, ..limits() };
    let world = world(client, limits());
    let mut callers = JoinSet::new();
    for number in 0..2_000_u64 {
        let pool = world.pool.clone();
        callers.spawn(async move {
            // Each gives up after another time, many while they dial, wait, ask or talk.
            let patience = Duration::from_micros(number.wrapping_mul(7919) % 15_000);
            let _ = tokio::time::timeout(patience, async {
                let opened = pool.open(&key(Port::Good), &head()).await.unwrap();
                tokio::time::sleep(Duration::from_micros(number % 500)).await;
                drop(opened);
            })
            .await;
        });
    }
    while soon(callers.join_next()).await.is_some() {}
    let mut tunnels = Vec::new();
    for _ in 0..12 {
        tunnels.push(open(&world, Port::Good).await.unwrap());
    }
    assert!(world.pool.connections() <= 3);
}
