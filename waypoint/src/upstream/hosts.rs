//! Which endpoints a destination has, and how each is reached: a view turned into a list. Pure, but
//! for what a request leaves behind at an endpoint ([`Load`]), which goes on from one list to the next.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hbone::head::Authority;
use mesh::balance;
use mesh::route::traffic::Traffic;
use mesh::service::{AppProtocol, IpFamilies};
use mesh::workload::{Health, Protocol};
use mesh::{Identity, Service, Str, View, Workload};

use super::cluster::ClusterKey;
use super::locality;
use crate::outlier::Tally;
use crate::report::Party;

/// Where node proxies take tunnels.
pub(crate) const HBONE_PORT: u16 = 15008;

/// How an endpoint is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Through a tunnel to its node.
    Tunnel {
        /// Where the tunnel ends.
        to: SocketAddr,
        /// What is asked for.
        authority: Authority,
        /// Who must be there.
        expected: Arc<[Identity]>,
    },
    /// As it is.
    Plain(SocketAddr),
    /// By a name that must be resolved.
    Name(Str, u16),
}

/// One endpoint of a destination.
#[derive(Debug)]
pub struct Host {
    /// What is known of it; none: an address that the caller dialled.
    pub workload: Option<Arc<Workload>>,
    /// Its name, unique in the destination.
    pub uid: Str,
    /// How it is reached.
    pub place: Place,
    /// Its share among those as near as it.
    pub weight: u32,
    /// How near it is; the larger, the nearer.
    pub rank: usize,
    /// Which line of a distribution it is in, and the percent of that.
    pub share: Option<(usize, u32)>,
    /// What requests came to.
    pub load: Arc<Load>,
    /// Its failures one after the other.
    pub tally: Arc<Tally>,
    /// Who it is to metrics and logs, once one asks.
    pub(super) told: OnceLock<Party>,
}

impl Host {
    /// Who it is to metrics and logs; none where nothing is known of it. Ten names are hashed for that,
    /// which was a fortieth of the CPU of a request when each did it.
    pub fn party(&self) -> Option<Party> {
        let workload = self.workload.as_ref()?;
        Some(self.told.get_or_init(|| Party::of(Some(workload), workload.identity().ok().as_ref())).clone())
    }
}

/// What requests to an endpoint came to lately.
#[derive(Debug)]
pub struct Load {
    /// Requests under way.
    pub in_flight: AtomicU32,
    /// Latency, smoothed, in microseconds; 0: none known.
    latency: AtomicU64,
    /// When the last one was heard, in milliseconds of the process.
    heard: AtomicU64,
    /// When the endpoint came, if the destination was there already.
    pub born: Option<Duration>,
}

/// How fast an old latency is forgotten: after so long a third is left of it.
const DECAY: Duration = Duration::from_secs(10);
/// What an endpoint is taken for of which nothing is known: quick, so that it is tried.
const UNKNOWN_LATENCY: u64 = 1_000;
/// How much slower than it was a failure makes an endpoint, and what it makes one that was quick: an
/// endpoint that fails fast must not look like a fast one.
const FAILURE_PENALTY: u64 = 4;
const FAILURE_LEAST: u64 = 100_000;
const FAILURE_MOST: u64 = 30_000_000;

impl Load {
    /// Of an endpoint that came at `born`.
    pub fn new(born: Option<Duration>) -> Self {
        Self { in_flight: AtomicU32::new(0), latency: AtomicU64::new(0), heard: AtomicU64::new(0), born }
    }

    /// A response began after `latency`.
    pub fn answered(&self, latency: Duration, now: Duration) {
        self.sample(latency.as_micros().try_into().unwrap_or(u64::MAX), now);
    }

    /// There was none.
    pub fn failed(&self, now: Duration) {
        let latency = self.latency.load(Relaxed).saturating_mul(FAILURE_PENALTY);
        self.sample(latency.clamp(FAILURE_LEAST, FAILURE_MOST), now);
    }

    /// A slow answer counts at once, a quick one little by little. Two cores that write at the same
    /// time lose one sample of many.
    fn sample(&self, micros: u64, now: Duration) {
        let (old, now) = (self.latency.load(Relaxed), now.as_millis() as u64);
        let passed = now.saturating_sub(self.heard.swap(now, Relaxed));
        let new = if micros >= old {
            micros
        } else {
            let left = (-(passed as f64) / DECAY.as_millis() as f64).exp();
            // At least a thousandth of the way, so that a burst within a millisecond counts too.
            let left = left.min(0.999);
            (old as f64 * left + micros as f64 * (1.0 - left)) as u64
        };
        self.latency.store(new.max(1), Relaxed);
    }

