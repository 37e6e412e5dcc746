//! One pod, from the first word of it to the last: takes the [steps](super::steps) that lead to
//! what should be, and looks after what is.
//!
//! Each pod has a task of its own, so that one whose namespace or proxy is slow holds up no other.

mod keeper;
mod whose;

use std::sync::Arc;

use chassis::backoff::Backoff;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use self::keeper::{Keeper, StepError};
use super::facts::PodName;
use super::limits::{KERNEL_WORK_MAX, RETRY_MAX, RETRY_MIN};
use super::report::Report;
use super::status::Status;
use super::steps::{self, Member, Step, Told, Want};
use super::zds::Proxies;
use crate::net::netns::Netns;

/// What every pod's task may use.
#[derive(Debug)]
pub struct Node {
    /// The node's own namespace, with the rules for its probes.
    pub home: Arc<Netns>,
    /// The proxies.
    pub proxies: Proxies,
    /// Where it is said that a pod is in.
    pub status: Status,
    /// What is counted.
    pub report: Report,
    kernel: Semaphore,
}

impl Node {
    /// A node.
    pub fn new(home: Netns, proxies: Proxies, status: Status, report: Report) -> Self {
        Self { home: Arc::new(home), proxies, status, report, kernel: Semaphore::new(KERNEL_WORK_MAX) }
    }
}

/// How a pod stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Steps are being taken.
    Working,
    /// It is in, as this.
    In(Member),
    /// It is out, and its rules go when what was open had its time to end.
    Leaving,
    /// It is out.
    Out,
    /// A step failed and is tried again.
    Waiting(String),
}

/// Looks after one pod until it is gone, or until nobody wants anything any more: then everything
/// stays as it is. `told` is what its annotation says at the beginning.
pub async fn keep(
    name: PodName,
    told: Told,
    node: Arc<Node>,
    mut want: watch::Receiver<Want>,
    standing: watch::Sender<Standing>,
) {
    let mut keeper = Keeper::new(name, node, told);
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    loop {
        let wanted = want.borrow_and_update().clone();
        match steps::next(&wanted, &keeper.have) {
            Step::End => {
                keeper.forget();
                // Nothing is awaited between this look and the end of the task.
                if wanted == Want::Gone && !want.has_changed().unwrap_or(false) {
                    return;
                }
            }
            Step::Rest => {
                backoff.reset();
                standing.send_replace(keeper.standing(&wanted));
                // Cancelled, neither arm loses anything: who waits looks for itself.
                tokio::select! {
                    changed = want.changed() => if changed.is_err() { return },
                    () = keeper.disturbed() => keeper.look(&wanted).await,
                }
                standing.send_replace(Standing::Working);
            }
            step => {
                if step == Step::Unprogram {
                    // Out it is already; only the end of the mesh waits for the rules.
                    keeper.standing(&wanted);
                    standing.send_replace(Standing::Leaving);
                    tokio::select! {
                        () = keeper.let_end(&wanted) => {}
                        changed = want.changed() => if changed.is_err() { return } else { continue },
                    }
                }
                let Err(error) = keeper.take(step, &wanted).await else { continue };
                keeper.failed(step, &wanted, &error, backoff.attempts()).await;
                standing.send_replace(Standing::Waiting(error.to_string()));
                if step == Step::Propose && steps::next(&wanted, &keeper.have) == Step::Program {
                    continue; // without a proxy the pod is closed, and then it is tried again
                }
                let mut connected = keeper.node.proxies.connected();
                let wait = backoff.next(rand::random());
                tokio::select! {
                    () = sleep(wait) => {}
                    _newly = connected.changed(), if matches!(error, StepError::Propose(_)) => {}
                    changed = want.changed() => {
                        if changed.is_err() { return }
                        backoff.reset();
                    }
                }
            }
        }
    }
}
