//! What a waypoint's own Gateway says of requests.

use super::{Conditions, Reach, Scene};
use crate::{
    facts::{FactKey, Gateway, Kind},
    index::Index,
};
use mesh::route::GatewayRules;

fn gateway<'a>(index: &'a Index, object: &FactKey) -> Option<&'a Gateway> {
    let name = (object.namespace.clone(), object.name.clone());
    (object.kind == Kind::Gateway).then(|| index.told.gateways.get(&name))?
}

pub(super) fn reach(index: &Index, object: &FactKey, reach: &mut Reach) {
    if gateway(index, object).is_some() {
        reach.gateways.insert(format!("{}/{}", object.namespace, object.name).into());
    }
}

pub(super) fn contribute(scene: &Scene<'_>, rules: &mut GatewayRules, _: &mut Conditions) {
    let own = scene.objects.iter().filter_map(|object| gateway(scene.index, object));
    rules.forward_client_identity = own.into_iter().any(|gateway| {
        gateway.forward_client_identity
            && (&gateway.meta.namespace, &gateway.meta.name) == (&rules.namespace, &rules.name)
    });
}
