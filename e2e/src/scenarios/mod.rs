//! Every scenario, one file a theme. A scenario gets a stage (a running lab) and says what it saw.

pub mod attacks;
pub mod bad_input;
pub mod bad_xds;
pub mod bad_zds;
pub mod cluster;
pub mod control_plane;
pub mod identity;
pub mod metrics;
pub mod policies;
pub mod policy;
pub mod propagation;
pub mod proxy;
pub mod revoked;
pub mod traffic;
pub mod tunnel_protocol;
pub mod waypoint;
pub mod wire;

use crate::stage::Stage;

/// A pod that shares the network of `node1`: where an eavesdropper sits.
pub(crate) const ON_NODE1: &str = "kube-system/node1";
/// The same on `node2`.
pub(crate) const ON_NODE2: &str = "kube-system/node2";

/// Where a scenario can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// It breaks parts of the lab that a cluster does not have, or counts milliseconds that a cluster does not keep.
    Lab,
    /// On whatever the mesh runs.
    Both,
    /// It asks for what only Kubernetes has.
    Kind,
}

impl On {
    /// Whether a scenario that is for this is played there.
    pub fn is(self, place: Self) -> bool {
        self == place || self == Self::Both
    }
}

/// One scenario.
pub struct Scenario {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What it shows, in a sentence.
    pub about: &'static str,
    /// Programs of the system that it uses.
    pub needs: &'static [&'static str],
    /// It wants a lab that nobody used before, or a cluster without what other scenarios have left.
    pub fresh: bool,
    /// It wants the mesh there, on a cluster where it might not be.
    pub installed: bool,
    /// Environment of the mesh's own programs that it wants: `(component, key, value)`.
    pub env: &'static [(&'static str, &'static str, &'static str)],
    /// Where it is played.
    pub on: On,
    /// The scenario itself.
    pub run: fn(&mut Stage, &mut Vec<String>) -> anyhow::Result<()>,
}

/// All of them, in the order they run.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    ALL.iter().chain(waypoint::ALL).chain(cluster::ALL)
}

/// Those that the lab can play.
const ALL: &[Scenario] = &[
    Scenario {
        name: "traffic",
        about: "curl, iperf3, TLS, server-first, 1 GiB, 1,000 connections at once, IPv4 and IPv6, in and out of the mesh",
        needs: &["curl", "iperf3", "openssl", "python3"],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Both,
        run: traffic::run,
    },
    Scenario {
        name: "wire",
        about: "between the nodes: no payload, only 15008; STRICT refuses plaintext, PERMISSIVE takes it",
        needs: &["curl", "tcpdump", "python3"],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Both,
        run: wire::run,
    },
    Scenario {
        name: "propagation",
        about: "policy, endpoint, workload and enrolment changes decide connections in under 100 ms at the median",
        needs: &["curl", "python3"],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Lab,
        run: propagation::run,
    },
    Scenario {
        name: "control-plane-restart",
        about: "istiod-lite killed under load: no failed request, same root, only what changed is sent",
        needs: &["curl"],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Lab,
        run: control_plane::run,
    },
    Scenario {
        name: "proxy-crash",
        about: "ztunnel killed: new connections within 1.5 s, and meanwhile nothing goes around it",
        needs: &["tcpdump"],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Lab,
        run: proxy::crash,
    },
    Scenario {
        name: "proxy-upgrade",
        about: "ztunnel replaced 20 times under 500 new connections a second: none refused, none reset",
        needs: &[],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Lab,
        run: proxy::upgrade,
    },
    Scenario {
        name: "metrics",
        about: "promtool is content with every program's metrics, and a real Prometheus scrapes them",
        needs: &["curl", "prometheus", "promtool"],
        // The one before has replaced the proxies, and their pods have other names now.
        fresh: true,
        installed: true,
        env: &[],
        on: On::Lab,
        run: metrics::run,
    },
    Scenario {
        name: "policies",
        about: "generated sets of policies: what happens on the wire is what a reference evaluator says",
        needs: &["curl", "python3"],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Both,
        run: policies::run,
    },
    Scenario {
        name: "policy-closes",
        about: "a policy closes the open connections it forbids, between nodes and on one, and no others",
        needs: &["curl"],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Both,
        run: policy::live,
    },
    Scenario {
        name: "bad-input",
        about: "broken YAML, junk on sockets, a false ztunnel, agent and control plane: named errors, last good state, nothing crashes",
        needs: &["curl", "python3"],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Lab,
        run: bad_input::run,
    },
    Scenario {
        name: "ca-away",
        about: "the CA silent for most of a certificate's life: no failure; for longer: closed, and it heals",
        needs: &["curl"],
        fresh: true,
        installed: true,
        env: identity::SHORT_LIVES,
        on: On::Lab,
        run: identity::ca_away,
    },
    Scenario {
        name: "revoked",
        about: "a certificate on a revocation list: its connections break off, new ones are refused; a broken list is told of",
        needs: &["curl"],
        fresh: true,
        installed: true,
        env: revoked::LISTS,
        on: On::Lab,
        run: revoked::run,
    },
    Scenario {
        name: "tunnel-protocol",
        about: "h2spec on the port for tunnels, through mutual TLS",
        needs: &["h2spec"],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Lab,
        run: tunnel_protocol::run,
    },
    Scenario {
        name: "identity-attacks",
        about: "500 requests and more for certificates: none but what is due; a proxy follows its token",
        needs: &["curl", "python3"],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Lab,
        run: attacks::run,
    },
];
