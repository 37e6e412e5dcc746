//! From one plan to the next: which nodes and pods come and go, and how a
//! node's proxy, and the pods of a Deployment, are replaced by later ones without a gap.

use std::sync::Arc;

use super::{Member, Supervisor};
use crate::lab::gateways;
use crate::lab::manifest::{Key, Objects};
use crate::lab::plan::{self, PodPlan};
use crate::lab::pod::PodTask;
use crate::lab::pod::state::PodState;
use crate::lab::system::{self, Proxy};

impl Supervisor {
    /// Plans anew and does what is different.
    pub(super) fn replan(&mut self) {
        // The lab's own objects depend on which nodes there are.
        let mut probe = self.ledger.clone();
        let nodes: Vec<_> =
            plan::plan(&self.objects, self.options.nodes, &mut probe).nodes.into_iter().map(|node| node.name).collect();
        self.proxies.retain(|proxy| nodes.contains(&proxy.node));
        for node in &nodes {
            if !self.proxies.iter().any(|proxy| proxy.node == *node) {
                self.proxies.push(Proxy { node: node.clone(), generation: 1 });
            }
        }
        let mut all = self.objects.clone();
        for (key, object) in system::objects(&self.site.run_dir, &self.options, &nodes, &self.proxies) {
            // A user's namespace labels stay; everything else of ours is ours.
            if key.kind == "Namespace" {
                all.entry(key).or_insert(object);
            } else {
                all.insert(key, object);
            }
        }
        if self.options.mesh {
            self.scaled.retain(|key, _| self.objects.contains_key(key));
            let (made, problems) = gateways::made(&self.objects, &self.options, &self.scaled);
            all.extend(made);
            self.gateway_problems = problems;
        }
        self.rollouts.begin(&self.all, &mut all);
        self.all = Arc::new(all);
        self.site.set_objects(self.all.clone());
        let old = std::mem::take(&mut self.plan);
        self.plan = plan::plan(&self.all, self.options.nodes, &mut self.ledger);
        for node in self.plan.nodes.iter().filter(|node| !old.nodes.contains(node)) {
            if let Err(error) = self.site.world.add_node(node) {
                tracing::error!(node = %node.name, %error, "cannot make a node");
            }
            let _ = std::fs::create_dir_all(self.site.run_dir.agent(&node.name));
        }
        self.settle();
        for node in old.nodes.iter().filter(|node| !self.plan.nodes.contains(node)) {
            self.site.world.remove_node(&node.name);
            self.rules.remove(&node.name);
        }
        self.publish();
    }

    /// Starts the pods that are missing and stops those that are too many.
    pub(super) fn settle(&mut self) {
        for (key, member) in &mut self.members {
            let stays = self.plan.pods.get(key).is_some_and(|pod| pod.uid == member.plan.uid);
            if !stays && !member.leaving {
                member.leaving = true;
                member.task.stop();
            }
        }
        for (key, pod) in &self.plan.pods {
            if self.members.contains_key(key) {
                continue;
            }
            let plan = Arc::new(pod.clone());
            let in_mesh = self.options.mesh && eligible(pod, &self.all);
            let task = PodTask::start(self.site.clone(), plan.clone(), in_mesh, self.changes.clone());
            let state = PodState::new(&plan);
            self.members.insert(key.clone(), Member { plan, state, task, leaving: false });
        }
    }

    /// Gives a waypoint this many pods, whatever its Gateway's parameters say.
    pub(super) fn scale(&mut self, key: Key, replicas: u64) -> Result<(), String> {
        if !self.objects.contains_key(&key) {
            return Err(format!("there is no Gateway {}/{}", key.namespace, key.name));
        }
        self.scaled.insert(key, replicas);
        self.replan();
        Ok(())
    }

    pub(super) fn replace(&mut self, node: &str) -> Result<String, String> {
        let last = self.proxies.iter().filter(|proxy| proxy.node == node).max();
        let last = last.ok_or_else(|| format!("there is no node `{node}`"))?;
        let next = Proxy { node: node.to_owned(), generation: last.generation + 1 };
        let name = next.pod_name();
        self.proxies.push(next);
        self.replan();
        Ok(name)
    }

    /// Takes an earlier proxy away once a later one of its node is ready, and so with pods of Deployments.
    pub(super) fn hand_over(&mut self) {
        let ready = |proxy: &Proxy| {
            let key = Key::new("Pod", system::SYSTEM_NAMESPACE, &proxy.pod_name());
            self.members.get(&key).is_some_and(|member| member.state.is_ready())
        };
        let newest = |node: &str| self.proxies.iter().filter(|proxy| proxy.node == node && ready(proxy)).max().cloned();
        let keep: Vec<_> = self
            .proxies
            .iter()
            .filter(|proxy| newest(&proxy.node).is_none_or(|newest| **proxy >= newest))
            .cloned()
            .collect();
        if keep.len() != self.proxies.len() {
            self.proxies = keep;
            self.replan();
        }
        let members = &self.members;
        if self.rollouts.end(&self.plan, |key| members.get(key).is_some_and(|member| member.state.is_ready())) {
            self.replan();
        }
    }
}

/// Whether the mesh wants a pod from its start. The node agent decides this
/// for itself, again and later; this is what the CNI plugin would ask.
fn eligible(pod: &PodPlan, objects: &Objects) -> bool {
    const MODE: &str = "istio.io/dataplane-mode";
    if pod.spec.host_network || pod.component.is_some() || pod.key.namespace == "kube-system" {
        return false;
    }
    let namespace = objects.get(&Key::new("Namespace", "", &pod.key.namespace));
    let of_namespace = namespace.and_then(|object| object.value.pointer("/metadata/labels"));
    match pod.labels.get(MODE).map(String::as_str) {
        Some("ambient") => true,
        Some("none") => false,
        _ => plan::string_map(of_namespace).get(MODE).is_some_and(|mode| mode == "ambient"),
    }
}
