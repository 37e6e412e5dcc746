//! What a DestinationRule says of connections, versions of HTTP, places and newcomers, each seen by what
//! arrives where.

mod places;

use super::{CLIENT, GUEST, ask, counts, set_mode};
use crate::{apps::requests, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

const V1: &str = "mall/store-v1";
const V2: &str = "mall/store-v2";

/// A DestinationRule for a service.
fn rule(host: &str, policy: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: settings, namespace: mall }}\n\
         spec: {{ host: {host}, trafficPolicy: {{ {policy} }} }}\n"
    )
}

/// A TrafficPolicy of ours for a service.
fn traffic_policy(service: &str, section: &str) -> String {
    format!(
        "apiVersion: istiod-lite.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{ name: settings, namespace: mall }}\n\
         spec: {{ targetRefs: [{{ group: '', kind: Service, name: {service} }}], {section} }}\n"
    )
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    ages(stage, seen)?;
    ages_of_streams(stage, seen)?;
    streams(stage, seen)?;
    versions(stage, seen)?;
    deadlines(stage, seen)?;
    proxied(stage, seen)?;
    places::newcomer(stage, seen)?;
    places::places(stage, seen)
}

/// Connections that arrive at `store-v1` while one caller's connection asks at this rate.
fn arriving(stage: &Stage, rate: &str, seconds: &str) -> Result<u64> {
    counts(stage, V1)?;
    let load = ["requests", "http://store-v1.mall/", "--rate", rate, "--seconds", seconds, "--connections", "1"];
    let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
    ensure!(report.status(200) == report.due, "{report:?}");
    // One more is that by which it is asked for its counts.
    Ok(counts(stage, V1)?.connections - 1)
}

/// A connection to an endpoint is left when it was idle for long, or is old.
fn ages(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let kept = arriving(stage, "0.5", "6")?;
    ensure!(kept <= 1, "one connection is kept: {kept}");
    for (policy, rate, seconds, least) in [
        ("connectionPool: { http: { idleTimeout: 500ms } }", "0.5", "6", 2),
        ("connectionPool: { tcp: { idleTimeout: 500ms } }", "0.5", "6", 2),
        ("connectionPool: { tcp: { maxConnectionDuration: 500ms } }", "20", "3", 4),
        ("circuitBreaker: { idleTimeout: 500ms }", "0.5", "6", 2),
        ("circuitBreaker: { maxConnectionAge: 500ms }", "20", "3", 4),
        ("circuitBreaker: { maxRequestsPerConnection: 5 }", "20", "3", 10),
    ] {
        let object = match policy.starts_with("circuitBreaker") {
            true => traffic_policy("store-v1", policy),
            false => rule("store-v1", policy),
        };
        stage.apply(&object)?;
        let mut last = 0;
        let waited = stage.wait("connections are left", super::RULES_DEADLINE * 2, |stage| {
            last = arriving(stage, rate, seconds)?;
            Ok(last >= least)
        });
        waited.with_context(|| format!("{policy}: {last} connections"))?;
        stage.delete(&object)?;
        seen.push(format!("{policy}: {last} connections in {seconds} s at {rate}/s, without it at most 1"));
    }
    Ok(())
}

/// How long a connection on which nobody speaks lives, in seconds; 8: at least so long.
fn lives(stage: &Stage, host: &str, port: u16) -> Result<f64> {
    let program = "import socket, sys, time\ns = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)\n\
                   t = time.time(); s.settimeout(8)\n\
                   try: s.recv(1)\n\
                   except OSError: pass\n\
                   print(time.time() - t)";
    let port = port.to_string();
    Ok(stage.exec(CLIENT, &["/usr/bin/python3", "-c", program, host, &port])?.ok()?.trim().parse()?)
}

/// The same of connections that are not read as HTTP.
fn ages_of_streams(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let service = "
apiVersion: v1
kind: Service
metadata: { name: stream, namespace: mall }
spec: { selector: { app: store, version: v1 }, ports: [{ name: tcp, port: 9000, targetPort: 8080 }] }
";
    stage.apply(service)?;
    stage.wait("connections pass", super::RULES_DEADLINE, |stage| Ok(stage.answers(CLIENT, "stream.mall:9000")))?;
    let lived = lives(stage, "stream.mall", 9000)?;
    ensure!(lived >= 7.9, "without a rule a silent connection stays: {lived} s");
    for policy in
        ["connectionPool: { tcp: { idleTimeout: 1s } }", "connectionPool: { tcp: { maxConnectionDuration: 1s } }"]
    {
        let object = rule("stream", policy);
        stage.apply(&object)?;
        let mut last = 0.0;
        let waited = stage.wait("it is ended", super::RULES_DEADLINE * 2, |stage| {
            last = lives(stage, "stream.mall", 9000)?;
            Ok((0.9..4.0).contains(&last))
        });
        waited.with_context(|| format!("{policy}: {last} s"))?;
        stage.delete(&object)?;
        seen.push(format!("{policy}: a silent TCP connection lived {last:.1} s, without it 8 s and more"));
    }
    stage.delete(service)
}

