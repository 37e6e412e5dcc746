//! Takes the taint off the node when new pods can be taken into the mesh.

use chassis::backoff::Backoff;
use chassis::ready::Ready;
use tokio::time::sleep;

use super::kubernetes::Kubernetes;
use super::limits::{UNTAINT_MAX, UNTAINT_MIN};

/// Waits until the process is ready, and then tries until it worked.
pub(super) async fn when_ready(cluster: Kubernetes, node: String, ready: Ready) {
    let mut backoff = Backoff::new(UNTAINT_MIN, UNTAINT_MAX);
    loop {
        if !ready.is_ready() {
            // Nobody tells of readiness but to who asks.
            sleep(UNTAINT_MIN).await;
            continue;
        }
        match cluster.untaint(&node).await {
            Ok(true) => return tracing::info!("the node takes pods of the mesh now, its taint is off"),
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot take the taint off the node, trying again");
                sleep(backoff.next(rand::random())).await;
            }
        }
    }
}
