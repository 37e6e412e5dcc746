//! What the node proxies of a lab know yet. A pod that is ready has still to be heard of: its
//! status goes to the control plane, and from there to every proxy. Whoever calls it before
//! finds nobody. So a lab is ready when its proxies know what the lab knows.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::{Lab, LabError};
use crate::lab::control::protocol::{PodReport, StatusReport};
use crate::lab::system::SYSTEM_NAMESPACE;

/// The parts of a proxy's config dump that say whom it can reach, and how.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dump {
    workloads: Vec<Known>,
    services: Vec<Named>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Known {
    namespace: String,
    name: String,
    status: String,
    protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Named {
    namespace: String,
    name: String,
}

impl Lab {
    /// What the proxies of this lab do not know yet of the pods and services of `report`; empty when
    /// they are up to date, or when there is no mesh. The proxies are those that `report` names.
    pub fn unknown(&self, report: &StatusReport) -> Result<Vec<String>, LabError> {
        let mut unknown = Vec::new();
        for proxy in report.pods.iter().filter(|pod| is_proxy(pod)) {
            let page = ["meshctl", "app", "get", "http://localhost:15000/config_dump"];
            let output = self.exec(&format!("{SYSTEM_NAMESPACE}/{}", proxy.name), &page)?;
            let lacks = match serde_json::from_slice(&output.stdout) {
                Ok(dump) if output.code == 0 => self::unknown(report, dump),
                _ => vec![format!("its config dump ({})", output.error_text().trim())],
            };
            unknown.extend(lacks.into_iter().map(|what| format!("{} does not know {what} yet", proxy.name)));
        }
        Ok(unknown)
    }
}

fn is_proxy(pod: &PodReport) -> bool {
    pod.namespace == SYSTEM_NAMESPACE && pod.name.starts_with("ztunnel-")
}

/// What the proxy with this config dump does not know yet of the pods and services of `report`.
pub fn unknown(report: &StatusReport, dump: Value) -> Vec<String> {
    // What cannot be read of a dump is not known.
    let dump = Dump::deserialize(dump).unwrap_or_default();
    let known: HashMap<_, _> = dump.workloads.iter().map(|known| ((&*known.namespace, &*known.name), known)).collect();
    let serves = |pod: &&PodReport| pod.is_ready && pod.phase == "Running";
    let pods = report.pods.iter().filter(serves).filter_map(|pod| {
        let protocol = if pod.redirection.as_deref() == Some("enabled") { "HBONE" } else { "TCP" };
        match known.get(&(&*pod.namespace, &*pod.name)) {
            Some(known) if known.status == "Healthy" && known.protocol == protocol => None,
            Some(_) => Some(format!("how pod {}/{} is now", pod.namespace, pod.name)),
            None => Some(format!("pod {}/{}", pod.namespace, pod.name)),
        }
    });
    let named: HashSet<_> = dump.services.iter().map(|service| (&*service.namespace, &*service.name)).collect();
    let services = report
        .services
        .iter()
        .filter(|service| !named.contains(&(&*service.namespace, &*service.name)))
        .map(|service| format!("service {}/{}", service.namespace, service.name));
    pods.chain(services).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::control::protocol::ServiceReport;

    fn report(phase: &str, is_ready: bool, redirection: Option<&str>) -> StatusReport {
        let pod = PodReport {
            namespace: "shop".into(),
            name: "web".into(),
            phase: phase.into(),
            is_ready,
            redirection: redirection.map(Into::into),
            ..PodReport::default()
        };
        let service = ServiceReport { namespace: "shop".into(), name: "web".into(), ..ServiceReport::default() };
        StatusReport { pods: vec![pod], services: vec![service], ..StatusReport::default() }
    }

    #[test]
    fn a_proxy_knows_a_pod_when_it_knows_how_to_reach_it() {
        let service = r#""services":[{"namespace":"shop","name":"web"}]"#;
        let pod = |status: &str, protocol: &str| {
            format!(
                r#"{{"workloads":[{{"namespace":"shop","name":"web","status":"{status}","protocol":"{protocol}"}}],{service}}}"#
            )
        };
        let nobody = format!(r#"{{"workloads":[],{service}}}"#);
        for (report, dump, expected) in [
            (report("Running", true, Some("enabled")), pod("Healthy", "HBONE"), vec![]),
            (report("Running", true, Some("enabled")), pod("Healthy", "TCP"), vec!["how pod shop/web is now"]),
            (report("Running", true, Some("pending")), pod("Healthy", "TCP"), vec![]),
            (report("Running", true, None), pod("Healthy", "TCP"), vec![]),
            (report("Running", true, None), pod("Healthy", "HBONE"), vec!["how pod shop/web is now"]),
            (report("Running", true, None), pod("Unhealthy", "TCP"), vec!["how pod shop/web is now"]),
            (report("Running", true, None), nobody.clone(), vec!["pod shop/web"]),
            (report("Running", false, None), nobody.clone(), vec![]),
            (report("Succeeded", true, None), nobody, vec![]),
            (report("Running", false, None), "{}".to_owned(), vec!["service shop/web"]),
        ] {
            let found = unknown(&report, serde_json::from_str(&dump).expect("JSON"));
            assert_eq!(found, expected, "{report:?} {dump}");
        }
    }
}
