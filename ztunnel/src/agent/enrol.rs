//! Who is in the mesh, and how they are to be redirected. Pure.

use crate::net::redirect::Redirect;

use super::facts::{Labels, PodFacts};

/// `ambient` or `none`, on a Namespace or a Pod.
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
const SIDECAR_STATUS: &str = "sidecar.istio.io/status";
const BYPASS_INBOUND: &str = "ambient.istio.io/bypass-inbound-capture";
const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
const REROUTE_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";

/// Longest interface name the kernel takes.
const INTERFACE_BYTES_MAX: usize = 15;

/// Who may be in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    /// Namespaces whose pods never are.
    pub excluded_namespaces: Vec<String>,
    /// Where the mesh's own programs run.
    pub system_namespace: String,
}

/// Why a pod is not in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Neither it nor its namespace asks for it, or it asks not to be.
    NotAsked,
    /// It uses its node's network.
    HostNetwork,
    /// It has a sidecar.
    Sidecar,
    /// It is a node proxy.
    NodeProxy,
    /// Its namespace is excluded.
    ExcludedNamespace,
    /// It has ended.
    Ended,
    /// The mesh is being removed from its node.
    MeshRemoved,
}

/// What labels say of the mesh: `ambient`, `none`, or something that means nothing.
pub fn mode(labels: &Labels) -> &str {
    labels.get(DATAPLANE_MODE).map_or("", String::as_str)
}

/// Whether a pod belongs into the mesh.
pub fn belongs(
    pod: &PodFacts,
    namespace: &str,
    namespace_labels: &Labels,
    selection: &Selection,
) -> Result<(), Outside> {
    if pod.host_network {
        return Err(Outside::HostNetwork);
    }
    if pod.annotations.contains_key(SIDECAR_STATUS) {
        return Err(Outside::Sidecar);
    }
    if namespace == selection.system_namespace && pod.labels.get("app").is_some_and(|app| app == "ztunnel") {
        return Err(Outside::NodeProxy);
    }
    if selection.excluded_namespaces.iter().any(|excluded| excluded == namespace) {
        return Err(Outside::ExcludedNamespace);
    }
    if pod.ended {
        return Err(Outside::Ended);
    }
    let asked = match mode(&pod.labels) {
        "ambient" => true,
        "none" => false,
        _ => mode(namespace_labels) == "ambient",
    };
    if asked { Ok(()) } else { Err(Outside::NotAsked) }
}

/// How a pod that is in is to be redirected. `dns` is what holds where it does not say.
pub fn redirect(pod: &PodFacts, dns: bool) -> Redirect {
    let says = |name: &str| pod.annotations.get(name).map(|value| value.trim());
    let interfaces = says(REROUTE_INTERFACES).unwrap_or_default().split(',').map(str::trim);
    Redirect {
        // A value that is no boolean is passed over, so that a slip opens nothing.
        dns: says(DNS_CAPTURE).and_then(|value| value.parse().ok()).unwrap_or(dns),
        inbound: says(BYPASS_INBOUND) != Some("true"),
        reroute_interfaces: interfaces
            .filter(|name| !name.is_empty() && name.len() <= INTERFACE_BYTES_MAX)
            .map(str::to_owned)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Labels {
        text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect()
    }

    fn check(
        namespace: &str,
        namespace_labels: &str,
        pod_labels: &str,
        annotations: &str,
        expected: Result<(), Outside>,
    ) {
        let pod = PodFacts { labels: labels(pod_labels), annotations: labels(annotations), ..PodFacts::default() };
        let selection =
            Selection { excluded_namespaces: vec!["kube-system".into()], system_namespace: "istio-system".into() };
        let found = belongs(&pod, namespace, &labels(namespace_labels), &selection);
        assert_eq!(found, expected, "{namespace} [{namespace_labels}] pod [{pod_labels}] [{annotations}]");
    }

    const AMBIENT: &str = "istio.io/dataplane-mode=ambient";
    const NONE: &str = "istio.io/dataplane-mode=none";

    #[test]
    fn a_pod_is_in_when_it_or_its_namespace_asks_and_nothing_speaks_against_it() {
        use Outside::*;
        check("shop", "", "", "", Err(NotAsked));
        check("shop", AMBIENT, "", "", Ok(()));
        check("shop", "", AMBIENT, "", Ok(()));
        check("shop", NONE, AMBIENT, "", Ok(()));
        check("shop", AMBIENT, NONE, "", Err(NotAsked));
        check("shop", NONE, "", "", Err(NotAsked));
        check("shop", AMBIENT, "istio.io/dataplane-mode=nonsense", "", Ok(()));
        check("shop", "istio.io/dataplane-mode=Ambient", "", "", Err(NotAsked));
        check("shop", AMBIENT, "istio.io/rev=canary", "", Ok(()));
        check("shop", AMBIENT, "", "sidecar.istio.io/status={}", Err(Sidecar));
        check("kube-system", AMBIENT, AMBIENT, "", Err(ExcludedNamespace));
        check("istio-system", AMBIENT, "app=ztunnel", "", Err(NodeProxy));
        check("istio-system", AMBIENT, "app=other", "", Ok(()));
        check("shop", AMBIENT, "app=ztunnel", "", Ok(()));
    }

    #[test]
    fn a_pod_without_a_network_of_its_own_or_a_life_is_out() {
        let ambient = labels(AMBIENT);
        let host = PodFacts { host_network: true, ..PodFacts::default() };
        let ended = PodFacts { ended: true, ..PodFacts::default() };
        assert_eq!(belongs(&host, "shop", &ambient, &Selection::default()), Err(Outside::HostNetwork));
        assert_eq!(belongs(&ended, "shop", &ambient, &Selection::default()), Err(Outside::Ended));
    }

    #[test]
    fn annotations_shape_the_redirection() {
        let shape = |annotations: &str, dns: bool| {
            redirect(&PodFacts { annotations: labels(annotations), ..PodFacts::default() }, dns)
        };
        let plain = Redirect { dns: true, inbound: true, reroute_interfaces: vec![] };
        assert_eq!(shape("", true), plain);
        assert_eq!(shape("", false), Redirect { dns: false, ..plain.clone() });
        assert_eq!(shape("ambient.istio.io/dns-capture=false", true), Redirect { dns: false, ..plain.clone() });
        assert_eq!(shape("ambient.istio.io/dns-capture=true", false), plain);
        assert_eq!(shape("ambient.istio.io/dns-capture=perhaps", true), plain);
        assert_eq!(
            shape("ambient.istio.io/bypass-inbound-capture=true", true),
            Redirect { inbound: false, ..plain.clone() }
        );
        assert_eq!(shape("ambient.istio.io/bypass-inbound-capture=yes", true), plain);
        assert_eq!(
            shape("istio.io/reroute-virtual-interfaces=tap0,,vm1,a-name-that-is-too-long", true).reroute_interfaces,
            ["tap0", "vm1"]
        );
    }
}
