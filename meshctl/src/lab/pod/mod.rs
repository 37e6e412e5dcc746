//! One pod, from its network to its end. Each is a task of its own that tells
//! the supervisor what changes and never touches another pod.

pub(crate) mod container;
pub(crate) mod log;
pub(crate) mod probe;
pub(crate) mod state;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chassis::task::{self, Task};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use self::container::Keeper;
use self::state::{ContainerState, PodState};
use super::manifest::Key;
use super::plan::podspec::RestartPolicy;
use super::plan::{PodPlan, ledger};
use super::site::Site;

/// How often something that is not there yet is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the node agent may take to take a pod in; it waits for the proxy
/// to take the pod's sockets, for 5 s at most.
const ENROL_DEADLINE: Duration = Duration::from_secs(10);
/// Changes of containers that have not been read yet; a pod has few.
const CHANGES_MAX: usize = 32;

/// What a pod tells the supervisor.
#[derive(Debug)]
pub(crate) struct PodChange {
    pub key: Key,
    pub uid: String,
    /// `None`: nothing of the pod is left.
    pub state: Option<PodState>,
}

/// A pod that runs. Dropping it does not end it well; [`PodTask::stop`] does.
#[derive(Debug)]
pub(crate) struct PodTask {
    stop: watch::Sender<bool>,
    _task: Task<()>,
}

impl PodTask {
    pub(crate) fn start(site: Arc<Site>, pod: Arc<PodPlan>, in_mesh: bool, changes: mpsc::Sender<PodChange>) -> Self {
        let (stop, stopping) = watch::channel(false);
        let _task = task::spawn("pod", run(site, pod, in_mesh, changes, stopping));
        Self { stop, _task }
    }

    /// Asks the pod to end; it tells when it has.
    pub(crate) fn stop(&self) {
        let _ = self.stop.send(true);
    }
}

/// A pod's own directory.
pub(crate) fn directory(site: &Site, pod: &PodPlan) -> PathBuf {
    site.run_dir.pods().join(format!("{}_{}_{}", pod.key.namespace, pod.key.name, &pod.uid[24..]))
}

/// The environment of a container that runs, for commands that join it.
pub(crate) fn environment(site: &Site, pod: &PodPlan, container: &str) -> BTreeMap<String, String> {
    let found = pod.spec.containers.iter().find(|known| known.name == container);
    let known = found.and_then(|container| volumes::environment(site, pod, container).ok());
    known.map_or_else(|| site.base_env.clone(), |(env, _)| env)
}

async fn run(
    site: Arc<Site>,
    pod: Arc<PodPlan>,
    in_mesh: bool,
    changes: mpsc::Sender<PodChange>,
    stopping: watch::Receiver<bool>,
) {
    let mut teller = Teller { pod: pod.clone(), changes, state: PodState::new(&pod) };
    live(&site, &pod, in_mesh, &mut teller, &stopping).await;
    // A pod that has run to its end stays, to be looked at, until it is removed.
    let _ = stopping.clone().wait_for(|stop| *stop).await;
    site.world.remove_pod(&pod);
    let _ = std::fs::remove_dir_all(directory(&site, &pod));
    let _ = teller.changes.send(PodChange { key: pod.key.clone(), uid: pod.uid.clone(), state: None }).await;
}

/// Tells the supervisor, if there is something new.
struct Teller {
    pod: Arc<PodPlan>,
    changes: mpsc::Sender<PodChange>,
    state: PodState,
}

impl Teller {
    async fn tell(&mut self, change: impl FnOnce(&mut PodState)) {
        change(&mut self.state);
        let change =
            PodChange { key: self.pod.key.clone(), uid: self.pod.uid.clone(), state: Some(self.state.clone()) };
        let _ = self.changes.send(change).await;
    }

    async fn hold_up(&mut self, reason: Option<String>) {
        if self.state.held_up != reason {
            self.tell(|state| state.held_up = reason).await;
        }
    }
}

