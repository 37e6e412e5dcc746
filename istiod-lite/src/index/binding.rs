//! Which waypoint stands before what. Pure.
//!
//! An object names a waypoint by label, or else its namespace does. A waypoint that is named and
//! cannot be used is never left out: in its place stands a reference that resolves to nothing, to
//! which node proxies refuse to connect. Only what the waypoint is not for goes without it.

use super::told::Name;
use crate::facts::{Admits, Condition, Labels};
use mesh::{
    ServiceKey, Str,
    workload::{Destination, GatewayAddress},
};
use std::collections::BTreeSet;

/// The port on which waypoints take tunnels.
pub(super) const HBONE_PORT: u16 = 15008;

/// The condition of what names a waypoint.
const BOUND: &str = "istio.io/WaypointBound";

const USE: &str = "istio.io/use-waypoint";
const USE_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
const CANARY: &str = "istio.io/use-waypoint-canary";
const CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
const CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";
const AROUND: &str = "istiod-lite.io/allow-around-waypoint";

/// What an object, or its namespace, says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words<'a> {
    pub(super) labels: &'a Labels,
    pub(super) annotations: &'a Labels,
}

/// What a waypoint is for (`istio.io/waypoint-for`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serves {
    Services,
    Workloads,
    All,
    Nothing,
}

/// What traffic is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addressed {
    Service,
    Workload,
}

impl Serves {
    pub(super) fn of(text: &str) -> Option<Self> {
        Some(match text {
            "service" => Self::Services,
            "workload" => Self::Workloads,
            "all" => Self::All,
            "none" => Self::Nothing,
            _ => return None,
        })
    }

    fn includes(self, addressed: Addressed) -> bool {
        match addressed {
            Addressed::Service => matches!(self, Self::Services | Self::All),
            Addressed::Workload => matches!(self, Self::Workloads | Self::All),
        }
    }
}

/// A Gateway that is a waypoint, as far as binding asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waypoint {
    /// `namespace/name`.
    pub(super) key: Str,
    pub(super) serves: Serves,
    pub(super) admits: Admits,
    /// Where it is, or why it cannot be used yet.
    pub(super) address: Result<GatewayAddress, String>,
    /// Who it is; `None`: it cannot be used, whatever its address.
    pub(super) principal: Option<Str>,
}

/// The waypoints that something names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    primary: Name,
    canary: Option<(Name, Result<u32, Str>)>,
    /// The object itself says so.
    own: bool,
}

impl Named {
    /// The one that stands before all traffic, unless a canary has its share.
    pub(super) fn primary(&self) -> &Name {
        &self.primary
    }
}

/// Who wants to be behind a waypoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    pub(super) addressed: Addressed,
    pub(super) namespace: &'a Str,
    pub(super) namespace_labels: &'a Labels,
    pub(super) domain: &'a str,
}

/// How something stands to the waypoints it names. By default it names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Binding {
    /// Where traffic goes; a reference that resolves to nothing where it must not go anywhere.
    pub(super) waypoint: Option<GatewayAddress>,
    /// The same by weight, when there are two.
    pub(super) weighted: Vec<(GatewayAddress, u32)>,
    /// The gateways that serve it, or will: `namespace/name`.
    pub(super) gateways: BTreeSet<Str>,
    /// Who they are.
    pub(super) callers: BTreeSet<Str>,
    /// What is to be said of it.
    pub(super) condition: Option<Condition>,
}

/// The waypoints that an object's labels, or those of its namespace, name.
pub(super) fn named(namespace: &Str, own: Words<'_>, inherited: Option<Words<'_>>) -> Option<Named> {
    // What a waypoint itself is made of has none, or its traffic would never arrive.
    if own.labels.contains_key("gateway.networking.k8s.io/gateway-name") {
        return None;
    }
    let says = |words: &Words<'_>| words.labels.contains_key(USE);
    let (words, is_own) = match says(&own) {
        true => (own, true),
        false => (inherited.filter(says)?, false),
    };
    let primary = reference(words.labels, USE, USE_NAMESPACE, namespace)?;
    let weight = words.annotations.get(CANARY_WEIGHT).map_or(Ok(0), |text| match text.parse() {
        Ok(weight @ 0..=100) => Ok(weight),
        _ => Err(text.clone()),
    });
    let canary = reference(words.labels, CANARY, CANARY_NAMESPACE, namespace).map(|canary| (canary, weight));
    Some(Named { primary, canary, own: is_own })
}

