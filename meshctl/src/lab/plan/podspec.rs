//! The parts of a pod's spec that the lab acts on. Everything else in a
//! manifest is kept for those who read the object, and otherwise ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// `spec` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub containers: Vec<Container>,
    pub init_containers: Vec<Container>,
    pub node_name: Option<String>,
    pub node_selector: BTreeMap<String, String>,
    pub host_network: bool,
    pub hostname: Option<String>,
    pub restart_policy: RestartPolicy,
    pub service_account_name: Option<String>,
    pub termination_grace_period_seconds: Option<u64>,
    pub volumes: Vec<Volume>,
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub name: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<EnvVar>,
    pub env_from: Vec<EnvFrom>,
    pub working_dir: Option<String>,
    pub ports: Vec<ContainerPort>,
    pub volume_mounts: Vec<VolumeMount>,
    pub readiness_probe: Option<Probe>,
    pub liveness_probe: Option<Probe>,
    pub startup_probe: Option<Probe>,
}

/// A port with a name that Services may use.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerPort {
    pub name: Option<String>,
    pub container_port: u16,
}

/// One variable of the environment.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvVar {
    pub name: String,
    pub value: Option<String>,
    pub value_from: Option<ValueFrom>,
}

/// Where a variable's value comes from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ValueFrom {
    pub field_ref: Option<FieldRef>,
    pub config_map_key_ref: Option<KeyRef>,
    pub secret_key_ref: Option<KeyRef>,
}

/// A field of the pod itself.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FieldRef {
    pub field_path: String,
}

/// One entry of a ConfigMap or Secret.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KeyRef {
    pub name: String,
    pub key: String,
    pub optional: bool,
}

/// All entries of a ConfigMap or Secret as variables.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvFrom {
    pub prefix: String,
    pub config_map_ref: Option<KeyRef>,
    pub secret_ref: Option<KeyRef>,
}

/// Where a volume is seen.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct VolumeMount {
    pub name: String,
    pub mount_path: String,
    pub sub_path: Option<String>,
    pub read_only: bool,
}

/// A volume of the pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Volume {
    pub name: String,
    pub empty_dir: Option<Value>,
    pub config_map: Option<ConfigVolume>,
    pub secret: Option<ConfigVolume>,
    pub host_path: Option<HostPath>,
    pub projected: Option<Projected>,
}

/// Entries of a ConfigMap or Secret as files.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConfigVolume {
    #[serde(alias = "secretName")]
    pub name: String,
    pub items: Vec<KeyToPath>,
    pub optional: bool,
}

/// Which entry becomes which file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KeyToPath {
    pub key: String,
    pub path: String,
}

/// A directory or file of the host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HostPath {
    pub path: String,
}

/// Several sources in one volume.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Projected {
    pub sources: Vec<ProjectedSource>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProjectedSource {
    pub service_account_token: Option<ProjectedToken>,
    pub config_map: Option<ConfigVolume>,
    pub secret: Option<ConfigVolume>,
}

/// A token of the pod's service account.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProjectedToken {
    pub path: String,
}

/// How a container is asked whether it is well.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Probe {
    pub http_get: Option<HttpGet>,
    pub tcp_socket: Option<TcpSocket>,
    pub exec: Option<ExecAction>,
    pub initial_delay_seconds: u64,
    pub period_seconds: Option<u64>,
    pub timeout_seconds: Option<u64>,
    pub success_threshold: Option<u32>,
    pub failure_threshold: Option<u32>,
}

/// A GET that must answer 200 to 399.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HttpGet {
    pub path: Option<String>,
    pub port: PortRef,
    pub http_headers: Vec<EnvVar>,
}

/// A connection that must be accepted.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TcpSocket {
    pub port: PortRef,
}

/// A command that must end with 0.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ExecAction {
    pub command: Vec<String>,
}

/// A port by number or by the name a container gives it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum PortRef {
    Number(u16),
    Name(String),
}

impl Default for PortRef {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl PodSpec {
    /// Reads a spec and says what in it the lab cannot run.
    pub(crate) fn read(spec: &Value) -> Result<Self, String> {
        // A list would be taken for the fields in their order.
        if !spec.is_object() {
            return Err("its pod spec is not a mapping".to_owned());
        }
        let read = Self::deserialize(super::without_nulls(spec.clone()))
            .map_err(|error| format!("its pod spec cannot be read: {error}"))?;
        if read.containers.is_empty() {
            return Err("its pod spec has no containers".to_owned());
        }
        for container in read.init_containers.iter().chain(&read.containers) {
            if container.name.is_empty() || container.name.contains('/') {
                return Err("a container has no name".to_owned());
            }
            if container.command.is_empty() {
                return Err(format!(
                    "container `{}` has no command; the lab runs commands of this machine, not images",
                    container.name
                ));
            }
        }
        for volume in &read.volumes {
            let sources = [
                volume.empty_dir.is_some(),
                volume.config_map.is_some(),
                volume.secret.is_some(),
                volume.host_path.is_some(),
                volume.projected.is_some(),
            ];
            if !sources.contains(&true) {
                return Err(format!(
                    "volume `{}` is not one the lab can mount (emptyDir, configMap, secret, hostPath, projected)",
                    volume.name
                ));
            }
        }
        Ok(read)
    }

    /// The number behind a port, where one is meant by name.
    pub(crate) fn port(&self, port: &PortRef) -> Option<u16> {
        match port {
            PortRef::Number(number) => Some(*number),
            PortRef::Name(name) => self
                .containers
                .iter()
                .flat_map(|container| &container.ports)
                .find(|port| port.name.as_ref() == Some(name))
                .map(|port| port.container_port),
        }
    }
}
