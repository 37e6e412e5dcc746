//! Manifests of scenarios, as a cluster takes them: the same text that the lab takes names no image, calls the
//! nodes `node1` and `node2`, and says `E2E` for the program with the small programs for pods.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// Where the small programs are in the image of workloads.
pub(crate) const E2E: &str = "/usr/local/bin/e2e";
/// The label of the namespaces that scenarios made, by which they are found and removed.
pub(crate) const OURS: &str = "e2e";

/// How this cluster calls things.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// The image of workloads.
    pub(crate) apps: String,
    /// The nodes that scenarios call `node1` and `node2`.
    pub(crate) workers: [String; 2],
}

/// Reads manifests and puts them in the order in which a cluster can take them at once: what others are in or
/// need to start comes first.
pub(crate) fn read(text: &str, names: &Names) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for document in text.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document).with_context(|| format!("no YAML: {document}"))?;
        if !object.is_null() {
            objects.push(adapt(object, names));
        }
    }
    objects.sort_by_key(|object| match object["kind"].as_str() {
        Some("Namespace") => 0,
        Some("ServiceAccount" | "ConfigMap" | "Secret") => 1,
        _ => 2,
    });
    Ok(objects)
}

/// One `List` of all of them.
pub(crate) fn list(objects: &[Value]) -> String {
    json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()
}

fn adapt(mut object: Value, names: &Names) -> Value {
    match object["kind"].as_str() {
        Some("Namespace") => {
            let labels = field(field(&mut object, "metadata"), "labels");
            labels[OURS] = "scenario".into();
        }
        Some("Pod") => pod(field(&mut object, "spec"), names),
        Some("Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicaSet") => {
            pod(field(field(field(&mut object, "spec"), "template"), "spec"), names);
        }
        _ => {}
    }
    object
}

fn field<'a>(object: &'a mut Value, name: &str) -> &'a mut Value {
    if object[name].is_null() {
        object[name] = Value::Object(Map::new());
    }
    &mut object[name]
}

fn pod(spec: &mut Value, names: &Names) {
    for (said, called) in ["node1", "node2"].iter().zip(&names.workers) {
        if spec["nodeName"] == **said {
            spec["nodeName"] = called.as_str().into();
        }
    }
    // Most workloads here end at once or never: nobody waits half a minute for a `sleep`.
    if spec["terminationGracePeriodSeconds"].is_null() {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if container["image"].is_null() {
                container["image"] = names.apps.as_str().into();
                container["imagePullPolicy"] = "Never".into();
            }
            for words in ["command", "args"] {
                for word in container.get_mut(words).and_then(Value::as_array_mut).into_iter().flatten() {
                    if word == "E2E" {
                        *word = E2E.into();
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { apps: "apps:1".into(), workers: ["a-worker".into(), "a-worker2".into()] }
    }

    #[test]
    fn a_pod_of_the_lab_becomes_a_pod_of_a_cluster() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: { name: p, namespace: n }\nspec:\n  nodeName: node2\n  \
                    containers: [{ name: a, command: [E2E, app] }, { name: b, image: other }]\n\
                    ---\napiVersion: v1\nkind: Namespace\nmetadata: { name: n }\n";
        let objects = read(text, &names()).unwrap();
        assert_eq!(objects[0]["kind"], "Namespace", "what others are in comes first");
        assert_eq!(objects[0]["metadata"]["labels"][OURS], "scenario");
        let spec = &objects[1]["spec"];
        assert_eq!(spec["nodeName"], "a-worker2");
        assert_eq!(
            spec["containers"][0],
            json!({ "name": "a", "image": "apps:1", "imagePullPolicy": "Never", "command": [E2E, "app"] })
        );
        assert_eq!(spec["containers"][1]["image"], "other");
    }

    #[test]
    fn a_workload_s_template_is_read_too_and_nothing_else_is_touched() {
        let text = "kind: Deployment\nspec: { template: { spec: { terminationGracePeriodSeconds: 9, containers: [{ name: a }] } } }";
        let objects = read(text, &names()).unwrap();
        let spec = &objects[0]["spec"]["template"]["spec"];
        assert_eq!(
            (&spec["terminationGracePeriodSeconds"], &spec["containers"][0]["image"]),
            (&json!(9), &json!("apps:1"))
        );
        let service = read("kind: Service\nspec: { ports: [{ port: 80 }] }", &names()).unwrap();
        assert_eq!(service[0], json!({ "kind": "Service", "spec": { "ports": [{ "port": 80 }] } }));
    }

    #[test]
    fn broken_yaml_is_named() {
        assert!(format!("{:#}", read("a: [", &names()).unwrap_err()).contains("no YAML: a: ["));
    }
}