/// Every gateway that labels name, whether that counts or not.
pub(super) fn gateways_in(namespace: &Str, labels: &Labels) -> Vec<Name> {
    let primary = reference(labels, USE, USE_NAMESPACE, namespace);
    primary.into_iter().chain(reference(labels, CANARY, CANARY_NAMESPACE, namespace)).collect()
}

fn reference(labels: &Labels, key: &str, namespace_key: &str, namespace: &Str) -> Option<Name> {
    let name = labels.get(key).filter(|name| !matches!(&***name, "none" | ""))?;
    let of = labels.get(namespace_key).filter(|of| !of.is_empty()).unwrap_or(namespace);
    Some((of.clone(), name.clone()))
}

/// Whether callers may go around a waypoint: what an object says, or else its namespace. Anything
/// but a clear yes is a no.
pub(super) fn may_go_around(own: Words<'_>, inherited: Option<Words<'_>>) -> Option<bool> {
    let says = |words: Words<'_>| words.annotations.get(AROUND).map(|text| &**text == "true");
    says(own).or_else(|| inherited.and_then(says))
}

/// How a waypoint stands to who names it.
enum Judged<'a> {
    Ready(&'a Waypoint, GatewayAddress),
    /// It will serve, but has no address yet.
    Coming(&'a Waypoint, String),
    /// It is not for this kind of traffic.
    NotServed,
    /// It must not be used, or is not there.
    Closed {
        reason: &'static str,
        tag: &'static str,
        message: String,
    },
}

fn judge<'a>(name: &Name, waypoint: Option<&'a Waypoint>, asker: &Asker<'_>) -> Judged<'a> {
    let (of, own) = (&name.0, &name.1);
    let closed = |reason, tag, message: String| Judged::Closed { reason, tag, message };
    let Some(waypoint) = waypoint else {
        let message = format!("there is no waypoint {of}/{own}; connections are refused until there is");
        return closed("WaypointIsNotReady", "missing", message);
    };
    if !waypoint.serves.includes(asker.addressed) {
        return Judged::NotServed;
    }
    if !admitted(waypoint, of, asker) {
        let message = format!(
            "waypoint {of}/{own} does not admit namespace {} (see allowedRoutes of its listener); connections are refused",
            asker.namespace
        );
        return closed("AttachmentDenied", "not-admitted", message);
    }
    match (&waypoint.address, &waypoint.principal) {
        (Ok(address), Some(_)) => Judged::Ready(waypoint, address.clone()),
        (Err(why), Some(_)) => {
            let message = format!("waypoint {of}/{own} is not ready: {why}; connections are refused until it is");
            Judged::Coming(waypoint, message)
        }
        (_, None) => {
            let message = format!("waypoint {of}/{own} cannot be used, see its conditions; connections are refused");
            closed("WaypointIsNotReady", "unusable", message)
        }
    }
}

fn admitted(waypoint: &Waypoint, of: &Str, asker: &Asker<'_>) -> bool {
    match &waypoint.admits {
        Admits::All => true,
        Admits::Same => of == asker.namespace,
        Admits::None => false,
        Admits::Selected(selector) => {
            // Kubernetes gives every namespace this label; files need not.
            let mut labels = asker.namespace_labels.clone();
            labels.insert("kubernetes.io/metadata.name".into(), asker.namespace.clone());
            selector.selects(&labels)
        }
    }
}

/// A reference that no service can ever answer to: `~` is in no hostname.
fn nowhere(name: &Name, tag: &str, domain: &str) -> GatewayAddress {
    let short = |text: &Str| text.chars().take(100).collect::<String>();
    let hostname = format!("{}.{}.svc.{domain}~{tag}", short(&name.1), short(&name.0)).into();
    GatewayAddress {
        destination: Destination::Service(ServiceKey { namespace: short(&name.0).into(), hostname }),
        hbone_mtls_port: HBONE_PORT,
    }
}

/// Who may call what a waypoint stands before, if anything is: nobody, when it cannot be used.
/// `None`: the waypoint is not for it.
pub(super) fn callers(name: &Name, waypoint: Option<&Waypoint>, asker: &Asker<'_>) -> Option<BTreeSet<Str>> {
    match judge(name, waypoint, asker) {
        Judged::Ready(waypoint, _) | Judged::Coming(waypoint, _) => {
            Some(waypoint.principal.clone().into_iter().collect())
        }
        Judged::NotServed => None,
        Judged::Closed { .. } => Some(BTreeSet::new()),
    }
}

/// Binds something to the waypoints that it names.
pub(super) fn bind<'a>(named: &Named, asker: &Asker<'_>, find: impl Fn(&Name) -> Option<&'a Waypoint>) -> Binding {
    let mut binding = Binding::default();
    let (of, name) = (&named.primary.0, &named.primary.1);
    let reference = match judge(&named.primary, find(&named.primary), asker) {
        Judged::Ready(waypoint, address) => {
            binding.serve(waypoint);
            let message = format!("Successfully attached to waypoint {of}/{name}");
            binding.condition = Some(Condition::met(BOUND, "WaypointAccepted", message));
            address
        }
        Judged::Coming(waypoint, message) => {
            binding.serve(waypoint);
            binding.condition = Some(Condition::unmet(BOUND, "WaypointIsNotReady", message));
            nowhere(&named.primary, "not-ready", asker.domain)
        }
        Judged::NotServed => {
            // That a namespace's waypoint is not for its pods is how most waypoints are.
            let worth_a_word = named.own || asker.addressed == Addressed::Service;
            let message = format!(
                "waypoint {of}/{name} is not for this kind of traffic (label istio.io/waypoint-for); it goes without"
            );
            binding.condition = worth_a_word.then(|| Condition::unmet(BOUND, "UnsupportedTrafficType", message));
            return binding;
        }
        Judged::Closed { reason, tag, message } => {
            binding.condition = Some(Condition::unmet(BOUND, reason, message));
            nowhere(&named.primary, tag, asker.domain)
        }
    };
    binding.waypoint = Some(reference.clone());
    if let (Addressed::Service, Some((canary, weight))) = (asker.addressed, &named.canary) {
        share(&mut binding, reference, named, (canary, weight), asker, find(canary));
    }
    binding
}

