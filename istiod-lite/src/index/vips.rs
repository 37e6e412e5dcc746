//! Addresses for services that have none: the same ones again, whatever came in which order.
//!
//! Each service tries the slots of a pool in an order that its name fixes; of those that try one
//! slot the smallest name has it, and the others go on to their next. That has exactly one outcome
//! for a set of names, so nothing has to be remembered across restarts.

use mesh::ServiceKey;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Slots that a service tries. Half full, a pool makes one service in 2^64 go without an address.
const ATTEMPTS_MAX: u32 = 64;

/// The pools of both families: 240.240.0.0/16 and 2001:2::/48.
#[derive(Debug)]
pub(super) struct Vips {
    v4: Pool,
    v6: Pool,
}

impl Default for Vips {
    fn default() -> Self {
        // Without the first and last address of the IPv4 range, which some systems treat specially.
        Self { v4: Pool::of(0xfffe), v6: Pool::of(u64::MAX) }
    }
}

impl Vips {
    /// Pools in which services get into each other's way.
    #[cfg(test)]
    pub(super) fn tiny() -> Self {
        Self { v4: Pool::of(12), v6: Pool::of(13) }
    }

    /// Gives a service its addresses; those whose addresses changed by that come back.
    pub(super) fn want(&mut self, key: &ServiceKey) -> BTreeSet<ServiceKey> {
        let mut changed = self.v4.want(key);
        changed.append(&mut self.v6.want(key));
        changed
    }

    /// Takes a service's addresses back; those whose addresses changed by that come back.
    pub(super) fn release(&mut self, key: &ServiceKey) -> BTreeSet<ServiceKey> {
        let mut changed = self.v4.release(key);
        changed.append(&mut self.v6.release(key));
        changed
    }

    pub(super) fn of(&self, key: &ServiceKey) -> Vec<IpAddr> {
        let v4 = self.v4.slot(key).map(|slot| Ipv4Addr::from(0xf0f0_0001 + slot as u32).into());
        let v6 = self.v6.slot(key).map(|slot| Ipv6Addr::from((0x2001_0002_u128 << 96) + 1 + u128::from(slot)).into());
        [v4, v6].into_iter().flatten().collect()
    }
}

#[derive(Debug)]
struct Pool {
    slots: u64,
    /// Who tried a slot; the first of them has it.
    tried: BTreeMap<u64, BTreeSet<ServiceKey>>,
    /// At which of its attempts a service is.
    at: BTreeMap<ServiceKey, u32>,
}

impl Pool {
    fn of(slots: u64) -> Self {
        Self { slots, tried: BTreeMap::new(), at: BTreeMap::new() }
    }

    fn probe(&self, key: &ServiceKey, attempt: u32) -> u64 {
        fnv(&format!("{key}#{attempt}")) % self.slots
    }

    fn slot(&self, key: &ServiceKey) -> Option<u64> {
        let attempt = *self.at.get(key)?;
        (attempt < ATTEMPTS_MAX).then(|| self.probe(key, attempt))
    }

    fn want(&mut self, key: &ServiceKey) -> BTreeSet<ServiceKey> {
        let mut changed = BTreeSet::new();
        if self.at.contains_key(key) {
            return changed;
        }
        let mut searching = Some((key.clone(), 0));
        while let Some((key, attempt)) = searching.take() {
            changed.insert(key.clone());
            self.at.insert(key.clone(), attempt);
            if attempt >= ATTEMPTS_MAX {
                continue;
            }
            let slot = self.probe(&key, attempt);
            let holder = self.tried.get(&slot).and_then(|all| all.first()).cloned();
            self.tried.entry(slot).or_default().insert(key.clone());
            searching = match holder {
                None => None,
                Some(holder) if holder > key => self.at.get(&holder).map(|at| (holder.clone(), at + 1)),
                Some(_) => Some((key, attempt + 1)),
            };
        }
        changed
    }

    fn release(&mut self, key: &ServiceKey) -> BTreeSet<ServiceKey> {
        let mut changed = BTreeSet::new();
        let Some(at) = self.at.get(key).copied() else { return changed };
        changed.insert(key.clone());
        let mut free = self.slot(key);
        self.retreat(key, 0, at);
        self.at.remove(key);
        while let Some(slot) = free.take() {
            let Some(next) = self.tried.get(&slot).and_then(|all| all.first()).cloned() else { break };
            let Some(at) = self.at.get(&next).copied() else { break };
            let Some(here) = (0..=at.min(ATTEMPTS_MAX - 1)).find(|attempt| self.probe(&next, *attempt) == slot) else {
                break;
            };
            if here == at {
                break;
            }
            free = self.slot(&next);
            self.retreat(&next, here + 1, at);
            self.at.insert(next.clone(), here);
            changed.insert(next);
        }
        changed
    }

    /// Takes back the attempts from one to another, but not slots that earlier attempts tried too.
    fn retreat(&mut self, key: &ServiceKey, from: u32, to: u32) {
        let kept: BTreeSet<u64> = (0..from).map(|attempt| self.probe(key, attempt)).collect();
        for attempt in from..=to.min(ATTEMPTS_MAX - 1) {
            let slot = self.probe(key, attempt);
            if kept.contains(&slot) {
                continue;
            }
            if let Some(all) = self.tried.get_mut(&slot) {
                all.remove(key);
                if all.is_empty() {
                    self.tried.remove(&slot);
                }
            }
        }
    }
}

/// FNV-1a with a last mixing step: small, and the same in every version of every program.
fn fnv(text: &str) -> u64 {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(n: u8) -> ServiceKey {
        ServiceKey { namespace: "ns".into(), hostname: format!("h{n}.example").into() }
    }

    proptest! {
        #[test]
        fn who_has_which_slot_does_not_depend_on_history(
            steps in prop::collection::vec((any::<bool>(), 0..24u8), 0..80), slots in 12..40u64
        ) {
            let mut pool = Pool::of(slots);
            let mut wanted = BTreeSet::new();
            for (want, n) in steps {
                let before: Vec<_> = (0..24).map(|n| pool.slot(&key(n))).collect();
                let changed = if want { pool.want(&key(n)) } else { pool.release(&key(n)) };
                if want { wanted.insert(n); } else { wanted.remove(&n); }
                for n in 0..24 {
                    let moved = before[usize::from(n)] != pool.slot(&key(n));
                    prop_assert!(!moved || changed.contains(&key(n)), "a move was not told");
                }
            }
            let mut fresh = Pool::of(slots);
            for n in wanted.iter().rev() {
                fresh.want(&key(*n));
            }
            let slots_of = |pool: &Pool| (0..24).map(|n| pool.slot(&key(n))).collect::<Vec<_>>();
            prop_assert_eq!(slots_of(&pool), slots_of(&fresh));
            let taken: Vec<_> = slots_of(&pool).into_iter().flatten().collect();
            prop_assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), taken.len(), "a slot is taken twice");
        }
    }

    #[test]
    fn addresses_are_in_the_pools() {
        let mut vips = Vips::default();
        vips.want(&key(1));
        let found = vips.of(&key(1));
        let pools = ["240.240.0.0/16", "2001:2::/48"].map(|pool| pool.parse::<ipnet::IpNet>().expect("a range"));
        assert_eq!(found.len(), 2);
        assert!(found.iter().zip(pools).all(|(ip, pool)| pool.contains(ip)), "{found:?}");
        assert_eq!(vips.release(&key(1)), [key(1)].into());
        assert!(vips.of(&key(1)).is_empty());
    }
}
