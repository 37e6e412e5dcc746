//! A destination: its endpoints of now, what is under way to it, and which of its endpoints are out.
//!
//! The list of endpoints is made anew, once, when the view has changed; what requests came to goes on
//! from one list to the next. Destinations are shared by all cores, so that limits and health count
//! what all of them do; connections are not.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use foldhash::fast::RandomState;
use mesh::route::traffic::Traffic;
use mesh::{ServiceKey, Str, View, Workload};
use tokio::time::Instant;

use super::hosts::{self, Asked, Host, Load};
pub use super::members::Hosts;
use super::members::tiers;
use super::origination::Origination;
use crate::adaptive::Adaptive;
use crate::budget::{Breakers, Most};
use crate::limits::CLUSTERS_MAX;
use crate::outlier::{Decision, Detector, Heard};

/// Which destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterKey {
    /// The service.
    pub service: ServiceKey,
    /// Its port.
    pub port: u16,
    /// Only these of its endpoints.
    pub subset: Option<Str>,
}

impl fmt::Display for ClusterKey {
    /// The name that Istio gives it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subset = self.subset.as_deref();
        let part = subset.map(|subset| format!("/{subset}")).unwrap_or_default();
        write!(f, "inbound-vip|{}|http{part}|{}", self.port, self.service.hostname)
    }
}

/// A destination.
pub struct Cluster {
    /// Which one.
    pub key: ClusterKey,
    /// Its name in logs.
    pub name: Str,
    /// What is under way.
    pub breakers: Breakers,
    /// How many requests went out, for taking turns.
    pub turn: AtomicUsize,
    /// How many endpoints are out.
    ejected: AtomicUsize,
    now: ArcSwapOption<Hosts>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    detector: Option<Detector>,
    adaptive: Option<Adaptive>,
}

/// Who asks for a destination: what does not change from one to the other.
pub struct Place<'a> {
    /// The mesh.
    pub view: &'a View,
    /// Our own workload.
    pub own: Option<&'a Workload>,
    /// Our own network.
    pub network: &'a str,
}

/// Every destination that something was sent to.
pub struct Clusters {
    began: Instant,
    known: ArcSwap<HashMap<ClusterKey, Arc<Cluster>, RandomState>>,
    adding: Mutex<()>,
}

impl Default for Clusters {
    fn default() -> Self {
        Self { began: Instant::now(), known: ArcSwap::default(), adding: Mutex::default() }
    }
}

impl Clusters {
    /// A destination; none: so many are known that one more is not taken, or there is no such service.
    pub fn of(&self, key: &ClusterKey, place: &Place<'_>) -> Option<(Arc<Cluster>, Arc<Hosts>)> {
        let found = self.known.load().get(key).cloned();
        let cluster = match found {
            Some(cluster) => cluster,
            None => self.add(key, place.view)?,
        };
        let hosts = cluster.hosts(place, self.now())?;
        Some((cluster, hosts))
    }

    /// A workload that is asked for by its address, as a destination of one endpoint.
    pub fn of_workload(&self, workload: &Arc<Workload>, address: SocketAddr) -> Option<(Arc<Cluster>, Arc<Hosts>)> {
        let hostname: Str = address.ip().to_string().into();
        let service = ServiceKey { namespace: workload.namespace.clone(), hostname };
        let key = ClusterKey { service, port: address.port(), subset: None };
        self.of_place(&key, workload, hosts::place_at(None, workload, address)?)
    }

    /// A workload as a destination of its own, reached in this way.
    pub fn of_place(
        &self,
        key: &ClusterKey,
        workload: &Arc<Workload>,
        place: hosts::Place,
    ) -> Option<(Arc<Cluster>, Arc<Hosts>)> {
        let found = self.known.load().get(key).cloned();
        let cluster = match found {
            Some(cluster) => cluster,
            None => self.insert(key, |_| false)?,
        };
        let last = cluster.last();
        let same = |hosts: &Arc<Hosts>| hosts.all.first().and_then(|host| host.workload.clone());
        if let Some(hosts) = last.filter(|hosts| same(hosts).is_some_and(|known| known == *workload)) {
            return Some((cluster, hosts));
        }
        let hosts = Arc::new(Hosts::of_workload(workload, place, key));
        cluster.now.store(Some(hosts.clone()));
        Some((cluster, hosts))
    }

