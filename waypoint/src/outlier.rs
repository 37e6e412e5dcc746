//! Which endpoints are left out for a while because they fail: passive health by what real
//! requests came to (Istio's `outlierDetection`, Envoy's outlier detection).
//!
//! Two parts. A [`Tally`] belongs to one endpoint and counts failures one after the other; it is
//! atomic, so that the request path takes no lock. When it says that an endpoint has failed too
//! often, the [`Detector`] of the destination decides whether the endpoint may be ejected and for
//! how long. Both are pure: time comes in as what has passed since the process started.

use mesh::{Str, route::traffic::Outlier};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

/// What a request to an endpoint came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It answered with this status.
    Status(u16),
    /// It did not answer: no connection, a reset before the response, a time-out of ours.
    LocalFailure,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Errors, one after the other.
    Errors,
    /// 502, 503, 504, one after the other.
    GatewayErrors,
    /// Connections that failed, one after the other.
    LocalFailures,
}

/// The failures of one endpoint, one after the other.
#[derive(Debug, Default)]
pub struct Tally {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
    ejected: AtomicBool,
}

impl Tally {
    /// Counts what a request came to; some: it was once too often, and the detector must be asked.
    pub fn heard(&self, settings: &Outlier, heard: Heard) -> Option<Cause> {
        let split = settings.consecutive_local_failures > 0;
        match heard {
            Heard::LocalFailure if split => {
                counted(&self.local_failures, true, settings.consecutive_local_failures).then_some(Cause::LocalFailures)
            }
            // A connection that failed is what Envoy calls a 503.
            Heard::LocalFailure => self.answered(settings, 503),
            Heard::Status(status) => {
                reset(&self.local_failures);
                self.answered(settings, status)
            }
        }
    }

    fn answered(&self, settings: &Outlier, status: u16) -> Option<Cause> {
        let error = match &settings.error_codes[..] {
            [] => status >= 500,
            codes => codes.contains(&status),
        };
        let gateway = counted(&self.gateway_errors, matches!(status, 502..=504), settings.consecutive_gateway_errors);
        let errors = counted(&self.errors, error, settings.consecutive_errors);
        errors.then_some(Cause::Errors).or_else(|| gateway.then_some(Cause::GatewayErrors))
    }

    /// Whether it is left out. The [`Detector`] says whether that is heeded.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Relaxed)
    }

    fn begin_again(&self) {
        for row in [&self.errors, &self.gateway_errors, &self.local_failures] {
            reset(row);
        }
    }
}

/// Counts one more of a row, or ends the row; true: it is long enough.
fn counted(row: &AtomicU32, fails: bool, enough: u32) -> bool {
    if !fails {
        reset(row);
        return false;
    }
    let before = row.fetch_update(Relaxed, Relaxed, |n| Some(n.saturating_add(1))).unwrap_or(u32::MAX);
    enough > 0 && before.saturating_add(1) >= enough
}

fn reset(row: &AtomicU32) {
    // Nearly always zero already: a load keeps the line shared between the cores.
    if row.load(Relaxed) != 0 {
        row.store(0, Relaxed);
    }
}

/// The endpoints of one destination, and which of them are out.
#[derive(Debug)]
pub struct Detector {
    settings: Outlier,
    endpoints: HashMap<Str, Endpoint>,
    swept: Duration,
}

#[derive(Debug, Default)]
struct Endpoint {
    tally: Arc<Tally>,
    /// When it may come back.
    until: Option<Duration>,
    /// How often it was ejected of late; each time it is out for so many base times.
    times: u32,
}

/// What became of an endpoint that failed too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is out for so long.
    Ejected(Duration),
    /// It was out already.
    Out,
    /// It stays in, because too many are out.
    Kept,
    /// The destination does not have it (any more).
    Unknown,
}

impl Detector {
    /// A destination without endpoints.
    pub fn new(settings: Outlier, now: Duration) -> Self {
        Self { settings, endpoints: HashMap::new(), swept: now }
    }

    /// Its settings.
    pub fn settings(&self) -> &Outlier {
        &self.settings
    }

    /// Other settings; those that are out stay out.
    pub fn change(&mut self, settings: Outlier) {
        self.settings = settings;
    }

    /// The endpoints that there are now; of others everything is forgotten.
    pub fn endpoints<'a>(&mut self, names: impl IntoIterator<Item = &'a Str>) {
        let mut before = std::mem::take(&mut self.endpoints);
        for name in names {
            self.endpoints.insert(name.clone(), before.remove(name).unwrap_or_default());
        }
    }

    /// The tally of an endpoint, to be kept beside its connections.
    pub fn tally(&self, name: &str) -> Option<Arc<Tally>> {
        self.endpoints.get(name).map(|endpoint| endpoint.tally.clone())
    }

    /// An endpoint's tally said that it failed too often.
    pub fn failed(&mut self, name: &str, now: Duration) -> Decision {
        let out = self.out();
        let room = self.room(out);
        let Some(endpoint) = self.endpoints.get_mut(name) else { return Decision::Unknown };
        endpoint.tally.begin_again();
        if endpoint.until.is_some() {
            return Decision::Out;
        }
        if !room {
            return Decision::Kept;
        }
        endpoint.times = endpoint.times.saturating_add(1);
        // Envoy's rule: the longest time is never below the base.
        let most = self.settings.max_ejection.max(self.settings.base_ejection);
        let time = self.settings.base_ejection.saturating_mul(endpoint.times).min(most);
        endpoint.until = Some(now.saturating_add(time));
        endpoint.tally.ejected.store(true, Relaxed);
        Decision::Ejected(time)
    }

    /// Lets back in whose time is over, if it is time to look; returns their names.
    pub fn sweep(&mut self, now: Duration) -> Vec<Str> {
        if now.saturating_sub(self.swept) < self.settings.interval {
            return Vec::new();
        }
        self.swept = now;
        let mut back = Vec::new();
        for (name, endpoint) in &mut self.endpoints {
            match endpoint.until {
                Some(until) if until <= now => {
                    endpoint.until = None;
                    endpoint.tally.begin_again();
                    endpoint.tally.ejected.store(false, Relaxed);
                    back.push(name.clone());
                }
                Some(_) => {}
                // Who stays in for an interval is trusted a bit more.
                None => endpoint.times = endpoint.times.saturating_sub(1),
            }
        }
        back.sort();
        back
    }

    /// Whether ejections count: not while too few are healthy, because those few would be
    /// overloaded by what all others leave to them. `healthy` of `all` are neither ejected nor
    /// unhealthy for another reason.
    pub fn heeded(&self, healthy: usize, all: usize) -> bool {
        healthy > 0 && healthy * 100 >= all * usize::from(self.settings.min_healthy_percent)
    }

    /// How many are out.
    pub fn out(&self) -> usize {
        self.endpoints.values().filter(|endpoint| endpoint.until.is_some()).count()
    }

    /// Whether one more may be ejected.
    fn room(&self, out: usize) -> bool {
        let percent = usize::from(self.settings.max_ejected_percent.min(100));
        out == 0 || (out + 1) * 100 <= self.endpoints.len() * percent
    }
}

#[cfg(test)]
mod tests;
