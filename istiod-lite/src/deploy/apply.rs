//! Makes gateways' objects so: the only part of this room that waits. Only while we lead.

use super::{
    asked::{self, Asked, CLASS, CONTROLLER, CONTROLLER_VERSION, MANAGED, MANAGED_BY, OUR_VERSION},
    outcome::{Outcomes, invalid, undeployed},
    parameters::{self, ConfigMaps},
    render::render,
    settings::Settings,
    step::{self, Applied, Live, Place, Step, foreign, hash, steps},
};
use crate::{
    facts::{Condition, FactKey, Kind},
    ledger::{self, Entries, Ledger},
    limits,
    publish::SharedIndex,
};
use chassis::{backoff::Backoff, objects::ObjectEvent};
use cluster::{
    CallError, Client, Resource, resource,
    watch::{self, Watches},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// In whose name objects are applied, as Istio does.
const MANAGER: &str = "istio.io/gateway-controller";

/// The kinds that are made, and watched for what others do to them.
const KINDS: [Resource; 5] = [
    resource::SERVICE_ACCOUNT,
    resource::DEPLOYMENT,
    resource::SERVICE,
    resource::HORIZONTAL_POD_AUTOSCALER,
    resource::POD_DISRUPTION_BUDGET,
];

/// What the deployment of gateways goes by.
#[derive(Debug)]
pub struct Deployer {
    /// The cluster.
    pub client: Client,
    /// Whether we lead.
    pub leads: tokio::sync::watch::Receiver<bool>,
    /// What is known of the mesh.
    pub index: SharedIndex,
    /// What is known of objects.
    pub ledger: Arc<Ledger>,
    /// What became of each gateway.
    pub outcomes: Arc<Outcomes>,
    /// What the chart says.
    pub settings: Settings,
}

impl Deployer {
    /// Deploys gateways while we lead, until leadership is no more to be had.
    pub async fn run(mut self) {
        while self.leads.wait_for(|leads| *leads).await.is_ok() {
            let mut leads = self.leads.clone();
            tokio::select! {
                () = self.lead() => {}
                // What is under way may be done in part: the next leader begins from what is there.
                _ = leads.wait_for(|leads| !*leads) => {}
            }
        }
    }

    async fn lead(&self) {
        let mut moved = self.ledger.moved();
        // Before the first moment nothing is known, and nothing must be deleted.
        if moved.wait_for(|moved| moved.moments > 0).await.is_err() {
            return;
        }
        let mut watches = Watches::open(&self.client, KINDS.map(watched).into());
        let mut standing = Standing::default();
        standing.take(watches.next().await);
        let mut seen = None;
        loop {
            let inputs = (moved.borrow_and_update().deployments, self.index.read().mesh_network());
            let due = standing.next_try().is_some_and(|at| at <= Instant::now());
            if seen.as_ref() != Some(&inputs) || due || std::mem::take(&mut standing.changed) {
                seen = Some(inputs);
                self.pass(&mut standing).await;
            }
            let next = standing.next_try().unwrap_or_else(|| Instant::now() + limits::DEPLOY_REVIEW);
            tokio::select! {
                // Cancelling loses nothing: what was not taken is told by the next call.
                events = watches.next() => standing.take(events),
                ended = moved.changed() => if ended.is_err() { return },
                () = sleep_until(next) => {}
            }
        }
    }

    /// Looks at every gateway once.
    async fn pass(&self, standing: &mut Standing) {
        let (entries, network) = (self.ledger.read().clone(), self.index.read().mesh_network());
        self.ensure_class(&entries, standing).await;
        let gateways: BTreeSet<&FactKey> = ledger::of_kind(&entries, Kind::Gateway).map(|(key, _)| key).collect();
        standing.tries.retain(|key, _| gateways.contains(key));
        self.outcomes.keep(|key| gateways.contains(key));
        for (key, gateway) in ledger::of_kind(&entries, Kind::Gateway) {
            let (failure, wait) = match self.wanted(gateway, &entries, &network) {
                None => (None, false),
                Some(Err(failure)) => (Some(failure), false),
                Some(Ok(wanted)) => {
                    let print = hash(&Value::Array(wanted.clone()));
                    if standing.waits(key, print) {
                        continue;
                    }
                    match self.deploy(gateway, &wanted, standing).await {
                        Ok(()) => (None, false),
                        Err(message) => {
                            standing.failed(key, print);
                            (Some(undeployed(message)), true)
                        }
                    }
                }
            };
            if !wait {
                standing.tries.remove(key);
            }
            if let Some(failure) = &failure {
                tracing::debug!(gateway = %key, reason = %failure.reason, message = %failure.message, "not deployed");
            }
            if self.outcomes.put(key, failure) {
                self.ledger.settle();
            }
        }
    }

    /// The objects of a gateway, or what is wrong; `None`: it is not ours to deploy.
    fn wanted(&self, gateway: &Value, entries: &Entries, network: &str) -> Option<Result<Vec<Value>, Condition>> {
        let asked = Asked::of(gateway);
        let class = FactKey { kind: Kind::GatewayClass, namespace: "".into(), name: asked.class.as_str().into() };
        if !asked::is_ours(&asked.class, entries.get(&class).map(|class| &**class)) {
            return None;
        }
        if asked::left(gateway, &self.settings.revision).is_some() {
            return None;
        }
        if self.settings.image.is_empty() {
            let message = "the control plane was not told of an image: set WAYPOINT_IMAGE (chart value global.hub)";
            return Some(Err(undeployed(message.to_owned())));
        }
        let maps = ledger::of_kind(entries, Kind::ConfigMap);
        let maps: ConfigMaps<'_> = maps.map(|(key, map)| ((&*key.namespace, &*key.name), &**map)).collect();
        let overlays = parameters::overlays(&asked, &self.settings.root_namespace, &maps);
        let rendered = overlays.and_then(|overlays| render(&asked, network, &overlays, &self.settings));
        Some(rendered.map_err(invalid))
    }

    async fn deploy(&self, gateway: &Value, wanted: &[Value], standing: &mut Standing) -> Result<(), String> {
        let asked = Asked::of(gateway);
        if asked.controller_version.as_deref() != Some(&OUR_VERSION.to_string()) {
            let patch = json!({ "metadata": { "uid": asked.uid, "annotations": { CONTROLLER_VERSION: OUR_VERSION.to_string() } } });
            let resource = &resource::GATEWAY;
            let patched = self.client.merge_patch(resource, &asked.namespace, &asked.name, "", &patch).await;
            patched.map_err(|error| format!("Gateway {}/{}: {error}", asked.namespace, asked.name))?;
        }
        for step in steps(&asked.uid, wanted, &standing.live, &standing.applied) {
            match step {
                Step::Look(object) => {
                    self.look(&object).await?;
                    self.apply(&object, standing).await?;
                }
                Step::Apply(object) => self.apply(&object, standing).await?,
                Step::Delete(place, uid) => self.delete(place, &uid, standing).await?,
            }
        }
        Ok(())
    }

    /// Whether an object of somebody else is in the way.
    async fn look(&self, object: &Value) -> Result<(), String> {
        let (kind, namespace, name) = step::place(object);
        let there = match self.client.get(resource_of(&kind)?, &namespace, &name).await {
            Ok(there) => there,
            Err(CallError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(format!("{kind} {namespace}/{name}: {error}")),
        };
        foreign(&there).map_or(Ok(()), Err)
    }

    async fn apply(&self, object: &Value, standing: &mut Standing) -> Result<(), String> {
        let place = step::place(object);
        let (kind, namespace, name) = &place;
        let applied = self.client.apply(resource_of(kind)?, object, MANAGER, true).await;
        let answer = applied.map_err(|error| format!("{kind} {namespace}/{name}: {error}"))?;
        let applied = Applied { sent: hash(object), print: step::print(&answer) };
        if standing.live.insert(place.clone(), step::live(&answer)).is_none() {
            tracing::info!(kind, namespace, name, "made for a gateway");
        }
        standing.applied.insert(place, applied);
        Ok(())
    }

    async fn delete(&self, place: Place, uid: &str, standing: &mut Standing) -> Result<(), String> {
        let (kind, namespace, name) = &place;
        let deleted = self.client.delete(resource_of(kind)?, namespace, name, Some(uid)).await;
        deleted.map_err(|error| format!("{kind} {namespace}/{name}: {error}"))?;
        tracing::info!(kind, namespace, name, "not wanted by its gateway any more, deleted");
        standing.applied.remove(&place);
        standing.live.remove(&place);
        Ok(())
    }

    /// The class of waypoints, unless somebody made one. Without Gateway API there is none.
    async fn ensure_class(&self, entries: &Entries, standing: &mut Standing) {
        let key = FactKey { kind: Kind::GatewayClass, namespace: "".into(), name: CLASS.into() };
        if entries.contains_key(&key) || standing.waits(&key, 0) {
            return;
        }
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": { "name": CLASS },
            "spec": { "controllerName": CONTROLLER, "description": "The default Istio waypoint GatewayClass" },
        });
        match self.client.create(&resource::GATEWAY_CLASS, &class).await {
            Ok(_) => tracing::info!(class = CLASS, "made the class of waypoints"),
            Err(CallError::AlreadyExists(_)) => {}
            Err(CallError::NotFound(_)) => standing.failed(&key, 0),
            Err(error) => {
                tracing::warn!(class = CLASS, %error, "the class of waypoints cannot be made");
                standing.failed(&key, 0);
            }
        }
    }
}

