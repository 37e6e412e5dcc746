//! What the author of a Gateway asks for when it is deployed. Pure: one object in, plain words out.

use serde_json::Value;
use std::collections::BTreeMap;

/// Texts by name, as labels and annotations are.
pub type Texts = BTreeMap<String, String>;

/// The class of waypoints.
pub const CLASS: &str = "istio-waypoint";
/// Who serves that class.
pub const CONTROLLER: &str = "istio.io/mesh-controller";
/// The label by which the objects of a Gateway are found.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// The label of the class of their Gateway.
pub const GATEWAY_CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";
/// The label of what a controller made, and so may change.
pub const MANAGED: &str = "gateway.istio.io/managed";
/// What that label says of the objects of waypoints.
pub const MANAGED_BY: &str = "istio.io-mesh-controller";
/// The annotation in which controllers agree on who deploys: the larger number.
pub const CONTROLLER_VERSION: &str = "gateway.istio.io/controller-version";
/// Our number there, which is Istio's.
pub const OUR_VERSION: u64 = 5;

const NAME_OVERRIDE: &str = "gateway.istio.io/name-override";
const SERVICE_ACCOUNT: &str = "gateway.istio.io/service-account";
const SERVICE_TYPE: &str = "networking.istio.io/service-type";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const REVISION: &str = "istio.io/rev";

/// A Gateway, as far as its deployment goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: what is made is owned by this one, not by another of the same name.
    pub uid: String,
    /// `gateway.networking.k8s.io/v1`.
    pub api_version: String,
    /// Its class.
    pub class: String,
    /// The name of its Deployment and Service.
    pub deployed_name: String,
    /// The service account of its pods.
    pub account: String,
    /// The type of its Service.
    pub service_type: String,
    /// Labels of everything that is made.
    pub labels: Texts,
    /// Annotations of everything that is made.
    pub annotations: Texts,
    /// Its listeners: (name, port, protocol).
    pub listeners: Vec<(String, u16, String)>,
    /// The ConfigMap of its own namespace that changes what is made, or why there is none.
    pub parameters: Result<Option<String>, String>,
    /// What another controller may have said in [`CONTROLLER_VERSION`].
    pub controller_version: Option<String>,
}

/// Why a Gateway of ours is not deployed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It says where it is, so somebody else runs it.
    OwnAddresses,
    /// It belongs to another revision of the control plane.
    OtherRevision,
    /// A newer controller, or one that we do not understand, has it.
    OtherController,
    /// It is being deleted.
    Deleted,
}

impl Asked {
    /// Reads a Gateway.
    pub fn of(gateway: &Value) -> Self {
        let text = |pointer: &str| gateway.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let texts = |pointer: &str| texts(gateway.pointer(pointer));
        let name = text("/metadata/name");
        let own = texts("/metadata/annotations");
        let said = |key: &str| own.get(key).filter(|text| !text.is_empty()).cloned();
        let infrastructure = |of: &str| {
            let pointer = format!("/spec/infrastructure/{of}");
            if gateway.pointer(&pointer).is_some() { texts(&pointer) } else { texts(&format!("/metadata/{of}")) }
        };
        let mut labels = infrastructure("labels");
        labels.retain(|key, _| !key.starts_with("gateway.networking.k8s.io/"));
        let mut annotations = infrastructure("annotations");
        let ours = [NAME_OVERRIDE, SERVICE_ACCOUNT, SERVICE_TYPE, CONTROLLER_VERSION, LAST_APPLIED];
        annotations.retain(|key, _| !ours.contains(&&**key) && !key.starts_with("gateway.networking.k8s.io/"));
        Self {
            namespace: text("/metadata/namespace"),
            uid: text("/metadata/uid"),
            api_version: text("/apiVersion"),
            class: text("/spec/gatewayClassName"),
            deployed_name: said(NAME_OVERRIDE).unwrap_or_else(|| name.clone()),
            account: said(SERVICE_ACCOUNT).unwrap_or_else(|| name.clone()),
            service_type: said(SERVICE_TYPE).unwrap_or_else(|| "ClusterIP".into()),
            controller_version: said(CONTROLLER_VERSION),
            listeners: listeners(gateway),
            parameters: parameters(gateway),
            labels,
            annotations,
            name,
        }
    }
}

/// Whether a Gateway is to be left alone, though its class is ours.
pub fn left(gateway: &Value, revision: &str) -> Option<Left> {
    if gateway.pointer("/metadata/deletionTimestamp").is_some() {
        return Some(Left::Deleted);
    }
    // One plain address is a wish for the Service; anything else says that it runs elsewhere.
    let addresses = gateway.pointer("/spec/addresses").and_then(Value::as_array);
    let wish = |address: &Value| matches!(address["type"].as_str(), None | Some("IPAddress"));
    if addresses.is_some_and(|all| !(all.is_empty() || (all.len() == 1 && wish(&all[0])))) {
        return Some(Left::OwnAddresses);
    }
    let labels = texts(gateway.pointer("/metadata/labels"));
    if labels.get(REVISION).is_some_and(|other| !other.is_empty() && other != revision) {
        return Some(Left::OtherRevision);
    }
    let annotations = texts(gateway.pointer("/metadata/annotations"));
    match annotations.get(CONTROLLER_VERSION).map(|text| text.parse::<u64>()) {
        Some(Ok(version)) if version <= OUR_VERSION => None,
        None => None,
        Some(_) => Some(Left::OtherController),
    }
}

