//! TCP through the node proxies.

use super::{ENVOY, OURS, PLAIN, RELAYS, at_least, at_most, pair::Pair};
use crate::bench::{
    figure::{Figure, Unit},
    load,
    rig::{Contender, Measure, Rig, Wanted},
};
use anyhow::Result;
use std::net::{Ipv4Addr, SocketAddr};

const NGINX: u16 = 8080;
const IPERF3: u16 = 5201;

/// One stream, and eight.
pub(super) fn bulk(rig: &mut Rig) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (what, streams, plain) in [("one bulk stream", 1, 0.24), ("eight bulk streams", 8, 0.26)] {
        let targets = [at_least(plain, PLAIN), at_least(1.2, ENVOY)];
        figures.extend(between_nodes(rig, &[(what, Unit::Bits, &targets)], (IPERF3, |pair| pair.bulk), |pod, to| {
            Box::new(move |rig: &Rig| {
                let out = rig.run(pod, &load::iperf3(to, streams, rig.seconds))?;
                Ok(vec![load::read_iperf3(&out)?])
            })
        })?);
    }
    Ok(figures)
}

/// Connections that stay.
pub(super) fn requests(rig: &mut Rig) -> Result<Vec<Figure>> {
    let rate = [at_least(0.32, PLAIN), at_least(1.4, ENVOY)];
    let slow = [at_most(3.0, PLAIN)];
    let wanted: [Wanted; 2] = [("keep-alive requests", Unit::PerSecond, &rate), ("p99 of those", Unit::Seconds, &slow)];
    between_nodes(rig, &wanted, (NGINX, |pair| pair.http), |pod, to| {
        Box::new(move |rig: &Rig| {
            let out = rig.run(pod, &load::wrk(&format!("http://{to}/"), 16, rig.seconds, &[]))?;
            let requests = load::read_wrk(&out)?;
            Ok(vec![requests.rate, requests.p99])
        })
    })
}

/// A connection for each request.
pub(super) fn connections(rig: &mut Rig) -> Result<Vec<Figure>> {
    let targets = [at_least(0.40, PLAIN), at_least(5.0, ENVOY)];
    between_nodes(rig, &[("new connections", Unit::PerSecond, &targets)], (NGINX, |pair| pair.http), |pod, to| {
        Box::new(move |rig: &Rig| {
            let argv = load::wrk(&format!("http://{to}/"), 16, rig.seconds, &["Connection: close"]);
            Ok(vec![load::read_wrk(&rig.run(pod, &argv)?)?.rate])
        })
    })
}

/// The plain way, Envoy's, that of relays, and ours. `measure` makes one of a pod and an address.
fn between_nodes(
    rig: &mut Rig,
    wanted: &[Wanted],
    (port, of): (u16, fn(&Pair) -> u16),
    measure: impl Fn(&'static str, SocketAddr) -> Measure<'static>,
) -> Result<Vec<Figure>> {
    let (envoys, relays) = (Pair::envoys(rig)?, Pair::relays(rig)?);
    let plain = (rig.address("plain/server")?, port).into();
    let ours = (rig.address("meshed/server")?, port).into();
    let by = |who, pair: &Pair| Contender {
        who,
        proxies: pair.processes.clone(),
        measure: measure("plain/client", (Ipv4Addr::LOCALHOST, of(pair)).into()),
    };
    let contenders = [
        Contender { who: PLAIN, proxies: Vec::new(), measure: measure("plain/client", plain) },
        by(ENVOY, &envoys),
        by(RELAYS, &relays),
        Contender { who: OURS, proxies: rig.ztunnels()?, measure: measure("meshed/client", ours) },
    ];
    let figures = rig.rounds(wanted, &contenders)?;
    envoys.stop()?;
    relays.stop()?;
    Ok(figures)
}

/// Both pods on one node.
pub(super) fn same_node(rig: &mut Rig) -> Result<Vec<Figure>> {
    let targets = [at_least(0.45, PLAIN)];
    let measure = |pod: &'static str, to: SocketAddr| -> Measure<'static> {
        Box::new(move |rig: &Rig| Ok(vec![load::read_iperf3(&rig.run(pod, &load::iperf3(to, 1, rig.seconds))?)?]))
    };
    let near = |namespace: &str| rig.address(&format!("{namespace}/near")).map(|address| (address, IPERF3).into());
    let contenders = [
        Contender { who: PLAIN, proxies: Vec::new(), measure: measure("plain/client", near("plain")?) },
        Contender { who: OURS, proxies: rig.ztunnels()?, measure: measure("meshed/client", near("meshed")?) },
    ];
    rig.rounds(&[("one bulk stream on one node", Unit::Bits, &targets)], &contenders)
}