/// What there is, what we did, and what is to be tried again.
#[derive(Debug, Default)]
struct Standing {
    live: BTreeMap<Place, Live>,
    applied: BTreeMap<Place, Applied>,
    tries: BTreeMap<FactKey, Try>,
    changed: bool,
}

#[derive(Debug)]
struct Try {
    at: Instant,
    /// Of what was wanted; something else is tried at once.
    print: u64,
    backoff: Backoff,
}

impl Standing {
    fn take(&mut self, events: Vec<ObjectEvent>) {
        for event in events {
            self.changed = true;
            match event {
                ObjectEvent::Applied(object) => {
                    drop(self.live.insert(step::place(&object.value), step::live(&object.value)));
                }
                ObjectEvent::Removed(key) => drop(self.live.remove(&(key.kind, key.namespace, key.name))),
                ObjectEvent::Problem(problem) => tracing::warn!(%problem, "cannot see what gateways are made of"),
            }
        }
    }

    fn waits(&self, gateway: &FactKey, print: u64) -> bool {
        self.tries.get(gateway).is_some_and(|one| one.print == print && one.at > Instant::now())
    }

    fn failed(&mut self, gateway: &FactKey, print: u64) {
        let first = || Try { at: Instant::now(), print, backoff: RETRY };
        let one = self.tries.entry(gateway.clone()).or_insert_with(first);
        if one.print != print {
            one.backoff.reset();
        }
        (one.print, one.at) = (print, Instant::now() + one.backoff.next(rand::random()));
    }

    fn next_try(&self) -> Option<Instant> {
        self.tries.values().map(|one| one.at).min()
    }
}

const RETRY: Backoff = Backoff::new(Duration::from_millis(500), limits::DEPLOY_RETRY_MAX);

fn watched(resource: Resource) -> watch::Kind {
    let of_gateways = format!("{MANAGED}={MANAGED_BY}");
    // These have no generation that tells of changes, so they are read whole.
    let whole = matches!(&*resource.kind, "Service" | "HorizontalPodAutoscaler");
    let kind = watch::Kind::of(resource).labels(&of_gateways);
    if whole { kind } else { kind.metadata_only() }
}

fn resource_of(kind: &str) -> Result<&'static Resource, String> {
    KINDS_BY_NAME.iter().find(|known| known.kind == kind).ok_or_else(|| format!("{kind} is no kind that is made here"))
}

static KINDS_BY_NAME: [Resource; 5] = KINDS;
