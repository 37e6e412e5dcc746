//! What Kubernetes, or a file, told us, in our words.
//!
//! A [`Fact`] says how one object is now, or that it is gone. Where it came from, and how it was
//! spelled there, is not known behind this line: values are parsed, defaults are filled in, and
//! what we do not understand is either absent (and was reported where it was read) or, in a policy,
//! named, because a policy that is half understood must close and not open.

mod condition;
mod entry;
mod gateway;
mod guard;
mod policy;
mod route;
mod selector;
mod service;
mod target;
mod traffic;

pub use condition::Condition;
pub use entry::{Entry, EntryAddress, Resolution, ServiceEntry, Vip, WorkloadEntry};
pub use gateway::{Admits, Gateway, GatewayAddress, GatewayClass, Listener};
pub use guard::{Authorizer, MeshConfig, Provider, RequestAuthentication, Telemetry, TracingAsked};
pub use policy::{AuthorizationPolicy, MtlsMode, PeerAuthentication, PolicyAction, PolicyCondition, PolicyRule, Term};
pub use route::{
    Authorities, BackendTlsPolicy, BackendTrafficPolicy, ConfigMap, Parent, ParentTarget, ReferenceGrant, Remark,
    Route, RouteKind, RouteRules, by_host, by_name,
};
pub use selector::{LabelAsks, LabelExpression, LabelSelector};
pub use service::{Distribution, EndpointSlice, Service, ServicePort, SliceEndpoint, TargetPort};
pub use target::{Target, TargetKind};
pub use traffic::{
    Balancing, DestinationRule, Exports, NamedSubset, Reach, Sections, TrafficPolicy, VirtualRoute, VirtualService,
};

use litemap::LiteMap;
use mesh::{Str, workload::Locality};
use std::{collections::BTreeMap, fmt, net::IpAddr};

/// Labels, or the labels that a selector asks for. There are few, and a tree has room for eleven at least.
pub type Labels = LiteMap<Str, Str>;

/// What we were told of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    /// How a namespace is.
    Namespace(Namespace),
    /// That a service account is there.
    ServiceAccount(Meta),
    /// How a node is.
    Node(Node),
    /// How a pod is.
    Pod(Box<Pod>),
    /// How a service is.
    Service(Box<Service>),
    /// How a slice of endpoints is.
    EndpointSlice(Box<EndpointSlice>),
    /// How a service entry is.
    ServiceEntry(Box<ServiceEntry>),
    /// How a workload entry is.
    WorkloadEntry(Box<WorkloadEntry>),
    /// How an authorization policy is.
    AuthorizationPolicy(Box<AuthorizationPolicy>),
    /// How a peer authentication is.
    PeerAuthentication(Box<PeerAuthentication>),
    /// How a route of Gateway API is.
    Route(Box<Route>),
    /// How a reference grant is.
    ReferenceGrant(Box<ReferenceGrant>),
    /// How a policy of TLS to backends is.
    BackendTlsPolicy(Box<BackendTlsPolicy>),
    /// How a policy of traffic to backends is.
    BackendTrafficPolicy(Box<BackendTrafficPolicy>),
    /// How a config map is.
    ConfigMap(Box<ConfigMap>),
    /// How a gateway is.
    Gateway(Box<Gateway>),
    /// How a class of gateways is.
    GatewayClass(GatewayClass),
    /// How a virtual service is.
    VirtualService(Box<VirtualService>),
    /// How a destination rule is.
    DestinationRule(Box<DestinationRule>),
    /// How a request authentication is.
    RequestAuthentication(Box<RequestAuthentication>),
    /// How a telemetry is.
    Telemetry(Box<Telemetry>),
    /// How a traffic policy is.
    TrafficPolicy(Box<TrafficPolicy>),
    /// How the configuration of the mesh is.
    MeshConfig(Box<MeshConfig>),
    /// The object could not be understood. What is known of it stays; if nothing is, this holds,
    /// which is the closed reading of it.
    Otherwise(Box<Self>),
    /// An object is gone.
    Removed(FactKey),
}

