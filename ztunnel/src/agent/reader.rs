//! The reader of facts: follows Namespaces, Pods and announcements, and says of each pod of this
//! node what should be. A task a pod sees to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chassis::objects::{ObjectEvent, ObjectKey};
use chassis::task::{self, Task};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::book::{Book, Verdict};
use super::cni::{Announcement, Known};
use super::enrol::Outside;
use super::facts::{PodFacts, PodName, namespace_labels};
use super::limits::RECOVERY_DEADLINE;
use super::place::Place;
use super::pod::{self, Node, Standing};
use super::search::{Found, Search};
use super::source::Source;
use super::status;
use super::steps::{Told, Want};
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
    /// The node whose pods are ours.
    name: String,
    node: Arc<Node>,
    source: Source,
    search: Search,
    book: Book,
    /// Announcements of pods that are not known yet.
    waiting: Vec<Announcement>,
    keepers: BTreeMap<PodName, Keeper>,
}

impl Agent {
    pub(super) fn new(name: String, node: Arc<Node>, source: Source, search: Search, book: Book) -> Self {
        let book = Book { searches: search.is_possible(), ..book };
        Self { name, node, source, search, book, waiting: Vec::new(), keepers: BTreeMap::new() }
    }

    /// Finds the pods again that an earlier agent took in: when this returns each was tried once.
    pub(super) async fn recover(mut self) -> Self {
        let events = self.source.next().await;
        let deadline = Instant::now() + RECOVERY_DEADLINE;
        let touched = self.take(events);
        // Those that left meanwhile are taken out before a proxy asks.
        for (name, pod) in &self.book.pods {
            if status::told(pod) == Told::Enabled && self.book.belongs(name, pod).is_ok() {
                self.node.proxies.keep(&pod.uid);
            }
        }
        self.follow(touched);
        if !self.search.is_idle()
            && let Ok(found) = timeout_at(deadline, self.search.next()).await
        {
            self.locate(found);
        }
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
        self.node.status.forget_all_but(self.book.pods.keys())?;
        let mut stale = nat::probed(&self.node.home)?;
        let wanted = self.book.probed();
        stale.retain(|address| !wanted.contains(address));
        nat::remove_probed(&self.node.home, &stale)
    }

    /// Follows facts and announcements, until the mesh is removed from this node: then every pod is
    /// taken out, and who asked for that is told.
    pub(super) async fn read(
        mut self,
        mut announcements: mpsc::Receiver<Announcement>,
        mut removal: oneshot::Receiver<oneshot::Sender<()>>,
    ) {
        let mut removable = true;
        loop {
            // Cancelled, no arm loses anything.
            tokio::select! {
                events = self.source.next() => {
                    let touched = self.take(events);
                    self.follow(touched);
                }
                found = self.search.next() => self.locate(found),
                announcement = announcements.recv() => match announcement {
                    Some(announcement) => self.announce(announcement),
                    None => return,
                },
                asked = &mut removal, if removable => match asked {
                    Ok(done) => {
                        self.close().await;
                        let _nobody_waits_any_more = done.send(());
                        return;
                    }
                    Err(_) => removable = false,
                },
            }
        }
    }

    /// Takes every pod out. New ones start outside.
    async fn close(&mut self) {
        self.book.closing = true;
        let all: BTreeSet<PodName> = self.book.pods.keys().cloned().collect();
        tracing::info!(pods = self.keepers.len(), "the mesh is removed from this node, taking its pods out");
        self.follow(all);
        while !self.search.is_idle() {
            // One look is enough: pods that have no process have no rules either.
            let found = self.search.next().await;
            self.locate(found);
        }
        for keeper in self.keepers.values_mut() {
            // A keeper that has ended has nothing left to do.
            let _ended = keeper.standing.wait_for(|standing| *standing == Standing::Out).await;
        }
    }

    /// Takes what changed, and returns the pods that it may concern.
    fn take(&mut self, events: Vec<ObjectEvent>) -> BTreeSet<PodName> {
        let mut touched = BTreeSet::new();
        for event in events {
            match event {
                ObjectEvent::Applied(object) if is(&object.key(), "Namespace") => {
                    self.book.namespaces.insert(object.name.clone(), namespace_labels(&object));
                    touched.extend(self.book.of_namespace(&object.name));
                }
                ObjectEvent::Removed(key) if is(&key, "Namespace") => {
                    self.book.namespaces.remove(&key.name);
                    touched.extend(self.book.of_namespace(&key.name));
                }
                ObjectEvent::Applied(object) if is(&object.key(), "Pod") => {
                    let name = PodName { namespace: object.namespace.clone(), name: object.name.clone() };
                    if self.take_pod(&name, PodFacts::of(&object)) {
                        touched.insert(name);
                    }
                }
                ObjectEvent::Removed(key) if is(&key, "Pod") => {
                    let name = PodName { namespace: key.namespace, name: key.name };
                    if let Some(pod) = self.book.pods.remove(&name) {
                        self.forget(&pod);
                        self.node.report.event("delete");
                        touched.insert(name);
                    }
                }
                ObjectEvent::Applied(_) | ObjectEvent::Removed(_) => {}
                ObjectEvent::Problem(problem) => tracing::warn!(%problem, "something cannot be read"),
            }
        }
        touched
    }

