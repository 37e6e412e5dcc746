//! The rows of the table: what each measures, beside whom, and what is promised.

mod changes;
mod held;
mod l4;
mod l7;
mod memory;
mod pair;
mod plane;
mod single;

use super::{
    figure::{Figure, OURS, PLAIN, Target},
    rig::Rig,
};
use anyhow::Result;

/// One row, which may have several lines.
pub struct Row {
    /// What `--only` calls it.
    pub name: &'static str,
    /// How it is measured, in a sentence or two.
    pub about: &'static str,
    /// Programs of the system that it uses.
    pub needs: &'static [&'static str],
    /// It wants a lab that nobody used before.
    pub fresh: bool,
    /// The measurement.
    pub run: fn(&mut Rig) -> Result<Vec<Figure>>,
}

/// Names of peers in the table.
const ENVOY: &str = "envoy";
const HAPROXY: &str = "haproxy";
/// A pair of haproxies that pass TCP on, without TLS and without redirection: what any pair of proxies leaves of plain TCP.
const RELAYS: &str = "relays";
const NGINX: &str = "nginx";

/// All of them, in the order of the table.
pub const ALL: &[Row] = &[
    Row {
        name: "bulk",
        about: "TCP between two nodes: iperf3, client to server. Envoy: a pair with mTLS, one TLS connection for each \
                connection. Relays: a pair of haproxies that pass bytes on, with neither TLS nor redirection",
        needs: &["iperf3", "nginx", "envoy", "haproxy"],
        fresh: false,
        run: l4::bulk,
    },
    Row {
        name: "requests",
        about: "TCP between two nodes: wrk, one thread, 16 connections that stay, to nginx with an answer of 120 bytes",
        needs: &["wrk", "iperf3", "nginx", "envoy", "haproxy"],
        fresh: false,
        run: l4::requests,
    },
    Row {
        name: "connections",
        about: "TCP between two nodes: wrk, 16 at a time, a new connection for each request",
        needs: &["wrk", "iperf3", "nginx", "envoy", "haproxy"],
        fresh: false,
        run: l4::connections,
    },
    Row {
        name: "same-node",
        about: "TCP between two pods of one node: iperf3, one stream",
        needs: &["iperf3", "nginx"],
        fresh: false,
        run: l4::same_node,
    },
    Row {
        name: "memory",
        about: "What the larger of two node proxies has resident: with six pods and no connection, with 1,000 and with \
                10,000 connections that were answered once and stay, and 30 s after they were closed",
        needs: &["nginx", "iperf3"],
        fresh: true,
        run: memory::idle,
    },
    Row {
        name: "policies",
        about: "300 new connections a second on a fixed schedule, each timed from when it was due; at the same time in a \
                mesh without policies, and in one with 10,000 in the server's namespace, of which one selects it",
        needs: &["nginx", "iperf3"],
        fresh: false,
        run: held::policies,
    },
    Row {
        name: "slow-readers",
        about: "200 requests a second on a fixed schedule on one stream, each timed from when it was due; alone, and with \
                64 streams beside it in the same tunnels that asked for 200 MB each and read nothing",
        needs: &["nginx", "iperf3"],
        fresh: true,
        run: held::slow_readers,
    },
    Row {
        name: "waypoint-http",
        about: "A proxy of HTTP between two pods: wrk, one thread, connections that stay, one route, no TLS. Ours is all of \
                a waypoint behind its tunnels, the access log included; the others write none",
        needs: &["wrk", "iperf3", "nginx", "envoy", "haproxy"],
        fresh: false,
        run: l7::http,
    },
    Row {
        name: "waypoint-tunnels",
        about: "The same from a node proxy through a waypoint to another node proxy. Envoy: a pair of sidecars with mTLS, and \
                a third Envoy between them that terminates and originates it",
        needs: &["wrk", "iperf3", "nginx", "envoy", "curl"],
        fresh: false,
        run: l7::between,
    },
    Row {
        name: "waypoint-grpc",
        about: "gRPC without streams through a proxy, no TLS: h2load, ten connections with a hundred calls at a time, to \
                nghttpd",
        needs: &["h2load", "nghttpd", "iperf3", "nginx", "envoy"],
        fresh: false,
        run: l7::grpc,
    },
    Row {
        name: "waypoint-routes",
        about: "A waypoint with one route and one with 5,000, of which every request takes the one that stands last",
        needs: &["wrk", "iperf3", "nginx"],
        fresh: false,
        run: l7::routes,
    },
    Row {
        name: "control-plane",
        about: "istiod-lite reading a directory, with 1,000 proxies connected that run in one process beside it: pods that \
                move, one after the other, each timed from the writing of its file to the last proxy; then all connect again \
                with what they know, 64 at a time",
        needs: &["iperf3", "nginx", "curl"],
        fresh: true,
        run: changes::single,
    },
    Row {
        name: "churn",
        about: "The same with 100,000 pods, while others come and go on a fixed schedule, with new names: each timed from when \
                it was due to the last proxy",
        needs: &["iperf3", "nginx", "curl"],
        fresh: true,
        run: changes::churn,
    },
    Row {
        name: "certificates",
        about: "The authority's own work for a request, on one core: `cargo run -p pki --example sign`",
        needs: &["nginx", "iperf3"],
        fresh: false,
        run: single::certificates,
    },
    Row {
        name: "view",
        about: "What a node proxy does when an endpoint moves, in a mesh of 100,000: `cargo run -p mesh --example apply`. \
                Readers take the view by an atomic load and never wait",
        needs: &["nginx", "iperf3"],
        fresh: false,
        run: single::view,
    },
];

fn at_least(times: f64, of: &str) -> Target {
    Target::AtLeast(times, of.into())
}

fn at_most(times: f64, of: &str) -> Target {
    Target::AtMost(times, of.into())
}
