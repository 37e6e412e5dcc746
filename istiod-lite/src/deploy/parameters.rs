//! What is laid over the objects of a Gateway: the defaults of its class, and then its own parameters,
//! both ConfigMaps whose entries are YAML. Pure.

use super::asked::{Asked, texts};
use chassis::objects;
use serde_json::Value;
use std::collections::BTreeMap;

/// The label of a ConfigMap, in the namespace of the control plane, that has the defaults of a class.
pub const DEFAULTS_FOR_CLASS: &str = "gateway.istio.io/defaults-for-class";

/// Which of the objects of a Gateway an overlay is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// The Deployment.
    Deployment,
    /// The Service.
    Service,
    /// The ServiceAccount.
    ServiceAccount,
    /// The HorizontalPodAutoscaler; there is none without an overlay.
    HorizontalPodAutoscaler,
    /// The PodDisruptionBudget; there is none without an overlay.
    PodDisruptionBudget,
}

const SECTIONS: [(&str, Section); 5] = [
    ("deployment", Section::Deployment),
    ("service", Section::Service),
    ("serviceAccount", Section::ServiceAccount),
    ("horizontalPodAutoscaler", Section::HorizontalPodAutoscaler),
    ("podDisruptionBudget", Section::PodDisruptionBudget),
];

/// Whether an entry of a ConfigMap is for one of the objects of a Gateway.
pub fn is_section(entry: &str) -> bool {
    SECTIONS.iter().any(|(known, _)| *known == entry)
}

/// One overlay, and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlay {
    /// What for.
    pub section: Section,
    /// `ConfigMap shop/wp, entry deployment`.
    pub origin: String,
    /// What to lay over.
    pub value: Value,
}

/// The ConfigMaps that overlays are taken from, by namespace and name, as they stand.
pub type ConfigMaps<'a> = BTreeMap<(&'a str, &'a str), &'a Value>;

/// The overlays of a Gateway, those that come first first. With a mistake in any there are none: half
/// of what somebody wants may be worse than what was there before.
pub fn overlays(asked: &Asked, root_namespace: &str, maps: &ConfigMaps<'_>) -> Result<Vec<Overlay>, String> {
    let mut found = Vec::new();
    if let Some(defaults) = class_defaults(&asked.class, root_namespace, maps) {
        read(defaults, &mut found)?;
    }
    if let Some(name) = asked.parameters.as_ref().map_err(Clone::clone)? {
        let Some(own) = maps.get(&(&*asked.namespace, &**name)) else {
            return Err(format!("spec.infrastructure.parametersRef: there is no ConfigMap {}/{name}", asked.namespace));
        };
        read(own, &mut found)?;
    }
    Ok(found)
}

/// The oldest that is labelled for the class.
fn class_defaults<'a>(class: &str, root_namespace: &str, maps: &ConfigMaps<'a>) -> Option<&'a Value> {
    let for_class = |map: &&Value| {
        texts(map.pointer("/metadata/labels")).get(DEFAULTS_FOR_CLASS).is_some_and(|label| label == class)
    };
    let age = |map: &Value| {
        let created = map.pointer("/metadata/creationTimestamp").and_then(Value::as_str).unwrap_or_default();
        (created.to_owned(), name(map).to_owned())
    };
    let all = maps.iter().filter(|((namespace, _), _)| *namespace == root_namespace).map(|(_, map)| *map);
    all.filter(for_class).min_by_key(|map| age(map))
}

fn name(map: &Value) -> &str {
    map.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

fn read(map: &Value, found: &mut Vec<Overlay>) -> Result<(), String> {
    let namespace = map.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
    let whole = format!("ConfigMap {namespace}/{}", name(map));
    for (key, text) in texts(map.get("data")) {
        let origin = format!("{whole}, entry {key}");
        let Some((_, section)) = SECTIONS.iter().find(|(known, _)| *known == key) else {
            let known: Vec<_> = SECTIONS.iter().map(|(known, _)| *known).collect();
            return Err(format!("{origin}: it is none of {}", known.join(", ")));
        };
        let value = objects::value(&text).map_err(|(line, reason)| format!("{origin}, line {line}: {reason}"))?;
        if !value.is_object() {
            return Err(format!("{origin}: it is no map of fields"));
        }
        found.push(Overlay { section: *section, origin, value });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn map(namespace: &str, name: &str, class: Option<&str>, created: &str, data: Value) -> Value {
        let labels = class.map_or_else(|| json!({}), |class| json!({ DEFAULTS_FOR_CLASS: class }));
        json!({
            "metadata": {"namespace": namespace, "name": name, "labels": labels, "creationTimestamp": created},
            "data": data,
        })
    }

    fn origins(parameters: Option<&str>, maps: &[Value]) -> Result<Vec<String>, String> {
        let mut gateway = json!({"metadata": {"namespace": "shop", "name": "wp"}, "spec": {"gatewayClassName": "c"}});
        if let Some(name) = parameters {
            let reference = json!({"group": "", "kind": "ConfigMap", "name": name});
            gateway["spec"]["infrastructure"] = json!({ "parametersRef": reference });
        }
        let place = |map: &Value, key: &str| map["metadata"][key].as_str().unwrap_or_default().to_owned();
        let places: Vec<_> = maps.iter().map(|map| (place(map, "namespace"), place(map, "name"), map)).collect();
        let maps = places.iter().map(|(namespace, name, map)| ((&**namespace, &**name), *map)).collect();
        let found = overlays(&Asked::of(&gateway), "istio-system", &maps)?;
        Ok(found.into_iter().map(|overlay| overlay.origin).collect())
    }

    #[test]
    fn the_oldest_defaults_of_the_class_come_before_a_gateways_own() {
        let maps = [
            map("istio-system", "young", Some("c"), "2026-02-01T00:00:00Z", json!({"service": "{}"})),
            map("istio-system", "old", Some("c"), "2026-01-01T00:00:00Z", json!({"deployment": "spec: {}"})),
            map("istio-system", "other", Some("d"), "2025-01-01T00:00:00Z", json!({"deployment": "{}"})),
            map("shop", "fake", Some("c"), "2020-01-01T00:00:00Z", json!({"deployment": "{}"})),
            map("shop", "mine", None, "2026-01-01T00:00:00Z", json!({"service": "spec: {}"})),
        ];
        let defaults = "ConfigMap istio-system/old, entry deployment".to_owned();
        assert_eq!(origins(None, &maps), Ok(vec![defaults.clone()]));
        assert_eq!(origins(Some("mine"), &maps), Ok(vec![defaults, "ConfigMap shop/mine, entry service".into()]));
    }

    #[test]
    fn a_mistake_in_parameters_names_the_place() {
        for (data, expected) in [
            (json!({"deploiment": "{}"}), "ConfigMap shop/p, entry deploiment: it is none of deployment, service, "),
            (json!({"service": "a: [1"}), "ConfigMap shop/p, entry service, line "),
            (json!({"service": "- 1"}), "ConfigMap shop/p, entry service: it is no map"),
            (json!({"service": "a: 1\n---\nb: 2"}), "ConfigMap shop/p, entry service, line 3: there is a second"),
        ] {
            let error = origins(Some("p"), &[map("shop", "p", None, "", data)]).expect_err("refused");
            assert!(error.starts_with(expected), "{error}");
        }
        let error = origins(Some("gone"), &[]).expect_err("not there");
        assert_eq!(error, "spec.infrastructure.parametersRef: there is no ConfigMap shop/gone");
    }
}
