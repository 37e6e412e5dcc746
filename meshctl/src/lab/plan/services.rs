//! Services: their addresses, and which pods answer for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chassis::objects::Object;
use serde::Deserialize;
use serde_json::{Value, json};
use ztunnel::net::nat::Protocol;

use super::PodPlan;
use super::ledger::{self, Ledger};
use super::podspec::PortRef;
use crate::lab::control::protocol::Problem;
use crate::lab::manifest::{self, Key};

/// A Service with its addresses.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServicePlan {
    pub key: Key,
    /// Empty for a headless service.
    pub addresses: Vec<IpAddr>,
    /// Of which families its endpoints are: `false` IPv4, `true` IPv6.
    pub families: Vec<bool>,
    pub ports: Vec<Port>,
    /// `None`: its endpoints are somebody else's business.
    pub selector: Option<BTreeMap<String, String>>,
    /// Pods that are not ready answer too.
    pub unready_too: bool,
    /// The object with everything filled in.
    pub object: Value,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    pub name: Option<String>,
    pub number: u16,
    pub protocol: Protocol,
    pub target: PortRef,
    pub app_protocol: Option<String>,
}

/// One EndpointSlice: endpoints that answer on the same port numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Slice {
    pub name: String,
    pub service: Key,
    pub v6: bool,
    /// Port name, number behind, protocol, application protocol.
    pub ports: Vec<(Option<String>, u16, Protocol, Option<String>)>,
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Endpoint {
    pub address: IpAddr,
    pub ready: bool,
    pub node: Option<String>,
    pub pod: Option<(String, String)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    ip_families: Vec<String>,
    ip_family_policy: Option<String>,
    selector: Option<BTreeMap<String, String>>,
    ports: Vec<ServicePortSpec>,
    publish_not_ready_addresses: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServicePortSpec {
    name: Option<String>,
    port: u16,
    target_port: Option<PortRef>,
    protocol: Option<String>,
    app_protocol: Option<String>,
}

/// Gives a Service its addresses.
pub(crate) fn service(object: &Object, ledger: &mut Ledger) -> Result<ServicePlan, Problem> {
    let refuse = |reason: String| manifest::problem(&object.origin, format!("Service {}: {reason}", object.name));
    let key = Key::new("Service", &object.namespace, &object.name);
    let raw = object.value.get("spec").filter(|spec| !spec.is_null()).cloned().unwrap_or_else(|| json!({}));
    // A list would be taken for the fields in their order.
    if !raw.is_object() {
        return Err(refuse("its spec is not a mapping".to_owned()));
    }
    let raw = super::without_nulls(raw);
    let spec = ServiceSpec::deserialize(raw).map_err(|error| refuse(format!("its spec cannot be read: {error}")))?;
    let mut ports = Vec::new();
    for port in spec.ports {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some(other) => return Err(refuse(format!("protocol {other} is not one the lab can carry"))),
        };
        let target = port.target_port.unwrap_or(PortRef::Number(port.port));
        ports.push(Port { name: port.name, number: port.port, protocol, target, app_protocol: port.app_protocol });
    }
    let external = spec.kind.as_deref() == Some("ExternalName");
    let chosen: Vec<String> = spec.cluster_ip.into_iter().chain(spec.cluster_ips).filter(|ip| !ip.is_empty()).collect();
    let headless = external || chosen.iter().any(|ip| ip == "None");
    let mut addresses = Vec::new();
    for text in chosen.iter().filter(|text| *text != "None") {
        let address = text.parse().map_err(|_| refuse(format!("clusterIP `{text}` is not an address")))?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let families = families(&spec.ip_families, spec.ip_family_policy.as_deref(), &addresses);
    if addresses.is_empty() && !headless {
        let number = ledger.service(&key).map_err(|full| refuse(full.to_string()))?;
        let both = ledger::service_addresses(number);
        addresses = families.iter().map(|v6| both[usize::from(*v6)]).collect();
    }
    let object = filled_in(object, &addresses, &families, external);
    let (selector, unready_too) = (spec.selector, spec.publish_not_ready_addresses);
    Ok(ServicePlan { key, addresses, families, ports, selector, unready_too, object })
}

fn families(named: &[String], policy: Option<&str>, addresses: &[IpAddr]) -> Vec<bool> {
    if !addresses.is_empty() {
        return addresses.iter().map(IpAddr::is_ipv6).collect();
    }
    let first = named.first().is_some_and(|family| family == "IPv6");
    let dual = named.len() > 1 || matches!(policy, Some("PreferDualStack" | "RequireDualStack"));
    if dual { vec![first, !first] } else { vec![first] }
}

fn filled_in(object: &Object, addresses: &[IpAddr], families: &[bool], external: bool) -> Value {
    let mut value = object.value.clone();
    if !external {
        let spec = &mut value["spec"];
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let texts = if texts.is_empty() { vec!["None".to_owned()] } else { texts };
        spec["clusterIP"] = texts[0].clone().into();
        spec["clusterIPs"] = texts.into();
        spec["ipFamilies"] = families.iter().map(|v6| if *v6 { "IPv6" } else { "IPv4" }).collect();
    }
    value
}

/// The slices of a Service, from the pods its selector finds. `ready` says of
/// a pod whether it takes traffic; `None` that it is not to be listed.
pub(crate) fn slices<'a>(
    service: &ServicePlan,
    pods: impl Iterator<Item = &'a PodPlan> + Clone,
    ready: impl Fn(&PodPlan) -> Option<bool>,
) -> Vec<Slice> {
    let Some(selector) = &service.selector else { return Vec::new() };
    let chosen: Vec<_> = pods
        .filter(|pod| pod.key.namespace == service.key.namespace && selects(selector, &pod.labels))
        .filter_map(|pod| ready(pod).map(|ready| (pod, ready || service.unready_too)))
        .collect();
    let mut slices = Vec::new();
    for v6 in &service.families {
        // Pods may give one port name different numbers: a slice for each.
        let mut groups: BTreeMap<Vec<Option<u16>>, Vec<Endpoint>> = BTreeMap::new();
        for (pod, ready) in &chosen {
            let Some(address) = pod.addresses.iter().find(|address| address.is_ipv6() == *v6) else { continue };
            let numbers = service.ports.iter().map(|port| pod.spec.port(&port.target)).collect();
            groups.entry(numbers).or_default().push(Endpoint {
                address: *address,
                ready: *ready,
                node: Some(pod.node.clone()),
                pod: Some((pod.key.name.clone(), pod.uid.clone())),
            });
        }
        if groups.is_empty() {
            groups.insert(service.ports.iter().map(|_| None).collect(), Vec::new());
        }
        for (number, (numbers, endpoints)) in groups.into_iter().enumerate() {
            let family = if *v6 { "ipv6" } else { "ipv4" };
            let suffix = if number == 0 { String::new() } else { format!("-{number}") };
            let ports = service.ports.iter().zip(numbers);
            slices.push(Slice {
                name: format!("{}-{family}{suffix}", service.key.name),
                service: service.key.clone(),
                v6: *v6,
                ports: ports
                    .filter_map(|(port, number)| {
                        Some((port.name.clone(), number?, port.protocol, port.app_protocol.clone()))
                    })
                    .collect(),
                endpoints,
            });
        }
    }
    slices
}