    /// What one more request would cost here: how long, times how many wait.
    pub fn cost(&self) -> u64 {
        let latency = match self.latency.load(Relaxed) {
            0 => UNKNOWN_LATENCY,
            latency => latency,
        };
        latency.saturating_mul(u64::from(self.in_flight.load(Relaxed)) + 1)
    }
}

/// What a list of endpoints is made from.
pub struct Asked<'a> {
    /// The mesh.
    pub view: &'a View,
    /// Our own workload, for distances.
    pub own: Option<&'a Workload>,
    /// Our own network.
    pub network: &'a str,
    /// The destination.
    pub key: &'a ClusterKey,
    /// Its service.
    pub service: &'a Service,
    /// How it is reached.
    pub traffic: &'a Traffic,
    /// Names of the endpoints of the subset, sorted; none: all.
    pub members: Option<&'a [Str]>,
}

/// Every endpoint that may be used, by the view alone. Of those that were there before, what is known
/// goes on: `kept` gives it, by uid.
pub fn list(asked: &Asked<'_>, mut kept: impl FnMut(&Str) -> (Arc<Load>, Arc<Tally>)) -> Vec<Arc<Host>> {
    let mut hosts = Vec::new();
    for endpoint in asked.view.endpoints(&asked.key.service) {
        let workload = endpoint.workload;
        let healthy = workload.health == Health::Healthy || asked.service.load_balancing.allow_unhealthy;
        let member = asked.members.is_none_or(|members| members.binary_search(&workload.uid).is_ok());
        if !healthy || !member || workload.capacity == 0 || *workload.network != *asked.network {
            continue;
        }
        let preference = asked.traffic.locality.as_ref();
        let Some(rank) = locality::rank(preference, asked.service, workload, asked.own) else { continue };
        let Some(port) = balance::port(asked.service, &endpoint, asked.key.port) else { continue };
        let Some(place) = place(asked.service, workload, port) else { continue };
        let (load, tally) = kept(&workload.uid);
        hosts.push(Arc::new(Host {
            workload: Some(workload.clone()),
            uid: workload.uid.clone(),
            place,
            weight: workload.capacity,
            rank,
            share: preference.zip(asked.own).and_then(|(preference, own)| locality::share(preference, workload, own)),
            load,
            tally,
            told: OnceLock::new(),
        }));
    }
    hosts
}

/// How a port of a workload is reached; none: it cannot be.
pub fn place(service: &Service, workload: &Workload, port: u16) -> Option<Place> {
    let serves = |ip: &IpAddr| match service.ip_families {
        IpFamilies::Automatic | IpFamilies::Dual => true,
        IpFamilies::Ipv4Only => ip.is_ipv4(),
        IpFamilies::Ipv6Only => ip.is_ipv6(),
    };
    let address = workload.addresses.iter().map(IpAddr::to_canonical).find(serves);
    match (address, &workload.hostname) {
        (Some(ip), _) => place_at(Some(service), workload, SocketAddr::new(ip, port)),
        (None, Some(hostname)) => Some(Place::Name(hostname.clone(), port)),
        (None, None) => None,
    }
}

/// How an address of a workload is reached; none: its identity cannot be, so nobody could be expected.
pub fn place_at(service: Option<&Service>, workload: &Workload, address: SocketAddr) -> Option<Place> {
    if workload.protocol == Protocol::Plain {
        return Some(Place::Plain(address));
    }
    let names = service.into_iter().flat_map(|service| &service.subject_alt_names);
    let named = names.filter_map(|name| name.parse::<Identity>().ok());
    let expected: Arc<[Identity]> = std::iter::once(workload.identity().ok()?).chain(named).collect();
    let authority = Authority::address(address.ip(), address.port());
    Some(Place::Tunnel { to: SocketAddr::new(address.ip(), HBONE_PORT), authority, expected })
}

/// What is spoken on the destination's port.
pub fn protocol(service: &Service, port: u16) -> AppProtocol {
    service.ports.get(&port).map(|port| port.app_protocol).unwrap_or_default()
}
