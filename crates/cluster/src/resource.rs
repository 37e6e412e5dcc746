//! Where a kind of object is found on an API server. Pure: names in, paths out.

use crate::CallError;
use std::borrow::Cow;

/// A kind of object, and where the server has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// API group; "" is the core group.
    pub group: Cow<'static, str>,
    /// Version of the group.
    pub version: Cow<'static, str>,
    /// Kind: `Pod`.
    pub kind: Cow<'static, str>,
    /// Its name in paths: `pods`.
    pub plural: Cow<'static, str>,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
}

impl Resource {
    /// A kind whose objects are in namespaces.
    pub const fn namespaced(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        Self::new([group, version, kind, plural], true)
    }

    /// A kind whose objects are in no namespace.
    pub const fn cluster_scoped(
        group: &'static str,
        version: &'static str,
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        Self::new([group, version, kind, plural], false)
    }

    const fn new([group, version, kind, plural]: [&'static str; 4], namespaced: bool) -> Self {
        Self {
            group: Cow::Borrowed(group),
            version: Cow::Borrowed(version),
            kind: Cow::Borrowed(kind),
            plural: Cow::Borrowed(plural),
            namespaced,
        }
    }

    /// The same in another version.
    #[must_use]
    pub fn at(&self, version: impl Into<Cow<'static, str>>) -> Self {
        Self { version: version.into(), ..self.clone() }
    }

    /// `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, `gateways.gateway.networking.k8s.io`: what roles and definitions call it.
    pub fn full_name(&self) -> String {
        if self.group.is_empty() { self.plural.to_string() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// The path of all of them, or of those of a namespace.
    pub(crate) fn path(&self, namespace: Option<&str>) -> Result<String, CallError> {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(segment("namespace", namespace)?);
        }
        path.push('/');
        path.push_str(&self.plural);
        Ok(path)
    }

    /// The path of one of them.
    pub(crate) fn path_of(&self, namespace: &str, name: &str) -> Result<String, CallError> {
        let all = self.path(Some(namespace))?;
        Ok(format!("{all}/{}", segment("name", name)?))
    }
}

/// A name that stays one segment of a path.
fn segment<'a>(what: &str, text: &'a str) -> Result<&'a str, CallError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':');
    if text.is_empty() || text.len() > 253 || text.bytes().all(|b| b == b'.') || !text.bytes().all(legal) {
        return Err(CallError::Invalid(format!("{text:?} is no {what} of an object")));
    }
    Ok(text)
}

