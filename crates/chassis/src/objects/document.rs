//! Text → documents. Plain functions over text, bounded in size, depth and number.
//!
//! A text is cut at its document markers first and each document parsed alone, so that a mistake
//! in one leaves the others readable, and a problem can name its line.

use super::{Object, Origin, Problem};
use crate::limits;
use serde_json::Value;
use std::{path::Path, sync::Arc};

/// Reads every document of a YAML or JSON text; the items of a `List` count one by one.
/// Documents that are no objects are problems, and the others are returned all the same.
pub fn parse(file: &Path, text: &str) -> (Vec<Object>, Vec<Problem>) {
    let shared: Arc<Path> = file.into();
    let (mut objects, mut problems) = (Vec::new(), Vec::new());
    let problem = |line, reason| Problem { file: file.into(), line, reason };
    for (index, document) in split(text.strip_prefix('\u{feff}').unwrap_or(text)).into_iter().enumerate() {
        if index == limits::OBJECT_DOCUMENTS_MAX {
            let reason = format!("more than {index} documents in one file: the rest is ignored, split the file");
            problems.push(problem(document.line, reason));
            break;
        }
        match value_of(&document) {
            Ok(Value::Null) => {}
            Ok(value) => {
                let origin = Origin { file: shared.clone(), line: document.line };
                for result in expand(value, &origin) {
                    match result {
                        Ok(object) => objects.push(object),
                        Err(reason) => problems.push(problem(document.line, reason)),
                    }
                }
            }
            Err((line, reason)) => problems.push(problem(line, reason)),
        }
    }
    (objects, problems)
}

/// Reads a text of one document that is no object of Kubernetes: a configuration within a
/// configuration. The same limits hold.
pub fn value(text: &str) -> Result<Value, (usize, String)> {
    match &split(text.strip_prefix('\u{feff}').unwrap_or(text))[..] {
        [] => Ok(Value::Object(serde_json::Map::new())),
        [document] => value_of(document),
        [_, second, ..] => Err((second.line, "there is a second document, and one is expected".into())),
    }
}

/// One document of a text: from its marker (or the text's start) to the next marker.
struct Document<'a> {
    text: &'a str,
    /// Line of the first character of `text`, from 1.
    begins: usize,
    /// Line of the first content, from 1.
    line: usize,
}

/// Cuts at `---` and `...`, which YAML forbids at the start of a line inside any scalar.
/// Documents without content (comments, directives, nothing) are left out.
fn split(text: &str) -> Vec<Document<'_>> {
    let mut documents = Vec::new();
    let (mut start, mut begins, mut content, mut offset) = (0, 1, None, 0);
    let mut number = 0;
    for line in text.split_inclusive('\n') {
        number += 1;
        let bare = line.trim_end();
        let marker = |m: &str| bare.strip_prefix(m).filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        let (opens, closes) = (marker("---"), marker("..."));
        if opens.is_some() || closes.is_some() {
            if let Some(line) = content.take() {
                documents.push(Document { text: &text[start..offset], begins, line });
            }
            // The marker's own line belongs to the document it opens: content may follow on it.
            start = if closes.is_some() { offset + line.len() } else { offset };
            begins = if closes.is_some() { number + 1 } else { number };
        }
        let rest = opens.unwrap_or(bare).trim_start();
        if closes.is_none() && content.is_none() && !rest.is_empty() && !rest.starts_with(['#', '%']) {
            content = Some(number);
        }
        offset += line.len();
    }
    if let Some(line) = content {
        documents.push(Document { text: &text[start..], begins, line });
    }
    documents
}

fn value_of(document: &Document<'_>) -> Result<Value, (usize, String)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: limits::OBJECT_DEPTH_MAX,
            max_nodes: limits::OBJECT_NODES_MAX,
            max_events: 2 * limits::OBJECT_NODES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: limits::OBJECT_ALIASED_NODES_MAX,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(document.text, options).map_err(|error| {
        let line = error.location().map_or(document.line, |l| document.begins + (l.line() as usize).saturating_sub(1));
        // The library's text ends with a place that counts from the document, ours from the file.
        let reason = error.to_string();
        let reason = reason.split(" at line ").next().unwrap_or_default().trim_end_matches([',', ' ']);
        (line, format!("cannot be read as YAML: {}", reason.lines().next().unwrap_or_default()))
    })
}

fn expand(value: Value, origin: &Origin) -> Vec<Result<Object, String>> {
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    if !kind.ends_with("List") {
        return vec![object(value, origin)];
    }
    let Value::Object(mut list) = value else { return Vec::new() };
    match list.remove("items") {
        Some(Value::Array(items)) => items.into_iter().map(|item| object(item, origin)).collect(),
        Some(Value::Null) => Vec::new(),
        _ => vec![object(Value::Object(list), origin)],
    }
}

fn object(mut value: Value, origin: &Origin) -> Result<Object, String> {
    let text = |pointer: &str| match value.pointer(pointer) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::String(_) | Value::Null) | None => Err(format!("{} is missing", pointer[1..].replace('/', "."))),
        Some(_) => Err(format!("{} is not a string", pointer[1..].replace('/', "."))),
    };
    if !value.is_object() {
        return Err("the document is not a mapping with apiVersion, kind and metadata".into());
    }
    let (api_version, kind, name) = (text("/apiVersion")?, text("/kind")?, text("/metadata/name")?);
    let namespace = match value.pointer("/metadata/namespace") {
        _ if cluster_scoped(&kind) => String::new(),
        None | Some(Value::Null) => "default".to_owned(),
        Some(Value::String(namespace)) if !namespace.is_empty() => namespace.clone(),
        Some(_) => return Err("metadata.namespace is not a name".into()),
    };
    if let Some(metadata) = value.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        // Readers of the value alone see the same namespace as readers of the key.
        if namespace.is_empty() {
            metadata.remove("namespace");
        } else {
            metadata.insert("namespace".into(), namespace.clone().into());
        }
    }
    Ok(Object { api_version, kind, namespace, name, value, origin: origin.clone() })
}