/// Gives a canary its share. One that cannot be used has none: the first waypoint stands before
/// all traffic then.
fn share(
    binding: &mut Binding,
    primary: GatewayAddress,
    named: &Named,
    (canary, weight): (&Name, &Result<u32, Str>),
    asker: &Asker<'_>,
    found: Option<&Waypoint>,
) {
    let all = format!("all traffic goes to {}/{}", named.primary.0, named.primary.1);
    let refused = match (weight, judge(canary, found, asker)) {
        _ if *canary == named.primary => ("CanarySameAsPrimary", format!("the canary is the waypoint itself; {all}")),
        (Err(text), _) => {
            let text: String = text.chars().take(100).collect();
            ("CanaryInvalidWeight", format!("{CANARY_WEIGHT} {text:?} is not a number from 0 to 100; {all}"))
        }
        (Ok(weight), Judged::Ready(waypoint, address)) => {
            binding.serve(waypoint);
            binding.weighted = vec![(primary, 100 - weight), (address, *weight)];
            return;
        }
        (_, Judged::Coming(waypoint, message)) => {
            binding.serve(waypoint);
            ("WaypointIsNotReady", format!("canary: {message}; {all}"))
        }
        (_, Judged::NotServed) => {
            ("UnsupportedTrafficType", format!("canary {}/{} is not for services; {all}", canary.0, canary.1))
        }
        (_, Judged::Closed { reason, message, .. }) => (reason, format!("canary: {message}; {all}")),
    };
    // What keeps the first waypoint from serving is worse.
    if binding.condition.as_ref().is_some_and(|condition| condition.status) {
        binding.condition = Some(Condition::unmet(BOUND, refused.0, refused.1));
    }
}

impl Binding {
    fn serve(&mut self, waypoint: &Waypoint) {
        self.gateways.insert(waypoint.key.clone());
        self.callers.extend(waypoint.principal.clone());
    }
}
