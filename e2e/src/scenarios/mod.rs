//! Every scenario, one file a theme. A scenario gets a stage (a running lab) and says what it saw.

pub mod control_plane;
pub mod metrics;
pub mod propagation;
pub mod proxy;
pub mod traffic;
pub mod wire;

use crate::stage::Stage;

/// One scenario.
pub struct Scenario {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub about: &'static str,
    /// Programs of the system that it uses.
    pub needs: &'static [&'static str],
    /// It wants a lab that nobody used before.
    pub fresh: bool,
    /// The scenario itself.
    pub run: fn(&mut Stage, &mut Vec<String>) -> anyhow::Result<()>,
}

/// All of them, in the order they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "traffic",
        about: "curl, iperf3, TLS, server-first, 1 GiB, 1,000 connections, IPv4 and IPv6, in and out of the mesh",
        needs: &["curl", "iperf3", "openssl", "python3"],
        fresh: false,
        run: traffic::run,
    },
    Scenario {
        name: "wire",
        about: "between the nodes: no payload, only 15008; STRICT refuses plaintext, PERMISSIVE takes it",
        needs: &["curl", "tcpdump", "python3"],
        fresh: false,
        run: wire::run,
    },
    Scenario {
        name: "propagation",
        about: "policy, endpoint and enrolment changes decide connections in under 100 ms at the median",
        needs: &["curl", "python3"],
        fresh: false,
        run: propagation::run,
    },
    Scenario {
        name: "control-plane-restart",
        about: "istiod-lite killed under load: no failed request, same root, only what changed is sent",
        needs: &["curl"],
        fresh: true,
        run: control_plane::run,
    },
    Scenario {
        name: "proxy-crash",
        about: "ztunnel killed: new connections within 1.5 s, and meanwhile nothing goes around it",
        needs: &["tcpdump"],
        fresh: true,
        run: proxy::crash,
    },
    Scenario {
        name: "proxy-upgrade",
        about: "ztunnel replaced 20 times under 500 new connections a second: none refused, none reset",
        needs: &[],
        fresh: false,
        run: proxy::upgrade,
    },
    Scenario {
        name: "metrics",
        about: "promtool is content with every program's metrics, and a real Prometheus scrapes them",
        needs: &["curl", "prometheus", "promtool"],
        fresh: false,
        run: metrics::run,
    },
];
