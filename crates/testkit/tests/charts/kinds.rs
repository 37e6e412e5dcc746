//! The definitions of Istio's kinds, as far as the control plane reads them, for clusters that have
//! none. They are lenient on purpose: no field is pruned and no word is refused, because the API
//! server must not take out of a policy what makes it strict. The control plane, its webhook first,
//! says what is wrong with an object; a definition could only say that something is.

use crate::{compare, listed, parsed, read};

struct Kind {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    short: &'static str,
    /// Versions that are served; objects are stored in the first.
    versions: &'static [&'static str],
    /// Columns of `kubectl get`, beside the age: title and path below `spec`.
    columns: &'static [(&'static str, &'static str)],
    required: &'static [&'static str],
    about: &'static str,
    /// Fields of `spec`: name, type, meaning.
    fields: &'static [(&'static str, &'static str, &'static str)],
}

const SELECTOR: (&str, &str, &str) = ("selector", "object", "Which pods of its namespace it is for, by matchLabels.");
const TARGETS: (&str, &str, &str) =
    ("targetRefs", "array", "Which Services, ServiceEntries, Gateways it is for, at waypoints.");
const TARGET: (&str, &str, &str) = ("targetRef", "object", "The same, of one; say targetRefs instead.");

const KINDS: [Kind; 8] = [
    Kind {
        group: "networking.istio.io",
        kind: "ServiceEntry",
        plural: "serviceentries",
        short: "se",
        versions: &["v1", "v1beta1", "v1alpha3"],
        columns: &[("Hosts", "hosts"), ("Location", "location"), ("Resolution", "resolution")],
        required: &["hosts"],
        about: "A service that the cluster does not know.",
        fields: &[
            ("hosts", "array", "Its host names."),
            ("addresses", "array", "Its virtual addresses; allocated if there are none."),
            ("ports", "array", "Its ports."),
            ("location", "string", "MESH_EXTERNAL or MESH_INTERNAL."),
            ("resolution", "string", "How its endpoints are found: NONE, STATIC, DNS, DNS_ROUND_ROBIN, DYNAMIC_DNS."),
            ("endpoints", "array", "Its endpoints."),
            ("workloadSelector", "object", "Which pods and WorkloadEntries are its endpoints, by labels."),
            ("exportTo", "array", "Who may see it."),
            ("subjectAltNames", "array", "Identities that its endpoints have."),
        ],
    },
    Kind {
        group: "networking.istio.io",
        kind: "WorkloadEntry",
        plural: "workloadentries",
        short: "we",
        versions: &["v1", "v1beta1", "v1alpha3"],
        columns: &[("Address", "address")],
        required: &[],
        about: "A workload that is no pod.",
        fields: &[
            ("address", "string", "An IP address or a host name."),
            ("ports", "object", "Ports by the names that a ServiceEntry has for them."),
            ("labels", "object", "Its labels."),
            ("network", "string", "The network it is on."),
            ("locality", "string", "Region/zone/subzone."),
            ("weight", "integer", "Its share of the load."),
            ("serviceAccount", "string", "The account in its identity."),
        ],
    },
    Kind {
        group: "networking.istio.io",
        kind: "VirtualService",
        plural: "virtualservices",
        short: "vs",
        versions: &["v1", "v1beta1", "v1alpha3"],
        columns: &[("Gateways", "gateways"), ("Hosts", "hosts")],
        required: &[],
        about: "What becomes of requests to hosts, at waypoints.",
        fields: &[
            ("hosts", "array", "Whom requests are for."),
            ("gateways", "array", "Where it holds; `mesh` is the waypoints."),
            ("http", "array", "Rules for HTTP, in order."),
            ("tls", "array", "Rules for TLS that is passed on, in order."),
            ("tcp", "array", "Rules for TCP, in order."),
            ("exportTo", "array", "In which namespaces it holds."),
        ],
    },
    Kind {
        group: "networking.istio.io",
        kind: "DestinationRule",
        plural: "destinationrules",
        short: "dr",
        versions: &["v1", "v1beta1", "v1alpha3"],
        columns: &[("Host", "host")],
        required: &["host"],
        about: "How a service is called once it was chosen: subsets, balancing, limits, TLS; at waypoints.",
        fields: &[
            ("host", "string", "The service."),
            ("trafficPolicy", "object", "How it is called."),
            ("subsets", "array", "Parts of it, by labels."),
            ("exportTo", "array", "In which namespaces it holds."),
            ("workloadSelector", "object", "Not honoured: with it the rule is not used."),
        ],
    },
    Kind {
        group: "security.istio.io",
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        short: "ap",
        versions: &["v1", "v1beta1"],
        columns: &[("Action", "action")],
        required: &[],
        about: "Who may do what.",
        fields: &[
            SELECTOR,
            TARGETS,
            TARGET,
            ("rules", "array", "When it applies: from whom, to what, under which conditions."),
            ("action", "string", "ALLOW, DENY, AUDIT or CUSTOM."),
            ("provider", "object", "Who is asked, for CUSTOM."),
        ],
    },
    Kind {
        group: "security.istio.io",
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        short: "pa",
        versions: &["v1", "v1beta1"],
        columns: &[("Mode", "mtls.mode")],
        required: &[],
        about: "Whether workloads may be called in plaintext.",
        fields: &[
            SELECTOR,
            ("mtls", "object", "STRICT, PERMISSIVE, DISABLE or UNSET, under mode."),
            ("portLevelMtls", "object", "The same for single ports."),
        ],
    },
    Kind {
        group: "security.istio.io",
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        short: "ra",
        versions: &["v1", "v1beta1"],
        columns: &[],
        required: &[],
        about: "Whose tokens prove who sent a request, at waypoints.",
        fields: &[SELECTOR, TARGETS, TARGET, ("jwtRules", "array", "Issuers, and where their tokens and keys are.")],
    },
    Kind {
        group: "telemetry.istio.io",
        kind: "Telemetry",
        plural: "telemetries",
        short: "telemetry",
        versions: &["v1", "v1alpha1"],
        columns: &[],
        required: &[],
        about: "What is logged, counted and traced, at waypoints.",
        fields: &[
            SELECTOR,
            TARGETS,
            TARGET,
            ("accessLogging", "array", "Which requests are logged."),
            ("metrics", "array", "Which metrics, with which labels."),
            ("tracing", "array", "Which requests are traced, and by whom."),
        ],
    },
];

