//! What is said on the control socket: one JSON document a line. The caller
//! sends one [`Request`]; the lab answers with [`Reply`] lines until one that
//! ends it. The standard streams of an `exec` travel beside the request as
//! file descriptors.

use serde::{Deserialize, Serialize};

/// One order to a running lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "request")]
pub enum Request {
    /// Run a command in a pod; three file descriptors come with it.
    Exec {
        /// `name`, `namespace/name`, or the name of the owning workload.
        pod: String,
        /// Which container; the first if absent.
        container: Option<String>,
        /// The command and its arguments.
        argv: Vec<String>,
        /// Whether standard input is a terminal made for this command.
        tty: bool,
    },
    /// Pass a signal to the command this connection has started.
    Signal {
        /// Its number.
        number: i32,
    },
    /// Add or replace the objects of a YAML text.
    Apply {
        /// Where the text comes from, for messages.
        file: String,
        /// The manifests.
        yaml: String,
    },
    /// Remove the objects of a YAML text.
    Delete {
        /// Where the text comes from, for messages.
        file: String,
        /// The manifests; only kind, namespace and name are looked at.
        yaml: String,
    },
    /// Say how everything is.
    Status,
    /// Where a container's log is.
    Logs {
        /// Which pod, as for `Exec`.
        pod: String,
        /// Which container; the first if absent.
        container: Option<String>,
    },
    /// Send a signal to one of the mesh's own programs.
    Kill {
        /// `ztunnel`, `agent` or `istiod`.
        component: String,
        /// Which node's; ignored for `istiod`.
        node: String,
        /// The signal's number.
        signal: i32,
    },
    /// Put a new proxy in the place of a node's: the new one starts, and when
    /// it is ready the old one drains and ends.
    Replace {
        /// Which node's.
        node: String,
    },
    /// Give a waypoint this many pods.
    Scale {
        /// The namespace of its Gateway.
        namespace: String,
        /// The name of that.
        name: String,
        /// How many.
        replicas: u64,
    },
    /// Go on when the process that started the lab ends.
    Keep,
    /// End the lab.
    Down,
}

/// One line of answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "reply")]
pub enum Reply {
    /// The command runs now.
    Started,
    /// The command has ended.
    Exited {
        /// Its exit code, or 128 + the signal that ended it.
        code: i32,
    },
    /// What `Apply` or `Delete` did.
    Changed {
        /// One line an object, as kubectl prints them.
        lines: Vec<String>,
        /// What could not be taken.
        problems: Vec<Problem>,
    },
    /// The state of everything.
    Status(Box<StatusReport>),
    /// Files of a log, oldest first.
    LogFiles {
        /// Their paths.
        paths: Vec<String>,
    },
    /// The new proxy of a node is starting.
    Replacing {
        /// Its pod.
        pod: String,
    },
    /// Done.
    Done,
    /// Refused, and why.
    Refused {
        /// In words for the operator.
        reason: String,
    },
}

/// One thing in a manifest that the lab did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line the object (or the mistake) is on; 0 if unknown.
    pub line: usize,
    /// Why.
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.reason)
    }
}

/// The state of a lab.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// The lab's name.
    pub name: String,
    /// Whether everything that should run does.
    pub ready: bool,
    /// The nodes.
    pub nodes: Vec<NodeReport>,
    /// The pods, the mesh's own among them.
    pub pods: Vec<PodReport>,
    /// The services.
    pub services: Vec<ServiceReport>,
    /// Manifests that could not be taken.
    pub problems: Vec<Problem>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// A path that names its network namespace inside the lab.
    pub netns: String,
    /// The network interface on which its traffic to other nodes passes.
    pub uplink: String,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodReport {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<String>,
    /// `Pending`, `Running`, `Succeeded` or `Failed`.
    pub phase: String,
    /// What `kubectl get pods` shows in its STATUS column.
    pub status: String,
    /// Ready containers.
    pub ready: u32,
    /// All containers.
    pub containers: u32,
    /// How often containers were started again.
    pub restarts: u32,
    /// Whether the pod is ready for traffic, or has ended well.
    pub is_ready: bool,
    /// What the agent says: `enabled`, `pending` or nothing.
    pub redirection: Option<String>,
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its cluster addresses; empty for a headless service.
    pub cluster_ips: Vec<String>,
    /// `80/TCP` and so on.
    pub ports: Vec<String>,
    /// Ready endpoints and all endpoints.
    pub endpoints: (u32, u32),
}
