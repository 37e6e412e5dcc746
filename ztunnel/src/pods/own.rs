//! Pods that no agent tells of: the one that a dedicated proxy serves, and the pod that the proxy
//! itself is. Both are where the process is, in its own network namespace.

use chassis::run::Process;
use tokio::runtime::Handle;

use super::listeners::Opener;
use super::protocol::Pod;

/// The name under which readiness waits for the listeners of a dedicated proxy.
const READY_TASK: &str = "proxy listeners";

/// Serves one pod, that of a dedicated proxy, until the process drains, and drains it. The process is
/// there for nothing else: it ends where it cannot.
pub async fn serve_one(opener: Opener, pod: Pod, workers: Vec<Handle>, process: Process) -> anyhow::Result<()> {
    let _guard = process.signal.guard();
    let mut signal = process.signal.clone();
    let waiting = process.ready.register(READY_TASK);
    let listening = opener.open(pod.clone(), None, workers).await?;
    tracing::info!(pod = &*pod.name, namespace = &*pod.namespace, "serving this pod and no other");
    drop(waiting);
    signal.draining().await;
    listening.drain(process.grace.min(opener.grace)).await;
    Ok(())
}

/// Takes tunnels to the proxy's own pod until the process drains, so that its metrics can be scraped by
/// whom policy lets. Without it the node is served all the same.
pub async fn serve_metrics(opener: Opener, pod: Pod, worker: Handle, process: Process) {
    let _guard = process.signal.guard();
    let mut signal = process.signal.clone();
    match opener.open_own(pod, None, vec![worker]).await {
        Ok(listening) => {
            signal.draining().await;
            listening.drain(process.grace.min(opener.grace)).await;
        }
        Err(error) => tracing::warn!(%error, "metrics cannot be scraped through a tunnel"),
    }
}
