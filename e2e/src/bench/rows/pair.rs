//! Envoys that carry TCP by mTLS as sidecars do, and relays that only pass it on, beside the pods that are in no mesh.

use crate::{
    bench::{
        peers::{Certificates, Way, envoy, haproxy},
        rig::Rig,
        usage::Process,
    },
    stage::Going,
};
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};

/// Where the client's Envoy takes connections for nginx.
const HTTP: u16 = 9080;
/// The same for iperf3.
const BULK: u16 = 9201;
/// Where the client's relay takes them.
const RELAYED_HTTP: u16 = 9081;
const RELAYED_BULK: u16 = 9202;
/// Where the one in the middle of a chain listens.
const MIDDLE: u16 = 9108;

/// Where the server's takes what is for a port of the client's.
fn beyond(port: u16) -> u16 {
    port + 10_000
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A running pair. The client's is spoken to on the loopback, which spares it the redirection that the mesh has.
pub(super) struct Pair {
    /// Where it takes connections for nginx.
    pub(super) http: u16,
    /// The same for iperf3.
    pub(super) bulk: u16,
    going: Vec<Going>,
    /// Its processes.
    pub(super) processes: Vec<Process>,
}

impl Pair {
    /// Starts Envoys between `plain/client` and `plain/server`.
    pub(super) fn envoys(rig: &mut Rig) -> Result<Self> {
        let certificates = Certificates::new()?;
        let server = rig.address("plain/server")?;
        let behind = [Way { port: beyond(HTTP), to: local(8080) }, Way { port: beyond(BULK), to: local(5201) }];
        let before = [HTTP, BULK].map(|port| Way { port, to: (server, beyond(port)).into() });
        let mut pair = Self::new(HTTP, BULK);
        pair.envoy(
            rig,
            "plain/server",
            "envoy-server.json",
            &envoy::tcp_server(&behind, &certificates)?,
            beyond(HTTP),
        )?;
        pair.envoy(rig, "plain/client", "envoy-client.json", &envoy::tcp_client(&before, &certificates)?, HTTP)?;
        Ok(pair)
    }

    /// Starts haproxies in their place that pass bytes on as they are.
    pub(super) fn relays(rig: &mut Rig) -> Result<Self> {
        let server = rig.address("plain/server")?;
        let (http, bulk) = (beyond(RELAYED_HTTP), beyond(RELAYED_BULK));
        let behind = [Way { port: http, to: local(8080) }, Way { port: bulk, to: local(5201) }];
        let before = [RELAYED_HTTP, RELAYED_BULK].map(|port| Way { port, to: (server, beyond(port)).into() });
        let mut pair = Self::new(RELAYED_HTTP, RELAYED_BULK);
        pair.haproxy(rig, "plain/server", "relay-server.cfg", &haproxy::tcp(&behind), http)?;
        pair.haproxy(rig, "plain/client", "relay-client.cfg", &haproxy::tcp(&before), RELAYED_HTTP)?;
        Ok(pair)
    }

    fn new(http: u16, bulk: u16) -> Self {
        Self { http, bulk, going: Vec::new(), processes: Vec::new() }
    }

    fn haproxy(&mut self, rig: &mut Rig, pod: &str, name: &str, config: &str, port: u16) -> Result<()> {
        self.add(rig, pod, (name, config), |path| vec!["haproxy", "-db", "-f", path], port)
    }

    fn envoy(&mut self, rig: &mut Rig, pod: &str, name: &str, config: &str, port: u16) -> Result<()> {
        self.add(rig, pod, (name, config), |path| envoy::argv(path).into(), port)
    }

    fn add(
        &mut self,
        rig: &mut Rig,
        pod: &str,
        (name, config): (&str, &str),
        argv: impl Fn(&str) -> Vec<&str>,
        port: u16,
    ) -> Result<()> {
        let path = rig.write(name, config)?;
        let path = path.to_str().context("a path that is no text")?;
        self.going.push(rig.serve(pod, &argv(path), port)?);
        self.processes.extend(rig.process(&[path])?);
        Ok(())
    }

    /// Stops it.
    pub(super) fn stop(self) -> Result<()> {
        for going in self.going {
            going.stop()?;
        }
        Ok(())
    }
}

/// A pair with a proxy of HTTP in the middle, which terminates mTLS and originates it.
pub(super) struct Chain {
    pair: Pair,
    /// Its processes.
    pub(super) processes: Vec<Process>,
    /// Where `plain/client` speaks to it.
    pub(super) address: SocketAddr,
}

impl Chain {
    /// Starts one between `plain/client` and `plain/server`, with its middle in `plain/near`.
    pub(super) fn start(rig: &mut Rig) -> Result<Self> {
        let certificates = Certificates::new()?;
        let (server, near) = (rig.address("plain/server")?, rig.address("plain/near")?);
        let behind = [Way { port: beyond(HTTP), to: local(8080) }];
        let middle = [Way { port: MIDDLE, to: (server, beyond(HTTP)).into() }];
        let before = [Way { port: HTTP, to: (near, MIDDLE).into() }];
        let mut pair = Pair::new(HTTP, BULK);
        pair.envoy(rig, "plain/server", "envoy-last.json", &envoy::tcp_server(&behind, &certificates)?, beyond(HTTP))?;
        pair.envoy(rig, "plain/near", "envoy-middle.json", &envoy::http(&middle, false, Some(&certificates))?, MIDDLE)?;
        pair.envoy(rig, "plain/client", "envoy-first.json", &envoy::tcp_client(&before, &certificates)?, HTTP)?;
        Ok(Self { processes: pair.processes.clone(), pair, address: local(HTTP) })
    }

    /// Stops it.
    pub(super) fn stop(self) -> Result<()> {
        self.pair.stop()
    }
}