    fn add(&self, key: &ClusterKey, view: &View) -> Option<Arc<Cluster>> {
        view.service(&key.service)?;
        self.insert(key, |key| view.service(&key.service).is_some())
    }

    /// Adds a destination; those that are not to be kept make room for it.
    fn insert(&self, key: &ClusterKey, kept: impl Fn(&ClusterKey) -> bool) -> Option<Arc<Cluster>> {
        let _one = lock(&self.adding);
        let mut known = HashMap::clone(&self.known.load());
        if let Some(cluster) = known.get(key) {
            return Some(cluster.clone());
        }
        if known.len() >= CLUSTERS_MAX {
            known.retain(|key, _| kept(key));
        }
        if known.len() >= CLUSTERS_MAX {
            return None;
        }
        let cluster = Arc::new(Cluster::new(key.clone()));
        known.insert(key.clone(), cluster.clone());
        self.known.store(Arc::new(known));
        Some(cluster)
    }

    /// Lets endpoints back in whose time is over. To be called about every second.
    pub fn sweep(&self) {
        let now = self.now();
        for cluster in self.known.load().values() {
            cluster.sweep(now);
        }
    }

    /// What has passed since there are any.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Arc<Cluster>> {
        let mut all: Vec<_> = self.known.load().values().cloned().collect();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }
}

impl Cluster {
    fn new(key: ClusterKey) -> Self {
        Self {
            name: key.to_string().into(),
            key,
            breakers: Breakers::default(),
            turn: AtomicUsize::new(0),
            ejected: AtomicUsize::new(0),
            now: ArcSwapOption::empty(),
            state: Mutex::default(),
        }
    }

    /// The list that was made last.
    pub fn last(&self) -> Option<Arc<Hosts>> {
        self.now.load_full()
    }

    /// How many endpoints are out.
    pub fn ejected(&self) -> usize {
        self.ejected.load(Relaxed)
    }

    /// The endpoints by this view.
    fn hosts(&self, place: &Place<'_>, now: Duration) -> Option<Arc<Hosts>> {
        if let Some(hosts) = &*self.now.load()
            && hosts.version == place.view.version()
        {
            return Some(hosts.clone());
        }
        let mut state = lock(&self.state);
        let before = self.now.load_full();
        if let Some(hosts) = &before
            && hosts.version >= place.view.version()
        {
            return Some(hosts.clone());
        }
        let hosts = Arc::new(self.listed(place, before.as_deref(), &mut state, now)?);
        self.now.store(Some(hosts.clone()));
        Some(hosts)
    }