    /// Takes a pod; whether it is, or was, of this node.
    fn take_pod(&mut self, name: &PodName, pod: PodFacts) -> bool {
        let other_uid = self.book.pods.get(name).is_some_and(|before| before.uid != pod.uid);
        if other_uid && self.book.announced.get(name).is_some_and(|announced| !is_of(announced.uid.as_deref(), &pod)) {
            // What was announced was announced of another pod of this name.
            self.book.announced.remove(name);
        }
        let ours = pod.node == self.name;
        // Another sandbox has another namespace, and nobody announced it.
        let moved = self.book.pods.get(name).is_some_and(|before| before.addresses != pod.addresses);
        if moved {
            self.book.found.remove(pod.given_uid());
        }
        let known = if ours { self.book.pods.insert(name.clone(), pod) } else { self.book.pods.remove(name) };
        if let Some(before) = known.as_ref().filter(|_| other_uid || !ours) {
            self.forget(before);
        }
        if known.is_some() || ours {
            self.node.report.event(if known.is_some() { "update" } else { "add" });
        }
        known.is_some() || ours
    }

    fn forget(&mut self, pod: &PodFacts) {
        self.book.forget(pod);
        self.search.forget(pod.given_uid());
    }

    /// Takes what a look through the processes gave.
    fn locate(&mut self, found: Found) {
        let Found { places, missing } = found;
        let touched: BTreeSet<PodName> = self
            .book
            .pods
            .iter()
            .filter(|(_, pod)| places.contains_key(pod.given_uid()) || missing.contains(pod.given_uid()))
            .map(|(name, _)| name.clone())
            .collect();
        self.book.found.extend(places.into_iter().map(|(uid, netns)| (uid, Place::Held(netns))));
        self.book.missing.extend(missing);
        self.follow(touched);
    }

    fn follow(&mut self, touched: BTreeSet<PodName>) {
        for name in touched {
            if !self.book.pods.contains_key(&name) {
                self.book.announced.remove(&name);
            }
            self.reconcile(&name);
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().filter(|announcement| !announcement.answer.is_closed()).for_each(|one| self.announce(one));
    }

    /// Has what should be of one pod be seen to.
    fn reconcile(&mut self, name: &PodName) {
        let living = self.keepers.get(name).filter(|keeper| !keeper.task.is_finished());
        let want = match self.book.verdict(name, living.is_some()) {
            Verdict::Want(want) => want,
            Verdict::Miss(uid) => return self.search.miss(&uid),
            Verdict::TooEarly => return,
        };
        if let Some(pod) = self.book.pods.get(name) {
            self.search.forget(pod.given_uid());
        }
        if let Some(keeper) = living {
            keeper.want.send_if_modified(|before| {
                let differs = *before != want;
                *before = want;
                differs
            });
            return;
        }
        self.keepers.remove(name);
        let told = self.book.pods.get(name).map_or(Told::Nothing, status::told);
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

    /// A pod is about to start.
    fn announce(&mut self, announcement: Announcement) {
        let Announcement { announced, answer } = announcement;
        let name = announced.pod.clone();
        let known = self.book.pods.get(&name).filter(|pod| {
            let namespace = !self.source.tells_every_namespace() || self.book.namespaces.contains_key(&name.namespace);
            namespace && !pod.uid.is_empty() && is_of(announced.uid.as_deref(), pod)
        });
        let Some(pod) = known else {
            return self.waiting.push(Announcement { announced, answer });
        };
        let uid = pod.uid.clone();
        if let Err(outside) = self.book.belongs(&name, pod) {
            let by_namespace = outside == Outside::NotAsked;
            let labels = by_namespace.then(|| self.book.namespaces.get(&name.namespace).cloned().unwrap_or_default());
            // Whoever asked may have given up.
            let _ = answer.send(Known::Outside(labels));
            return;
        }
        self.book.announced.insert(name.clone(), announced.clone());
        self.reconcile(&name);
        let verdict = self.book.verdict(&name, true);
        let (Verdict::Want(Want::In(member)), Some(keeper)) = (verdict, self.keepers.get(&name)) else {
            return self.waiting.push(Announcement { announced, answer });
        };
        let known = Known::Taken { uid, netns: member.netns, standing: keeper.standing.clone() };
        let _ = answer.send(known);
    }
}

/// Whether an announcement with this uid is of this pod. One without may be of any.
fn is_of(announced: Option<&str>, pod: &PodFacts) -> bool {
    announced.is_none_or(|uid| uid == pod.uid || uid == pod.given_uid())
}

fn is(key: &ObjectKey, kind: &str) -> bool {
    key.group.is_empty() && key.kind == kind
}