/// Whether labels have everything a selector asks for. An empty selector
/// finds nothing, as in Kubernetes.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

impl Slice {
    /// The EndpointSlice object.
    pub(crate) fn object(&self) -> Value {
        let ports: Vec<_> = self
            .ports
            .iter()
            .map(|(name, number, protocol, app_protocol)| {
                let protocol = if *protocol == Protocol::Udp { "UDP" } else { "TCP" };
                let name = name.clone().unwrap_or_default();
                let mut port = json!({ "name": name, "port": number, "protocol": protocol });
                if let Some(app_protocol) = app_protocol {
                    port["appProtocol"] = app_protocol.clone().into();
                }
                port
            })
            .collect();
        let endpoints: Vec<_> = self
            .endpoints
            .iter()
            .map(|endpoint| {
                let ready = endpoint.ready;
                let mut value = json!({
                    "addresses": [endpoint.address],
                    "conditions": { "ready": ready, "serving": ready, "terminating": false },
                });
                if let Some(node) = &endpoint.node {
                    value["nodeName"] = node.clone().into();
                }
                if let Some((name, uid)) = &endpoint.pod {
                    let namespace = &self.service.namespace;
                    value["targetRef"] = json!({ "kind": "Pod", "namespace": namespace, "name": name, "uid": uid });
                }
                value
            })
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": self.name,
                "namespace": self.service.namespace,
                "labels": {
                    "kubernetes.io/service-name": self.service.name,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
            },
            "addressType": if self.v6 { "IPv6" } else { "IPv4" },
            "ports": ports,
            "endpoints": endpoints,
        })
    }

    /// Reads a slice that somebody else describes.
    pub(crate) fn read(object: &Object) -> Option<Self> {
        let value = &object.value;
        let service = value.pointer("/metadata/labels/kubernetes.io~1service-name")?.as_str()?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(ToOwned::to_owned);
        let ports = value.get("ports").and_then(Value::as_array).into_iter().flatten();
        let endpoints = value.get("endpoints").and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            name: object.name.clone(),
            service: Key::new("Service", &object.namespace, service),
            v6: value.get("addressType").and_then(Value::as_str) == Some("IPv6"),
            ports: ports
                .filter_map(|port| {
                    let number = u16::try_from(port.get("port")?.as_u64()?).ok()?;
                    let udp = port.get("protocol").and_then(Value::as_str) == Some("UDP");
                    let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
                    let name = text(port.get("name")).filter(|name| !name.is_empty());
                    Some((name, number, protocol, text(port.get("appProtocol"))))
                })
                .collect(),
            endpoints: endpoints
                .filter_map(|endpoint| {
                    Some(Endpoint {
                        address: endpoint.pointer("/addresses/0")?.as_str()?.parse().ok()?,
                        ready: endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true),
                        node: text(endpoint.get("nodeName")),
                        pod: None,
                    })
                })
                .collect(),
        })
    }
}
