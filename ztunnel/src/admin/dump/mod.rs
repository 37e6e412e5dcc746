//! The config dump: the keys and spellings are an interface (`istioctl ztunnel-config` parses
//! them), so they stand here and nowhere else. Values that are the default are left out.

mod mesh_types;
mod policies;

pub use mesh_types::{ServiceDump, WorkloadDump};
pub use policies::PolicyDump;

use super::{PodState, Sources};
use crate::connection::{Connection, Direction};
use mesh::{Str, View};
use mesh_types::EndpointDump;
use pki::{
    cache::{CertificateState, CertificateStatus},
    chain::Certificate,
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// Everything.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dump {
    workloads: Vec<WorkloadDump>,
    services: Vec<ServiceDump>,
    policies: Vec<PolicyDump>,
    /// Endpoints of services that are not known (yet), by `namespace/hostname`.
    staged_services: BTreeMap<String, BTreeMap<Str, EndpointDump>>,
    certificates: Vec<CertificateDump>,
    workload_state: BTreeMap<Str, PodDump>,
    static_config: StaticConfig,
    version: Version,
    config: serde_json::Value,
}

/// What a file told before, or in place of, a control plane.
#[derive(Debug, Default, Serialize)]
struct StaticConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    workloads: Vec<WorkloadDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<ServiceDump>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<PolicyDump>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    version: &'static str,
    git_revision: &'static str,
    rust_version: &'static str,
    build_profile: &'static str,
    build_status: &'static str,
    istio_version: &'static str,
    crypto_provider: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateDump {
    identity: String,
    state: String,
    cert_chain: Vec<OneCertificate>,
    root_certs: Vec<OneCertificate>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OneCertificate {
    /// Base64 of the PEM text.
    pem: String,
    serial_number: String,
    valid_from: String,
    expiration_time: String,
}

#[derive(Debug, Serialize)]
struct PodDump {
    state: &'static str,
    connections: ConnectionsDump,
    info: PodName,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodName {
    name: Str,
    namespace: Str,
    service_account: Str,
}

#[derive(Debug, Default, Serialize)]
struct ConnectionsDump {
    inbound: Vec<ConnectionDump>,
    outbound: Vec<ConnectionDump>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionDump {
    src: String,
    original_dst: String,
    actual_dst: String,
    protocol: &'static str,
}

impl Dump {
    /// The dump of this moment.
    pub fn of(sources: &Sources) -> Self {
        let view = (sources.view)();
        let mut pods = Pods::new((sources.pods)());
        sources.reporter.connections(|connection, _| pods.add(connection));
        let certificates = sources.certificates.dump().iter().map(CertificateDump::of).collect();
        let static_config = StaticConfig::of(&sources.local);
        Self { static_config, ..Self::from_parts(&view, certificates, pods.by_uid, sources.config.clone()) }
    }

    fn from_parts(
        view: &View,
        certificates: Vec<CertificateDump>,
        workload_state: BTreeMap<Str, PodDump>,
        config: serde_json::Value,
    ) -> Self {
        let StaticConfig { workloads, services, policies } = StaticConfig::of(view);
        let mut staged_services: BTreeMap<String, BTreeMap<Str, EndpointDump>> = BTreeMap::new();
        for workload in view.workloads() {
            for (key, ports) in workload.services.iter().filter(|(key, _)| view.service(key).is_none()) {
                let endpoint = EndpointDump::of(workload, ports);
                staged_services.entry(key.to_string()).or_default().insert(workload.uid.clone(), endpoint);
            }
        }
        Self {
            workloads,
            services,
            policies,
            staged_services,
            certificates,
            workload_state,
            static_config: StaticConfig::default(),
            version: Version::of_this_build(),
            config,
        }
    }
}

impl StaticConfig {
    /// What a view has, in the order of its keys.
    fn of(view: &View) -> Self {
        let mut workloads: Vec<&mesh::Workload> = view.workloads().map(|workload| &**workload).collect();
        workloads.sort_by(|a, b| a.uid.cmp(&b.uid));
        let mut services: Vec<&mesh::Service> = view.services().map(|service| &**service).collect();
        services.sort_by_key(|service| service.key());
        let mut policies: Vec<&mesh::Policy> = view.policies().map(|policy| &**policy).collect();
        policies.sort_by_key(|policy| policy.key());
        Self {
            workloads: workloads.into_iter().map(WorkloadDump::of).collect(),
            services: services.into_iter().map(|service| ServiceDump::of(service, view)).collect(),
            policies: policies.into_iter().map(PolicyDump::of).collect(),
        }
    }
}

impl Version {
    const fn of_this_build() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            git_revision: match option_env!("GIT_REVISION") {
                Some(revision) => revision,
                None => "unknown",
            },
            rust_version: env!("CARGO_PKG_RUST_VERSION"),
            build_profile: if cfg!(debug_assertions) { "debug" } else { "release" },
            build_status: "unknown",
            istio_version: "unknown",
            crypto_provider: "aws-lc-rs",
        }
    }
}

impl CertificateDump {
    fn of(status: &CertificateStatus) -> Self {
        Self {
            identity: status.identity.to_string(),
            state: match &status.state {
                CertificateState::Available => "Available".into(),
                CertificateState::Initializing => "Initializing".into(),
                CertificateState::Unavailable(error) => format!("Unavailable: {error}"),
            },
            cert_chain: status.chain().iter().map(OneCertificate::of).collect(),
            root_certs: status.roots().iter().map(OneCertificate::of).collect(),
        }
    }
}

impl OneCertificate {
    fn of(certificate: &Certificate) -> Self {
        Self {
            pem: base64(certificate.pem().as_bytes()),
            serial_number: certificate.serial.clone(),
            valid_from: rfc3339(certificate.not_before),
            expiration_time: rfc3339(certificate.not_after),
        }
    }
}

/// The pods, and what is open at each.
struct Pods {
    by_uid: BTreeMap<Str, PodDump>,
    by_name: BTreeMap<(Str, Str), Str>,
}

impl Pods {
    fn new(pods: Vec<PodState>) -> Self {
        let by_name = pods.iter().map(|pod| ((pod.namespace.clone(), pod.name.clone()), pod.uid.clone())).collect();
        let dump = |pod: PodState| PodDump {
            state: if pod.up { "Up" } else { "Pending" },
            connections: ConnectionsDump::default(),
            info: PodName { name: pod.name, namespace: pod.namespace, service_account: pod.service_account },
        };
        Self { by_name, by_uid: pods.into_iter().map(|pod| (pod.uid.clone(), dump(pod))).collect() }
    }

    fn add(&mut self, connection: &Connection) {
        let ours = match connection.direction {
            Direction::Inbound => &connection.destination,
            Direction::Outbound => &connection.source,
        };
        let Some(workload) = &ours.workload else { return };
        let uid = self.by_name.get(&(workload.namespace.clone(), workload.name.clone()));
        let Some(pod) = uid.and_then(|uid| self.by_uid.get_mut(uid)) else { return };
        let reached = connection.destination.address.to_string();
        let asked = connection.authority.as_ref().map_or_else(|| reached.clone(), ToString::to_string);
        let protocol = if connection.authority.is_some() { "HBONE" } else { "TCP" };
        let src = connection.source.address.to_string();
        match connection.direction {
            Direction::Inbound => {
                let dump = ConnectionDump { src, original_dst: reached, actual_dst: asked, protocol };
                pod.connections.inbound.push(dump);
            }
            Direction::Outbound => {
                let dump = ConnectionDump { src, original_dst: asked, actual_dst: reached, protocol };
                pod.connections.outbound.push(dump);
            }
        }
    }
}

/// Base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { letter.into() } else { '=' });
        }
    }
    text
}

/// A moment in UTC, to the second.
fn rfc3339(moment: SystemTime) -> String {
    let text = chassis::telemetry::rfc3339(moment.max(UNIX_EPOCH));
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

#[cfg(test)]
mod tests;
