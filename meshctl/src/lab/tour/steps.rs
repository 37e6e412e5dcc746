//! The steps of the tour.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::evidence::{self, Line};
use super::{PATIENCE, Seen, wait_for};
use crate::app::capture::{self, Segment};
use crate::lab::client::{Lab, Output, Running};
use crate::lab::control::protocol::PodReport;

/// Who calls, and who is called: on different nodes.
const CALLER: &str = "shop/curl";
const CALLED: &str = "shop/details-v1";
const URL: &str = "http://details.shop:9080/";
const CALLER_IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/curl";
const CALLED_IDENTITY: &str = "spiffe://cluster.local/ns/shop/sa/bookinfo-details";
/// Who calls from outside the mesh.
const STRANGER: &str = "outside/stranger";
/// The port of tunnels.
const TUNNEL_PORT: u16 = 15008;
/// A certificate is renewed at half its life; this is more than its whole.
const RENEWAL_PATIENCE: Duration = Duration::from_secs(60);

/// A pod that shares the network of the first node, to look at its link.
const WATCHER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: tour-wire, namespace: kube-system}
spec:
  hostNetwork: true
  nodeName: node1
  terminationGracePeriodSeconds: 0
  containers: [{name: wire, command: [meshctl, app, pause]}]
";

/// Only the product page may ask for details.
const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tour-only-productpage, namespace: shop}
spec:
  selector: {matchLabels: {app: details}}
  action: ALLOW
  rules:
    - from: [{source: {principals: [cluster.local/ns/shop/sa/bookinfo-productpage]}}]
";

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A word that nobody else uses.
fn secret() -> String {
    format!("tour-{:016x}", rand::random::<u64>())
}

fn get(lab: &Lab, from: &str, word: &str) -> Result<Output, String> {
    let header = format!("x-secret: {word}");
    lab.exec(from, &["meshctl", "app", "get", "-m", "5", "-H", &header, URL]).map_err(told)
}

fn answered(output: &Output, word: &str) -> Result<(), String> {
    if output.code == 0 && output.text().contains(word) {
        return Ok(());
    }
    Err(format!("the request failed ({}): {}{}", output.code, output.text(), output.error_text()))
}

fn pod(lab: &Lab, name: &str) -> Result<PodReport, String> {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let report = lab.status().map_err(told)?;
    let mut pods = report.pods.into_iter();
    pods.find(|pod| pod.namespace == namespace && pod.name.starts_with(name)).ok_or_else(|| format!("no pod {name}"))
}

/// The proxy of the node a pod is on.
fn proxy_of(lab: &Lab, name: &str) -> Result<PodReport, String> {
    let node = pod(lab, name)?.node;
    let report = lab.status().map_err(told)?;
    let mut pods = report.pods.into_iter().filter(|pod| pod.namespace == "istio-system" && pod.node == node);
    pods.find(|pod| pod.name.starts_with("ztunnel-")).ok_or_else(|| format!("no proxy on {node}"))
}

fn qualified(pod: &PodReport) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// The access log of the proxy at the called end.
fn lines_of_called(lab: &Lab) -> Result<Vec<Line>, String> {
    let proxy = proxy_of(lab, CALLED)?;
    let log = lab.logs(&qualified(&proxy)).map_err(told)?;
    Ok(evidence::access_log(&log))
}

/// The first line of a call from the caller to the called that comes after
/// `seen` lines.
fn line_after(lab: &Lab, seen: usize, fits: impl Fn(&Line) -> bool) -> Result<Line, String> {
    let of_ours = |line: &Line| {
        line.get("direction").is_some_and(|direction| direction == "inbound")
            && line.get("src.workload").is_some_and(|name| name.starts_with("curl"))
            && line.get("dst.workload").is_some_and(|name| name.starts_with("details-v1"))
    };
    wait_for("the call in the access log", PATIENCE, || {
        let lines = lines_of_called(lab).ok()?;
        lines.into_iter().skip(seen).find(|line| of_ours(line) && fits(line))
    })
}

pub(super) fn request(lab: &Lab) -> Seen {
    let (caller, called) = (pod(lab, CALLER)?, pod(lab, CALLED)?);
    if caller.node == called.node {
        return Err(format!("both pods are on {}", caller.node));
    }
    let seen = lines_of_called(lab)?.len();
    let word = secret();
    answered(&get(lab, CALLER, &word)?, &word)?;
    let line = line_after(lab, seen, |_| true)?;
    let field = |name: &str| line.get(name).cloned().unwrap_or_else(|| "absent".to_owned());
    for (name, expected) in [("src.identity", CALLER_IDENTITY), ("dst.identity", CALLED_IDENTITY)] {
        if field(name) != expected {
            return Err(format!("{name} is {}, not {expected}", field(name)));
        }
    }
    Ok(vec![
        format!("curl on {} asked {URL}, answered by {} on {}", caller.node, called.name, called.node),
        format!("the access log of the proxy on {} says", called.node),
        format!("  from  {}  {}", field("src.addr"), field("src.identity")),
        format!("  to    {}  {}", field("dst.hbone_addr"), field("dst.identity")),
        format!("  {} bytes in, {} bytes out, {}", field("bytes_recv"), field("bytes_sent"), field("duration")),
    ])
}

