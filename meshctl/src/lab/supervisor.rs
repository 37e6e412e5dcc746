//! The heart of a lab: holds the objects, plans, and does what the difference
//! between two plans asks for. Everything that changes comes to one loop.

mod replan;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use ztunnel::net::nat::{self, ServiceRules};

use super::control::protocol::{Problem, Reply, StatusReport};
use super::kubelet::{self, Writer};
use super::manifest::{self, Key, Objects};
use super::options::Options;
use super::plan::ledger::Ledger;
use super::plan::services::Slice;
use super::plan::{Plan, PodPlan};
use super::pod::state::PodState;
use super::pod::{PodChange, PodTask};
use super::site::Site;
use super::system::Proxy;
use super::{gateways, kubeproxy, report};

/// Orders that wait to be taken; callers wait beyond that.
pub(crate) const ORDERS_MAX: usize = 32;
/// Changes of pods that wait to be taken; pods wait beyond that.
const CHANGES_MAX: usize = 256;
/// How long pods may take to end when the lab does.
const END_DEADLINE: Duration = Duration::from_secs(3);

/// What the control socket asks of the supervisor.
#[derive(Debug)]
pub(crate) enum Order {
    /// Add or replace the objects of a text, or remove them.
    Change { file: String, yaml: String, remove: bool, answer: oneshot::Sender<Reply> },
    /// Say how everything is.
    Status(oneshot::Sender<StatusReport>),
    /// Find a container that runs.
    Find { pod: String, container: Option<String>, answer: oneshot::Sender<Result<Found, String>> },
    /// Find the process of one of the mesh's own programs.
    Component { component: String, node: String, answer: oneshot::Sender<Result<Found, String>> },
    /// Say how many pods a waypoint has.
    Scale { key: Key, replicas: u64, answer: oneshot::Sender<Result<(), String>> },
    /// Put a new proxy in the place of a node's, without a gap.
    Replace { node: String, answer: oneshot::Sender<Result<String, String>> },
    /// End the lab.
    Down,
}

/// A container.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub pod: Arc<PodPlan>,
    pub container: String,
    /// Its process 1; `None` if it does not run.
    pub process: Option<u32>,
}

/// A pod that is there, or on its way out.
struct Member {
    plan: Arc<PodPlan>,
    state: PodState,
    task: PodTask,
    leaving: bool,
}

/// All that the loop holds.
pub(crate) struct Supervisor {
    site: Arc<Site>,
    options: Options,
    /// The user's objects.
    objects: Objects,
    /// Those and the lab's own.
    all: Arc<Objects>,
    proxies: Vec<Proxy>,
    /// Pods of Deployments that stay until later ones are ready.
    rollouts: rollout::Rollouts,
    ledger: Ledger,
    plan: Plan,
    slices: Vec<Slice>,
    /// By pod; of two with one name the later waits until the other is gone.
    members: BTreeMap<Key, Member>,
    rules: BTreeMap<String, ServiceRules>,
    writer: Writer,
    problems: Vec<Problem>,
    /// What could not be made of Gateways.
    gateway_problems: Vec<Problem>,
    /// Gateways and the replicas that somebody asked for by hand.
    scaled: BTreeMap<Key, u64>,
    /// Gateways that were given addresses.
    assigned: BTreeSet<Key>,
    changes: mpsc::Sender<PodChange>,
    changed: mpsc::Receiver<PodChange>,
}

impl Supervisor {
    pub(crate) fn new(site: Arc<Site>, options: Options) -> Self {
        let (changes, changed) = mpsc::channel(CHANGES_MAX);
        Self {
            writer: Writer::new(&site.run_dir),
            site,
            options,
            objects: Objects::new(),
            all: Arc::default(),
            proxies: Vec::new(),
            rollouts: rollout::Rollouts::default(),
            ledger: Ledger::default(),
            plan: Plan::default(),
            slices: Vec::new(),
            members: BTreeMap::new(),
            rules: BTreeMap::new(),
            problems: Vec::new(),
            gateway_problems: Vec::new(),
            scaled: BTreeMap::new(),
            assigned: BTreeSet::new(),
            changes,
            changed,
        }
    }

    /// Takes the manifests the lab is started with.
    pub(crate) fn load(&mut self) -> io::Result<()> {
        if self.options.shop {
            let (objects, _) = manifest::read(Path::new("shop.yaml"), super::shop::MANIFESTS);
            self.objects.extend(objects);
        }
        let (objects, problems) = manifest::read(Path::new("<text>"), &self.options.yaml);
        self.objects.extend(objects);
        self.problems.extend(problems);
        for path in self.options.manifests.clone() {
            let (objects, problems) = super::load::read(&path)?;
            self.objects.extend(objects);
            self.problems.extend(problems);
        }
        self.replan();
        Ok(())
    }

