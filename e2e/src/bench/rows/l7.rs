//! HTTP through a waypoint.

use super::{ENVOY, HAPROXY, NGINX, OURS, PLAIN, at_least, pair::Chain};
use crate::{
    bench::{
        figure::{Figure, Target, Unit},
        load,
        peers::{Way, envoy, haproxy, nginx},
        rig::{Contender, Measure, Rig, Wanted},
        usage::Process,
    },
    stage::Going,
};
use anyhow::{Context, Result};
use std::{net::SocketAddr, time::Duration};

/// Where the proxies under test are: in a pod of the client's node.
const POD: &str = "plain/near";
/// Their ports.
const AT_ENVOY: u16 = 9301;
const AT_HAPROXY: u16 = 9302;
const AT_OURS: u16 = 9303;
const AT_OURS_TOO: u16 = 9304;
const AT_NGINX: u16 = 9305;
/// The server of HTTP/2, beside nginx.
const AT_GRPC: u16 = 9306;
/// Rules of the large set.
const ROUTES: &str = "5000";
/// What a waypoint may have resident with those.
const ROUTES_RESIDENT_MAX: f64 = 40e6;
/// A waypoint is deployed, gets its certificate and its rules within this.
const WAYPOINT_DEADLINE: Duration = Duration::from_secs(60);

/// A proxy that a row has started.
struct Started {
    going: Going,
    processes: Vec<Process>,
}

impl Started {
    fn start(rig: &mut Rig, argv: &[&str], port: u16, known_by: &[&str]) -> Result<Self> {
        let going = rig.serve(POD, argv, port)?;
        Ok(Self { going, processes: rig.process(known_by)? })
    }

    fn envoy(rig: &mut Rig, to: SocketAddr, http2: bool) -> Result<Self> {
        let path = rig.write("envoy-http.json", &envoy::http(&[Way { port: AT_ENVOY, to }], http2, None)?)?;
        let path = path.to_str().context("a path that is no text")?;
        Self::start(rig, &envoy::argv(path), AT_ENVOY, &[path])
    }

    fn haproxy(rig: &mut Rig, to: SocketAddr, http2: bool) -> Result<Self> {
        let path = rig.write("haproxy.cfg", &haproxy::http(AT_HAPROXY, to, http2))?;
        let path = path.to_str().context("a path that is no text")?;
        Self::start(rig, &["haproxy", "-db", "-f", path], AT_HAPROXY, &["haproxy", path])
    }

    /// A parent, and two workers that have no words on their command line but what they are.
    fn nginx(rig: &mut Rig, to: SocketAddr) -> Result<Self> {
        let path = rig.write("nginx-proxy.conf", &nginx::http(AT_NGINX, to))?;
        let path = path.to_str().context("a path that is no text")?;
        let mut started = Self::start(rig, &["nginx", "-c", path], AT_NGINX, &["nginx", "-c", path])?;
        started.processes = started.processes[0].with_children()?;
        Ok(started)
    }

    /// Ours, without a tunnel. Its access log goes nowhere.
    fn ours(rig: &mut Rig, port: u16, to: SocketAddr, more: &[&str]) -> Result<Self> {
        let program = rig.example("waypoint", "plain")?;
        let program = program.to_str().context("a path that is no text")?;
        let (port_text, to) = (port.to_string(), to.to_string());
        let mut argv = vec!["sh", "-c", "exec \"$@\" > /dev/null", "sh", program, "--port", &port_text, "--to", &to];
        argv.extend(more);
        Self::start(rig, &argv, port, &[program, &port_text])
    }
}

fn stop(all: Vec<Started>) -> Result<()> {
    for one in all {
        one.going.stop()?;
    }
    Ok(())
}

