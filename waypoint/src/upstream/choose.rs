//! Which endpoint takes a request. Pure, but for the dice.

use std::sync::Arc;
use std::time::Duration;

use mesh::Str;
use mesh::route::traffic::{Balance, Warmup};

use super::cluster::Hosts;
use super::hosts::Host;

/// What the choice depends on, beside the endpoints.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish<'a> {
    /// The request's key, where the same key goes to the same endpoint.
    pub hash: Option<u64>,
    /// The endpoint of the request's session.
    pub session: Option<&'a str>,
    /// Endpoints that were tried before; another one is taken where there is one.
    pub avoid: &'a [Str],
    /// How many requests went before, for taking turns.
    pub turn: usize,
    /// How many endpoints are out; 0 spares looking.
    pub ejected: usize,
    /// Now, in the time of the destinations.
    pub now: Duration,
}

/// Chances to find an endpoint that is not out by lot, before they are looked through one by one.
const LOTS: usize = 8;

/// The endpoint that takes a request; none: there is none, or none that may be used.
pub fn choose<'a>(hosts: &'a Hosts, wish: &Wish<'_>, dice: &mut impl FnMut() -> u64) -> Option<&'a Arc<Host>> {
    let out_counts = wish.ejected > 0 && heeded(hosts);
    let usable = |host: &Host| !(out_counts && host.tally.is_ejected());
    if let Some(session) = wish.session
        && let Some(host) = hosts.all.iter().find(|host| &*host.uid == session && usable(host))
        && !wish.avoid.contains(&host.uid)
    {
        return Some(host);
    }
    let fresh = |host: &Host| usable(host) && !wish.avoid.contains(&host.uid);
    if !wish.avoid.is_empty()
        && let Some(host) = among(hosts, wish, &fresh, dice)
    {
        return Some(host);
    }
    among(hosts, wish, &usable, dice)
}

/// Ejections are not heeded where too few would be left, as the policy says.
fn heeded(hosts: &Hosts) -> bool {
    let out = hosts.all.iter().filter(|host| host.tally.is_ejected()).count();
    let least = hosts.traffic.outlier.as_ref().map_or(0, |outlier| usize::from(outlier.min_healthy_percent));
    let healthy = hosts.all.len() - out;
    healthy > 0 && healthy * 100 >= hosts.all.len() * least
}

fn among<'a>(
    hosts: &'a Hosts,
    wish: &Wish<'_>,
    usable: &dyn Fn(&Host) -> bool,
    dice: &mut impl FnMut() -> u64,
) -> Option<&'a Arc<Host>> {
    if let (Balance::Consistent { algorithm, .. }, Some(hash)) = (&hosts.traffic.balance, wish.hash) {
        // The nearest tier does not count here: the same key goes to the same endpoint.
        let mut places = hosts.table(*algorithm).places(hash).take(hosts.all.len().saturating_mul(4).max(16));
        let found = places.find_map(|at| hosts.all.get(at).filter(|host| usable(host)));
        return found.or_else(|| hosts.all.iter().find(|host| usable(host)));
    }
    for tier in &hosts.tiers {
        let tier = shared(hosts, tier, usable, dice);
        let found = match &hosts.traffic.balance {
            Balance::RoundRobin => in_turn(hosts, &tier, wish, usable, dice),
            Balance::Random | Balance::Passthrough => by_lot(hosts, &tier, wish, usable, dice),
            Balance::LeastRequest | Balance::Consistent { .. } => better_of_two(hosts, &tier, wish, usable, dice),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Where localities have shares: one of them by lot, among those that have a usable endpoint.
fn shared<'t>(
    hosts: &Hosts,
    tier: &'t [usize],
    usable: &dyn Fn(&Host) -> bool,
    dice: &mut impl FnMut() -> u64,
) -> std::borrow::Cow<'t, [usize]> {
    let mut lines: Vec<(usize, u32)> = Vec::new();
    for host in tier.iter().filter_map(|at| hosts.all.get(*at)).filter(|host| usable(host)) {
        if let Some(line) = host.share
            && !lines.contains(&line)
        {
            lines.push(line);
        }
    }
    let Some(taken) = mesh::route::chance::weighted(lines.iter().map(|(_, percent)| *percent), dice()) else {
        return tier.into();
    };
    let line = lines[taken].0;
    let of_line = |at: &&usize| hosts.all[**at].share.is_some_and(|(own, _)| own == line);
    tier.iter().filter(of_line).copied().collect::<Vec<_>>().into()
}

