//! Destinations that may have few connections, and requests that want one on each core.

use std::sync::Arc;
use std::time::Duration;

use chassis::task;
use mesh::route::Traffic;
use mesh::route::traffic::{Balance, HttpVersion, Pool};
use testkit::api_server::until;
use tokio::time::timeout;
use waypoint::upstream::cluster::Cluster;

use crate::endpoint::{self, Hits};
use crate::world::{World, request};

/// Much less than a request waits for a connection, and much more than anything here takes.
const SOON: Duration = Duration::from_secs(5);

/// `web` with endpoints at these addresses and one connection to all of them, and a waypoint of two cores.
async fn narrow(version: HttpVersion, ips: &[&str]) -> (Arc<World>, Vec<Hits>) {
    let mut hits = Vec::new();
    let (mut pods, mut names, mut port) = (String::new(), Vec::new(), 0);
    for (index, ip) in ips.iter().enumerate() {
        let (taken, hit) = endpoint::speaking(version, &format!("{ip}:{port}")).await;
        port = taken;
        hits.push(hit);
        pods.push_str(&format!("pod server-{index} ns=shop sa=server ip={ip} plain\n"));
        names.push(format!("server-{index}"));
    }
    let service = format!("service web ns=shop vip=10.1.0.1 80->{port} pods={} waypoint=wp\n", names.join(","));
    let mut world = World::new(&format!("{pods}{service}")).await;
    world.add_core().await;
    world.rules(|rules| {
        let pool = Pool { http: Some(version), connections_max: Some(1), streams_max: Some(1), ..Pool::default() };
        rules.traffic.push(Traffic { pool, balance: Balance::RoundRobin, ..Traffic::default() });
    });
    (Arc::new(world), hits)
}

async fn status(world: &World, core: usize, path: &str) -> u16 {
    let answer = timeout(SOON, world.ask_core(core, request("GET", path, ""))).await;
    answer.expect("an answer").status().as_u16()
}

fn cluster(world: &World) -> Arc<Cluster> {
    world.waypoint.clusters.all().pop().unwrap()
}

#[tokio::test]
async fn a_connection_that_another_core_keeps_is_no_reason_to_refuse() {
    for (version, ip) in [(HttpVersion::Http1, "127.77.2.1"), (HttpVersion::Http2, "127.77.2.2")] {
        let (world, _) = narrow(version, &[ip]).await;
        for core in [0, 1, 0, 1] {
            assert_eq!(status(&world, core, "/").await, 200, "{version:?}, core {core}");
        }
        assert_eq!(cluster(&world).breakers.connections.taken(), 1);
    }
}

#[tokio::test]
async fn who_waits_goes_on_when_another_core_has_done() {
    for (version, ip) in [(HttpVersion::Http1, "127.77.2.3"), (HttpVersion::Http2, "127.77.2.4")] {
        let (world, hits) = narrow(version, &[ip]).await;
        waits(&world, &hits, 1, version).await;
    }
}

#[tokio::test]
async fn who_waits_goes_on_when_a_connection_to_another_endpoint_comes_free() {
    for (version, ips) in
        [(HttpVersion::Http1, ["127.77.2.5", "127.77.2.6"]), (HttpVersion::Http2, ["127.77.2.7", "127.77.2.8"])]
    {
        let (world, hits) = narrow(version, &ips).await;
        waits(&world, &hits, 0, version).await;
        assert!(hits.iter().all(|hits| hits.count() == 1), "one after the other");
    }
}

/// A request holds the one connection, another one waits on this core, and goes on when the first is done.
async fn waits(world: &Arc<World>, hits: &[Hits], core: usize, version: HttpVersion) {
    let asker = |core, path| {
        let world = world.clone();
        task::spawn("asker", async move { status(&world, core, path).await })
    };
    let first = asker(0, "/held");
    until("the first request arrives", || hits.iter().any(|hits| hits.count() == 1)).await;
    let second = asker(core, "/");
    until("the second one waits", || cluster(world).breakers.pending.taken() == 1).await;
    hits.iter().for_each(Hits::let_go);
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (200, 200), "{version:?}");
}
