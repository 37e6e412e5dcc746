//! What only a cluster can show: charts, labels on running pods, rolling updates, nodes that go and come.

pub mod churn;
pub mod enrol;
pub mod install;
pub mod nodes;
pub mod prometheus;
pub mod quickstart;
pub mod replicas;
pub mod rolling;
pub mod village;
pub mod waypoint;
pub mod wrong_uses;

use super::{On, Scenario};
use crate::stage::Stage;
use anyhow::Result;
use std::time::Duration;

/// A service whose pods are ready is there for everybody by then.
const SERVED_DEADLINE: Duration = Duration::from_secs(20);

/// Waits until a namespace's `server` is ready, and answers each of these pods as a service: while kube-proxy makes its
/// first endpoints known, a connection to it may be lost, mesh or not.
fn served(stage: &mut Stage, namespace: &str, clients: &[&str]) -> Result<()> {
    let ready = ["rollout", "status", "deployment/server", "--namespace", namespace, "--timeout=60s"];
    stage.cluster().kubectl(&ready)?;
    let service = format!("server.{namespace}");
    for client in clients {
        stage.wait("the service answers", SERVED_DEADLINE, |stage| Ok(stage.answers(client, &service)))?;
    }
    Ok(())
}

/// Them, in the order they run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "install",
        about: "one chart into an empty cluster: ready in under 60 s; taken away, only definitions are left; upgraded",
        needs: &[],
        fresh: true,
        installed: false,
        env: &[],
        on: On::Kind,
        run: install::run,
    },
    Scenario {
        name: "quickstart",
        about: "docs/quickstart-kind.md: each of its ten commands, and what it prints is what the page shows",
        needs: &[],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Kind,
        run: quickstart::run,
    },
    Scenario {
        name: "enrol",
        about: "a namespace labelled under load, and unlabelled: in the mesh in 2 s, no request failed, none restarted",
        needs: &[],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Kind,
        run: enrol::run,
    },
    Scenario {
        name: "waypoint",
        about: "a waypoint applied: programmed in 10 s; deleted: closed; no longer asked for: L4",
        needs: &[],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Kind,
        run: waypoint::run,
    },
    Scenario {
        name: "prometheus",
        about: "a real Prometheus finds every program by annotations and as a PodMonitor does; dashboards have answers",
        needs: &[],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Kind,
        run: prometheus::run,
    },
    Scenario {
        name: "strict-probes",
        about: "the kubelet's probes of all kinds reach pods that take no plaintext",
        needs: &[],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Kind,
        run: village::probes,
    },
    Scenario {
        name: "headless",
        about: "a headless service stands for its pods",
        needs: &[],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Kind,
        run: village::headless,
    },
    Scenario {
        name: "stateful-set",
        about: "each pod of a StatefulSet answers under its own name",
        needs: &[],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Kind,
        run: village::stateful,
    },
    Scenario {
        name: "jobs",
        about: "a Job calls, ends and is gone",
        needs: &[],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Kind,
        run: village::jobs,
    },
    Scenario {
        name: "init-containers",
        about: "the first call of a pod, made before its containers run, is carried",
        needs: &[],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Kind,
        run: village::init_containers,
    },
    Scenario {
        name: "not-ready-addresses",
        about: "publishNotReadyAddresses, and services without it",
        needs: &[],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Kind,
        run: village::not_ready,
    },
    Scenario {
        name: "external-name",
        about: "a service that is but another name",
        needs: &[],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Kind,
        run: village::external_name,
    },
    Scenario {
        name: "dual-stack",
        about: "every address of a pod and of a service answers, IPv4 and where there is one IPv6",
        needs: &[],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Kind,
        run: village::dual_stack,
    },
    Scenario {
        name: "host-network",
        about: "pods on their node's network: never enrolled, spoken to in plaintext, refused under STRICT",
        needs: &[],
        fresh: false,
        installed: true,
        env: &[],
        on: On::Kind,
        run: village::host_network,
    },
    Scenario {
        name: "rolling-restarts",
        about: "workloads, ztunnel, agent, istiod and waypoint restarted at 200 connections a second: none failed",
        needs: &[],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Kind,
        run: rolling::run,
    },
    Scenario {
        name: "replicas",
        about: "one of two replicas killed: no stale decision after 5 s; the API server silent for 60 s: nothing changes",
        needs: &[],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Kind,
        run: replicas::run,
    },
    Scenario {
        name: "wrong-uses",
        about: "every wrong use that the docs warn of gives the message that the docs show",
        needs: &[],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Kind,
        run: wrong_uses::run,
    },
    Scenario {
        name: "nodes",
        about: "a node drained and a node rebooted: never heard in plaintext, and back in the mesh",
        needs: &[],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Kind,
        run: nodes::run,
    },
    Scenario {
        name: "churn",
        about: "500 pods come and go three times: the control plane is as large and as idle as it was",
        needs: &[],
        fresh: true,
        installed: true,
        env: &[],
        on: On::Kind,
        run: churn::run,
    },
];
