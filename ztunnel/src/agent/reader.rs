//! The reader of facts: follows Namespaces, Pods and announcements, and says of each pod of this
//! node what should be. A task a pod sees to it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use chassis::objects::{Directory, ObjectEvent, ObjectKey};
use chassis::task::{self, Task};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::cni::{Announced, Announcement, Known};
use super::config::Config;
use super::enrol;
use super::facts::{Labels, PodFacts, PodName, namespace_labels};
use super::limits::RECOVERY_DEADLINE;
use super::pod::{self, Node, Standing};
use super::status;
use super::steps::{Member, Told, Want};
use crate::net::nat;

/// One pod's task.
#[derive(Debug)]
struct Keeper {
    want: watch::Sender<Want>,
    standing: watch::Receiver<Standing>,
    task: Task<()>,
}

/// The reader of facts.
#[derive(Debug)]
pub(super) struct Agent {
    config: Config,
    node: Arc<Node>,
    directory: Directory,
    namespaces: BTreeMap<String, Labels>,
    /// The pods of this node.
    pods: BTreeMap<PodName, PodFacts>,
    /// What was announced of them before they started.
    announced: BTreeMap<PodName, Announced>,
    /// Announcements of pods that are not known yet.
    waiting: Vec<Announcement>,
    keepers: BTreeMap<PodName, Keeper>,
}

impl Agent {
    pub(super) fn new(config: Config, node: Arc<Node>, directory: Directory) -> Self {
        Self {
            config,
            node,
            directory,
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            announced: BTreeMap::new(),
            waiting: Vec::new(),
            keepers: BTreeMap::new(),
        }
    }

    /// Finds the pods again that an earlier agent took in: when this returns each was tried once.
    pub(super) async fn recover(mut self) -> Self {
        let deadline = Instant::now() + RECOVERY_DEADLINE;
        let events = self.directory.next().await;
        let touched = self.take(events);
        for pod in self.pods.values().filter(|pod| status::told(pod) == Told::Enabled) {
            self.node.proxies.keep(&pod.uid);
        }
        self.follow(touched);
        for (name, keeper) in &mut self.keepers {
            let tried = keeper.standing.wait_for(|standing| *standing != Standing::Working);
            if timeout_at(deadline, tried).await.is_err() {
                tracing::warn!(pod = %name, "a pod was not found again in time, ztunnel is told to keep it");
            }
        }
        if let Err(error) = self.prune() {
            tracing::warn!(%error, "cannot clean up after pods that are no more");
        }
        self
    }

    /// How many pods are looked after.
    pub(super) fn pods(&self) -> usize {
        self.keepers.len()
    }

    /// Takes back what an earlier agent left of pods that are no more.
    fn prune(&self) -> std::io::Result<()> {
        self.node.status.forget_all_but(self.pods.keys())?;
        let mut stale = nat::probed(&self.node.home)?;
        let wanted: BTreeSet<IpAddr> = self
            .keepers
            .values()
            .flat_map(|keeper| match &*keeper.want.borrow() {
                Want::In(member) => member.addresses.clone(),
                Want::Out { .. } | Want::Gone => Vec::new(),
            })
            .collect();
        stale.retain(|address| !wanted.contains(address));
        nat::remove_probed(&self.node.home, &stale)
    }

    /// Follows facts and announcements for ever.
    pub(super) async fn read(mut self, mut announcements: mpsc::Receiver<Announcement>) {
        loop {
            // Cancelled, neither arm loses anything.
            tokio::select! {
                events = self.directory.next() => {
                    let touched = self.take(events);
                    self.follow(touched);
                }
                announcement = announcements.recv() => match announcement {
                    Some(announcement) => self.announce(announcement),
                    None => return,
                },
            }
        }
    }

    /// Takes what changed, and returns the pods that it may concern.
    fn take(&mut self, events: Vec<ObjectEvent>) -> BTreeSet<PodName> {
        let mut touched = BTreeSet::new();
        for event in events {
            match event {
                ObjectEvent::Applied(object) if is(&object.key(), "Namespace") => {
                    self.namespaces.insert(object.name.clone(), namespace_labels(&object));
                    touched.extend(self.of_namespace(&object.name));
                }
                ObjectEvent::Removed(key) if is(&key, "Namespace") => {
                    self.namespaces.remove(&key.name);
                    touched.extend(self.of_namespace(&key.name));
                }
                ObjectEvent::Applied(object) if is(&object.key(), "Pod") => {
                    let name = PodName { namespace: object.namespace.clone(), name: object.name.clone() };
                    let pod = PodFacts::of(&object);
                    if self.pods.get(&name).is_some_and(|before| before.uid != pod.uid) {
                        // What was announced was announced of another pod of this name.
                        self.announced.remove(&name);
                    }
                    let known = if pod.node == self.config.node {
                        self.pods.insert(name.clone(), pod)
                    } else {
                        self.pods.remove(&name)
                    };
                    if known.is_some() || self.pods.contains_key(&name) {
                        self.node.report.event(if known.is_some() { "update" } else { "add" });
                        touched.insert(name);
                    }
                }
                ObjectEvent::Removed(key) if is(&key, "Pod") => {
                    let name = PodName { namespace: key.namespace, name: key.name };
                    if self.pods.remove(&name).is_some() {
                        self.node.report.event("delete");
                        touched.insert(name);
                    }
                }
                ObjectEvent::Applied(_) | ObjectEvent::Removed(_) => {}
                ObjectEvent::Problem(problem) => tracing::warn!(%problem, "a file cannot be read"),
            }
        }
        touched
    }