/// Whether a class is served here: by its controller, or by its name where the class itself is not there yet.
pub fn is_ours(class: &str, described: Option<&Value>) -> bool {
    match described.and_then(|class| class.pointer("/spec/controllerName")) {
        Some(controller) => controller == CONTROLLER,
        None => class == CLASS,
    }
}

fn listeners(gateway: &Value) -> Vec<(String, u16, String)> {
    let listener = |listener: &Value| {
        let port = u16::try_from(listener["port"].as_u64()?).ok()?;
        Some((listener["name"].as_str()?.to_owned(), port, listener["protocol"].as_str()?.to_owned()))
    };
    let all = gateway.pointer("/spec/listeners").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(listener).collect()
}

fn parameters(gateway: &Value) -> Result<Option<String>, String> {
    let Some(reference) = gateway.pointer("/spec/infrastructure/parametersRef") else { return Ok(None) };
    let text = |key: &str| reference[key].as_str().unwrap_or_default();
    match (text("group"), text("kind"), text("name")) {
        ("", "ConfigMap", name) if !name.is_empty() => Ok(Some(name.to_owned())),
        (group, kind, name) => Err(format!(
            "spec.infrastructure.parametersRef: {kind:?} {name:?} of group {group:?} is no ConfigMap; name a ConfigMap of the Gateway's namespace"
        )),
    }
}

/// A map of texts; what is no text is left out.
pub(super) fn texts(value: Option<&Value>) -> Texts {
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    value.and_then(Value::as_object).into_iter().flatten().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_gateway_is_deployed_unless_somebody_else_has_it() {
        for (what, gateway, expected) in [
            ("plain", json!({}), None),
            ("one address", json!({"spec": {"addresses": [{"value": "10.0.0.1"}]}}), None),
            (
                "a hostname",
                json!({"spec": {"addresses": [{"type": "Hostname", "value": "a"}]}}),
                Some(Left::OwnAddresses),
            ),
            ("two", json!({"spec": {"addresses": [{"value": "1"}, {"value": "2"}]}}), Some(Left::OwnAddresses)),
            ("our revision", json!({"metadata": {"labels": {REVISION: "default"}}}), None),
            ("another", json!({"metadata": {"labels": {REVISION: "canary"}}}), Some(Left::OtherRevision)),
            ("older", json!({"metadata": {"annotations": {CONTROLLER_VERSION: "4"}}}), None),
            ("ours", json!({"metadata": {"annotations": {CONTROLLER_VERSION: "5"}}}), None),
            ("newer", json!({"metadata": {"annotations": {CONTROLLER_VERSION: "6"}}}), Some(Left::OtherController)),
            ("unread", json!({"metadata": {"annotations": {CONTROLLER_VERSION: "x"}}}), Some(Left::OtherController)),
            ("going", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Some(Left::Deleted)),
        ] {
            assert_eq!(left(&gateway, "default"), expected, "{what}");
        }
    }

    #[test]
    fn a_class_is_ours_by_its_controller_or_by_name() {
        let class = |controller: &str| json!({"spec": {"controllerName": controller}});
        for (name, described, expected) in [
            (CLASS, None, true),
            ("istio", None, false),
            (CLASS, Some(class("example.com/other")), false),
            ("mine", Some(class(CONTROLLER)), true),
        ] {
            assert_eq!(is_ours(name, described.as_ref()), expected, "{name} {described:?}");
        }
    }

    #[test]
    fn words_for_infrastructure_take_the_place_of_those_of_the_gateway() {
        let own = json!({
            "metadata": {
                "name": "wp", "labels": {"a": "1", "gateway.networking.k8s.io/x": "y"},
                "annotations": {"b": "2", NAME_OVERRIDE: "other", LAST_APPLIED: "{}", SERVICE_TYPE: "LoadBalancer"},
            },
        });
        let asked = Asked::of(&own);
        assert_eq!(asked.labels, Texts::from([("a".into(), "1".into())]));
        assert_eq!(asked.annotations, Texts::from([("b".into(), "2".into())]));
        assert_eq!((&*asked.deployed_name, &*asked.account, &*asked.service_type), ("other", "wp", "LoadBalancer"));
        let mut said = own;
        said["spec"] = json!({"infrastructure": {"labels": {"c": "3"}}});
        let asked = Asked::of(&said);
        assert_eq!(asked.labels, Texts::from([("c".into(), "3".into())]));
        assert_eq!(asked.annotations, Texts::from([("b".into(), "2".into())]), "of which nothing was said");
    }

    #[test]
    fn parameters_are_a_config_map_or_a_mistake() {
        let of = |reference: Value| Asked::of(&json!({"spec": {"infrastructure": {"parametersRef": reference}}}));
        let good = of(json!({"group": "", "kind": "ConfigMap", "name": "wp"}));
        assert_eq!(good.parameters, Ok(Some("wp".into())));
        let bad = of(json!({"group": "x.io", "kind": "Thing", "name": "wp"})).parameters.expect_err("no ConfigMap");
        assert!(bad.starts_with("spec.infrastructure.parametersRef: \"Thing\" \"wp\" of group \"x.io\""), "{bad}");
    }
}
