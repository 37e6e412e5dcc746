//! The acts: each step of one pod, done.

mod leaving;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::{Instant, sleep};

use super::whose::{Whose, whose};
use super::{Node, Standing};
use crate::agent::facts::PodName;
use crate::agent::limits::{HEAL_INTERVAL, HEAL_SETTLE, REFUSALS_MAX};
use crate::agent::place::Place;
use crate::agent::status::StatusError;
use crate::agent::steps::{Have, Member, Proxied, Rules, Step, Told, Want};
use crate::agent::zds::ProposeError;
use crate::limits::POD_LEAVES_ALIVE;
use crate::net::changes::Changes;
use crate::net::conntrack;
use crate::net::links::Links;
use crate::net::nat;
use crate::net::netns::Netns;
use crate::net::redirect::{self, RedirectError, Standing as RulesStanding};
use crate::pods::protocol::Pod;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error("cannot open the pod's network namespace {place}: {source}")]
    Netns { place: Place, source: io::Error },
    #[error("the network namespace {place} does not hold the pod's address {address}, so it is not the pod's")]
    NotThePod { place: Place, address: IpAddr },
    #[error("the network namespace {place} has no network, so it is not the pod's or the pod has ended")]
    Empty { place: Place },
    #[error("cannot read the pod's addresses: {0}")]
    Addresses(#[source] io::Error),
    #[error(transparent)]
    Rules(#[from] RedirectError),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error("cannot change which pods the node's probes reach: {0}")]
    Probes(#[source] io::Error),
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error("the work was interrupted, see the log above")]
    Interrupted,
}

/// The namespace that is held, and word of changes in it.
#[derive(Debug)]
struct Held {
    netns: Arc<Netns>,
    changes: Changes,
}

/// What one pod's task holds.
#[derive(Debug)]
pub(super) struct Keeper {
    name: PodName,
    pub(super) node: Arc<Node>,
    pub(super) have: Have,
    held: Option<Held>,
    /// Since then nothing new is led to the proxy.
    let_go_since: Option<Instant>,
    /// It counts as a pod that is in.
    counted: bool,
    /// The incarnation whose network the runtime took away: that it has ended is about to be heard.
    ended: Option<String>,
    /// How often in a row the cluster refused what we say of it.
    refusals: u32,
}

impl Keeper {
    pub(super) fn new(name: PodName, node: Arc<Node>, told: Told) -> Self {
        Self {
            name,
            node,
            have: Have::of(told),
            held: None,
            let_go_since: None,
            counted: false,
            ended: None,
            refusals: 0,
        }
    }

    pub(super) async fn take(&mut self, step: Step, wanted: &Want) -> Result<(), StepError> {
        match (step, wanted) {
            (Step::Enter, Want::In(member)) => self.enter(member).await,
            (Step::Inspect, Want::In(member)) => self.inspect(member).await,
            (Step::Program, Want::In(member)) => self.program(member).await,
            (Step::Propose, Want::In(member)) => self.propose(member).await,
            (Step::Probe, Want::In(member)) => self.probe(&member.addresses).await,
            (Step::Unprobe, _) => self.probe(&[]).await,
            (Step::Withdraw, _) => self.withdraw(wanted).await,
            (Step::LetGo, _) => self.let_go(wanted).await,
            (Step::Unprogram, _) => self.unprogram(wanted).await,
            (Step::Tell(told), _) => self.tell(told).await,
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
        let (place, addresses) = (member.netns.clone(), member.addresses.clone());
        let netns = self.in_kernel(move || open(&place, &addresses)).await??;
        if self.held.as_ref().is_none_or(|held| held.netns.id() != netns.id()) {
            let failed = |source| StepError::Netns { place: member.netns.clone(), source };
            let changes = Changes::of(&netns).map_err(failed)?;
            self.held = Some(Held { netns: Arc::new(netns), changes });
            self.have.rules = Rules::Unknown;
            if self.have.proxied == Proxied::Yes {
                self.have.proxied = Proxied::Asked;
            }
        }
        self.ended = None;
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
            RulesStanding::Absent => Rules::Absent,
            RulesStanding::Changed(_) => Rules::Other,
        };
        Ok(())
    }

    async fn program(&mut self, member: &Member) -> Result<(), StepError> {
        let Some(netns) = self.netns() else { return Ok(()) };
        let redirect = member.redirect.clone();
        // Those that are open go on where a pod joins. Of any other, what was connected around the proxy must not go
        // on so. What the proxy has is not to be touched.
        let joins = self.have.joins(member);
        let afresh = self.have.proxied == Proxied::No;
        let act = move || {
            if joins {
                return redirect::join(&netns, &redirect);
            }
            redirect::apply(&netns, &redirect)?;
            Ok::<_, RedirectError>(if afresh { conntrack::forget(&netns) } else { Ok(()) })
        };
        if let Err(error) = self.in_kernel(act).await?? {
            tracing::warn!(pod = %self.name, %error, "connections that were open before may break, or go on outside of the mesh");
        }
        self.let_go_since = None;
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
        let (place, addresses) = (member.netns.clone(), member.addresses.clone());
        let same = self.in_kernel(move || open(&place, &addresses).map(|now| now.id() == netns.id())).await?;
        match same {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.have.doubted = true;
                let source = io::Error::other("it was exchanged for another one meanwhile");
                Err(StepError::Netns { place: member.netns.clone(), source })
            }
            Err(error) => {
                self.have.doubted = true;
                Err(error)
            }
        }
    }

    async fn withdraw(&mut self, wanted: &Want) -> Result<(), StepError> {
        let lives_on = matches!(wanted, Want::Out { hurry: false, .. });
        if let Some(uid) = self.have.uid.clone() {
            self.node.proxies.withdraw(&uid, lives_on.then_some(POD_LEAVES_ALIVE)).await?;
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

    async fn let_go(&mut self, wanted: &Want) -> Result<(), StepError> {
        self.with_rules(wanted, redirect::leave).await?;
        self.have.rules = Rules::LettingGo;
        self.let_go_since = Some(Instant::now());
        Ok(())
    }

    async fn unprogram(&mut self, wanted: &Want) -> Result<(), StepError> {
        self.with_rules(wanted, redirect::remove).await?;
        self.have.rules = Rules::Absent;
        self.let_go_since = None;
        Ok(())
    }

    /// Acts on the rules of a pod that leaves: in the namespace that is held, else in the one where
    /// an earlier agent may have left some. One that is not there any more has none.
    async fn with_rules(&self, wanted: &Want, act: fn(&Netns) -> Result<(), RedirectError>) -> Result<(), StepError> {
        let left_by_another = match wanted {
            Want::Out { netns, .. } => netns.clone(),
            Want::In(_) | Want::Gone => None,
        };
        let held = self.netns();
        let find = move || held.or_else(|| Some(Arc::new(left_by_another?.open().ok()?)));
        Ok(self.in_kernel(move || find().map_or(Ok(()), |netns| act(&netns))).await??)
    }

    async fn tell(&mut self, told: Told) -> Result<(), StepError> {
        match self.node.status.tell(&self.name, self.have.uid.as_deref(), told).await {
            // When the mesh is removed its roles may go before it, and a pod must not stay cut off
            // because it cannot be said that it is out.
            Err(error) if told == Told::Nothing && error.is_refusal() && self.refusals == REFUSALS_MAX => {
                tracing::warn!(pod = %self.name, %error, "a pod's annotation stays although it is out of the mesh");
            }
            Err(error) => {
                self.refusals = (self.refusals + u32::from(error.is_refusal())).min(REFUSALS_MAX);
                return Err(error.into());
            }
            Ok(()) => self.refusals = 0,
        }
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
    pub(super) async fn disturbed(&self) {
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
    pub(super) async fn look(&mut self, wanted: &Want) {
        let (Want::In(member), Some(netns)) = (wanted, self.netns()) else { return };
        let (id, redirect) = (netns.id(), member.redirect.clone());
        let (place, addresses) = (member.netns.clone(), member.addresses.clone());
        let look = move || {
            // Whether the path still leads here matters only while it leads anywhere: when a pod
            // ends, its path goes first.
            let elsewhere = place.open().is_ok_and(|now| now.id() != id);
            let still = holds(&netns, &place, &addresses);
            (elsewhere, still, redirect::verify(&netns, &redirect))
        };
        let Ok((elsewhere, still, rules)) = self.in_kernel(look).await else { return };
        if !elsewhere && matches!(still, Err(StepError::Empty { .. })) {
            tracing::debug!(pod = %self.name, "a pod's network was taken away, the pod has ended");
            self.ended = Some(member.uid.clone());
            self.have.doubted = true;
            return;
        }
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
                self.have.rules = Rules::Other;
            }
            Err(error) => tracing::warn!(pod = %self.name, %error, "cannot look at a pod's redirection"),
        }
    }

    pub(super) async fn failed(&mut self, step: Step, wanted: &Want, error: &StepError, attempts: u32) {
        let has_ended = matches!(wanted, Want::In(member) if self.ended.as_ref() == Some(&member.uid));
        if step == Step::Enter && has_ended {
            tracing::debug!(pod = %self.name, %error, "a pod that has ended is not in the mesh");
            return;
        }
        self.node.report.failed();
        if matches!(error, StepError::Propose(ProposeError::NotConnected)) {
            // Said below, or known: a proxy that is away is away for all pods.
        } else if attempts == 0 {
            tracing::warn!(pod = %self.name, ?step, %error, "a step failed, trying again");
        } else {
            tracing::debug!(pod = %self.name, ?step, %error, attempts, "a step failed again");
        }
        let closed = matches!(self.have.rules, Rules::Set(_));
        if step == Step::Propose && closed && self.have.told == Told::Nothing && !self.have.doubted {
            // It is only said, and said again with the next try.
            if let Err(error) = self.tell(Told::Pending).await
                && attempts == 0
            {
                tracing::warn!(pod = %self.name, %error, "it cannot be said on the pod that it waits for ztunnel");
            }
        }
    }

    pub(super) fn standing(&mut self, wanted: &Want) -> Standing {
        let (standing, counts) = match wanted {
            Want::In(member) => (Standing::In(member.clone()), true),
            Want::Out { .. } | Want::Gone => (Standing::Out, false),
        };
        self.count(counts);
        standing
    }

    /// Begins anew: nothing of the incarnation before is left.
    pub(super) fn forget(&mut self) {
        self.held = None;
        self.let_go_since = None;
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
fn open(place: &Place, addresses: &[IpAddr]) -> Result<Netns, StepError> {
    let netns = place.open().map_err(|source| StepError::Netns { place: place.clone(), source })?;
    holds(&netns, place, addresses)?;
    Ok(netns)
}

fn holds(netns: &Netns, place: &Place, addresses: &[IpAddr]) -> Result<(), StepError> {
    let found = Links::open(netns).and_then(|links| links.addresses()).map_err(StepError::Addresses)?;
    match whose(&found, addresses) {
        Whose::ThePods => Ok(()),
        Whose::Nobodys => Err(StepError::Empty { place: place.clone() }),
        Whose::Anothers(address) => Err(StepError::NotThePod { place: place.clone(), address }),
    }
}