    fn listed(&self, place: &Place<'_>, before: Option<&Hosts>, state: &mut State, now: Duration) -> Option<Hosts> {
        let service = place.view.service(&self.key.service)?.clone();
        let rules = place.view.service_rules(&self.key.service).map(|compiled| compiled.rules());
        let subset = match &self.key.subset {
            // A subset that there is not has no endpoints.
            Some(name) => Some(rules.and_then(|rules| rules.subset(name))?),
            None => None,
        };
        let of_port = |all: &'_ [Traffic], port| all.iter().find(|traffic| traffic.port == port).cloned();
        let of_subset = subset.and_then(|subset| {
            of_port(&subset.traffic, Some(self.key.port)).or_else(|| of_port(&subset.traffic, None))
        });
        let traffic = of_subset.or_else(|| rules.and_then(|rules| rules.traffic(self.key.port)).cloned());
        let traffic = traffic.unwrap_or_default();
        state.follow(&traffic, now);
        let asked = Asked {
            view: place.view,
            own: place.own,
            network: place.network,
            key: &self.key,
            service: &service,
            traffic: &traffic,
            members: subset.map(|subset| &subset.members[..]),
        };
        // Twice, because the detector must know its endpoints before it gives tallies.
        let names: Vec<Str> = place.view.endpoints(&self.key.service).map(|found| found.workload.uid.clone()).collect();
        if let Some(detector) = &mut state.detector {
            detector.endpoints(names.iter());
        }
        let earlier: HashMap<&Str, &Arc<Host>> =
            before.iter().flat_map(|before| &before.all).map(|host| (&host.uid, host)).collect();
        // Endpoints that come later than the destination itself are new, and may be warmed up.
        let born = before.map(|_| now);
        let all = hosts::list(&asked, |uid| {
            let load = earlier.get(uid).map_or_else(|| Arc::new(Load::new(born)), |host| host.load.clone());
            let tally = state.detector.as_ref().and_then(|detector| detector.tally(uid));
            (load, tally.unwrap_or_default())
        });
        self.ejected.store(state.detector.as_ref().map_or(0, Detector::out), Relaxed);
        let same_tls = before.filter(|before| before.traffic.tls == traffic.tls);
        let origination = match same_tls {
            Some(before) => before.origination.clone(),
            None => traffic.tls.as_ref().map(|settings| Arc::new(Origination::new(settings))),
        };
        Some(Hosts {
            version: place.view.version(),
            most: Most::of(&traffic.pool, traffic.retry_budget),
            protocol: hosts::protocol(&service, self.key.port),
            tiers: tiers(&all),
            all,
            service,
            traffic: Arc::new(traffic),
            origination,
            table: OnceLock::new(),
        })
    }

    /// What a request to an endpoint came to.
    pub fn heard(&self, hosts: &Hosts, host: &Host, heard: Heard, now: Duration) {
        let Some(settings) = &hosts.traffic.outlier else { return };
        if host.tally.heard(settings, heard).is_none() {
            return;
        }
        let mut state = lock(&self.state);
        let Some(detector) = &mut state.detector else { return };
        if let Decision::Ejected(time) = detector.failed(&host.uid, now) {
            self.ejected.store(detector.out(), Relaxed);
            drop(state);
            tracing::info!(
                cluster = &*self.name,
                endpoint = &*host.uid,
                "the endpoint fails and is left out for {time:?}"
            );
        }
    }

    /// Whether one more request is let through by what latency says; to be ended by [`Cluster::left`].
    pub fn enter(&self, hosts: &Hosts) -> bool {
        hosts.traffic.adaptive.is_none() || lock(&self.state).adaptive.as_mut().is_none_or(Adaptive::enter)
    }

    /// A request that was let through by [`Cluster::enter`] has ended.
    pub fn left(&self, hosts: &Hosts, how: crate::adaptive::Ended) {
        if hosts.traffic.adaptive.is_some()
            && let Some(adaptive) = &mut lock(&self.state).adaptive
        {
            adaptive.ended(how);
        }
    }

    fn sweep(&self, now: Duration) {
        let mut state = lock(&self.state);
        let Some(detector) = &mut state.detector else { return };
        let back = detector.sweep(now);
        self.ejected.store(detector.out(), Relaxed);
        drop(state);
        for endpoint in back {
            tracing::info!(cluster = &*self.name, endpoint = &*endpoint, "the endpoint is tried again");
        }
    }
}

impl State {
    /// Takes over other settings; what was learnt by the old ones goes on where it can.
    fn follow(&mut self, traffic: &Traffic, now: Duration) {
        self.detector = match (self.detector.take(), &traffic.outlier) {
            (_, None) => None,
            (None, Some(settings)) => Some(Detector::new(settings.clone(), now)),
            (Some(mut detector), Some(settings)) => {
                detector.change(settings.clone());
                Some(detector)
            }
        };
        match (&self.adaptive, traffic.adaptive) {
            (_, None) => self.adaptive = None,
            (None, Some(bounds)) => self.adaptive = Some(Adaptive::new(bounds)),
            (Some(_), Some(_)) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole after each change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
