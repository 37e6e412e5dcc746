//! Envoys that carry TCP by mTLS as sidecars do, beside the pods that are in no mesh.

use crate::{
    bench::{
        peers::{
            Certificates,
            envoy::{self, Way},
        },
        rig::Rig,
        usage::Process,
    },
    stage::Going,
};
use anyhow::{Context, Result};
use std::net::{Ipv4Addr, SocketAddr};

/// Where the client's Envoy takes connections for nginx.
pub(super) const HTTP: u16 = 9080;
/// The same for iperf3.
pub(super) const BULK: u16 = 9201;
/// Where the one in the middle of a chain listens.
const MIDDLE: u16 = 9108;

/// Where the server's takes by TLS what is for a port.
fn tls(port: u16) -> u16 {
    port + 10_000
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A running pair. The client's is spoken to on the loopback, which spares it the redirection that the mesh has.
pub(super) struct Pair {
    going: Vec<Going>,
    /// Its processes.
    pub(super) processes: Vec<Process>,
}

impl Pair {
    /// Starts one between `plain/client` and `plain/server`.
    pub(super) fn start(rig: &mut Rig) -> Result<Self> {
        let certificates = Certificates::new()?;
        let server = rig.address("plain/server")?;
        let behind = [Way { port: tls(HTTP), to: local(8080) }, Way { port: tls(BULK), to: local(5201) }];
        let before = [HTTP, BULK].map(|port| Way { port, to: (server, tls(port)).into() });
        let mut pair = Self { going: Vec::new(), processes: Vec::new() };
        pair.add(rig, "plain/server", "envoy-server.json", &envoy::tcp_server(&behind, &certificates)?, tls(HTTP))?;
        pair.add(rig, "plain/client", "envoy-client.json", &envoy::tcp_client(&before, &certificates)?, HTTP)?;
        Ok(pair)
    }

    fn add(&mut self, rig: &mut Rig, pod: &str, name: &str, config: &str, port: u16) -> Result<()> {
        let path = rig.write(name, config)?;
        let path = path.to_str().context("a path that is no text")?;
        self.going.push(rig.serve(pod, &envoy::argv(path), port)?);
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
        let behind = [Way { port: tls(HTTP), to: local(8080) }];
        let middle = [Way { port: MIDDLE, to: (server, tls(HTTP)).into() }];
        let before = [Way { port: HTTP, to: (near, MIDDLE).into() }];
        let mut pair = Pair { going: Vec::new(), processes: Vec::new() };
        pair.add(rig, "plain/server", "envoy-last.json", &envoy::tcp_server(&behind, &certificates)?, tls(HTTP))?;
        pair.add(rig, "plain/near", "envoy-middle.json", &envoy::http(&middle, false, Some(&certificates))?, MIDDLE)?;
        pair.add(rig, "plain/client", "envoy-first.json", &envoy::tcp_client(&before, &certificates)?, HTTP)?;
        Ok(Self { processes: pair.processes.clone(), pair, address: local(HTTP) })
    }

    /// Stops it.
    pub(super) fn stop(self) -> Result<()> {
        self.pair.stop()
    }
}
