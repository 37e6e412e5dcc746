//! Names behind which workloads answer: Service, EndpointSlice, ServiceEntry.

use super::{
    field::Field,
    workloads::{entry, ip, tcp},
};
use crate::facts::{
    Distribution, EndpointSlice, Meta, Resolution, Service, ServiceEntry, ServicePort, SliceEndpoint, TargetPort, Vip,
};
use ipnet::IpNet;
use mesh::{
    Str,
    service::{AppProtocol, IpFamilies},
};
use std::{collections::BTreeMap, net::IpAddr};

/// The annotation of services and namespaces that says which endpoints are preferred.
pub(super) const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

pub(super) fn service(object: &Field<'_>, meta: Meta) -> Service {
    let spec = object.at("spec");
    let listed: Vec<IpAddr> = spec.at("clusterIPs").list().iter().filter_map(cluster_ip).collect();
    let addresses = if listed.is_empty() { cluster_ip(&spec.at("clusterIP")).into_iter().collect() } else { listed };
    let annotation = || object.at("metadata").at("annotations").key(DISTRIBUTION);
    let traffic = [("Local", true), ("Cluster", false)];
    Service {
        alias: spec.at("type").text().as_deref() == Some("ExternalName"),
        addresses,
        selector: spec.at("selector").labels(),
        ports: spec.at("ports").list().iter().filter(|port| tcp(port)).filter_map(service_port).collect(),
        only_local: spec.at("internalTrafficPolicy").one_of(&traffic).unwrap_or(false),
        distribution: distribution(&spec.at("trafficDistribution")).or_else(|| distribution(&annotation())),
        publish_not_ready: spec.at("publishNotReadyAddresses").flag().unwrap_or(false),
        ip_families: ip_families(&spec.at("ipFamilies")),
        meta,
    }
}

fn cluster_ip(field: &Field<'_>) -> Option<IpAddr> {
    let said = field.text().is_some_and(|text| !matches!(&*text, "None" | ""));
    if said { ip(field) } else { None }
}

pub(super) fn distribution(field: &Field<'_>) -> Option<Distribution> {
    field.one_of(&[
        ("PreferClose", Distribution::SameZone),
        ("PreferSameZone", Distribution::SameZone),
        ("PreferSameNode", Distribution::SameNode),
        ("Any", Distribution::Any),
    ])
}

fn ip_families(field: &Field<'_>) -> IpFamilies {
    let families = field.list().into_iter().filter_map(|family| family.one_of(&[("IPv4", false), ("IPv6", true)]));
    match families.collect::<Vec<_>>()[..] {
        [] => IpFamilies::Automatic,
        [false] => IpFamilies::Ipv4Only,
        [true] => IpFamilies::Ipv6Only,
        _ => IpFamilies::Dual,
    }
}