/// Everything until the pod's containers have ended for good.
async fn live(
    site: &Arc<Site>,
    pod: &Arc<PodPlan>,
    in_mesh: bool,
    teller: &mut Teller,
    stopping: &watch::Receiver<bool>,
) {
    let mut stop = stopping.clone();
    let prepared = tokio::select! {
        netns = prepare(site, pod, in_mesh, teller) => netns,
        _ = stop.wait_for(|stop| *stop) => return,
    };
    let Some(netns) = prepared else { return };
    let dir = directory(site, pod);
    let (states, mut told) = mpsc::channel::<ContainerState>(CHANGES_MAX);
    let keeper = |container: &super::plan::podspec::Container| Keeper {
        site: site.clone(),
        pod: pod.clone(),
        container: container.clone(),
        netns: netns.clone(),
        dir: dir.clone(),
        states: states.clone(),
        stop: stopping.clone(),
    };
    for container in &pod.spec.init_containers {
        teller.hold_up(Some(format!("Init:{}", container.name))).await;
        let restart = if pod.spec.restart_policy == RestartPolicy::Never {
            RestartPolicy::Never
        } else {
            RestartPolicy::OnFailure
        };
        let mut running = std::pin::pin!(keeper(container).run(restart));
        let code = loop {
            tokio::select! {
                code = &mut running => break code,
                Some(_) = told.recv() => {}
            }
        };
        if code != 0 {
            teller.hold_up(Some("Init:Error".to_owned())).await;
            return;
        }
    }
    teller.hold_up(None).await;
    let _containers: Vec<_> = pod
        .spec
        .containers
        .iter()
        .map(|container| task::spawn("container", keeper(container).run(pod.spec.restart_policy)))
        .collect();
    drop(states);
    let mut refresh = tokio::time::interval(site.token_lifetime.mul_f64(0.8).max(Duration::from_secs(1)));
    refresh.tick().await;
    loop {
        tokio::select! {
            change = told.recv() => {
                let Some(change) = change else { return };
                teller
                    .tell(|state| {
                        if let Some(known) = state.containers.iter_mut().find(|known| known.name == change.name) {
                            *known = change;
                        }
                    })
                    .await;
            }
            _ = refresh.tick() => {
                if let Err(error) = volumes::write(site, pod, &dir.join("volumes")) {
                    tracing::warn!(pod = %pod.key.name, %error, "cannot refresh the volumes of a pod");
                }
            }
        }
    }
}

/// Makes the pod's network and volumes and has it taken into the mesh.
/// Returns where its network is; `None` if it cannot be made.
async fn prepare(site: &Arc<Site>, pod: &Arc<PodPlan>, in_mesh: bool, teller: &mut Teller) -> Option<PathBuf> {
    let made = {
        let (site, pod) = (site.clone(), pod.clone());
        tokio::task::spawn_blocking(move || site.world.add_pod(&pod)).await
    };
    let netns = match made {
        Ok(Ok(netns)) => netns,
        Ok(Err(error)) => {
            tracing::error!(pod = %pod.key.name, %error, "cannot make the network of a pod");
            teller.hold_up(Some("NetworkFailed".to_owned())).await;
            return None;
        }
        Err(_) => return None,
    };
    // Says where the pod is before anybody is asked to act on it.
    teller.tell(|state| state.networked = true).await;
    let dir = directory(site, pod).join("volumes");
    let mut told = false;
    while let Err(reason) = volumes::write(site, pod, &dir) {
        if !told {
            tracing::debug!(pod = %pod.key.name, %reason, "a pod waits for its volumes");
            teller.hold_up(Some("ContainerCreating".to_owned())).await;
            told = true;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    if in_mesh {
        while let Err(reason) = enrol(site, pod, &netns).await {
            tracing::debug!(pod = %pod.key.name, reason, "a pod waits for the node agent");
            teller.hold_up(Some("WaitingForMesh".to_owned())).await;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
    Some(netns)
}

/// Has the node agent take the pod in before it can send a byte, as the CNI
/// plugin does. Anything but a plain yes leaves the pod waiting.
async fn enrol(site: &Site, pod: &PodPlan, netns: &std::path::Path) -> Result<(), String> {
    let socket = site.run_dir.agent(&pod.node).join("pluginevent.sock");
    let addresses: Vec<_> = pod
        .addresses
        .iter()
        .zip(ledger::pod_addresses(pod.node_number, 1))
        .map(|(address, gateway)| {
            let mask = if address.is_ipv4() { "/////w==" } else { "/////////////////////w==" };
            serde_json::json!({
                "Interface": null, "Address": { "IP": address, "Mask": mask }, "Gateway": gateway,
            })
        })
        .collect();
    let body = serde_json::json!({
        "Netns": netns, "PodName": pod.key.name, "PodNamespace": pod.key.namespace, "IPs": addresses,
    });
    let asking = async {
        let stream = UnixStream::connect(&socket).await?;
        let json = [("Content-Type".to_owned(), "application/json".to_owned())];
        probe::request(stream, "POST", "/cmdadd", "localhost", &json, body.to_string().as_bytes()).await
    };
    match tokio::time::timeout(ENROL_DEADLINE, asking).await {
        Ok(Ok((200, _))) => Ok(()),
        Ok(Ok((status, text))) => Err(format!("the agent answers {status}: {}", text.trim())),
        Ok(Err(error)) => Err(format!("the agent cannot be asked at {}: {error}", socket.display())),
        Err(_) => Err("the agent does not answer".to_owned()),
    }
}

/// The files that name the cluster's resolver and the pod itself.
fn etc_files(pod: &PodPlan, hostname: &str) -> BTreeMap<PathBuf, String> {
    let namespace = &pod.key.namespace;
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for address in &pod.addresses {
        hosts.push_str(&format!("{address}\t{hostname}\n"));
    }
    let resolver = format!(
        "search {namespace}.svc.cluster.local svc.cluster.local cluster.local\nnameserver {}\noptions ndots:5\n",
        ledger::DNS_ADDRESS
    );
    BTreeMap::from([
        (PathBuf::from("/etc/hosts"), hosts),
        (PathBuf::from("/etc/resolv.conf"), resolver),
        (PathBuf::from("/etc/hostname"), format!("{hostname}\n")),
    ])
}