pub(super) fn wire(lab: &Lab) -> Seen {
    let problems = lab.apply(WATCHER).map_err(told)?;
    if let Some(problem) = problems.first() {
        return Err(problem.to_string());
    }
    let result = watch_wire(lab);
    let _ = lab.delete(WATCHER);
    result
}

fn watch_wire(lab: &Lab) -> Seen {
    let ready = || lab.status().ok().filter(|report| report.ready);
    wait_for("a pod beside the link of node1", PATIENCE, ready)?;
    let mut running = lab.spawn("kube-system/tour-wire", &["meshctl", "app", "capture", "-i", "eth0"]).map_err(told)?;
    let result = (|| {
        wait_for("the capture to begin", PATIENCE, || (!running.stdout_so_far().is_empty()).then_some(()))?;
        let (hidden, open) = (secret(), secret());
        answered(&get(lab, CALLER, &hidden)?, &hidden)?;
        answered(&get(lab, STRANGER, &open)?, &open)?;
        // What was sent later in the clear is there: so is what came before.
        wait_for("the stranger's request on the wire", PATIENCE, || {
            segments(&running).iter().any(|segment| evidence::holds(&segment.payload, &open)).then_some(())
        })?;
        judge(&segments(&running), &hidden, &open, &pod(lab, CALLER)?, &pod(lab, CALLED)?)
    })();
    running.kill();
    result
}

fn segments(running: &Running) -> Vec<Segment> {
    capture::segments(&running.stdout_so_far())
}

fn judge(all: &[Segment], hidden: &str, open: &str, caller: &PodReport, called: &PodReport) -> Seen {
    let ends = |pod: &PodReport, address: std::net::SocketAddr| pod.addresses.contains(&address.ip().to_string());
    let between = |segment: &&Segment| {
        ends(caller, segment.source) && ends(called, segment.destination)
            || ends(called, segment.source) && ends(caller, segment.destination)
    };
    let ours: Vec<_> = all.iter().filter(between).collect();
    let bytes: usize = ours.iter().map(|segment| segment.payload.len()).sum();
    if bytes == 0 {
        return Err("nothing of the request was seen on the wire".to_owned());
    }
    let service_end = |segment: &&Segment| -> u16 {
        if ends(called, segment.source) { segment.source.port() } else { segment.destination.port() }
    };
    if let Some(other) = ours.iter().map(service_end).find(|port| *port != TUNNEL_PORT) {
        return Err(format!("packets went to port {other}, not only to {TUNNEL_PORT}"));
    }
    if all.iter().any(|segment| evidence::holds(&segment.payload, hidden)) {
        return Err(format!("the word {hidden} of the request can be read on the wire"));
    }
    let example = all.iter().filter(between).find(|segment| segment.payload.len() > 100);
    let example = example.map(|segment| hex(&segment.payload)).unwrap_or_default();
    Ok(vec![
        format!("{} segments with {bytes} bytes passed between the two pods, all at port {TUNNEL_PORT}", ours.len()),
        format!("the request held the word {hidden}: not to be found in any of them"),
        format!("what they look like: {example}…"),
        format!("the same request by a pod outside the mesh, with the word {open}: to be read in full"),
    ])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|byte| format!("{byte:02x} ")).collect::<String>().trim_end().to_owned()
}