/// The built-in kinds that have no namespace. Custom kinds of the mesh all have one, but GatewayClass.
fn cluster_scoped(kind: &str) -> bool {
    matches!(
        kind,
        "Namespace"
            | "Node"
            | "PersistentVolume"
            | "ClusterRole"
            | "ClusterRoleBinding"
            | "CustomResourceDefinition"
            | "APIService"
            | "StorageClass"
            | "IngressClass"
            | "GatewayClass"
            | "PriorityClass"
            | "RuntimeClass"
            | "CSIDriver"
            | "CSINode"
            | "MutatingWebhookConfiguration"
            | "ValidatingWebhookConfiguration"
            | "ValidatingAdmissionPolicy"
            | "ValidatingAdmissionPolicyBinding"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text gives: `line kind namespace/name` and `line! reason`, in order of kind then line.
    fn check(text: &str, expected: &[&str]) {
        let (objects, problems) = parse(Path::new("a.yaml"), text);
        let mut seen: Vec<String> =
            objects.iter().map(|o| format!("{} {} {}/{}", o.origin.line, o.kind, o.namespace, o.name)).collect();
        seen.extend(problems.iter().map(|p| format!("{}! {}", p.line, p.reason)));
        let matches = seen.len() == expected.len() && seen.iter().zip(expected).all(|(s, e)| s.starts_with(e));
        assert!(matches, "{text:?}\n gave     {seen:#?}\n expected {expected:#?}");
    }

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\n";

    #[test]
    fn each_document_is_an_object_with_its_line() {
        check(POD, &["1 Pod shop/web"]);
        check(&format!("---\n# a pod\n{POD}---\n{POD}"), &["3 Pod shop/web", "7 Pod shop/web"]);
        check(&format!("%YAML 1.2\n---\n{POD}...\n---\n---\n"), &["3 Pod shop/web"]);
        check(&format!("\u{feff}{}", POD.replace('\n', "\r\n")), &["1 Pod shop/web"]);
        check("", &[]);
        check("# nothing\n---\n# still nothing\n", &[]);
        check("--- {apiVersion: v1, kind: Node, metadata: {name: n1}}\n", &["1 Node /n1"]);
    }

    #[test]
    fn json_is_read_too() {
        check(r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"}}"#, &["1 Pod default/web"]);
    }

    #[test]
    fn a_marker_inside_a_scalar_does_not_cut() {
        check(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  text: |\n    ---\n    kind: Nothing\n",
            &["1 ConfigMap default/c"],
        );
    }

    #[test]
    fn a_list_counts_as_its_items() {
        check(
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}}\n- {kind: Pod}\n",
            &["1 Pod default/a", "1! apiVersion is missing"],
        );
        check("{apiVersion: v1, kind: PodList, items: []}", &[]);
    }

    #[test]
    fn what_has_no_namespace_in_the_cluster_has_none_here() {
        check("{apiVersion: v1, kind: Namespace, metadata: {name: shop, namespace: x}}", &["1 Namespace /shop"]);
    }

    #[test]
    fn a_mistake_names_its_line_and_leaves_the_other_documents() {
        check(&format!("{POD}---\nkind: [\n---\n{POD}"), &["1 Pod shop/web", "7 Pod shop/web", "5"]);
        check(&format!("{POD}---\nkind: Pod\n"), &["1 Pod shop/web", "5! apiVersion is missing"]);
        check("- 1\n", &["1! the document is not a mapping"]);
        check("just text\n", &["1! the document is not a mapping"]);
        check("apiVersion: v1\nkind: Pod\nmetadata: {name: 7}\n", &["1! metadata.name is not a string"]);
        check("apiVersion: v1\nkind: Pod\nkind: Node\nmetadata: {name: a}\n", &["3! cannot be read as YAML"]);
    }

    #[test]
    fn too_deep_and_too_much_are_refused() {
        let deep = format!("{POD}spec: {}{}\n", "[".repeat(80), "]".repeat(80));
        check(&deep, &["4! cannot be read as YAML"]);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
        let (objects, problems) = parse(Path::new("bomb.yaml"), bomb);
        assert!(objects.is_empty());
        assert_eq!(problems.len(), 1);
        let many = "{apiVersion: v1, kind: Pod, metadata: {name: a}}\n---\n".repeat(limits::OBJECT_DOCUMENTS_MAX + 2);
        let (objects, problems) = parse(Path::new("many.yaml"), &many);
        assert_eq!((objects.len(), problems.len()), (limits::OBJECT_DOCUMENTS_MAX, 1));
    }

    #[test]
    fn values_are_what_kubernetes_reads() {
        let (objects, _) = parse(
            Path::new("a.yaml"),
            "apiVersion: v1\nkind: X\nmetadata: {name: a}\nspec: {a: \"80\", b: 80, c: true, d: null, e: 1.5, f: 'true', g: ~, h: 0x10}\n",
        );
        assert_eq!(
            objects[0].value["spec"],
            serde_json::json!({"a":"80","b":80,"c":true,"d":null,"e":1.5,"f":"true","g":null,"h":16})
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[-a-z0-9:{}\\[\\],&*!|>\"'%#. \t\n\r\u{0}\u{feff}é]{0,200}") {
            parse(Path::new("any.yaml"), &text);
        }
    }
}
