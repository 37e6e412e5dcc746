//! What a client says of itself in the first request of each kind. It is a claim, not a proof:
//! the server compares it with the identity that the caller authenticated as.

use prost_types::{ListValue, Struct, Value, value};
use std::{collections::BTreeMap, net::IpAddr};

/// A proxy, by its own account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `<type>~<ip>~<pod>.<namespace>~<namespace>.svc.<domain>`.
    pub id: String,
    /// Cluster it says it is in; often empty.
    pub cluster: String,
    /// Its metadata, as far as it is text: NAME, NAMESPACE, NODE_NAME, SERVICE_ACCOUNT, …
    pub metadata: BTreeMap<String, String>,
    /// What else it says that is not text (`ISTIO_METAJSON_*`). Told, and not listened to.
    pub structured: BTreeMap<String, serde_json::Value>,
}

impl Node {
    /// How a node proxy names itself.
    pub fn ztunnel(ip: Option<IpAddr>, pod: &str, namespace: &str, node: &str) -> Self {
        Self::proxy("ztunnel", ip, pod, namespace, "cluster.local").with("NODE_NAME", node)
    }

    /// How a waypoint names itself; `domain` is that of the cluster's services.
    pub fn waypoint(ip: Option<IpAddr>, pod: &str, namespace: &str, service_account: &str, domain: &str) -> Self {
        Self::proxy("waypoint", ip, pod, namespace, domain).with("SERVICE_ACCOUNT", service_account)
    }

    fn proxy(kind: &str, ip: Option<IpAddr>, pod: &str, namespace: &str, domain: &str) -> Self {
        let ip = ip.map_or_else(|| "1.1.1.1".into(), |ip| ip.to_string());
        let metadata = [("NAME", pod), ("NAMESPACE", namespace), ("INSTANCE_IPS", &ip)];
        Self {
            id: format!("{kind}~{ip}~{pod}.{namespace}~{namespace}.svc.{domain}"),
            cluster: String::new(),
            metadata: metadata.into_iter().map(|(key, text)| (key.into(), text.into())).collect(),
            structured: BTreeMap::new(),
        }
    }

    /// What kind of proxy it says it is: the first part of its id, `ztunnel` or `waypoint`.
    pub fn proxy_type(&self) -> &str {
        self.id.split('~').next().unwrap_or_default()
    }

    /// The same with one more metadata entry (`proxyMetadata`, `ISTIO_META_*` without its prefix).
    #[must_use]
    pub fn with(mut self, key: &str, text: &str) -> Self {
        self.metadata.insert(key.into(), text.into());
        self
    }

    /// The same with one more metadata entry of any shape (`ISTIO_METAJSON_*` without its prefix).
    #[must_use]
    pub fn with_json(mut self, key: &str, value: serde_json::Value) -> Self {
        self.structured.insert(key.into(), value);
        self
    }

    /// The namespace it says it runs in.
    pub fn namespace(&self) -> Option<&str> {
        self.metadata.get("NAMESPACE").map(String::as_str)
    }

    /// The service account it says it runs as; node proxies do not say.
    pub fn service_account(&self) -> Option<&str> {
        self.metadata.get("SERVICE_ACCOUNT").map(String::as_str)
    }

    /// The machine it says it runs on.
    pub fn node_name(&self) -> Option<&str> {
        self.metadata.get("NODE_NAME").map(String::as_str)
    }

    pub(crate) fn to_wire(&self) -> proto::discovery::Node {
        let text = |text: &String| Value { kind: Some(value::Kind::StringValue(text.clone())) };
        let texts = self.metadata.iter().map(|(key, value)| (key.clone(), text(value)));
        // What both name is what the proxy itself knows best, and that is text.
        let structured = self.structured.iter().map(|(key, json)| (key.clone(), value_of(json)));
        let fields = structured.chain(texts).collect();
        proto::discovery::Node { id: self.id.clone(), cluster: self.cluster.clone(), metadata: Some(Struct { fields }) }
    }

    pub(crate) fn of_wire(node: proto::discovery::Node) -> Self {
        let text = |(key, value): (String, Value)| match value.kind {
            Some(value::Kind::StringValue(text)) => Some((key, text)),
            _ => None,
        };
        let metadata = node.metadata.unwrap_or_default().fields.into_iter().filter_map(text).collect();
        Self { id: node.id, cluster: node.cluster, metadata, structured: BTreeMap::new() }
    }
}

fn value_of(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => value::Kind::NullValue(0),
        serde_json::Value::Bool(flag) => value::Kind::BoolValue(*flag),
        serde_json::Value::Number(number) => value::Kind::NumberValue(number.as_f64().unwrap_or_default()),
        serde_json::Value::String(text) => value::Kind::StringValue(text.clone()),
        serde_json::Value::Array(list) => {
            value::Kind::ListValue(ListValue { values: list.iter().map(value_of).collect() })
        }
        serde_json::Value::Object(map) => value::Kind::StructValue(Struct {
            fields: map.iter().map(|(key, json)| (key.clone(), value_of(json))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_itself_goes_over_the_wire_as_text_or_in_its_shape() {
        let node = Node::ztunnel(None, "z1", "istio-system", "n1")
            .with("TEAM", "a")
            .with_json("LABELS", serde_json::json!({ "app": "ztunnel", "n": [1, true, null] }))
            .with_json("NAME", serde_json::json!(3));
        let wire = node.to_wire();
        let fields = wire.metadata.clone().expect("metadata").fields;
        assert_eq!(fields["LABELS"], value_of(&serde_json::json!({ "app": "ztunnel", "n": [1, true, null] })));
        let read = Node::of_wire(wire);
        assert_eq!(read.metadata, node.metadata, "text stays text, and wins");
    }
}