/// The value of a query parameter.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// The kind of this group and name, if it is one that is used here.
pub fn find(group: &str, kind: &str) -> Option<&'static Resource> {
    ALL.iter().find(|resource| resource.group == group && resource.kind == kind)
}

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $scope:ident($group:literal, $version:literal, $kind:literal, $plural:literal);)*) => {
        $($(#[$doc])* pub const $name: Resource = Resource::$scope($group, $version, $kind, $plural);)*
        /// Every kind that is used here.
        pub static ALL: &[Resource] = &[$($name),*];
    };
}

resources! {
    /// Namespaces.
    NAMESPACE = cluster_scoped("", "v1", "Namespace", "namespaces");
    /// Nodes.
    NODE = cluster_scoped("", "v1", "Node", "nodes");
    /// Pods.
    POD = namespaced("", "v1", "Pod", "pods");
    /// Services.
    SERVICE = namespaced("", "v1", "Service", "services");
    /// Service accounts.
    SERVICE_ACCOUNT = namespaced("", "v1", "ServiceAccount", "serviceaccounts");
    /// ConfigMaps.
    CONFIG_MAP = namespaced("", "v1", "ConfigMap", "configmaps");
    /// Secrets.
    SECRET = namespaced("", "v1", "Secret", "secrets");
    /// Events of the core group.
    EVENT = namespaced("", "v1", "Event", "events");
    /// Deployments.
    DEPLOYMENT = namespaced("apps", "v1", "Deployment", "deployments");
    /// DaemonSets.
    DAEMON_SET = namespaced("apps", "v1", "DaemonSet", "daemonsets");
    /// Autoscalers.
    HORIZONTAL_POD_AUTOSCALER = namespaced("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers");
    /// Disruption budgets.
    POD_DISRUPTION_BUDGET = namespaced("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets");
    /// EndpointSlices.
    ENDPOINT_SLICE = namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
    /// Leases.
    LEASE = namespaced("coordination.k8s.io", "v1", "Lease", "leases");
    /// Definitions of kinds.
    CUSTOM_RESOURCE_DEFINITION =
        cluster_scoped("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    /// Roles of the whole cluster.
    CLUSTER_ROLE = cluster_scoped("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles");
    /// Webhooks that validate.
    VALIDATING_WEBHOOK_CONFIGURATION = cluster_scoped(
        "admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations");
    /// GatewayClasses.
    GATEWAY_CLASS = cluster_scoped("gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses");
    /// Gateways.
    GATEWAY = namespaced("gateway.networking.k8s.io", "v1", "Gateway", "gateways");
    /// Routes of HTTP.
    HTTP_ROUTE = namespaced("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
    /// Routes of gRPC.
    GRPC_ROUTE = namespaced("gateway.networking.k8s.io", "v1", "GRPCRoute", "grpcroutes");
    /// Routes of TCP.
    TCP_ROUTE = namespaced("gateway.networking.k8s.io", "v1", "TCPRoute", "tcproutes");
    /// Routes of TLS.
    TLS_ROUTE = namespaced("gateway.networking.k8s.io", "v1", "TLSRoute", "tlsroutes");
    /// Who may refer to what in another namespace.
    REFERENCE_GRANT = namespaced("gateway.networking.k8s.io", "v1", "ReferenceGrant", "referencegrants");
    /// TLS towards backends.
    BACKEND_TLS_POLICY = namespaced("gateway.networking.k8s.io", "v1", "BackendTLSPolicy", "backendtlspolicies");
    /// Retry budgets and sessions of backends.
    X_BACKEND_TRAFFIC_POLICY =
        namespaced("gateway.networking.x-k8s.io", "v1alpha1", "XBackendTrafficPolicy", "xbackendtrafficpolicies");
    /// Hosts outside of the cluster.
    SERVICE_ENTRY = namespaced("networking.istio.io", "v1", "ServiceEntry", "serviceentries");
    /// Workloads outside of the cluster.
    WORKLOAD_ENTRY = namespaced("networking.istio.io", "v1", "WorkloadEntry", "workloadentries");
    /// Istio's routes.
    VIRTUAL_SERVICE = namespaced("networking.istio.io", "v1", "VirtualService", "virtualservices");
    /// How a host is called.
    DESTINATION_RULE = namespaced("networking.istio.io", "v1", "DestinationRule", "destinationrules");
    /// Who may call whom.
    AUTHORIZATION_POLICY = namespaced("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies");
    /// Whether callers must prove who they are.
    PEER_AUTHENTICATION = namespaced("security.istio.io", "v1", "PeerAuthentication", "peerauthentications");
    /// Which tokens of requests are believed.
    REQUEST_AUTHENTICATION =
        namespaced("security.istio.io", "v1", "RequestAuthentication", "requestauthentications");
    /// What is measured, logged and traced.
    TELEMETRY = namespaced("telemetry.istio.io", "v1", "Telemetry", "telemetries");
    /// Our own limits and budgets.
    TRAFFIC_POLICY = namespaced("istiod-lite.io", "v1alpha1", "TrafficPolicy", "trafficpolicies");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_server() {
        for (resource, namespace, want) in [
            (POD, None, "/api/v1/pods"),
            (POD, Some("shop"), "/api/v1/namespaces/shop/pods"),
            (NODE, Some("shop"), "/api/v1/nodes"),
            (GATEWAY.at("v1beta1"), None, "/apis/gateway.networking.k8s.io/v1beta1/gateways"),
        ] {
            assert_eq!(resource.path(namespace), Ok(want.to_owned()));
        }
        assert_eq!(LEASE.path_of("a", "b"), Ok("/apis/coordination.k8s.io/v1/namespaces/a/leases/b".into()));
        assert_eq!(
            (POD.full_name(), GATEWAY.full_name()),
            ("pods".into(), "gateways.gateway.networking.k8s.io".into())
        );
    }

    #[test]
    fn a_name_never_leaves_its_segment() {
        for name in ["", ".", "..", "a/b", "a?b", "a b", "a%2fb", "a#b", "é"] {
            assert!(POD.path_of("shop", name).is_err(), "{name:?}");
            assert!(POD.path_of(name, "web").is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_selector_is_encoded_whole() {
        assert_eq!(encode("spec.nodeName=a,b !in (c)"), "spec.nodeName%3Da%2Cb%20%21in%20%28c%29");
    }
}
