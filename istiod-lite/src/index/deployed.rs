//! What the index knows of the Service that was made for a Gateway.

use super::{
    Index,
    services::hostname,
    told::{Name, Told},
};
use crate::facts::{FactKey, Phase};
use mesh::Str;
use std::net::IpAddr;

/// The Service of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeployedService {
    /// Its hostname, whether it is there or not.
    pub hostname: Str,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether somebody answers.
    pub served: Served,
}

/// Whether somebody answers at a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Served {
    /// There is no such Service.
    #[default]
    Missing,
    /// None of its endpoints is ready.
    NotReady,
    /// At least one is.
    Ready,
}

impl Index {
    /// The Service of a Gateway: the one of its name, or of the name that it asks for.
    pub fn deployed_service(&self, gateway: &FactKey) -> DeployedService {
        let own: Name = (gateway.namespace.clone(), gateway.name.clone());
        let fact = self.told.gateways.get(&own);
        let asked = fact.and_then(|fact| fact.meta.annotations.get("gateway.istio.io/name-override"));
        let name = (own.0, asked.filter(|name| !name.is_empty()).cloned().unwrap_or(own.1));
        let hostname = hostname(&self.mesh, &name.0, &name.1);
        let Some(service) = self.told.services.get(&name) else {
            return DeployedService { hostname, ..DeployedService::default() };
        };
        let slices = self.told.slices_of(&name);
        let in_slice = slices.into_iter().any(|(_, slice)| slice.endpoints.iter().any(|endpoint| endpoint.ready));
        let selects = |labels: &crate::facts::Labels| {
            !service.selector.is_empty() && service.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        // A slice follows its pods by a moment.
        let as_pod = || {
            let mut pods = Told::within(&self.told.pods, &name.0).map(|(_, pod)| pod);
            pods.any(|pod| pod.ready && !pod.terminating && pod.phase == Phase::Running && selects(&pod.meta.labels))
        };
        let served = if in_slice || as_pod() { Served::Ready } else { Served::NotReady };
        DeployedService { hostname, addresses: service.addresses.clone(), served }
    }

    /// Whether a Gateway is a waypoint, usable or not.
    pub fn is_waypoint_named(&self, namespace: &str, name: &str) -> bool {
        self.waypoints.contains_key(&(Str::from(namespace), Str::from(name)))
    }

    /// The network of the mesh; "" when nobody named it.
    pub fn mesh_network(&self) -> Str {
        self.network()
    }
}