/// How many requests stand on one connection of HTTP/2.
fn streams(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let opened = |stage: &Stage| -> Result<u64> {
        for pod in [V1, V2] {
            if counts(stage, pod).is_err() {
                return Ok(0);
            }
        }
        let load = [
            "requests",
            "http://store.mall:90/",
            "--http2",
            "--rate",
            "10000",
            "--seconds",
            "0.003",
            "--connections",
            "30",
        ];
        let report: requests::Report = stage.app(CLIENT, &load)?.report()?;
        if report.status(200) != report.due {
            return Ok(0);
        }
        Ok(counts(stage, V1)?.connections + counts(stage, V2)?.connections - 2)
    };
    set_mode(stage, V1, "delay_ms=300")?;
    set_mode(stage, V2, "delay_ms=300")?;
    let shared = opened(stage)?;
    let mut alone = 0;
    let mut waited = Ok(Duration::ZERO);
    for object in [
        rule("store", "connectionPool: { http: { maxConcurrentStreams: 1 } }"),
        traffic_policy("store", "circuitBreaker: { maxStreamsPerConnection: 1 }"),
    ] {
        // Connections that are kept from before would do: it ends them all.
        for pod in [V1, V2] {
            set_mode(stage, pod, "refuse_ms=100&delay_ms=300")?;
        }
        stage.apply(&object)?;
        waited = waited.and_then(|_| {
            stage.wait("each has a connection", super::RULES_DEADLINE, |stage| {
                alone = opened(stage)?;
                Ok(alone >= 15)
            })
        });
        stage.delete(&object)?;
    }
    set_mode(stage, V1, "good")?;
    set_mode(stage, V2, "good")?;
    waited.with_context(|| format!("{alone} connections, {shared} without the rule"))?;
    ensure!(shared < 15, "without the rule they share: {shared} connections");
    seen.push(format!("maxConcurrentStreams 1: 30 requests at once over {alone} new connections, without it {shared}"));
    Ok(())
}

/// Ports that say another HTTP than their pods speak: the rule knows better.
fn versions(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let services = "
apiVersion: v1
kind: Service
metadata: { name: says-one, namespace: mall }
spec: { selector: { app: store, version: v1 }, ports: [{ name: http, port: 80, targetPort: 8090 }] }
---
apiVersion: v1
kind: Service
metadata: { name: says-two, namespace: mall }
spec: { selector: { app: store, version: v1 }, ports: [{ name: http2, port: 80, targetPort: 8080 }] }
";
    stage.apply(services)?;
    for (host, policy, options) in [
        ("says-one", "h2UpgradePolicy: UPGRADE", &[][..]),
        ("says-two", "h2UpgradePolicy: DO_NOT_UPGRADE", &["--http2-prior-knowledge"][..]),
        ("says-one", "useClientProtocol: true", &["--http2-prior-knowledge"][..]),
        ("says-two", "useClientProtocol: true", &[][..]),
    ] {
        let url = format!("http://{host}.mall/");
        let until = |stage: &mut Stage, what: &str, good: bool| {
            let mut last = 0;
            let waited = stage.wait(what, super::RULES_DEADLINE, |stage| {
                last = ask(stage, CLIENT, &url, options)?.status;
                Ok((last == 200) == good && last != 404)
            });
            waited.with_context(|| format!("{host}, {policy}: {last}"))
        };
        until(stage, "the pod does not understand what the port says", false)?;
        let object = rule(host, &format!("connectionPool: {{ http: {{ {policy} }} }}"));
        stage.apply(&object)?;
        until(stage, "it understands what the rule says", true)?;
        stage.delete(&object)?;
    }
    stage.delete(services)?;
    seen.push("h2UpgradePolicy and useClientProtocol: four pods that would not have understood their ports".into());
    Ok(())
}

/// A pod whose queue of connections is full: the next one does not come about.
const FULL: &str = "
apiVersion: v1
kind: Pod
metadata: { name: full, namespace: mall, labels: { app: full, istio.io/dataplane-mode: none } }
spec:
  nodeName: node2
  containers:
    - name: python
      command: [/usr/bin/python3, -c]
      args:
        - |
          import socket, time
          s = socket.socket(); s.bind(('0.0.0.0', 8080)); s.listen(0)
          kept = []
          for _ in range(4):
              c = socket.socket(); c.setblocking(False); c.connect_ex(('127.0.0.1', 8080)); kept.append(c)
          print('full', flush=True)
          time.sleep(1e9)