pub(super) fn policy(lab: &Lab) -> Seen {
    let open = lab.spawn(CALLER, &["meshctl", "app", "hold", "--get", "/", "details.shop:9080"]).map_err(told)?;
    let result = (|| {
        let said = |word: &str| String::from_utf8_lossy(&open.stdout_so_far()).contains(word);
        wait_for("an open connection", PATIENCE, || said("open").then_some(()))?;
        let seen = lines_of_called(lab)?.len();
        let begun = Instant::now();
        let problems = lab.apply(POLICY).map_err(told)?;
        if let Some(problem) = problems.first() {
            return Err(problem.to_string());
        }
        wait_for("the open connection to be closed", PATIENCE, || said("closed").then_some(()))?;
        let closed_after = begun.elapsed();
        let refused = get(lab, CALLER, &secret())?;
        if refused.code == 0 {
            return Err("a call that the policy forbids was answered".to_owned());
        }
        // The held connection ends with an error too, of another kind.
        let refusal = |line: &Line| line.get("error").is_some_and(|error| error.contains("policy rejection"));
        let line = line_after(lab, seen, refusal)?;
        let word = secret();
        answered(&get(lab, "shop/productpage-v1", &word)?, &word)?;
        Ok(vec![
            "applied: AuthorizationPolicy shop/tour-only-productpage, only the product page may ask for details"
                .to_owned(),
            format!("the connection that curl held open was closed {} ms later", closed_after.as_millis()),
            format!("a new call by curl was refused: {}", refused.error_text().trim()),
            format!(
                "  error={:?} src.identity={}",
                line["error"],
                line.get("src.identity").cloned().unwrap_or_default()
            ),
            "a call by the product page was answered".to_owned(),
        ])
    })();
    let _ = lab.delete(POLICY);
    let mut seen = result?;
    let word = secret();
    wait_for("calls after the policy is gone", PATIENCE, || {
        get(lab, CALLER, &word).ok().filter(|output| answered(output, &word).is_ok())
    })?;
    seen.push("the policy was deleted, and curl is answered again".to_owned());
    Ok(seen)
}

fn certificate(lab: &Lab, proxy: &str) -> Result<evidence::Certificate, String> {
    let dump = lab.exec(proxy, &["meshctl", "app", "get", "http://localhost:15000/config_dump"]).map_err(told)?;
    let dump: Value = serde_json::from_slice(&dump.stdout).map_err(|error| format!("no config dump: {error}"))?;
    evidence::certificate(&dump, CALLER_IDENTITY).ok_or_else(|| format!("no certificate of {CALLER_IDENTITY}"))
}

pub(super) fn renewal(lab: &Lab) -> Seen {
    let proxy = qualified(&proxy_of(lab, CALLER)?);
    let first = certificate(lab, &proxy)?;
    let begun = Instant::now();
    let next = wait_for("the next certificate", RENEWAL_PATIENCE, || {
        certificate(lab, &proxy).ok().filter(|next| next.serial != first.serial)
    })?;
    let waited = begun.elapsed();
    if next.expires <= first.expires {
        return Err(format!("the next certificate ends at {}, no later than the one before", next.expires));
    }
    let word = secret();
    answered(&get(lab, CALLER, &word)?, &word)?;
    Ok(vec![
        format!("the proxy on the caller's node holds one for {CALLER_IDENTITY}"),
        format!("  serial {}  ends {}", short(&first.serial), first.expires),
        format!("{:.0} s later, before its end, there was the next", waited.as_secs_f64()),
        format!("  serial {}  ends {}", short(&next.serial), next.expires),
        "requests go on".to_owned(),
    ])
}

fn short(serial: &str) -> String {
    if serial.len() > 16 { format!("{}…", &serial[..16]) } else { serial.to_owned() }
}

pub(super) fn metrics(lab: &Lab) -> Seen {
    const METRIC: &str = "istio_tcp_connections_opened_total";
    let proxy = proxy_of(lab, CALLED)?;
    let address = proxy.addresses.first().cloned().unwrap_or_default();
    let url = format!("http://{address}:15020/metrics");
    let page = lab.exec(STRANGER, &["meshctl", "app", "get", &url]).map_err(told)?;
    if page.code != 0 {
        return Err(format!("{url} does not answer: {}", page.error_text()));
    }
    let samples = evidence::samples(&page.text(), METRIC);
    let expected = [
        ("reporter", "destination"),
        ("source_principal", CALLER_IDENTITY),
        ("destination_principal", CALLED_IDENTITY),
        ("connection_security_policy", "mutual_tls"),
        ("response_flags", "-"),
    ];
    let fits = |labels: &Line| expected.iter().all(|(key, value)| labels.get(*key).is_some_and(|found| found == value));
    let sample = samples.iter().find(|sample| fits(&sample.labels) && sample.value >= 1.0);
    let sample = sample.ok_or_else(|| format!("{url} has no sample of {METRIC} for the calls of this tour"))?;
    let label = |name: &str| format!("{name}={:?}", sample.labels.get(name).cloned().unwrap_or_default());
    Ok(vec![
        format!("{url} has {} lines, among them", page.text().lines().count()),
        format!("  {METRIC}{{{}, {},", label("reporter"), label("connection_security_policy")),
        format!("    {},", label("source_principal")),
        format!("    {}, …}} {}", label("destination_principal"), sample.value),
    ])
}
