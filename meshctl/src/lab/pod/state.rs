//! How a pod is: what its containers do, and what follows from that for the
//! pod's phase and readiness. Pure.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::lab::plan::PodPlan;
use crate::lab::plan::podspec::RestartPolicy;

/// What one container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Not started, and why.
    Waiting(String),
    /// Running since.
    Running(SystemTime),
    /// Ended with an exit code.
    Ended(i32),
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerState {
    pub name: String,
    pub doing: Doing,
    pub ready: bool,
    pub restarts: u32,
    /// Process 1 of the container while it runs, as the supervisor sees it.
    pub process: Option<u32>,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodState {
    /// Its network is there.
    pub networked: bool,
    /// Set while something stands between the pod and its containers.
    pub held_up: Option<String>,
    pub containers: Vec<ContainerState>,
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

impl PodState {
    /// All containers of a pod before anything has happened.
    pub(crate) fn new(pod: &PodPlan) -> Self {
        let waiting = |name: &String| ContainerState {
            name: name.clone(),
            doing: Doing::Waiting("ContainerCreating".to_owned()),
            ready: false,
            restarts: 0,
            process: None,
        };
        Self {
            networked: false,
            held_up: None,
            containers: pod.spec.containers.iter().map(|container| waiting(&container.name)).collect(),
        }
    }

    pub(crate) fn phase(&self, restart: RestartPolicy) -> Phase {
        let ended = |container: &ContainerState| match container.doing {
            Doing::Ended(code) => Some(code),
            _ => None,
        };
        let codes: Vec<_> = self.containers.iter().filter_map(ended).collect();
        let over = codes.len() == self.containers.len() && restart != RestartPolicy::Always;
        if over && codes.iter().all(|code| *code == 0) {
            return Phase::Succeeded;
        }
        if over && restart == RestartPolicy::Never {
            return Phase::Failed;
        }
        let started =
            |container: &ContainerState| !matches!(container.doing, Doing::Waiting(_)) || container.restarts > 0;
        if self.containers.iter().any(started) { Phase::Running } else { Phase::Pending }
    }

    /// Whether Services send traffic to it.
    pub(crate) fn is_ready(&self) -> bool {
        !self.containers.is_empty() && self.containers.iter().all(|container| container.ready)
    }

    /// The STATUS column of `kubectl get pods`.
    pub(crate) fn summary(&self, restart: RestartPolicy) -> String {
        if let Some(reason) = &self.held_up {
            return reason.clone();
        }
        for container in &self.containers {
            match &container.doing {
                Doing::Waiting(reason) => return reason.clone(),
                Doing::Ended(code) if *code != 0 => return "Error".to_owned(),
                _ => {}
            }
        }
        match self.phase(restart) {
            Phase::Succeeded => "Completed".to_owned(),
            phase => phase.name().to_owned(),
        }
    }

    /// The pod's `status`, as kubelet writes it.
    pub(crate) fn status(&self, pod: &PodPlan, node_ip: &str) -> Value {
        let ready = self.is_ready();
        let condition =
            |kind: &str, holds: bool| json!({ "type": kind, "status": if holds { "True" } else { "False" } });
        let containers: Vec<_> = self
            .containers
            .iter()
            .map(|container| {
                let state = match &container.doing {
                    Doing::Waiting(reason) => json!({ "waiting": { "reason": reason } }),
                    Doing::Running(_) => json!({ "running": {} }),
                    Doing::Ended(code) => json!({ "terminated": { "exitCode": code } }),
                };
                json!({
                    "name": container.name,
                    "ready": container.ready,
                    "restartCount": container.restarts,
                    "state": state,
                })
            })
            .collect();
        let addresses: Vec<_> = pod.addresses.iter().map(|ip| json!({ "ip": ip })).collect();
        json!({
            "phase": self.phase(pod.spec.restart_policy).name(),
            "hostIP": node_ip,
            "podIP": pod.addresses.first(),
            "podIPs": addresses,
            "conditions": [
                condition("PodScheduled", true),
                condition("Initialized", self.held_up.is_none()),
                condition("ContainersReady", ready),
                condition("Ready", ready),
            ],
            "containerStatuses": containers,
        })
    }
}