---
apiVersion: v1
kind: Service
metadata: { name: full, namespace: mall }
spec: { selector: { app: full }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
";

/// How long a connection may take to come about.
fn deadlines(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(FULL)?;
    stage.ready(&["mall/full"])?;
    stage.wait("its queue is full", super::RULES_DEADLINE, |stage| Ok(stage.logs("mall/full")?.contains("full")))?;
    let mut took = Duration::ZERO;
    for object in [
        rule("full", "connectionPool: { tcp: { connectTimeout: 300ms } }"),
        traffic_policy("full", "circuitBreaker: { connectTimeout: 300ms }"),
    ] {
        stage.apply(&object)?;
        stage.wait("it is given up in time", super::RULES_DEADLINE * 2, |stage| {
            let began = Instant::now();
            let answer = ask(stage, CLIENT, "http://full.mall/", &["--max-time", "4"]);
            took = began.elapsed();
            Ok(answer.is_ok_and(|answer| answer.status == 503) && took >= Duration::from_millis(250))
        })?;
        stage.delete(&object)?;
        stage.wait("without it nobody gives up so soon", super::RULES_DEADLINE * 2, |stage| {
            Ok(ask(stage, CLIENT, "http://full.mall/", &["--max-time", "4"]).is_err())
        })?;
    }
    stage.delete(FULL)?;
    seen.push(format!("connectTimeout 300 ms: 503 after {} ms, without it nothing within 4 s", took.as_millis()));
    Ok(())
}

/// A server that reads the header of the PROXY protocol, and says in its answer what it read.
const PROXIED: &str = "
apiVersion: v1
kind: Pod
metadata: { name: proxied, namespace: mall, labels: { app: proxied } }
spec:
  nodeName: node2
  containers:
    - name: python
      command: [/usr/bin/python3, -c]
      args:
        - |
          import socket, threading
          def serve(c):
              f = c.makefile('rb'); line = f.readline(); said = 'none'
              if line.startswith(b'PROXY '):
                  said = 'v1/' + line.split()[2].decode(); line = f.readline()
              elif line == b'\\r\\n':
                  head = line + f.read(14); rest = f.read(int.from_bytes(head[14:16], 'big'))
                  said = 'v2/' + (socket.inet_ntoa(rest[:4]) if head[13] == 0x11 else socket.inet_ntop(socket.AF_INET6, rest[:16]))
                  line = f.readline()
              while line.startswith(b'GET'):
                  while f.readline() != b'\\r\\n': pass
                  c.sendall(b'HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\nx-proxied: ' + said.encode() + b'\\r\\n\\r\\n')
                  line = f.readline()
              c.close()
          s = socket.create_server(('::', 8080), family=socket.AF_INET6, dualstack_ipv6=True)
          while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
---
apiVersion: v1
kind: Service
metadata: { name: proxied, namespace: mall }
spec: { selector: { app: proxied }, ports: [{ name: http, port: 80, targetPort: 8080 }, { name: tcp, port: 9000, targetPort: 8080 }] }
";

/// Endpoints are told who calls, and of two callers that of each.
fn proxied(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(PROXIED)?;
    stage.ready(&["mall/proxied"])?;
    stage.enrolled(&["mall/proxied"], true)?;
    let said = |stage: &Stage, pod: &str, port: u16| -> Result<String> {
        let url = format!("http://proxied.mall:{port}/");
        Ok(ask(stage, pod, &url, &["-4"])?.header("x-proxied").to_owned())
    };
    stage.wait("without a rule nothing is said", super::RULES_DEADLINE, |stage| {
        Ok(said(stage, CLIENT, 80).is_ok_and(|said| said == "none"))
    })?;
    for version in ["V1", "V2"] {
        let object = rule("proxied", &format!("proxyProtocol: {{ version: {version} }}"));
        stage.apply(&object)?;
        for (pod, port) in [(CLIENT, 80), (GUEST, 80), (CLIENT, 80), (CLIENT, 9000), (GUEST, 9000)] {
            let wanted = format!("{}/{}", version.to_lowercase(), stage.pod_addresses(pod)?[0]);
            let mut last = String::new();
            let waited = stage.wait("the endpoint is told who calls", super::RULES_DEADLINE, |stage| {
                last = said(stage, pod, port).unwrap_or_default();
                Ok(last == wanted)
            });
            waited.with_context(|| format!("{version}, {pod}, {port}: {last:?}, not {wanted:?}"))?;
        }
        stage.delete(&object)?;
        stage.wait("nothing is said again", super::RULES_DEADLINE, |stage| {
            Ok(said(stage, CLIENT, 80).is_ok_and(|said| said == "none"))
        })?;
    }
    stage.delete(PROXIED)?;
    seen.push("proxyProtocol V1 and V2, over HTTP and TCP: each of two callers is told by its address".into());
    Ok(())
}