fn service_port(field: &Field<'_>) -> Option<ServicePort> {
    let port = field.at("port").port()?;
    let name = field.at("name").text().unwrap_or_default();
    let target = field.at("targetPort");
    let number = target.loose_text().is_some_and(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let target = match number {
        true => target.port().map(TargetPort::Number),
        false => target.text().filter(|name| !name.is_empty()).map(TargetPort::Name),
    };
    let app_protocol = app_protocol(&field.at("appProtocol").text().unwrap_or_default(), &name, port);
    Some(ServicePort { name, port, target: target.unwrap_or(TargetPort::Number(port)), app_protocol })
}

/// What is spoken: the field's word, else the name's up to its first `-`.
fn app_protocol(said: &str, name: &str, port: u16) -> AppProtocol {
    let word = if said.is_empty() { name.split('-').next().unwrap_or_default() } else { said };
    match word.to_ascii_lowercase().as_str() {
        // `grpc-web` is HTTP/1.1 or 2 to whom carries it, but names gRPC to whom counts it.
        "grpc" | "grpc-web" => AppProtocol::Grpc,
        "http" | "http1" | "http_proxy" | "kubernetes.io/ws" => AppProtocol::Http11,
        "http2" | "h2c" | "kubernetes.io/h2c" => AppProtocol::Http2,
        "tls" | "https" | "kubernetes.io/wss" => AppProtocol::Tls,
        "tcp" | "mongo" | "mysql" | "redis" | "postgres" => AppProtocol::Tcp,
        _ => well_known(port),
    }
}

/// Ports on which the server speaks first, so that nobody waits for the client's first bytes.
fn well_known(port: u16) -> AppProtocol {
    match port {
        21 | 25 | 110 | 143 | 3306 | 27017 => AppProtocol::Tcp,
        853 | 15012 | 15017 => AppProtocol::Tcp,
        _ => AppProtocol::Unknown,
    }
}

pub(super) fn endpoint_slice(object: &Field<'_>, meta: Meta) -> EndpointSlice {
    // Names are no addresses: what a slice of them means is left to who resolves them.
    let names = object.at("addressType").text().as_deref() == Some("FQDN");
    let endpoints = if names { Vec::new() } else { object.at("endpoints").list() };
    let ports = object.at("ports").list().into_iter().filter(tcp);
    let ports = ports.filter_map(|port| Some((port.at("name").text().unwrap_or_default(), port.at("port").port()?)));
    EndpointSlice {
        service: meta.labels.get("kubernetes.io/service-name").cloned().unwrap_or_default(),
        endpoints: endpoints.iter().map(slice_endpoint).collect(),
        ports: ports.collect(),
        meta,
    }
}

fn slice_endpoint(field: &Field<'_>) -> SliceEndpoint {
    let target = field.at("targetRef");
    let pod = target.at("kind").text().is_some_and(|kind| &*kind == "Pod");
    SliceEndpoint {
        addresses: field.at("addresses").list().iter().filter_map(ip).collect(),
        ready: field.at("conditions").at("ready").flag().unwrap_or(true),
        pod: if pod { target.at("name").text() } else { None },
    }
}

pub(super) fn service_entry(object: &Field<'_>, meta: Meta) -> ServiceEntry {
    let spec = object.at("spec");
    let resolution = [
        ("", Resolution::None),
        ("NONE", Resolution::None),
        ("STATIC", Resolution::Static),
        ("DNS", Resolution::Dns),
        ("DNS_ROUND_ROBIN", Resolution::Dns),
        ("DYNAMIC_DNS", Resolution::DynamicDns),
    ];
    let resolution = spec.at("resolution").one_of(&resolution).unwrap_or_default();
    let hosts: Vec<Str> = spec.at("hosts").list().iter().filter_map(|host| hostname(host, resolution)).collect();
    if hosts.is_empty() {
        spec.at("hosts").note("names no host that can be served; nothing is published for it");
    }
    let auto = meta.labels.get("networking.istio.io/enable-autoallocate-ip").map(|value| &**value);
    ServiceEntry {
        hosts,
        vips: spec.at("addresses").list().iter().filter_map(vip).collect(),
        allocated: allocated(&object.at("status").at("addresses")),
        auto_allocate: resolution != Resolution::None && auto != Some("false"),
        ports: spec.at("ports").list().iter().filter_map(entry_port).collect(),
        resolution,
        endpoints: spec.at("endpoints").list().iter().filter_map(|field| entry(field, None)).collect(),
        selector: spec.at("workloadSelector").at("labels").labels(),
        distribution: distribution(&object.at("metadata").at("annotations").key(DISTRIBUTION)),
        subject_alt_names: spec.at("subjectAltNames").list().iter().filter_map(Field::text).collect(),
        meta,
    }
}

fn hostname(field: &Field<'_>, resolution: Resolution) -> Option<Str> {
    let host = field.text()?.to_ascii_lowercase();
    let wildcard = host.starts_with('*');
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if name.is_empty() || name.len() > mesh::limits::NAME_BYTES_MAX || !name.bytes().all(legal) {
        field.note(format!("{:?} is not a hostname; it is left out", super::field::shorten(&host)));
        return None;
    }
    if wildcard && resolution != Resolution::DynamicDns {
        field.note("is a wildcard, which needs resolution DYNAMIC_DNS; it is left out");
        return None;
    }
    Some(host.into())
}

fn vip(field: &Field<'_>) -> Option<Vip> {
    let text = field.text()?;
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(Vip::One(ip.to_canonical()));
    }
    let range = mesh::policy::canonical_net(field.parsed::<IpNet>("an IP address or range")?).trunc();
    let single = range.prefix_len() == range.max_prefix_len();
    Some(if single { Vip::One(range.addr()) } else { Vip::Range(range) })
}

fn allocated(field: &Field<'_>) -> BTreeMap<Str, Vec<IpAddr>> {
    let mut found: BTreeMap<Str, Vec<IpAddr>> = BTreeMap::new();
    for item in field.list() {
        if let (Some(host), Some(ip)) = (item.at("host").text(), ip(&item.at("value"))) {
            found.entry(host).or_default().push(ip);
        }
    }
    found
}

fn entry_port(field: &Field<'_>) -> Option<ServicePort> {
    let port = field.at("number").port()?;
    let name = field.at("name").text().unwrap_or_default();
    let protocol = field.at("protocol").text().unwrap_or_default();
    if protocol.eq_ignore_ascii_case("UDP") {
        return None;
    }
    let target = field.at("targetPort").port().unwrap_or(port);
    let app_protocol = app_protocol(&protocol, &name, port);
    Some(ServicePort { name, port, target: TargetPort::Number(target), app_protocol })
}