    fn of_namespace(&self, namespace: &str) -> Vec<PodName> {
        self.pods.keys().filter(|name| name.namespace == namespace).cloned().collect()
    }

    fn follow(&mut self, touched: BTreeSet<PodName>) {
        for name in touched {
            if !self.pods.contains_key(&name) {
                self.announced.remove(&name);
            }
            self.reconcile(&name);
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter(|announcement| !announcement.answer.is_closed()).for_each(|one| self.announce(one));
    }

    /// Has what should be of one pod be seen to.
    fn reconcile(&mut self, name: &PodName) {
        let Some(want) = self.want(name) else { return };
        if let Some(keeper) = self.keepers.get(name).filter(|keeper| !keeper.task.is_finished()) {
            keeper.want.send_if_modified(|before| {
                let differs = *before != want;
                *before = want;
                differs
            });
            return;
        }
        self.keepers.remove(name);
        let told = self.pods.get(name).map_or(Told::Nothing, status::told);
        let needed = match want {
            Want::In(_) => true,
            Want::Out { .. } => told != Told::Nothing,
            Want::Gone => false,
        };
        if needed {
            let (want, wanted) = watch::channel(want);
            let (stands, standing) = watch::channel(Standing::Working);
            let task = task::spawn("pod", pod::keep(name.clone(), told, self.node.clone(), wanted, stands));
            self.keepers.insert(name.clone(), Keeper { want, standing, task });
        }
    }

    /// What should be of one pod; `None` while too little is known to do anything.
    fn want(&self, name: &PodName) -> Option<Want> {
        let Some(pod) = self.pods.get(name) else { return Some(Want::Gone) };
        match self.belongs(name, pod) {
            Err(enrol::Outside::Ended) => return Some(Want::Gone),
            Err(_) => return Some(Want::Out { netns: pod.netns() }),
            Ok(()) => {}
        }
        let announced = self.announced.get(name);
        let netns = pod.netns().or_else(|| announced.map(|announced| announced.netns.clone()))?;
        let addresses = match (pod.addresses.as_slice(), announced) {
            ([], Some(announced)) => announced.addresses.clone(),
            (addresses, _) => addresses.to_vec(),
        };
        if addresses.is_empty() || pod.uid.is_empty() {
            return None;
        }
        Some(Want::In(Member {
            uid: pod.uid.clone(),
            service_account: pod.service_account.clone(),
            netns,
            addresses,
            redirect: enrol::redirect(pod, self.config.dns),
        }))
    }

    fn belongs(&self, name: &PodName, pod: &PodFacts) -> Result<(), enrol::Outside> {
        let labels = self.namespaces.get(&name.namespace).cloned().unwrap_or_default();
        enrol::belongs(pod, &name.namespace, &labels, &self.config.selection)
    }

    /// A pod is about to start.
    fn announce(&mut self, announcement: Announcement) {
        let Announcement { announced, answer } = announcement;
        let name = announced.pod.clone();
        let Some(pod) = self.pods.get(&name).filter(|pod| !pod.uid.is_empty()) else {
            return self.waiting.push(Announcement { announced, answer });
        };
        let uid = pod.uid.clone();
        if self.belongs(&name, pod).is_err() {
            // Whoever asked may have given up.
            let _ = answer.send(Known::Outside);
            return;
        }
        self.announced.insert(name.clone(), announced.clone());
        self.reconcile(&name);
        let (Some(Want::In(member)), Some(keeper)) = (self.want(&name), self.keepers.get(&name)) else {
            return self.waiting.push(Announcement { announced, answer });
        };
        let known = Known::Taken { uid, netns: member.netns, standing: keeper.standing.clone() };
        let _ = answer.send(known);
    }
}

fn is(key: &ObjectKey, kind: &str) -> bool {
    key.group.is_empty() && key.kind == kind
}
