//! What Helm made of the charts, as `charts/check --write` keeps it in `charts/golden`: every
//! container is as confined as it can be, and is told nothing that its program does not read.

use crate::{listed, parsed, read};
use serde_json::Value;
use std::collections::BTreeSet;

/// Variables that are not the program's own: its runtime reads them.
const OF_THE_RUNTIME: [&str; 1] = ["RUST_BACKTRACE"];

/// Every object of every golden file: file and object.
pub(crate) fn objects() -> Vec<(String, Value)> {
    let files: Vec<_> = listed("charts/golden").into_iter().filter(|name| !name.ends_with(".values.yaml")).collect();
    assert!(files.len() >= 3, "there is nothing in charts/golden: charts/check --write makes it");
    let mut found = Vec::new();
    for file in files {
        let path = format!("charts/golden/{file}");
        let text = read(&path);
        let documents = text.split("\n---\n").map(|text| text.trim_start_matches("---\n"));
        let documents = documents.filter(|text| text.lines().any(|line| !line.is_empty() && !line.starts_with('#')));
        for document in documents {
            let object = parsed(&path, document);
            for field in ["apiVersion", "kind"] {
                assert!(object[field].is_string(), "{path}: an object without {field}:\n{document}");
            }
            assert!(object["metadata"]["name"].is_string(), "{path}: an object without a name:\n{document}");
            found.push((path.clone(), object));
        }
    }
    found
}

/// Every pod that is rendered: where it stands, and its template.
fn pods() -> Vec<(String, Value)> {
    let of = |(path, object): (String, Value)| {
        let name = format!("{path}: {} {}", object["kind"].as_str()?, object["metadata"]["name"].as_str()?);
        object["spec"].get("template").map(|template| (name, template.clone()))
    };
    let pods: Vec<_> = objects().into_iter().filter_map(of).collect();
    assert!(pods.len() >= 9, "three programs in each golden file");
    pods
}

fn containers() -> Vec<(String, Value)> {
    let of = |(name, template): (String, Value)| {
        let containers = template["spec"]["containers"].as_array().cloned().unwrap_or_default();
        containers.into_iter().map(move |container| (name.clone(), container)).collect::<Vec<_>>()
    };
    pods().into_iter().flat_map(of).collect()
}

/// The names in the table of a section of the page on configuration.
fn documented(section: &str) -> BTreeSet<String> {
    let page = read("docs/configuration.md");
    let part = page.split("\n## ").find(|part| part.starts_with(&format!("{section}\n")));
    let part = part.unwrap_or_else(|| panic!("docs/configuration.md has no section {section}"));
    part.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect()
}

/// The section on the program that a container runs.
fn section(container: &Value) -> &'static str {
    let arguments: Vec<_> = container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match arguments.first() {
        Some(&"discovery") => "istiod-lite",
        Some(&"install-cni") => "The node agent",
        Some(&"proxy") => "ztunnel",
        other => panic!("what runs with {other:?}?"),
    }
}

#[test]
fn every_variable_is_one_that_the_program_reads() {
    let objects = objects();
    let mut seen = 0;
    for (name, container) in containers() {
        let known = documented(section(&container));
        let mut told: Vec<String> = Vec::new();
        for variable in container["env"].as_array().into_iter().flatten() {
            told.extend(variable["name"].as_str().map(str::to_owned));
        }
        for source in container["envFrom"].as_array().into_iter().flatten() {
            let map = source["configMapRef"]["name"].as_str().expect("variables come from ConfigMaps");
            let map =
                objects.iter().find(|(_, object)| object["kind"] == "ConfigMap" && object["metadata"]["name"] == map);
            let map = map.unwrap_or_else(|| panic!("{name}: its ConfigMap is not rendered"));
            told.extend(map.1["data"].as_object().into_iter().flatten().map(|(key, _)| key.clone()));
        }
        assert_eq!(told.len(), told.iter().collect::<BTreeSet<_>>().len(), "{name}: a variable is set twice: {told:?}");
        for variable in told.iter().filter(|name| !OF_THE_RUNTIME.contains(&&***name)) {
            seen += 1;
            assert!(
                known.contains(variable),
                "{name}: {variable} is in no row of docs/configuration.md, {}",
                section(&container)
            );
        }
    }
    assert!(seen > 30, "only {seen} variables were looked at");
}

#[test]
fn every_container_is_confined() {
    for (name, container) in containers() {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_ne!(context["privileged"], true, "{name}");
        assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
        assert!(container["resources"]["requests"]["cpu"].is_string(), "{name}: requests no CPU");
        assert!(container["resources"]["requests"]["memory"].is_string(), "{name}: requests no memory");
        assert!(container["readinessProbe"].is_object(), "{name}: nobody asks whether it is ready");
        if section(&container) == "istiod-lite" {
            assert_eq!(context["runAsNonRoot"], true, "{name}");
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(context["capabilities"].get("add"), None, "{name}");
        }
    }
    for (name, template) in pods() {
        assert_eq!(template["spec"]["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(template["metadata"]["labels"]["istio.io/dataplane-mode"], "none", "{name}");
    }
}

/// What else would be in the pod by default: the token with which it could ask the API server.
#[test]
fn the_proxy_cannot_ask_the_api_server() {
    let proxies: Vec<_> = pods().into_iter().filter(|(name, _)| name.ends_with("DaemonSet ztunnel")).collect();
    assert!(!proxies.is_empty());
    for (name, template) in proxies {
        assert_eq!(template["spec"]["automountServiceAccountToken"], false, "{name}");
    }
    for (path, object) in
        objects().iter().filter(|(_, object)| object["kind"].as_str().is_some_and(|k| k.ends_with("Binding")))
    {
        let subjects = object["subjects"].as_array().cloned().unwrap_or_default();
        assert!(subjects.iter().all(|subject| subject["name"] != "ztunnel"), "{path}: ztunnel has a role");
    }
}
