//! Routes of a VirtualService for what is not HTTP.

use super::{
    http_match::reachable,
    virtual_service::{destination, host, weights},
};
use crate::{
    facts::Meta,
    files::{field::Field, value::known},
};
use mesh::{
    Str,
    route::{Destination, StreamRoute},
};

/// The routes of TLS connections that an entry of `tls` gives, one for each match.
pub(super) fn tls(field: &Field<'_>, meta: &Meta) -> Vec<StreamRoute> {
    known(field, &["match", "route"]);
    let backends = backends(&field.at("route"), &meta.namespace);
    let asked = field.at("match");
    if asked.list().is_empty() {
        asked.note("says nothing, and a route of TLS must name server names");
    }
    let route = |asked: &Field<'_>| {
        known(asked, &["sniHosts", "destinationSubnets", "port", "sourceLabels", "gateways", "sourceNamespace"]);
        let names = asked.at("sniHosts");
        let server_names: Vec<Str> = names.list().iter().filter_map(host).collect();
        if server_names.is_empty() {
            names.note("says nothing, and a route of TLS must name server names");
        }
        connection(asked, meta, &backends).map(|route| StreamRoute { server_names, ..route })
    };
    asked.list().iter().filter_map(route).collect()
}

/// The routes of connections that an entry of `tcp` gives, one for each match.
pub(super) fn tcp(field: &Field<'_>, meta: &Meta) -> Vec<StreamRoute> {
    known(field, &["match", "route"]);
    let backends = backends(&field.at("route"), &meta.namespace);
    let asked = field.at("match").list();
    if asked.is_empty() {
        return vec![StreamRoute { backends, ..all(meta) }];
    }
    let route = |asked: &Field<'_>| {
        known(asked, &["destinationSubnets", "port", "sourceLabels", "gateways", "sourceNamespace", "sourceSubnet"]);
        connection(asked, meta, &backends)
    };
    asked.iter().filter_map(route).collect()
}

/// What matches of both kinds ask for; `None` when it can never hit.
fn connection(asked: &Field<'_>, meta: &Meta, backends: &[(Destination, u32)]) -> Option<StreamRoute> {
    let mut hits = reachable(asked);
    for key in ["destinationSubnets", "sourceSubnet"] {
        let range = asked.at(key);
        if range.is_there() {
            range.remark("is not honoured by waypoints: the match never hits");
            hits = false;
        }
    }
    let route = StreamRoute {
        ports: asked.at("port").port().into_iter().collect(),
        callers: asked.at("sourceNamespace").text().filter(|name| !name.is_empty()),
        backends: backends.to_vec(),
        ..all(meta)
    };
    hits.then_some(route)
}

fn all(meta: &Meta) -> StreamRoute {
    StreamRoute {
        name: format!("VirtualService/{}/{}", meta.namespace, meta.name).into(),
        ports: Vec::new(),
        callers: None,
        server_names: Vec::new(),
        backends: Vec::new(),
    }
}

fn backends(field: &Field<'_>, own: &str) -> Vec<(Destination, u32)> {
    let one = |(field, weight): (&Field<'_>, u32)| {
        known(field, &["destination", "weight"]);
        (destination(&field.at("destination"), own), weight)
    };
    field.list().iter().zip(weights(field)).map(one).collect()
}
