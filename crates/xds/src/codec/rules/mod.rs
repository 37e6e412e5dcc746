//! `istiod_lite.waypoint.v1`: what a waypoint does with requests.
//!
//! Nothing is skipped and nothing guessed: a rule that is read as another one could let pass what
//! it forbids. What cannot be read is refused with the place it is at, and the last good version
//! of the resource stays. Absent means what the `.proto` says, and nothing else does.
//!
//! Rooms, as in [`mesh::route`]: `value` (texts, numbers, destinations) · `http` (matches, routes,
//! retries) · `filter` (what is done to requests) · `limit` · `guard` · `traffic` · `telemetry`.

mod filter;
mod guard;
mod http;
mod limit;
mod telemetry;
mod traffic;
mod value;

use super::DecodeError;
use mesh::route::{GatewayRules, ServiceRules, StreamRoute, Subset};
use proto::waypoint as wire;
use value::{Read, all, name, texts};

/// The rules of a service on the wire.
pub fn of_service(rules: &ServiceRules) -> wire::ServiceRules {
    wire::ServiceRules {
        service: Some(value::service(&rules.service)),
        http: rules.http.iter().map(http::encode).collect(),
        tls: rules.tls.iter().map(stream).collect(),
        tcp: rules.tcp.iter().map(stream).collect(),
        guards: value::unless_empty(guard::encode(&rules.guards)),
        limits: rules.limits.iter().map(limit::encode).collect(),
        faults: rules.faults.iter().map(limit::fault).collect(),
        traffic: rules.traffic.iter().map(traffic::encode).collect(),
        subsets: rules.subsets.iter().map(subset).collect(),
        telemetry: value::unless_empty(telemetry::encode(&rules.telemetry)),
    }
}

/// Reads the rules of a service. Whether they can be used is for [`mesh::route::Compiled`] to say.
pub fn service(rules: wire::ServiceRules) -> Result<ServiceRules, DecodeError> {
    Ok(ServiceRules {
        service: value::read_service("service", rules.service)?,
        http: all(rules.http, http::read)?,
        tls: all(rules.tls, read_stream)?,
        tcp: all(rules.tcp, read_stream)?,
        guards: guard::read(rules.guards.unwrap_or_default())?,
        limits: all(rules.limits, limit::read)?,
        faults: all(rules.faults, limit::read_fault)?,
        traffic: all(rules.traffic, traffic::read)?,
        subsets: all(rules.subsets, read_subset)?,
        telemetry: telemetry::read(rules.telemetry.unwrap_or_default())?,
    })
}

/// The rules of a waypoint on the wire.
pub fn of_gateway(rules: &GatewayRules) -> wire::GatewayRules {
    wire::GatewayRules {
        namespace: value::text(&rules.namespace),
        name: value::text(&rules.name),
        guards: value::unless_empty(guard::encode(&rules.guards)),
        limits: rules.limits.iter().map(limit::encode).collect(),
        faults: rules.faults.iter().map(limit::fault).collect(),
        telemetry: value::unless_empty(telemetry::encode(&rules.telemetry)),
        forward_client_identity: rules.forward_client_identity,
    }
}

/// Reads the rules of a waypoint. Whether they can be used is for
/// [`mesh::route::CompiledGateway`] to say.
pub fn gateway(rules: wire::GatewayRules) -> Result<GatewayRules, DecodeError> {
    Ok(GatewayRules {
        namespace: name("namespace", rules.namespace)?,
        name: name("name", rules.name)?,
        guards: guard::read(rules.guards.unwrap_or_default())?,
        limits: all(rules.limits, limit::read)?,
        faults: all(rules.faults, limit::read_fault)?,
        telemetry: telemetry::read(rules.telemetry.unwrap_or_default())?,
        forward_client_identity: rules.forward_client_identity,
    })
}

fn stream(route: &StreamRoute) -> wire::StreamRoute {
    let backend =
        |(to, weight): &(_, u32)| wire::StreamBackend { destination: Some(value::destination(to)), weight: *weight };
    wire::StreamRoute {
        name: value::text(&route.name),
        ports: value::ports(&route.ports),
        callers: value::optional(&route.callers),
        server_names: texts(&route.server_names),
        backends: route.backends.iter().map(backend).collect(),
    }
}

fn read_stream(route: wire::StreamRoute) -> Read<StreamRoute> {
    let place = route.name.clone();
    let backend = |backend: wire::StreamBackend| Ok((value::read_destination(backend.destination)?, backend.weight));
    let read = || {
        Ok(StreamRoute {
            name: route.name.into(),
            ports: value::read_ports("ports", route.ports)?,
            callers: route.callers.map(Into::into),
            server_names: value::strs(route.server_names),
            backends: all(route.backends, backend)?,
        })
    };
    value::within("route", &place, read())
}

fn subset(subset: &Subset) -> wire::Subset {
    wire::Subset {
        name: value::text(&subset.name),
        members: texts(&subset.members),
        traffic: subset.traffic.iter().map(traffic::encode).collect(),
    }
}

fn read_subset(subset: wire::Subset) -> Read<Subset> {
    let name = name("subsets.name", subset.name)?;
    let traffic = value::within("subset", &name, all(subset.traffic, traffic::read))?;
    Ok(Subset { members: value::strs(subset.members), traffic, name })
}

#[cfg(test)]
mod tests;
