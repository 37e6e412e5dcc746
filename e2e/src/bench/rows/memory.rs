//! What a node proxy keeps in memory: with nothing to do, for connections that do nothing, and when those are gone.

use super::OURS;
use crate::bench::{
    figure::{Figure, Target, Unit, line},
    rig::{self, Rig},
};
use anyhow::Result;
use std::time::Duration;

/// A slope is of two sizes.
const SIZES: [usize; 2] = [1000, 10_000];
/// What was freed is given back to the system within this.
const AFTER: Duration = Duration::from_secs(30);
/// Resident megabytes of a proxy with nothing to do.
const EMPTY_MAX: f64 = 8e6;
/// Bytes of one connection with nothing to do.
const IDLE_MAX: f64 = 2000.0;
/// What is left when all are closed, to what was there before.
const LEFT_MAX: f64 = 1.2;
const EMPTY: &str = "empty";

/// The two proxies: that of the callers, and that of the server. The table has the larger of the two.
pub(super) fn idle(rig: &mut Rig) -> Result<Vec<Figure>> {
    let proxies = rig.ztunnels()?;
    let server: std::net::SocketAddr = (rig.address("meshed/server")?, 8080).into();
    let empty = rig.settled(&proxies)?;
    let own = proxies.iter().map(|proxy| Ok(proxy.usage()?.own)).collect::<Result<Vec<f64>>>()?;
    let mut sizes = Vec::new();
    for size in SIZES {
        let crowd = rig.idle("meshed/client", server, size, &[])?;
        sizes.push(rig.settled(&proxies)?);
        crowd.stop()?;
    }
    rig::pause(AFTER);
    let left = rig.settled(&proxies)?;
    let slope = |at: usize| {
        let points: Vec<_> = SIZES.iter().zip(&sizes).map(|(size, resident)| (*size as f64, resident[at])).collect();
        line(&points).1
    };
    let most = |values: &[f64]| values.iter().copied().fold(f64::NAN, f64::max);
    let largest = |at: usize| Figure::new(&format!("resident with {} of them", SIZES[at]), Unit::Bytes, &[]);
    Ok(vec![
        Figure::new("resident, no connection yet", Unit::Bytes, &[Target::NoMore(EMPTY_MAX)]).with(OURS, most(&empty)),
        Figure::new("of that no file's (the program is one)", Unit::Bytes, &[]).with(OURS, most(&own)),
        Figure::new("each idle connection", Unit::Bytes, &[Target::NoMore(IDLE_MAX)])
            .with(OURS, most(&[slope(0), slope(1)])),
        largest(0).with(OURS, most(&sizes[0])),
        largest(1).with(OURS, most(&sizes[1])),
        Figure::new("30 s after the last was closed", Unit::Bytes, &[super::at_most(LEFT_MAX, EMPTY)])
            .with(EMPTY, most(&empty))
            .with(OURS, most(&left)),
    ])
}