/// Which object a fact is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FactKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; "" for kinds that are in none.
    pub namespace: Str,
    /// Its name.
    pub name: Str,
}

/// The kinds of which there are facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// v1 Namespace.
    Namespace,
    /// v1 ServiceAccount.
    ServiceAccount,
    /// v1 Node.
    Node,
    /// v1 Pod.
    Pod,
    /// v1 Service.
    Service,
    /// discovery.k8s.io EndpointSlice.
    EndpointSlice,
    /// networking.istio.io ServiceEntry.
    ServiceEntry,
    /// networking.istio.io WorkloadEntry.
    WorkloadEntry,
    /// security.istio.io AuthorizationPolicy.
    AuthorizationPolicy,
    /// security.istio.io PeerAuthentication.
    PeerAuthentication,
    /// gateway.networking.k8s.io HTTPRoute.
    HTTPRoute,
    /// gateway.networking.k8s.io GRPCRoute.
    GRPCRoute,
    /// gateway.networking.k8s.io TCPRoute.
    TCPRoute,
    /// gateway.networking.k8s.io TLSRoute.
    TLSRoute,
    /// gateway.networking.k8s.io ReferenceGrant.
    ReferenceGrant,
    /// gateway.networking.k8s.io BackendTLSPolicy.
    BackendTLSPolicy,
    /// gateway.networking.x-k8s.io XBackendTrafficPolicy.
    XBackendTrafficPolicy,
    /// v1 ConfigMap.
    ConfigMap,
    /// gateway.networking.k8s.io Gateway.
    Gateway,
    /// gateway.networking.k8s.io GatewayClass.
    GatewayClass,
    /// networking.istio.io VirtualService.
    VirtualService,
    /// networking.istio.io DestinationRule.
    DestinationRule,
    /// security.istio.io RequestAuthentication.
    RequestAuthentication,
    /// telemetry.istio.io Telemetry.
    Telemetry,
    /// istiod-lite.io TrafficPolicy.
    TrafficPolicy,
}

impl fmt::Display for FactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{:?} {}", self.kind, self.name),
            namespace => write!(f, "{:?} {namespace}/{}", self.kind, self.name),
        }
    }
}

impl Fact {
    /// Which object it is about.
    pub fn key(&self) -> FactKey {
        let (kind, meta) = match self {
            Self::Namespace(it) => (Kind::Namespace, &it.meta),
            Self::ServiceAccount(meta) => (Kind::ServiceAccount, meta),
            Self::Node(it) => (Kind::Node, &it.meta),
            Self::Pod(it) => (Kind::Pod, &it.meta),
            Self::Service(it) => (Kind::Service, &it.meta),
            Self::EndpointSlice(it) => (Kind::EndpointSlice, &it.meta),
            Self::ServiceEntry(it) => (Kind::ServiceEntry, &it.meta),
            Self::WorkloadEntry(it) => (Kind::WorkloadEntry, &it.meta),
            Self::AuthorizationPolicy(it) => (Kind::AuthorizationPolicy, &it.meta),
            Self::PeerAuthentication(it) => (Kind::PeerAuthentication, &it.meta),
            Self::Route(it) => (it.kind.of_fact(), &it.meta),
            Self::ReferenceGrant(it) => (Kind::ReferenceGrant, &it.meta),
            Self::BackendTlsPolicy(it) => (Kind::BackendTLSPolicy, &it.meta),
            Self::BackendTrafficPolicy(it) => (Kind::XBackendTrafficPolicy, &it.meta),
            Self::ConfigMap(it) => (Kind::ConfigMap, &it.meta),
            Self::Gateway(it) => (Kind::Gateway, &it.meta),
            Self::GatewayClass(it) => (Kind::GatewayClass, &it.meta),
            Self::VirtualService(it) => (Kind::VirtualService, &it.meta),
            Self::DestinationRule(it) => (Kind::DestinationRule, &it.meta),
            Self::RequestAuthentication(it) => (Kind::RequestAuthentication, &it.meta),
            Self::Telemetry(it) => (Kind::Telemetry, &it.meta),
            Self::TrafficPolicy(it) => (Kind::TrafficPolicy, &it.meta),
            Self::MeshConfig(it) => (Kind::ConfigMap, &it.meta),
            Self::Otherwise(fact) => return fact.key(),
            Self::Removed(key) => return key.clone(),
        };
        FactKey { kind, namespace: meta.namespace.clone(), name: meta.name.clone() }
    }