fn definition(kind: &Kind) -> String {
    let Kind { group, kind: name, plural, short, .. } = kind;
    let (list, singular, category) = (format!("{name}List"), name.to_lowercase(), group.replace('.', "-"));
    let mut text = format!(
        "# Printed from the table in crates/testkit/tests/charts/kinds.rs, which says why it is lenient.\n\
         apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: {plural}.{group}\n  annotations:\n\
         \x20   helm.sh/resource-policy: keep\n  labels:\n    app.kubernetes.io/part-of: istiod-lite\nspec:\n  group: {group}\n\
         \x20 scope: Namespaced\n  names:\n    kind: {name}\n    listKind: {list}\n    plural: {plural}\n    singular: {singular}\n\
         \x20   shortNames: [{short}]\n    categories: [istio-io, {category}]\n  versions:\n"
    );
    for (at, version) in kind.versions.iter().enumerate() {
        text.push_str(&version_of(kind, version, at == 0));
    }
    text
}

fn version_of(kind: &Kind, version: &str, stored: bool) -> String {
    let mut text = format!(
        "  - name: {version}\n    served: true\n    storage: {stored}\n    subresources: {{status: {{}}}}\n    additionalPrinterColumns:\n"
    );
    for (title, path) in kind.columns {
        text.push_str(&format!("    - {{name: {title}, type: string, jsonPath: .spec.{path}}}\n"));
    }
    text.push_str("    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}\n");
    text.push_str(&format!(
        "    schema:\n      openAPIV3Schema:\n        description: {:?}\n        type: object\n        properties:\n          spec:\n\
         \x20           type: object\n            x-kubernetes-preserve-unknown-fields: true\n",
        kind.about
    ));
    if !kind.required.is_empty() {
        text.push_str(&format!("            required: [{}]\n", kind.required.join(", ")));
    }
    text.push_str("            properties:\n");
    for (name, form, about) in kind.fields {
        text.push_str(&format!(
            "              {name}:\n                description: {about:?}\n                type: {form}\n"
        ));
        match *form {
            "object" => text.push_str("                x-kubernetes-preserve-unknown-fields: true\n"),
            "array" => text.push_str("                items: {x-kubernetes-preserve-unknown-fields: true}\n"),
            _ => {}
        }
    }
    text.push_str(
        "          status:\n            type: object\n            x-kubernetes-preserve-unknown-fields: true\n",
    );
    text
}

#[test]
fn the_definitions_are_printed_from_the_table() {
    let file = |kind: &Kind| format!("charts/base/files/crds/{}.yaml", kind.kind.to_lowercase());
    compare(KINDS.iter().map(|kind| (file(kind), definition(kind))).collect());
}

/// Every kind that the control plane reads and no other project defines has a definition.
#[test]
fn every_kind_that_is_read_is_defined() {
    let source = read("istiod-lite/src/files/mod.rs");
    let rows = source.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split_once("\") => Kind::"));
    let read: Vec<(String, String)> = rows
        .filter_map(|(key, _)| key.split_once("\", \""))
        .filter(|(group, _)| group.ends_with("istio.io") || group.ends_with("istiod-lite.io"))
        .map(|(group, kind)| (group.to_owned(), kind.to_owned()))
        .collect();
    assert!(read.len() >= 9, "the table of kinds in istiod-lite was not found");
    let folder = "charts/base/files/crds";
    let defined: Vec<_> = listed(folder).iter().map(|name| format!("{folder}/{name}")).collect();
    let defined: Vec<_> = defined.iter().map(|path| parsed(path, &crate::read(path))).collect();
    for (group, kind) in &read {
        let found = defined.iter().any(|crd| crd["spec"]["group"] == **group && crd["spec"]["names"]["kind"] == **kind);
        assert!(found, "{kind} of {group} is read, and has no definition in {folder}");
    }
    assert_eq!(defined.len(), read.len(), "a definition in {folder} is of a kind that nobody reads");
}

/// With a definition all its objects would go.
#[test]
fn definitions_stay_when_the_chart_goes() {
    for name in listed("charts/base/files/crds") {
        let path = format!("charts/base/files/crds/{name}");
        let crd = parsed(&path, &read(&path));
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep", "{path}");
        let stored =
            crd["spec"]["versions"].as_array().map(|versions| versions.iter().filter(|v| v["storage"] == true).count());
        assert_eq!(stored, Some(1), "{path}: versions that are stored");
    }
}
