//! What a container runtime asks, and what it is answered. Pure.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chassis::env::{Key, Reader, Row, Strings};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::agent::install::Json;

const CNI_COMMAND: Key<String> = Key::new("CNI_COMMAND", "", "text", "What the runtime asks for.");
const CNI_NETNS: Key<String> = Key::new("CNI_NETNS", "", "path", "The network namespace of the pod.");
const CNI_ARGS: Key<String> = Key::new("CNI_ARGS", "", "K=V;…", "Which pod.");

/// What a container runtime sets; no person does.
pub const ROWS: [Row; 3] = [CNI_COMMAND.row, CNI_NETNS.row, CNI_ARGS.row];

/// Versions of the protocol: those whose results are lists of addresses.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Where the agent listens, unless the configuration says otherwise.
const RUN_DIR: &str = "/var/run/istio-cni";

/// What a runtime is told instead of a result. Codes are those of the CNI specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    code: u32,
    msg: String,
    details: String,
}

impl CniError {
    /// The environment is not as it must be.
    fn environment(msg: impl Into<String>) -> Self {
        Self { code: 4, msg: msg.into(), details: String::new() }
    }

    /// The configuration cannot be read.
    fn decode(what: &str, error: impl ToString) -> Self {
        Self { code: 6, msg: format!("istio-cni: {what}"), details: error.to_string() }
    }

    /// The configuration can be read and is wrong.
    fn config(msg: impl Into<String>) -> Self {
        Self { code: 7, msg: msg.into(), details: String::new() }
    }

    /// Reading or writing failed.
    pub fn io(what: &str, error: &io::Error) -> Self {
        Self { code: 5, msg: format!("istio-cni: {what}"), details: error.to_string() }
    }

    /// It may work later without anybody doing anything here.
    pub fn later(msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code: 11, msg: msg.into(), details: details.into() }
    }

    /// As the specification wants it.
    pub fn text(&self, version: Option<&str>) -> String {
        let version = version.filter(|version| VERSIONS.contains(version)).unwrap_or("1.0.0");
        json!({"cniVersion": version, "code": self.code, "msg": self.msg, "details": self.details}).to_string() + "\n"
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A pod starts.
    Add(Add),
    /// It has ended.
    Del,
    /// Is it still as it was made?
    Check,
    /// Could a pod start? Always said yes: a node that is not ready could not start the agent.
    Status,
    /// What is not named any more can go.
    Gc,
    /// Which versions are spoken?
    Version,
}

/// Which pod starts, as the environment says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Add {
    netns: String,
    namespace: String,
    name: String,
    uid: String,
}

impl Command {
    /// Reads the environment.
    pub fn read(environment: &dyn Strings) -> Result<Self, CniError> {
        // Texts cannot be mistaken.
        let mut reader = Reader::new(environment);
        match reader.read(&CNI_COMMAND).as_str() {
            "ADD" => {
                let netns = reader.read(&CNI_NETNS);
                if netns.is_empty() {
                    return Err(CniError::environment("istio-cni: CNI_NETNS is not set"));
                }
                Ok(Self::Add(Add::read(netns, &reader.read(&CNI_ARGS))))
            }
            "DEL" => Ok(Self::Del),
            "CHECK" => Ok(Self::Check),
            "STATUS" => Ok(Self::Status),
            "GC" => Ok(Self::Gc),
            "VERSION" => Ok(Self::Version),
            "" => Err(CniError::environment(
                "istio-cni is a CNI plugin, for a container runtime to run: CNI_COMMAND is not set",
            )),
            other => Err(CniError::environment(format!("istio-cni: CNI_COMMAND {other:?} is not known"))),
        }
    }
}

impl Add {
    fn read(netns: String, args: &str) -> Self {
        let mut add = Self { netns, ..Self::default() };
        for (key, value) in args.split(';').filter_map(|pair| pair.split_once('=')) {
            match key {
                "K8S_POD_NAMESPACE" => value.clone_into(&mut add.namespace),
                "K8S_POD_NAME" => value.clone_into(&mut add.name),
                "K8S_POD_UID" => value.clone_into(&mut add.uid),
                _ => {}
            }
        }
        add
    }
}

/// Our part of the configuration.
#[derive(Debug, Deserialize)]
struct Settings {
    #[serde(default)]
    cni_agent_run_dir: Option<String>,
    #[serde(default)]
    exclude_namespaces: Option<Vec<String>>,
    #[serde(default)]
    pod_namespace: Option<String>,
    #[serde(default)]
    agent_pod_prefix: Option<String>,
}

/// A pod that starts, with all that is known of it.
#[derive(Debug)]
pub struct Call {
    add: Add,
    settings: Settings,
    /// As the plugin before us said it.
    result: Json,
}

/// What is to be done about a pod.
#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// It starts without the agent.
    Pass,
    /// The agent is asked this.
    Ask(String),
}