    /// Why an object could not be understood, by field. It is told beside what holds instead.
    pub fn refused(&self) -> &[Str] {
        match self {
            Self::Route(it) => &it.refused,
            Self::BackendTlsPolicy(it) => &it.refused,
            Self::AuthorizationPolicy(it) => &it.refused,
            Self::VirtualService(it) => &it.refused,
            Self::DestinationRule(it) => &it.refused,
            Self::RequestAuthentication(it) => &it.refused,
            Self::Telemetry(it) => &it.refused,
            Self::TrafficPolicy(it) => &it.refused,
            Self::MeshConfig(it) => &it.refused,
            Self::BackendTrafficPolicy(it) => &it.refused,
            Self::Gateway(it) => &it.refused,
            Self::Otherwise(fact) => fact.refused(),
            _ => &[],
        }
    }
}

impl Kind {
    /// The kinds after which rules of waypoints are named.
    pub const RULES: [Self; 8] = [
        Self::HTTPRoute,
        Self::GRPCRoute,
        Self::TCPRoute,
        Self::TLSRoute,
        Self::AuthorizationPolicy,
        Self::VirtualService,
        Self::DestinationRule,
        Self::TrafficPolicy,
    ];
}

impl FactKey {
    /// `Kind/namespace/name`, as rules name the object that they come from.
    pub fn text(&self) -> Str {
        format!("{:?}/{}/{}", self.kind, self.namespace, self.name).into()
    }
}

/// What every object has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// Namespace; "" for kinds that are in none.
    pub namespace: Str,
    /// Name.
    pub name: Str,
    /// Labels.
    pub labels: Labels,
    /// Those of its annotations that mean something to the mesh.
    pub annotations: Labels,
    /// When it was created (RFC 3339, UTC, so that earlier sorts first), if anybody said.
    pub created: Option<Str>,
}

impl Meta {
    /// An object of this name, without labels.
    pub fn named(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into(), ..Self::default() }
    }

    /// By which the oldest object wins; the smaller name when nobody said when.
    pub fn age(&self) -> (bool, Option<Str>, Str) {
        (self.created.is_none(), self.created.clone(), self.name.clone())
    }
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// Name and labels.
    pub meta: Meta,
    /// How endpoints are chosen where the service does not say.
    pub distribution: Option<Distribution>,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Name and labels.
    pub meta: Meta,
    /// Where it is.
    pub locality: Locality,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name and labels.
    pub meta: Meta,
    /// `metadata.uid`.
    pub uid: Str,
    /// The node it is on; "" for none yet.
    pub node: Str,
    /// Its service account.
    pub service_account: Str,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its `Ready` condition.
    pub ready: bool,
    /// It is being deleted.
    pub terminating: bool,
    /// It uses the node's network.
    pub host_network: bool,
    /// The node agent has put the node proxy before it.
    pub captured: bool,
    /// Its TCP ports that have a name.
    pub ports: BTreeMap<Str, u16>,
    /// What controls it: (kind, name).
    pub owner: Option<(Str, Str)>,
}

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// It is not running yet, or nobody said.
    #[default]
    Pending,
    /// It runs.
    Running,
    /// It ended well.
    Succeeded,
    /// It ended badly.
    Failed,
}

/// What the certificate authority asks about pods before it gives a node proxy somebody else's certificate.
pub trait PodLookup: Send + Sync {
    /// A pod by name.
    fn pod(&self, namespace: &str, name: &str) -> Option<PodRecord>;
    /// Whether a pod of this service account is on the node (phase other than `Failed`).
    fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool;
}

/// What [`PodLookup`] knows of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRecord {
    /// `metadata.uid`.
    pub uid: Str,
    /// Its service account.
    pub service_account: Str,
    /// The node it is on; empty when it is on none yet.
    pub node: Str,
}
