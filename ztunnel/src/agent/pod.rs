//! One pod, from the first word of it to the last: takes the [steps](super::steps) that lead to
//! what should be, and looks after what is.
//!
//! Each pod has a task of its own, so that one whose namespace or proxy is slow holds up no other.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chassis::backoff::Backoff;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

use super::facts::PodName;
use super::limits::{HEAL_INTERVAL, HEAL_SETTLE, KERNEL_WORK_MAX, RETRY_MAX, RETRY_MIN};
use super::report::Report;
use super::status::Status;
use super::steps::{self, Have, Member, Proxied, Rules, Step, Told, Want};
use super::zds::{ProposeError, Proxies};
use crate::net::changes::Changes;
use crate::net::links::Links;
use crate::net::nat;
use crate::net::netns::Netns;
use crate::net::redirect::{self, RedirectError, Standing as RulesStanding};
use crate::pods::protocol::Pod;

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
    /// It is out.
    Out,
    /// A step failed and is tried again.
    Waiting(String),
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    #[error("cannot open the pod's network namespace {}: {source}", path.display())]
    Netns { path: PathBuf, source: io::Error },
    #[error("the network namespace {} does not hold the pod's address {address}, so it is not the pod's", path.display())]
    NotThePod { path: PathBuf, address: IpAddr },
    #[error("cannot read the pod's addresses: {0}")]
    Addresses(#[source] io::Error),
    #[error(transparent)]
    Rules(#[from] RedirectError),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error("cannot change which pods the node's probes reach: {0}")]
    Probes(#[source] io::Error),
    #[error("cannot write the pod's status: {0}")]
    Status(#[source] io::Error),
    #[error("the work was interrupted, see the log above")]
    Interrupted,
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
    let mut keeper = Keeper { name, node, have: Have::of(told), held: None, counted: false };
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
                let Err(error) = keeper.take(step, &wanted).await else { continue };
                keeper.failed(step, &error, backoff.attempts());
                standing.send_replace(Standing::Waiting(error.to_string()));
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

/// The namespace that is held, and word of changes in it.
#[derive(Debug)]
struct Held {
    netns: Arc<Netns>,
    changes: Changes,
}

#[derive(Debug)]
struct Keeper {
    name: PodName,
    node: Arc<Node>,
    have: Have,
    held: Option<Held>,
    /// It counts as a pod that is in.
    counted: bool,
}

impl Keeper {
    async fn take(&mut self, step: Step, wanted: &Want) -> Result<(), StepError> {
        match (step, wanted) {
            (Step::Enter, Want::In(member)) => self.enter(member).await,
            (Step::Inspect, Want::In(member)) => self.inspect(member).await,
            (Step::Program, Want::In(member)) => self.program(member).await,
            (Step::Propose, Want::In(member)) => self.propose(member).await,
            (Step::Probe, Want::In(member)) => self.probe(&member.addresses).await,
            (Step::Unprobe, _) => self.probe(&[]).await,
            (Step::Withdraw, _) => self.withdraw().await,
            (Step::Unprogram, _) => self.unprogram(wanted).await,
            (Step::Tell(told), _) => self.tell(told),
            (Step::Leave, _) => {
                self.held = None;
                self.have.entered = None;
                Ok(())
            }
            (Step::Enter | Step::Inspect | Step::Program | Step::Propose | Step::Probe, _)
            | (Step::Rest | Step::End, _) => {
                debug_assert!(false, "{step:?} is no step towards {wanted:?}");
                Ok(())
            }
        }
    }

    async fn enter(&mut self, member: &Member) -> Result<(), StepError> {
        let (path, addresses) = (member.netns.clone(), member.addresses.clone());
        let netns = self.in_kernel(move || open(&path, &addresses)).await??;
        if self.held.as_ref().is_none_or(|held| held.netns.id() != netns.id()) {
            let failed = |source| StepError::Netns { path: member.netns.clone(), source };
            let changes = Changes::of(&netns).map_err(failed)?;
            self.held = Some(Held { netns: Arc::new(netns), changes });
            self.have.rules = Rules::Unknown;
            if self.have.proxied == Proxied::Yes {
                self.have.proxied = Proxied::Asked;
            }
        }
        self.have.uid = Some(member.uid.clone());
        self.have.entered = Some((member.netns.clone(), member.addresses.clone()));
        Ok(())
    }

    /// Rules that are right are not written again: a restart of the agent is not felt.
    async fn inspect(&mut self, member: &Member) -> Result<(), StepError> {
        let Some(netns) = self.netns() else { return Ok(()) };
        let redirect = member.redirect.clone();
        let found = self.in_kernel(move || redirect::verify(&netns, &redirect)).await??;
        self.have.rules = match found {
            RulesStanding::InPlace => Rules::Set(member.redirect.clone()),
            RulesStanding::Absent | RulesStanding::Changed(_) => Rules::Absent,
        };
        Ok(())
    }

    async fn program(&mut self, member: &Member) -> Result<(), StepError> {
        let Some(netns) = self.netns() else { return Ok(()) };
        let redirect = member.redirect.clone();
        self.in_kernel(move || redirect::apply(&netns, &redirect)).await??;
        self.have.rules = Rules::Set(member.redirect.clone());
        Ok(())
    }

    async fn propose(&mut self, member: &Member) -> Result<(), StepError> {
        let Some(netns) = self.netns() else { return Ok(()) };
        let pod = Pod {
            uid: member.uid.as_str().into(),
            name: self.name.name.as_str().into(),
            namespace: self.name.namespace.as_str().into(),
            service_account: member.service_account.as_str().into(),
        };
        self.have.proxied = Proxied::Asked;
        self.node.proxies.propose(pod, netns.clone()).await?;
        self.have.proxied = Proxied::Yes;
        // Looked at again now that the proxy speaks with the pod's identity there: namespaces
        // are torn down and made anew while messages are on their way.
        let (path, addresses) = (member.netns.clone(), member.addresses.clone());
        let same = self.in_kernel(move || open(&path, &addresses).map(|now| now.id() == netns.id())).await?;
        match same {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.have.doubted = true;
                let source = io::Error::other("it was exchanged for another one meanwhile");
                Err(StepError::Netns { path: member.netns.clone(), source })
            }
            Err(error) => {
                self.have.doubted = true;
                Err(error)
            }
        }
    }

    async fn withdraw(&mut self) -> Result<(), StepError> {
        if let Some(uid) = self.have.uid.clone() {
            self.node.proxies.withdraw(&uid).await?;
        }
        self.have.proxied = Proxied::No;
        Ok(())
    }

    async fn probe(&mut self, addresses: &[IpAddr]) -> Result<(), StepError> {
        let home = self.node.home.clone();
        let (before, after) = (self.have.probed.clone(), addresses.to_vec());
        let act = move || {
            let gone: Vec<IpAddr> = before.into_iter().filter(|address| !after.contains(address)).collect();
            nat::remove_probed(&home, &gone)?;
            nat::add_probed(&home, &after)
        };
        self.in_kernel(act).await?.map_err(StepError::Probes)?;
        self.have.probed = addresses.to_vec();
        Ok(())
    }

    async fn unprogram(&mut self, wanted: &Want) -> Result<(), StepError> {
        let left_by_another = match wanted {
            Want::Out { netns } => netns.clone(),
            Want::In(_) | Want::Gone => None,
        };
        let netns = self.netns();
        let act = move || {
            let netns = match (netns, left_by_another) {
                (Some(netns), _) => netns,
                // A namespace that is not there any more has no rules.
                (None, Some(path)) => match Netns::from_path(&path) {
                    Ok(netns) => Arc::new(netns),
                    Err(_) => return Ok(()),
                },
                (None, None) => return Ok(()),
            };
            redirect::remove(&netns)
        };
        self.in_kernel(act).await??;
        self.have.rules = Rules::Absent;
        Ok(())
    }

    fn tell(&mut self, told: Told) -> Result<(), StepError> {
        self.node.status.tell(&self.name, told).map_err(StepError::Status)?;
        self.have.told = told;
        let message = match told {
            Told::Enabled => "a pod is in the mesh",
            Told::Pending => "a pod waits for ztunnel, its connections are refused meanwhile",
            Told::Nothing => "a pod is out of the mesh",
        };
        tracing::info!(pod = %self.name, "{message}");
        Ok(())
    }

    /// Waits until somebody changed something in the namespace, or it is time to look.
    async fn disturbed(&self) {
        let changed = async {
            match &self.held {
                Some(held) if held.changes.next().await.is_ok() => sleep(HEAL_SETTLE).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed => {}
            () = sleep(HEAL_INTERVAL) => {}
        }
    }

    /// Looks whether what is still is.
    async fn look(&mut self, wanted: &Want) {
        let (Want::In(member), Some(netns)) = (wanted, self.netns()) else { return };
        let (id, redirect) = (netns.id(), member.redirect.clone());
        let (path, addresses) = (member.netns.clone(), member.addresses.clone());
        let look = move || {
            // Whether the path still leads here matters only while it leads anywhere: when a pod
            // ends, its path goes first.
            let elsewhere = Netns::from_path(&path).is_ok_and(|now| now.id() != id);
            let still = holds(&netns, &path, &addresses);
            (elsewhere, still, redirect::verify(&netns, &redirect))
        };
        let Ok((elsewhere, still, rules)) = self.in_kernel(look).await else { return };
        if elsewhere || matches!(still, Err(StepError::NotThePod { .. })) {
            let reason =
                still.err().map_or_else(|| "its path leads to another one".to_owned(), |error| error.to_string());
            tracing::error!(pod = %self.name, reason, "a pod's namespace is not the pod's any more, taking it out");
            self.have.doubted = true;
            return;
        }
        match rules {
            Ok(RulesStanding::InPlace) => {}
            Ok(other) => {
                tracing::warn!(pod = %self.name, found = ?other, "somebody changed a pod's redirection, putting it right");
                self.node.report.healed();
                self.have.rules = Rules::Absent;
            }
            Err(error) => tracing::warn!(pod = %self.name, %error, "cannot look at a pod's redirection"),
        }
    }

    fn failed(&mut self, step: Step, error: &StepError, attempts: u32) {
        self.node.report.failed();
        if attempts == 0 {
            tracing::warn!(pod = %self.name, ?step, %error, "a step failed, trying again");
        } else {
            tracing::debug!(pod = %self.name, ?step, %error, attempts, "a step failed again");
        }
        if step == Step::Propose && self.have.told == Told::Nothing && !self.have.doubted {
            // It is only said; if that fails too there is nothing to add to the log line above.
            let _ = self.tell(Told::Pending);
        }
    }

    fn standing(&mut self, wanted: &Want) -> Standing {
        let (standing, counts) = match wanted {
            Want::In(member) => (Standing::In(member.clone()), true),
            Want::Out { .. } | Want::Gone => (Standing::Out, false),
        };
        self.count(counts);
        standing
    }

    /// Begins anew: nothing of the incarnation before is left.
    fn forget(&mut self) {
        self.held = None;
        self.count(false);
        // Its rules were not taken away, so what the next one finds has to be looked at.
        self.have = Have { rules: Rules::Unknown, ..Have::of(Told::Nothing) };
    }

    fn count(&mut self, counts: bool) {
        if self.counted != counts {
            self.node.report.pods(if counts { 1 } else { -1 });
            self.counted = counts;
        }
    }

    fn netns(&self) -> Option<Arc<Netns>> {
        self.held.as_ref().map(|held| held.netns.clone())
    }

    /// Runs what makes system calls in namespaces where waiting does no harm.
    async fn in_kernel<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> Result<T, StepError> {
        let _permit = self.node.kernel.acquire().await.map_err(|_| StepError::Interrupted)?;
        tokio::task::spawn_blocking(act).await.map_err(|_| StepError::Interrupted)
    }
}

/// Opens a namespace and sees that it is that of the pod with these addresses.
fn open(path: &Path, addresses: &[IpAddr]) -> Result<Netns, StepError> {
    let netns = Netns::from_path(path).map_err(|source| StepError::Netns { path: path.to_owned(), source })?;
    holds(&netns, path, addresses)?;
    Ok(netns)
}

fn holds(netns: &Netns, path: &Path, addresses: &[IpAddr]) -> Result<(), StepError> {
    let found = Links::open(netns).and_then(|links| links.addresses()).map_err(StepError::Addresses)?;
    match addresses.iter().find(|address| found.iter().all(|(_, net)| net.addr() != **address)) {
        Some(address) => Err(StepError::NotThePod { path: path.to_owned(), address: *address }),
        None => Ok(()),
    }
}