/// wrk, with connections that stay.
fn ask(connections: usize, pod: &'static str, to: SocketAddr) -> Measure<'static> {
    Box::new(move |rig: &Rig| {
        let out = rig.run(pod, &load::wrk(&format!("http://{to}/"), connections, rig.seconds, &[]))?;
        let requests = load::read_wrk(&out)?;
        Ok(vec![requests.rate, requests.p99])
    })
}

/// One route, no TLS, few and many connections.
pub(super) fn http(rig: &mut Rig) -> Result<Vec<Figure>> {
    let server = (rig.address("plain/server")?, 8080).into();
    let near = rig.address(POD)?;
    let at = |port: u16| SocketAddr::new(near, port);
    let started = vec![
        Started::envoy(rig, server, false)?,
        Started::haproxy(rig, server, false)?,
        Started::nginx(rig, server)?,
        Started::ours(rig, AT_OURS, server, &[])?,
    ];
    let mut figures = Vec::new();
    for connections in [16, 256] {
        let ask = |to| ask(connections, "plain/client", to);
        let contenders = [
            Contender { who: PLAIN, proxies: Vec::new(), measure: ask(server) },
            Contender { who: ENVOY, proxies: started[0].processes.clone(), measure: ask(at(AT_ENVOY)) },
            Contender { who: HAPROXY, proxies: started[1].processes.clone(), measure: ask(at(AT_HAPROXY)) },
            Contender { who: NGINX, proxies: started[2].processes.clone(), measure: ask(at(AT_NGINX)) },
            Contender { who: OURS, proxies: started[3].processes.clone(), measure: ask(at(AT_OURS)) },
        ];
        let targets = [at_least(3.0, ENVOY), at_least(0.95, HAPROXY)];
        let name = format!("HTTP/1.1, {connections} connections");
        let wanted: [Wanted; 2] = [(&name, Unit::PerSecond, &targets), ("p99 of those", Unit::Seconds, &[])];
        figures.extend(rig.rounds(&wanted, &contenders)?);
    }
    stop(started)?;
    Ok(figures)
}

/// Through a node proxy, a waypoint and another node proxy; beside three Envoys.
pub(super) fn between(rig: &mut Rig) -> Result<Vec<Figure>> {
    rig.stage.apply(&rig.filled(include_str!("waypoint.yaml")))?;
    rig.stage.ready(&["routed/client", "routed/server"])?;
    rig.stage.enrolled(&["routed/client", "routed/server"], true)?;
    let vip =
        *rig.stage.cluster_ips("server.routed.svc.cluster.local")?.first().context("the service has no address")?;
    let url = format!("http://{vip}/");
    rig.stage.wait("the server answers through its waypoint", WAYPOINT_DEADLINE, |stage| {
        // Only a waypoint says this.
        let answer = stage.exec("routed/client", &["curl", "-sS", "-i", "--max-time", "2", &url])?;
        Ok(answer.stdout.contains("x-envoy-upstream-service-time"))
    })?;
    let mut ours = rig.ztunnels()?;
    ours.extend(rig.process(&["meshctl", "waypoint"])?);
    let chain = Chain::start(rig)?;
    let contenders = [
        Contender {
            who: PLAIN,
            proxies: Vec::new(),
            measure: ask(16, "plain/client", (rig.address("plain/server")?, 8080).into()),
        },
        Contender { who: ENVOY, proxies: chain.processes.clone(), measure: ask(16, "plain/client", chain.address) },
        Contender { who: OURS, proxies: ours, measure: ask(16, "routed/client", (vip, 80).into()) },
    ];
    let targets = [at_least(1.5, ENVOY)];
    let wanted: [Wanted; 2] = [
        ("HTTP/1.1 by mTLS in and out, 16 connections", Unit::PerSecond, &targets),
        ("p99 of those", Unit::Seconds, &[]),
    ];
    let figures = rig.rounds(&wanted, &contenders)?;
    chain.stop()?;
    Ok(figures)
}

/// Calls without streams: ten connections, a hundred at a time on each.
pub(super) fn grpc(rig: &mut Rig) -> Result<Vec<Figure>> {
    // A message of ten bytes, with the flag and the length in front of it.
    let message = rig.write("message", "\0\0\0\0\u{a}0123456789")?;
    let message = message.to_str().context("a path that is no text")?.to_owned();
    let folder = message.trim_end_matches("/message").to_owned();
    let port = AT_GRPC.to_string();
    let argv = ["nghttpd", "--no-tls", "--trailer=grpc-status: 0", "-d", &folder, &port];
    let backend = rig.serve("plain/server", &argv, AT_GRPC)?;
    let server: SocketAddr = (rig.address("plain/server")?, AT_GRPC).into();
    let near = rig.address(POD)?;
    let at = |port: u16| SocketAddr::new(near, port);
    let started = vec![
        Started::envoy(rig, server, true)?,
        Started::haproxy(rig, server, true)?,
        Started::ours(rig, AT_OURS, server, &["--http2", "--routes", "1"])?,
    ];
    let call = |to: SocketAddr| -> Measure<'static> {
        let message = message.clone();
        Box::new(move |rig: &Rig| {
            let more = ["-H", "content-type: application/grpc", "-H", "te: trailers", "-d", &message];
            let argv = load::h2load(&format!("http://{to}/message"), 10, 100, rig.seconds, &more);
            Ok(vec![load::read_h2load(&rig.run("plain/client", &argv)?)?])
        })
    };
    let contenders = [
        Contender { who: PLAIN, proxies: Vec::new(), measure: call(server) },
        Contender { who: ENVOY, proxies: started[0].processes.clone(), measure: call(at(AT_ENVOY)) },
        Contender { who: HAPROXY, proxies: started[1].processes.clone(), measure: call(at(AT_HAPROXY)) },
        Contender { who: OURS, proxies: started[2].processes.clone(), measure: call(at(AT_OURS)) },
    ];
    let targets = [at_least(1.5, ENVOY)];
    let figures = rig.rounds(&[("gRPC, unary", Unit::PerSecond, &targets)], &contenders)?;
    stop(started)?;
    backend.stop()?;
    Ok(figures)
}

/// One rule beside five thousand, of which the last to be tried is taken.
pub(super) fn routes(rig: &mut Rig) -> Result<Vec<Figure>> {
    const ONE: &str = "one route";
    let server = (rig.address("plain/server")?, 8080).into();
    let near = rig.address(POD)?;
    let one = Started::ours(rig, AT_OURS, server, &["--routes", "1"])?;
    let many = Started::ours(rig, AT_OURS_TOO, server, &["--routes", ROUTES])?;
    let ask = |port| ask(16, "plain/client", SocketAddr::new(near, port));
    let contenders = [
        Contender { who: ONE, proxies: one.processes.clone(), measure: ask(AT_OURS) },
        Contender { who: OURS, proxies: many.processes.clone(), measure: ask(AT_OURS_TOO) },
    ];
    let targets = [at_least(0.97, ONE)];
    let wanted: [Wanted; 2] =
        [("HTTP/1.1, 5,000 routes, worst match", Unit::PerSecond, &targets), ("p99 of those", Unit::Seconds, &[])];
    let mut figures = rig.rounds(&wanted, &contenders)?;
    let resident = rig.settled(&many.processes)?.into_iter().sum();
    let most = [Target::NoMore(ROUTES_RESIDENT_MAX)];
    figures.push(Figure::new("resident with them", Unit::Bytes, &most).with(OURS, resident));
    stop(vec![one, many])?;
    Ok(figures)
}
