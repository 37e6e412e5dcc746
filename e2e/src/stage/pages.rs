//! What the programs of the mesh say of themselves: pages, metrics, logs.

use super::{Ground, SYSTEM_NAMESPACE, Stage};
use crate::kind;
use anyhow::{Context, Result};
use std::path::Path;

impl Stage {
    /// What a program in a pod tells Prometheus.
    pub fn metrics(&self, pod: &str, port: u16) -> Result<String> {
        let address = self.pod_addresses(pod)?[0];
        let url = format!("http://{}/metrics", std::net::SocketAddr::new(address, port));
        self.exec("kube-system/node1", &["curl", "-sS", "-f", "--max-time", "5", &url])?.ok()
    }

    /// The pods of the node proxies.
    pub fn proxies(&self) -> Result<Vec<String>> {
        let pods = self.status()?.pods.into_iter();
        let proxies = pods.filter(|pod| pod.namespace == SYSTEM_NAMESPACE && pod.name.starts_with("ztunnel-"));
        Ok(proxies.filter(|pod| pod.is_ready).map(|pod| format!("{SYSTEM_NAMESPACE}/{}", pod.name)).collect())
    }

    /// What a node proxy knows, as its admin page says; `proxy` is its pod.
    pub fn config_dump(&self, proxy: &str) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.page(proxy, 15000, "/config_dump")?)?)
    }

    /// A page that a pod shows on its own loopback address only.
    pub fn page(&self, pod: &str, port: u16, path: &str) -> Result<String> {
        match &self.ground {
            Ground::Lab(_) => self.exec(pod, &["curl", "-sS", "-f", &format!("http://127.0.0.1:{port}{path}")])?.ok(),
            Ground::Kind(cluster) => cluster.page(pod, port, path),
        }
    }

    /// What the control plane says of the objects that it read, on a page below `/debug/`.
    pub fn told(&self, page: &str) -> Result<String> {
        let pods = self.status()?.pods.into_iter();
        let mut plane =
            pods.filter(|pod| pod.namespace == "istio-system" && pod.name.starts_with("istiod") && pod.is_ready);
        let pod = plane.next().context("no istiod is ready")?;
        self.page(&format!("istio-system/{}", pod.name), 8080, &format!("/debug/{page}"))
    }

    /// The log of a pod.
    pub fn logs(&self, pod: &str) -> Result<String> {
        match &self.ground {
            Ground::Lab(_) => Ok(self.lab().logs(pod)?),
            Ground::Kind(cluster) => cluster.logs(pod),
        }
    }

    /// Keeps what helps to understand a failure.
    pub fn save(&self, folder: &Path) {
        if let Ground::Kind(cluster) = &self.ground {
            return kind::save(cluster, folder);
        }
        let Ok(status) = self.status() else { return };
        let _ = std::fs::create_dir_all(folder);
        let _ = std::fs::write(folder.join("status.json"), serde_json::to_string_pretty(&status).unwrap_or_default());
        for pod in &status.pods {
            if let Ok(log) = self.logs(&format!("{}/{}", pod.namespace, pod.name)) {
                let _ = std::fs::write(folder.join(format!("{}-{}.log", pod.namespace, pod.name)), log);
            }
        }
    }
}
