//! The names of the cluster: Services, headless Services and their pods.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use chassis::objects::{Object, ObjectEvent, ObjectKey};
use serde_json::Value;

/// The domain of the cluster, with the dot a full name ends in.
pub(crate) const DOMAIN: &str = "cluster.local.";

/// What is behind one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub addresses: Vec<IpAddr>,
    /// Port and the name of the host it is on.
    pub services: Vec<(u16, String)>,
    /// Another name for it, outside the cluster.
    pub alias: Option<String>,
}

/// Everything the name server knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zone {
    objects: BTreeMap<(String, String, String), Arc<Object>>,
    names: BTreeMap<String, Records>,
}

/// What to say about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Records(&'a Records),
    /// It is in the cluster's domain, and there is no such name.
    Nothing,
    /// It is none of our business.
    Elsewhere,
}

impl Zone {
    /// Takes in changes of objects.
    pub(crate) fn apply(&mut self, events: Vec<ObjectEvent>) {
        for event in events {
            match event {
                ObjectEvent::Applied(object) if matters(&object.kind) => {
                    self.objects.insert(key(&object.key()), object);
                }
                ObjectEvent::Removed(removed) => drop(self.objects.remove(&key(&removed))),
                ObjectEvent::Applied(_) | ObjectEvent::Problem(_) => {}
            }
        }
        self.names = names(self.objects.values().map(|object| &**object));
    }

    /// Looks a full name up, in any case.
    pub(crate) fn find(&self, name: &str) -> Found<'_> {
        let name = name.to_ascii_lowercase();
        match self.names.get(&name) {
            Some(records) => Found::Records(records),
            None if name == DOMAIN || name.ends_with(&format!(".{DOMAIN}")) => Found::Nothing,
            None => Found::Elsewhere,
        }
    }
}

fn matters(kind: &str) -> bool {
    matches!(kind, "Service" | "EndpointSlice")
}

fn key(key: &ObjectKey) -> (String, String, String) {
    (key.kind.clone(), key.namespace.clone(), key.name.clone())
}

fn names<'a>(objects: impl Iterator<Item = &'a Object> + Clone) -> BTreeMap<String, Records> {
    let mut names: BTreeMap<String, Records> = BTreeMap::new();
    let mut headless = BTreeSet::new();
    for object in objects.clone().filter(|object| object.kind == "Service") {
        let name = service_name(&object.name, &object.namespace);
        let spec = object.value.get("spec").unwrap_or(&Value::Null);
        let records = names.entry(name.clone()).or_default();
        if let Some(alias) = spec.get("externalName").and_then(Value::as_str) {
            records.alias = Some(format!("{}.", alias.trim_end_matches('.')));
            continue;
        }
        let addresses = spec.get("clusterIPs").and_then(Value::as_array).into_iter().flatten();
        records.addresses = addresses.filter_map(|address| address.as_str()?.parse().ok()).collect();
        if records.addresses.is_empty() {
            headless.insert(name);
            continue;
        }
        for port in spec.get("ports").and_then(Value::as_array).into_iter().flatten() {
            let number = port.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
            if let (Some(number), Some(srv)) = (number, port_name(port, &name)) {
                names.entry(srv).or_default().services.push((number, name.clone()));
            }
        }
    }
    for slice in objects.filter(|object| object.kind == "EndpointSlice") {
        let owner = slice.value.pointer("/metadata/labels/kubernetes.io~1service-name").and_then(Value::as_str);
        let name = owner.map(|owner| service_name(owner, &slice.namespace));
        if let Some(name) = name.filter(|name| headless.contains(name)) {
            endpoints(slice, &name, &mut names);
        }
    }
    names
}

/// The endpoints of a headless Service are behind its name, and each has one
/// of its own.
fn endpoints(slice: &Object, name: &str, names: &mut BTreeMap<String, Records>) {
    for endpoint in slice.value.get("endpoints").and_then(Value::as_array).into_iter().flatten() {
        let ready = endpoint.pointer("/conditions/ready").and_then(Value::as_bool).unwrap_or(true);
        let address = endpoint.pointer("/addresses/0").and_then(Value::as_str);
        let address: Option<IpAddr> = address.and_then(|text| text.parse().ok());
        let Some(address) = address.filter(|_| ready) else { continue };
        names.entry(name.to_owned()).or_default().addresses.push(address);
        let pod = endpoint.pointer("/targetRef/name").and_then(Value::as_str);
        let hostname = endpoint.get("hostname").and_then(Value::as_str).or(pod).map(ToOwned::to_owned);
        let own = format!("{}.{name}", hostname.unwrap_or_else(|| address.to_string().replace(['.', ':'], "-")));
        names.entry(own.clone()).or_default().addresses.push(address);
        for port in slice.value.get("ports").and_then(Value::as_array).into_iter().flatten() {
            let number = port.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
            if let (Some(number), Some(srv)) = (number, port_name(port, name)) {
                names.entry(srv).or_default().services.push((number, own.clone()));
            }
        }
    }
}

fn service_name(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.{DOMAIN}")
}

fn port_name(port: &Value, service: &str) -> Option<String> {
    let name = port.get("name").and_then(Value::as_str).filter(|name| !name.is_empty())?;
    let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP").to_ascii_lowercase();
    Some(format!("_{name}._{protocol}.{service}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn check(name: &str, expected: &str) {
        let (objects, problems) = chassis::objects::parse(Path::new("zone.yaml"), include_str!("zone.yaml"));
        assert!(problems.is_empty(), "{problems:?}");
        let mut zone = Zone::default();
        zone.apply(objects.into_iter().map(|object| ObjectEvent::Applied(Arc::new(object))).collect());
        let said = match zone.find(name) {
            Found::Nothing => "nothing".to_owned(),
            Found::Elsewhere => "elsewhere".to_owned(),
            Found::Records(records) => {
                let mut words: Vec<_> = records.addresses.iter().map(ToString::to_string).collect();
                words.extend(records.services.iter().map(|(port, host)| format!("{host}:{port}")));
                words.extend(records.alias.clone());
                words.join(" ")
            }
        };
        assert_eq!(said, expected, "{name}");
    }

    #[test]
    fn services_are_found_by_their_full_names() {
        check("web.shop.svc.cluster.local.", "10.96.1.1");
        check("WEB.Shop.svc.cluster.LOCAL.", "10.96.1.1");
        check("_http._tcp.web.shop.svc.cluster.local.", "web.shop.svc.cluster.local.:80");
        check("other.shop.svc.cluster.local.", "nothing");
        check("shop.svc.cluster.local.", "nothing");
        check("example.com.", "elsewhere");
    }

    #[test]
    fn behind_a_headless_service_are_its_ready_endpoints() {
        check("db.shop.svc.cluster.local.", "10.244.1.2");
        check("db-0.db.shop.svc.cluster.local.", "10.244.1.2");
        check("db-1.db.shop.svc.cluster.local.", "nothing");
        check("_sql._tcp.db.shop.svc.cluster.local.", "db-0.db.shop.svc.cluster.local.:5432");
    }

    #[test]
    fn an_external_name_is_an_alias() {
        check("away.shop.svc.cluster.local.", "example.com.");
    }
}
