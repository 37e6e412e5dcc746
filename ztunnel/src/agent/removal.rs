//! The end of an agent: the next one comes, and everything stays as it is; or the mesh is being
//! removed, and nothing of it may be left on the node.

use std::path::PathBuf;
use std::sync::Arc;

use chassis::drain::Signal;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::install::Installer;
#[cfg(feature = "kubernetes")]
use super::kubernetes::{Kubernetes, Wanted};
#[cfg(feature = "kubernetes")]
use super::limits::{REMOVAL_QUESTION_INTERVAL, REMOVAL_TIME};
use crate::net::nat;
use crate::net::netns::Netns;

/// Who knows whether the mesh is being removed.
#[derive(Debug, Clone)]
pub enum Owner {
    /// Nobody: everything stays.
    Nobody,
    /// The cluster, by the DaemonSet that we are a pod of.
    #[cfg(feature = "kubernetes")]
    DaemonSet {
        /// Where it is asked for.
        cluster: Kubernetes,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// Says to the reader of facts that all pods are to be taken out; it answers when they are.
pub(super) type Removal = oneshot::Sender<oneshot::Sender<()>>;

/// What a removal takes away.
#[derive(Debug)]
pub(super) struct Traces {
    pub(super) installer: Option<Installer>,
    pub(super) pods: Removal,
    pub(super) home: Arc<Netns>,
    /// Sockets that nobody answers at any more.
    pub(super) sockets: Vec<PathBuf>,
}

/// Keeps the plugin installed until the process is told to end, and then does what the end asks for.
pub(super) async fn attend(mut traces: Traces, owner: Owner, mut signal: Signal) -> anyhow::Result<()> {
    let _guard = signal.guard();
    let deadline = match &mut traces.installer {
        // Cancelled, neither arm loses anything.
        Some(installer) => tokio::select! {
            kept = installer.keep() => return Ok(kept?),
            deadline = signal.draining() => deadline,
        },
        None => signal.draining().await,
    };
    if let Some(reason) = owner.has_gone(deadline).await {
        tracing::info!(reason, "the mesh is being removed from this node");
        traces.remove().await;
    }
    Ok(())
}

impl Owner {
    /// Why the mesh is being removed, if it is.
    async fn has_gone(&self, deadline: Instant) -> Option<String> {
        match self {
            Self::Nobody => {
                let _ = deadline;
                None
            }
            #[cfg(feature = "kubernetes")]
            Self::DaemonSet { cluster, namespace, name } => loop {
                match cluster.wanted(namespace, name).await {
                    Wanted::Yes => {
                        tracing::info!("the next agent takes over, everything stays in place");
                        return None;
                    }
                    Wanted::No(reason) => return Some(format!("DaemonSet {namespace}/{name}: {reason}")),
                    Wanted::Unknown(reason) if Instant::now() + REMOVAL_TIME > deadline => {
                        tracing::warn!(
                            reason,
                            "nobody says whether the mesh is being removed, everything stays in place"
                        );
                        return None;
                    }
                    Wanted::Unknown(_) => tokio::time::sleep(REMOVAL_QUESTION_INTERVAL).await,
                }
            },
        }
    }
}

impl Traces {
    async fn remove(self) {
        let Self { installer, pods, home, sockets } = self;
        // First, so that no new pod is held up by an agent that is not there.
        if let Some(Err(error)) = installer.map(Installer::remove) {
            tracing::error!(%error, "the CNI plugin stays on the node, and without an agent no pod starts there");
        }
        let (done, all_out) = oneshot::channel();
        if pods.send(done).is_ok() {
            // The grace period bounds this.
            let _reader_ended = all_out.await;
        }
        if let Err(error) = nat::remove_probe_rules(&home) {
            tracing::warn!(%error, "the rules for the node's probes stay");
        }
        for socket in sockets {
            let _was_not_there = std::fs::remove_file(socket);
        }
        tracing::info!("nothing of the mesh is left on this node");
    }
}