#[derive(Debug, Deserialize)]
struct Previous {
    #[serde(default)]
    ips: Vec<PreviousIp>,
}

#[derive(Debug, Deserialize)]
struct PreviousIp {
    #[serde(default)]
    interface: Option<i64>,
    address: IpNet,
    #[serde(default)]
    gateway: Option<String>,
}

impl Call {
    /// Reads the configuration.
    pub fn read(add: Add, input: &str) -> Result<Self, CniError> {
        let broken = |error: serde_json::Error| CniError::decode("the configuration is no JSON of a plugin", error);
        let json: Json = serde_json::from_str(input).map_err(broken)?;
        let version = json.text("cniVersion").unwrap_or_default();
        if !VERSIONS.contains(&version) {
            let msg = format!("istio-cni: cniVersion {version:?} is not one of {}", VERSIONS.join(", "));
            return Err(CniError { code: 1, msg, details: String::new() });
        }
        let result = json.member("prevResult").cloned().ok_or_else(|| {
            CniError::config(
                "istio-cni: there is no prevResult: it has to come after a plugin that makes the interface",
            )
        })?;
        Ok(Self { add, settings: serde_json::from_str(input).map_err(broken)?, result })
    }

    /// Whether the agent is asked about the pod, and what.
    pub fn decide(&self) -> Result<Decision, CniError> {
        let Add { netns, namespace, name, uid } = &self.add;
        match (namespace.as_str(), name.as_str()) {
            // No pod, so nothing of the mesh: somebody runs a container by hand.
            ("", "") => return Ok(Decision::Pass),
            ("", _) | (_, "") => {
                return Err(CniError::environment(
                    "istio-cni: CNI_ARGS has only one of K8S_POD_NAMESPACE and K8S_POD_NAME",
                ));
            }
            _ => {}
        }
        if self.starts_alone() {
            return Ok(Decision::Pass);
        }
        let text = serde_json::to_string(&self.result).map_err(|error| CniError::decode("prevResult", error))?;
        let previous: Previous = serde_json::from_str(&text)
            .map_err(|error| CniError::decode("prevResult has addresses that are none", error))?;
        let ips: Vec<Value> = previous.ips.iter().map(as_go_writes).collect();
        let request = json!({"Netns": netns, "PodName": name, "PodNamespace": namespace, "IPs": ips, "PodUID": uid});
        Ok(Decision::Ask(request.to_string()))
    }

    /// What the node needs before there can be an agent, and the agent itself.
    fn starts_alone(&self) -> bool {
        let Settings { exclude_namespaces, pod_namespace, agent_pod_prefix, .. } = &self.settings;
        let Add { namespace, name, .. } = &self.add;
        let excluded = exclude_namespaces.iter().flatten().any(|excluded| excluded == namespace);
        let prefix = agent_pod_prefix.as_deref().filter(|prefix| !prefix.is_empty());
        // The names of a DaemonSet's pods end in one more word, which has no hyphen.
        let agent = pod_namespace.as_deref() == Some(namespace)
            && prefix.and_then(|prefix| name.strip_prefix(prefix)).is_some_and(|rest| !rest.contains('-'));
        excluded || agent
    }

    /// Where the agent listens.
    pub fn socket(&self) -> PathBuf {
        let dir = self.settings.cni_agent_run_dir.as_deref().filter(|dir| !dir.is_empty());
        PathBuf::from(dir.unwrap_or(RUN_DIR)).join("pluginevent.sock")
    }

    /// The result: what the plugin before us said.
    pub fn result(&self) -> String {
        // Maps with text keys and plain values can always be written.
        serde_json::to_string(&self.result).unwrap_or_default() + "\n"
    }
}

/// An address as Go's structures are written: the mask is its bytes.
fn as_go_writes(ip: &PreviousIp) -> Value {
    let mask = match ip.address.netmask() {
        std::net::IpAddr::V4(mask) => STANDARD.encode(mask.octets()),
        std::net::IpAddr::V6(mask) => STANDARD.encode(mask.octets()),
    };
    json!({
        "Interface": ip.interface,
        "Address": { "IP": ip.address.addr(), "Mask": mask },
        "Gateway": ip.gateway.as_deref().unwrap_or_default(),
    })
}

/// The version that a configuration names, if it can be read.
pub fn version_of(input: &str) -> Option<String> {
    let json: Json = serde_json::from_str(input).ok()?;
    json.text("cniVersion").map(str::to_owned)
}

/// The answer to `VERSION`.
pub fn versions(input: &str) -> String {
    let version = version_of(input).unwrap_or_else(|| "1.0.0".to_owned());
    let mut text = json!({"cniVersion": version, "supportedVersions": VERSIONS}).to_string();
    let _never_fails = text.write_char('\n');
    text
}

#[cfg(test)]
mod tests;