    /// Runs until the lab is to end, and ends its pods.
    pub(crate) async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                Some(order) = orders.recv() => {
                    if matches!(order, Order::Down) {
                        break;
                    }
                    self.obey(order);
                }
                Some(change) = self.changed.recv() => {
                    self.note(change);
                    // Whatever else has changed meanwhile is written with it.
                    while let Ok(change) = self.changed.try_recv() {
                        self.note(change);
                    }
                    self.publish();
                }
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = hangup.recv() => break,
            }
        }
        self.end().await;
        Ok(())
    }

    async fn end(&mut self) {
        for member in self.members.values() {
            member.task.stop();
        }
        let _ = tokio::time::timeout(END_DEADLINE, async {
            while !self.members.is_empty() {
                let Some(change) = self.changed.recv().await else { return };
                if change.state.is_none() {
                    self.members.remove(&change.key);
                }
            }
        })
        .await;
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Change { file, yaml, remove, answer } => {
                let _ = answer.send(self.change(&file, &yaml, remove));
            }
            Order::Status(answer) => {
                let _ = answer.send(self.status());
            }
            Order::Find { pod, container, answer } => {
                let _ = answer.send(self.find(&pod, container.as_deref()));
            }
            Order::Component { component, node, answer } => {
                let _ = answer.send(self.component(&component, &node));
            }
            Order::Scale { key, replicas, answer } => {
                let _ = answer.send(self.scale(key, replicas));
            }
            Order::Replace { node, answer } => {
                let _ = answer.send(self.replace(&node));
            }
            Order::Down => {}
        }
    }

    fn change(&mut self, file: &str, yaml: &str, remove: bool) -> Reply {
        let (objects, mut problems) = manifest::read(Path::new(file), yaml);
        let mut lines = Vec::new();
        for (key, object) in objects {
            if remove {
                match self.objects.remove(&key) {
                    Some(_) => lines.push(format!("{key} deleted")),
                    None => problems.push(manifest::problem(&object.origin, format!("{key} is not there"))),
                }
                continue;
            }
            let done = match self.objects.get(&key) {
                Some(old) if old.value == object.value => "unchanged",
                Some(_) => "configured",
                None => "created",
            };
            lines.push(format!("{key} {done}"));
            self.objects.insert(key, object);
        }
        self.replan();
        let mine = |problem: &&Problem| problem.file == file;
        problems.extend(self.plan.problems.iter().chain(&self.gateway_problems).filter(mine).cloned());
        Reply::Changed { lines, problems }
    }

    fn note(&mut self, change: PodChange) {
        let Some(member) = self.members.get_mut(&change.key).filter(|member| member.plan.uid == change.uid) else {
            return;
        };
        match change.state {
            Some(state) => member.state = state,
            None => {
                self.members.remove(&change.key);
                // Another of the same name may have waited for this.
                self.settle();
            }
        }
        self.hand_over();
    }

    /// Tells the mesh and the nodes how things are.
    fn publish(&mut self) {
        let here = self.members.iter().filter(|(_, member)| !member.leaving);
        let states: BTreeMap<_, _> = here.map(|(key, member)| (key.clone(), member.state.clone())).collect();
        self.slices = kubelet::slices(&self.plan, &self.all, &states);
        let mut documents = kubelet::documents(&self.plan, &self.slices, &states, |pod| self.site.world.pod_path(pod));
        // Pods on their way out are there until they are gone, as in a cluster.
        for (key, member) in self.members.iter().filter(|(_, member)| member.leaving) {
            if !self.plan.pods.contains_key(key) {
                kubelet::leaving(&mut documents, &member.plan, &member.state, &self.site.world.pod_path(&member.plan));
            }
        }
        if self.options.mesh {
            documents.extend(gateways::statuses(&self.all, &self.plan, &self.slices, &mut self.assigned));
        }
        if let Err(error) = self.writer.write(documents) {
            tracing::error!(%error, "cannot write the configuration of the mesh");
        }
        let rules = kubeproxy::rules(&self.plan, &self.slices);
        for node in &self.plan.nodes {
            if self.rules.get(&node.name) == Some(&rules) {
                continue;
            }
            let applied = self.site.world.node(&node.name).and_then(|netns| nat::apply_services(&netns, &rules));
            match applied {
                Ok(()) => drop(self.rules.insert(node.name.clone(), rules.clone())),
                Err(error) => tracing::error!(node = %node.name, %error, "cannot program Service addresses"),
            }
        }
    }

    fn status(&self) -> StatusReport {
        let members = self.members.values().map(|member| (&*member.plan, &member.state, member.leaving));
        let redirection = report::redirection(&self.site.run_dir);
        let mut problems = self.problems.clone();
        problems.extend(self.plan.problems.iter().chain(&self.gateway_problems).cloned());
        report::status(&self.site, &self.plan, &self.slices, members, &redirection, problems)
    }

    fn find(&self, name: &str, container: Option<&str>) -> Result<Found, String> {
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, name),
        };
        let here = || self.members.values().filter(|member| !member.leaving);
        let in_namespace = |member: &&Member| namespace.is_none_or(|wanted| member.plan.key.namespace == wanted);
        let exact: Vec<_> = here().filter(in_namespace).filter(|member| member.plan.key.name == name).collect();
        let owned: Vec<_> = here().filter(in_namespace).filter(|member| member.plan.owner.name == name).collect();
        let member = match (exact.as_slice(), owned.as_slice()) {
            ([one], _) => one,
            // Any pod of a workload does, if it is one workload.
            ([], [first, rest @ ..]) if rest.iter().all(|member| member.plan.owner == first.plan.owner) => first,
            ([], []) => return Err(format!("there is no pod or workload `{name}`")),
            _ => return Err(format!("there is more than one `{name}`: say NAMESPACE/{name}")),
        };
        let mut states = member.state.containers.iter();
        let state = match container {
            Some(wanted) => states.find(|state| state.name == wanted),
            None => states.next(),
        };
        let state = state.ok_or_else(|| format!("pod {name} has no container {}", container.unwrap_or_default()))?;
        Ok(Found { pod: member.plan.clone(), container: state.name.clone(), process: state.process })
    }

    fn component(&self, component: &str, node: &str) -> Result<Found, String> {
        let fits = |member: &&Member| {
            member.plan.component.as_deref() == Some(component) && (component == "istiod" || member.plan.node == node)
        };
        let member = self.members.values().filter(|member| !member.leaving).find(fits);
        let member = member.ok_or_else(|| format!("there is no {component} on node `{node}`"))?;
        self.find(&format!("{}/{}", member.plan.key.namespace, member.plan.key.name), None)
    }
}
