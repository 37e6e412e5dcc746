//! How many requests a destination bears at a time, found from how long they take.
//!
//! The idea (Little's law, and the "gradient" of Netflix' concurrency-limits and of Envoy): while a
//! destination is not overloaded, more at a time does not take longer. The ratio of the usual
//! latency to the present one is a gradient: 1 lets the limit grow by a small queue, less shrinks
//! it. Failures for want of room count as the worst gradient.
//!
//! Pure: latencies come in, a limit comes out; there is no clock and no lock in here.

use mesh::route::traffic::AdaptiveConcurrency;
use std::time::Duration;

/// The limit of one destination.
#[derive(Clone, Debug)]
pub struct Adaptive {
    bounds: AdaptiveConcurrency,
    limit: f64,
    /// What a request usually takes, in seconds; a slow average.
    usual: Option<f64>,
    in_flight: u32,
}

/// How a request that was let through ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an answer, after this long.
    Answered(Duration),
    /// It timed out, or the destination said that it has too much to do (503, 429, refused stream).
    Overloaded,
    /// Otherwise, which says nothing of the destination's load: the caller left, a connection broke.
    Otherwise,
}

/// How much slower than usual is still as usual: noise must not shrink the limit.
const TOLERANCE: f64 = 1.5;
/// What the limit may grow by at a time: the queue that is allowed at the destination.
const QUEUE: f64 = 4.0;
/// How much of a new limit counts at once.
const SMOOTHING: f64 = 0.2;
/// How much of a latency counts in the slow average: some 600 requests make it new.
const USUAL_WEIGHT: f64 = 2.0 / 601.0;
/// The limit never shrinks by more than half at a time.
const GRADIENT_MIN: f64 = 0.5;

impl Adaptive {
    /// Begins with the middle, in ratio, of fewest and most.
    pub fn new(bounds: AdaptiveConcurrency) -> Self {
        let (least, most) = (f64::from(bounds.minimum.max(1)), f64::from(bounds.maximum.max(1)));
        Self { bounds, limit: (least * most).sqrt(), usual: None, in_flight: 0 }
    }

    /// How many are let through at a time.
    pub fn limit(&self) -> u32 {
        // A minimum above the maximum is somebody's mistake; the maximum protects the destination.
        (self.limit as u32).max(self.bounds.minimum).min(self.bounds.maximum).max(1)
    }

    /// How many are let through now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Lets one more through if there is room. Who was let through must be [`ended`](Self::ended).
    pub fn enter(&mut self) -> bool {
        let room = self.in_flight < self.limit();
        self.in_flight += u32::from(room);
        room
    }

    /// One that was let through ended.
    pub fn ended(&mut self, how: Ended) {
        // While less than half of the limit is used, latencies say nothing of the limit.
        let used = self.in_flight >= self.limit() / 2;
        self.in_flight = self.in_flight.saturating_sub(1);
        let gradient = match how {
            Ended::Otherwise => return,
            Ended::Overloaded => GRADIENT_MIN,
            Ended::Answered(took) => self.gradient(took.as_secs_f64().max(1e-6)),
        };
        if used || how == Ended::Overloaded {
            let room = if how == Ended::Overloaded { 0.0 } else { QUEUE };
            let next = self.limit * gradient + room;
            let smooth = self.limit * (1.0 - SMOOTHING) + next * SMOOTHING;
            let (least, most) = (f64::from(self.bounds.minimum.max(1)), f64::from(self.bounds.maximum.max(1)));
            self.limit = smooth.max(least).min(most);
        }
    }

    fn gradient(&mut self, took: f64) -> f64 {
        let usual = self.usual.map_or(took, |usual| usual + (took - usual) * USUAL_WEIGHT);
        // After a time of overload the average is too high; it comes down quicker than it went up.
        let usual = if usual > 2.0 * took { usual * 0.95 } else { usual };
        self.usual = Some(usual);
        (TOLERANCE * usual / took).clamp(GRADIENT_MIN, 1.0)
    }
}

#[cfg(test)]
mod tests;