fn in_turn<'a>(
    hosts: &'a Hosts,
    tier: &[usize],
    wish: &Wish<'_>,
    usable: &dyn Fn(&Host) -> bool,
    dice: &mut impl FnMut() -> u64,
) -> Option<&'a Arc<Host>> {
    let weights: u64 = tier.iter().map(|at| u64::from(hosts.all[*at].weight)).sum();
    let mut left = (wish.turn as u64).checked_rem(weights)?;
    let first = tier.iter().position(|at| {
        let weight = u64::from(hosts.all[*at].weight);
        let here = left < weight;
        left = left.saturating_sub(weight);
        here
    })?;
    let mut round = tier.iter().cycle().skip(first).take(tier.len()).map(|at| &hosts.all[*at]);
    // Whoever is not warm lets the next one go first, as long as there is one.
    let warmup = hosts.traffic.warmup.as_ref();
    let warm = round.clone().find(|host| usable(host) && warm(host, warmup, wish.now, dice));
    warm.or_else(|| round.find(|host| usable(host)))
}

fn by_lot<'a>(
    hosts: &'a Hosts,
    tier: &[usize],
    wish: &Wish<'_>,
    usable: &dyn Fn(&Host) -> bool,
    dice: &mut impl FnMut() -> u64,
) -> Option<&'a Arc<Host>> {
    let equal = tier.windows(2).all(|pair| hosts.all[pair[0]].weight == hosts.all[pair[1]].weight);
    for _ in 0..LOTS {
        let at = match equal {
            true => tier.get(((u128::from(dice()) * tier.len() as u128) >> 64) as usize)?,
            false => {
                let weights = tier.iter().map(|at| hosts.all[*at].weight);
                tier.get(mesh::route::chance::weighted(weights, dice())?)?
            }
        };
        let host = &hosts.all[*at];
        if usable(host) && warm(host, hosts.traffic.warmup.as_ref(), wish.now, dice) {
            return Some(host);
        }
    }
    let start = ((u128::from(dice()) * tier.len() as u128) >> 64) as usize;
    let round = tier.iter().cycle().skip(start).take(tier.len());
    round.map(|at| &hosts.all[*at]).find(|host| usable(host))
}

fn better_of_two<'a>(
    hosts: &'a Hosts,
    tier: &[usize],
    wish: &Wish<'_>,
    usable: &dyn Fn(&Host) -> bool,
    dice: &mut impl FnMut() -> u64,
) -> Option<&'a Arc<Host>> {
    let one = by_lot(hosts, tier, wish, usable, dice)?;
    let other = by_lot(hosts, tier, wish, usable, dice)?;
    Some(if other.load.cost() < one.load.cost() { other } else { one })
}

/// Whether a new endpoint takes this one: its share grows from a part to the whole.
fn warm(host: &Host, warmup: Option<&Warmup>, now: Duration, dice: &mut impl FnMut() -> u64) -> bool {
    let (Some(Warmup { duration, minimum }), Some(born)) = (warmup, host.load.born) else { return true };
    let age = now.saturating_sub(born);
    if age >= *duration {
        return true;
    }
    let grown = age.as_millis() * 1_000_000 / duration.as_millis().max(1);
    let share = grown.max(u128::from(minimum.0));
    u128::from(dice() % 1_000_000) < share
}

#[cfg(test)]
mod tests;
