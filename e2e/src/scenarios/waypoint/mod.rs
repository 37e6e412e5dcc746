//! What a waypoint promises: routes, resilience, limits, policies over requests, telemetry.
//!
//! All of them play in the mall: a namespace with a waypoint, a client and a store of two versions,
//! and visitors from another namespace.

/// The ServiceEntry `outer`, to be followed by another object: pods of the mall under a name and an address of its own.
/// A macro, since tables of cases are constants.
macro_rules! outer {
    ($port:literal, $labels:literal) => {
        concat!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: outer, namespace: mall }
spec:
  hosts: [outer.example]
  addresses: [240.241.9.9]
  ports: [{ number: 80, name: http, protocol: HTTP, targetPort: ",
            $port,
            " }]
  resolution: STATIC
  location: MESH_INTERNAL
  workloadSelector: { labels: { ",
            $labels,
            " } }
---
"
        )
    };
}

pub mod binding;
pub mod bodies;
pub mod canary;
pub mod copies;
mod dashboards;
pub mod flips;
pub mod guards;
pub mod judged;
pub mod life;
pub mod limits;
mod list;
pub mod mistakes;
pub mod outside;
pub mod protocols;
pub mod reach;
pub mod resilience;
pub mod routes;
pub mod settings;
pub mod switches;
pub mod telemetry;
pub mod tls;
pub mod tokens;

use crate::stage::{Output, Stage};
use anyhow::{Context, Result, ensure};
pub(crate) use list::ALL;
use serde::Deserialize;
use std::{collections::BTreeMap, time::Duration};

/// Manifests of the mall.
pub(crate) const MALL: &str = include_str!("mall.yaml");
/// Where requests come from.
pub(crate) const CLIENT: &str = "mall/client";
/// Where requests from another namespace come from.
pub(crate) const GUEST: &str = "visitors/guest";
/// A change of rules is in the waypoint this soon; CI shares its two cores with everything else.
pub(crate) const RULES_DEADLINE: Duration = Duration::from_secs(10);

/// Opens the mall, and waits until requests go through its waypoint.
pub(crate) fn open(stage: &mut Stage) -> Result<()> {
    stage.apply(MALL)?;
    stage.ready(&[CLIENT, GUEST, "mall/store-v1", "mall/store-v2"])?;
    stage.enrolled(&[CLIENT, GUEST, "mall/store-v1", "mall/store-v2"], true)?;
    stage.wait("the store answers through its waypoint", Duration::from_secs(30), |stage| {
        Ok(ask(stage, CLIENT, "http://store.mall/", &[]).is_ok_and(|answer| answer.status == 200))
    })?;
    Ok(())
}

/// The pods of the waypoint.
pub(crate) fn waypoints(stage: &Stage) -> Result<Vec<String>> {
    let pods = stage.status()?.pods.into_iter();
    let ours = pods.filter(|pod| pod.namespace == "mall" && pod.name.starts_with("waypoint") && pod.is_ready);
    Ok(ours.map(|pod| format!("mall/{}", pod.name)).collect())
}

/// An answer as curl saw it.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Its headers, by name in lower case; the last of a name.
    pub(crate) headers: BTreeMap<String, String>,
    /// Its body.
    pub(crate) body: String,
}

/// The request as the backend describes it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Arrived {
    /// Path.
    pub(crate) path: String,
    /// Query.
    pub(crate) query: Option<String>,
    /// Headers.
    pub(crate) headers: Vec<(String, String)>,
}

impl Arrived {
    /// The values of a header, joined by a comma; "-" if there is none.
    pub(crate) fn header(&self, name: &str) -> String {
        let values: Vec<&str> =
            self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect();
        if values.is_empty() { "-".into() } else { values.join(",") }
    }
}

impl Answer {
    /// A header of the answer; "-" if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("-", String::as_str)
    }

    /// The request as it arrived at the backend.
    pub(crate) fn arrived(&self) -> Result<Arrived> {
        serde_json::from_str(&self.body).with_context(|| format!("this describes no request: {self:?}"))
    }
}

/// Asks with curl, once.
pub(crate) fn ask(stage: &Stage, pod: &str, url: &str, options: &[&str]) -> Result<Answer> {
    let argv = [&["curl", "-sS", "-i", "--path-as-is", "--max-time", "10"], options, &[url]].concat();
    let Output { code, stdout, stderr } = stage.exec(pod, &argv)?;
    ensure!(code == 0, "curl {url}: exit code {code}: {}", stderr.trim());
    read(&stdout)
}

/// Reads what `curl -i` prints; interim answers are passed over.
fn read(text: &str) -> Result<Answer> {
    let mut rest = text;
    loop {
        let (head, body) = rest.split_once("\r\n\r\n").with_context(|| format!("no answer of HTTP: {text:?}"))?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let status: u16 = status.with_context(|| format!("no status: {head:?}"))?;
        if (100..200).contains(&status) && status != 101 {
            rest = body;
            continue;
        }
        let header =
            |line: &str| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        return Ok(Answer { status, headers: lines.filter_map(header).collect(), body: body.to_owned() });
    }
}

/// Sets how a backend behaves, without going through the mesh's rules: from within its own pod.
pub(crate) fn set_mode(stage: &Stage, pod: &str, mode: &str) -> Result<()> {
    let url = format!("http://127.0.0.1:8080/_/mode?{mode}");
    stage.exec(pod, &["curl", "-sS", "-f", "-o", "/dev/null", "--max-time", "5", &url])?.ok()?;
    Ok(())
}

/// What a backend was asked since this was last called.
pub(crate) fn counts(stage: &Stage, pod: &str) -> Result<crate::apps::backend::Counts> {
    let take = ["curl", "-sS", "-f", "--max-time", "5", "http://127.0.0.1:8080/_/take"];
    serde_json::from_str(&stage.exec(pod, &take)?.ok()?).context("a backend counts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_curl_prints_is_read() {
        let answer =
            read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nX-A: 1\r\n\r\nno\r\n\r\nway").unwrap();
        assert_eq!((answer.status, answer.header("x-a"), answer.body.as_str()), (404, "1", "no\r\n\r\nway"));
        assert!(read("HTTP/1.1 200").is_err());
    }
}
