//! Laying what a user wants over what we would make, as `kubectl patch --type strategic` does: maps are
//! merged, lists of named things by those names, other lists are replaced. Pure.

use serde_json::{Map, Value};

/// What an overlay cannot do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// It is no map.
    #[error("should be a map of fields")]
    NotAMap,
    /// It names another object.
    #[error("{field} may not be changed: it is {ours}")]
    Identity {
        /// Which field.
        field: &'static str,
        /// What it must stay.
        ours: Value,
    },
    /// A directive of a patch that is none.
    #[error("{path}: $patch may be merge, replace or delete")]
    Directive {
        /// Where.
        path: String,
    },
}

/// What names an object, and so stays.
const IDENTITY: [(&str, &str); 4] = [
    ("apiVersion", "/apiVersion"),
    ("kind", "/kind"),
    ("metadata.name", "/metadata/name"),
    ("metadata.namespace", "/metadata/namespace"),
];

/// Lays an overlay over an object.
pub fn lay_over(object: &Value, overlay: &Value) -> Result<Value, OverlayError> {
    let Value::Object(fields) = overlay else { return Err(OverlayError::NotAMap) };
    for (field, pointer) in IDENTITY {
        let ours = object.pointer(pointer).unwrap_or(&Value::Null);
        if overlay.pointer(pointer).is_some_and(|said| said != ours) {
            return Err(OverlayError::Identity { field, ours: ours.clone() });
        }
    }
    let mut merged = object.clone();
    if let Value::Object(base) = &mut merged {
        merge_map(base, fields, "", "")?;
    }
    Ok(merged)
}

/// By which field the items of a list are told apart, where they are. `parent` is the field that has
/// the list of things whose field this is: ports of containers are not ports of services.
fn merge_key(parent: &str, field: &str) -> Option<&'static str> {
    Some(match (parent, field) {
        (_, "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" | "secrets" | "claims") => "name",
        ("containers" | "initContainers", "ports") => "containerPort",
        ("spec", "ports") => "port",
        (_, "volumeMounts") => "mountPath",
        (_, "volumeDevices") => "devicePath",
        (_, "hostAliases") => "ip",
        (_, "topologySpreadConstraints") => "topologyKey",
        (_, "ownerReferences") => "uid",
        _ => return None,
    })
}

/// Lists of plain values that are joined rather than replaced.
fn is_joined(field: &str) -> bool {
    field == "finalizers"
}

fn merge_map(
    base: &mut Map<String, Value>,
    overlay: &Map<String, Value>,
    parent: &str,
    path: &str,
) -> Result<(), OverlayError> {
    match directive(overlay, path)? {
        Directive::Merge => {}
        Directive::Delete => {
            base.clear();
            return Ok(());
        }
        Directive::Replace => base.clear(),
    }
    for (field, value) in overlay {
        let below = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
        match value {
            // Hints of kubectl for the order of lists, and deletions from lists of plain values.
            _ if field.starts_with('$') => {}
            Value::Null => drop(base.remove(field)),
            Value::Object(fields) => {
                let entry = base.entry(field.clone()).or_insert_with(|| Value::Object(Map::new()));
                match entry {
                    Value::Object(entry) => merge_map(entry, fields, field, &below)?,
                    other => *other = without_directives(value),
                }
            }
            Value::Array(items) => match (merge_key(parent, field), base.get_mut(field)) {
                (Some(key), Some(Value::Array(list))) => merge_list(list, items, key, field, &below)?,
                (None, Some(Value::Array(list))) if is_joined(field) => {
                    let new: Vec<_> = items.iter().filter(|item| !list.contains(item)).cloned().collect();
                    list.extend(new);
                }
                _ => drop(base.insert(field.clone(), without_directives(value))),
            },
            plain => drop(base.insert(field.clone(), plain.clone())),
        }
    }
    Ok(())
}

fn merge_list(
    base: &mut Vec<Value>,
    overlay: &[Value],
    key: &str,
    field: &str,
    path: &str,
) -> Result<(), OverlayError> {
    let replace =
        |item: &Value| item.get("$patch").and_then(Value::as_str) == Some("replace") && item.get(key).is_none();
    if overlay.iter().any(replace) {
        base.clear();
    }
    for (n, item) in overlay.iter().enumerate().filter(|(_, item)| !replace(item)) {
        let Value::Object(fields) = item else {
            base.push(item.clone());
            continue;
        };
        let same = |other: &Value| other.get(key) == item.get(key) && item.get(key).is_some();
        let below = format!("{path}[{n}]");
        let at = base.iter().position(same);
        match (directive(fields, &below)?, at) {
            (Directive::Delete, at) => drop(at.map(|at| base.remove(at))),
            (_, Some(at)) => {
                if let Value::Object(known) = &mut base[at] {
                    merge_map(known, fields, field, &below)?;
                }
            }
            (_, None) => base.push(without_directives(item)),
        }
    }
    Ok(())
}

enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(fields: &Map<String, Value>, path: &str) -> Result<Directive, OverlayError> {
    match fields.get("$patch").map(|said| said.as_str()) {
        None | Some(Some("merge")) => Ok(Directive::Merge),
        Some(Some("replace")) => Ok(Directive::Replace),
        Some(Some("delete")) => Ok(Directive::Delete),
        Some(_) => Err(OverlayError::Directive { path: path.to_owned() }),
    }
}

/// What is new has nothing to be merged with.
fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(key, value)| !key.starts_with('$') && !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_directives(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_directives).collect()),
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_overlay_is_merged_as_kubernetes_would() {
        let base = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "wp", "namespace": "shop"},
            "spec": {"replicas": 1, "template": {"spec": {
                "tolerations": [{"key": "a"}],
                "containers": [{
                    "name": "istio-proxy", "image": "i", "args": ["a", "b"],
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "ports": [{"containerPort": 15020, "name": "metrics"}],
                    "resources": {"limits": {"cpu": "2", "memory": "1Gi"}},
                }],
            }}},
        });
        let path = |path: &str| format!("/spec/template/spec/{path}");
        for (what, overlay, pointer, expected) in [
            ("a number", json!({"spec": {"replicas": 3}}), "/spec/replicas".into(), json!(3)),
            ("null removes", json!({"spec": {"replicas": null}}), "/spec/replicas".into(), Value::Null),
            (
                "a container by name",
                json!({"spec": {"template": {"spec": {"containers": [{"name": "istio-proxy", "image": "j"}]}}}}),
                path("containers/0/image"),
                json!("j"),
            ),
            (
                "a second container",
                json!({"spec": {"template": {"spec": {"containers": [{"name": "x", "image": "y"}]}}}}),
                path("containers/1"),
                json!({"name": "x", "image": "y"}),
            ),
            (
                "one variable of several",
                json!({"spec": {"template": {"spec": {"containers": [
                    {"name": "istio-proxy", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]}}}}),
                path("containers/0/env"),
                json!([{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}]),
            ),
            (
                "a variable goes",
                json!({"spec": {"template": {"spec": {"containers": [
                    {"name": "istio-proxy", "env": [{"name": "A", "$patch": "delete"}]}]}}}}),
                path("containers/0/env"),
                json!([{"name": "B", "value": "2"}]),
            ),
            (
                "all variables go",
                json!({"spec": {"template": {"spec": {"containers": [
                    {"name": "istio-proxy", "env": [{"$patch": "replace"}, {"name": "Z", "value": "9"}]}]}}}}),
                path("containers/0/env"),
                json!([{"name": "Z", "value": "9"}]),
            ),
            (
                "ports by number",
                json!({"spec": {"template": {"spec": {"containers": [
                    {"name": "istio-proxy", "ports": [{"containerPort": 15020, "protocol": "TCP"}, {"containerPort": 1}]}]}}}}),
                path("containers/0/ports"),
                json!([{"containerPort": 15020, "name": "metrics", "protocol": "TCP"}, {"containerPort": 1}]),
            ),
            (
                "plain lists are replaced",
                json!({"spec": {"template": {"spec": {"tolerations": [{"key": "b"}]}}}}),
                path("tolerations"),
                json!([{"key": "b"}]),
            ),
            (
                "a map is replaced when asked",
                json!({"spec": {"template": {"spec": {"containers": [
                    {"name": "istio-proxy", "resources": {"limits": {"$patch": "replace", "memory": "2Gi"}}}]}}}}),
                path("containers/0/resources/limits"),
                json!({"memory": "2Gi"}),
            ),
        ] {
            let merged = lay_over(&base, &overlay).expect(what);
            assert_eq!(merged.pointer(&pointer).unwrap_or(&Value::Null), &expected, "{what}");
        }
    }

    #[test]
    fn ports_of_a_service_are_told_apart_by_number() {
        let base = json!({"spec": {"ports": [{"name": "mesh", "port": 15008}]}});
        let merged = lay_over(&base, &json!({"spec": {"ports": [{"port": 15008, "nodePort": 30000}, {"port": 1}]}}));
        let expected = json!([{"name": "mesh", "port": 15008, "nodePort": 30000}, {"port": 1}]);
        assert_eq!(merged.expect("good")["spec"]["ports"], expected);
    }

    #[test]
    fn an_overlay_cannot_become_another_object() {
        let base = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wp", "namespace": "shop"}});
        assert!(lay_over(&base, &json!({"kind": "Service", "metadata": {"name": "wp"}})).is_ok(), "it says the same");
        for (overlay, expected) in [
            (json!({"metadata": {"name": "x"}}), "metadata.name may not be changed: it is \"wp\""),
            (json!({"metadata": {"namespace": "x"}}), "metadata.namespace may not be changed: it is \"shop\""),
            (json!({"kind": "Secret"}), "kind may not be changed: it is \"Service\""),
            (json!({"apiVersion": "v2"}), "apiVersion may not be changed: it is \"v1\""),
            (json!([1]), "should be a map of fields"),
            (json!({"spec": {"$patch": "never"}}), "spec: $patch may be merge, replace or delete"),
        ] {
            assert_eq!(lay_over(&base, &overlay).expect_err("refused").to_string(), expected);
        }
    }
}
