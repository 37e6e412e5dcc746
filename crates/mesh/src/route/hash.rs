//! The same endpoint for the same key, and as few keys as can be that move when endpoints change.
//!
//! Both tables depend on the uids and weights of the endpoints only, not on their order, so that
//! every replica of a waypoint makes the same choice.

use super::traffic::HashAlgorithm;
use crate::{Str, limits};
use std::collections::BTreeMap;
use xxhash_rust::xxh64::xxh64;

/// The number of a key's text.
pub fn of(key: &str) -> u64 {
    xxh64(key.as_bytes(), 0)
}

/// Keys spread over endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// Points on a ring: a key belongs to the next one.
    Ring(Vec<(u64, u32)>),
    /// A table in which each endpoint has its share of entries (Maglev, NSDI 2016 §3.4).
    Maglev(Vec<u32>),
}

impl Table {
    /// The table of these endpoints, by uid and weight; weight 0 gets no keys. Places are those in
    /// this list. It is rebuilt whenever the list changes.
    pub fn new(endpoints: &[(Str, u32)], algorithm: HashAlgorithm) -> Self {
        // In the order of their uids, and each uid once, whatever the order here.
        let sorted: BTreeMap<&str, (u32, u32)> = (0u32..)
            .zip(endpoints)
            .filter(|(_, (_, weight))| *weight > 0)
            .map(|(place, (uid, weight))| (&**uid, (place, *weight)))
            .collect();
        match algorithm {
            HashAlgorithm::Ring { points_min } => Self::Ring(ring(&sorted, points_min.min(limits::HASH_POINTS_MAX))),
            HashAlgorithm::Maglev { entries } => Self::Maglev(maglev(&sorted, entries.min(limits::HASH_POINTS_MAX))),
        }
    }

    /// The place of the endpoint for a key.
    pub fn place(&self, key: u64) -> Option<usize> {
        self.places(key).next()
    }

    /// The places for a key, the best first, for when that one cannot be used. A place may come
    /// several times; all endpoints with a weight come.
    pub fn places(&self, key: u64) -> impl Iterator<Item = usize> {
        let count = match self {
            Self::Ring(points) => points.len(),
            Self::Maglev(entries) => entries.len(),
        };
        let first = match self {
            Self::Ring(points) => points.partition_point(|(point, _)| *point < key),
            Self::Maglev(entries) => (key % (entries.len() as u64).max(1)) as usize,
        };
        (0..count).map(move |step| (first + step) % count).map(|at| match self {
            Self::Ring(points) => points[at].1 as usize,
            Self::Maglev(entries) => entries[at] as usize,
        })
    }
}

/// Each endpoint has points in proportion to its weight, of at least `points_min` all in all. How
/// many a weight has is a power of two, so that it seldom changes when endpoints come and go: a new
/// number would move keys between those that stay.
fn ring(endpoints: &BTreeMap<&str, (u32, u32)>, points_min: u32) -> Vec<(u64, u32)> {
    let smallest = endpoints.values().map(|(_, weight)| u64::from(*weight)).min().unwrap_or(1);
    let total: u64 = endpoints.values().map(|(_, weight)| u64::from(*weight)).sum::<u64>().max(1);
    // As many as were asked for, and one at least for the lightest, within the limit.
    let wanted = u64::from(points_min).max(total.div_ceil(smallest)).min(u64::from(limits::HASH_POINTS_MAX));
    let points_per_weight = wanted.div_ceil(total).next_power_of_two();
    let weight_per_point = (total / wanted.max(1)).max(1);
    let weight_per_point = (weight_per_point + 1).next_power_of_two() / 2;
    let mut points = Vec::new();
    let mut text = String::new();
    for (uid, (place, weight)) in endpoints {
        let share = (u64::from(*weight) * points_per_weight).div_ceil(weight_per_point);
        for number in 0..share {
            use std::fmt::Write;
            text.clear();
            // Writing to a String cannot fail.
            let _ = write!(text, "{uid}_{number}");
            points.push((of(&text), *place));
        }
    }
    points.sort_unstable();
    points
}

/// Endpoints take turns, in proportion to their weights, to take the next free entry of their own
/// permutation of the table.
fn maglev(endpoints: &BTreeMap<&str, (u32, u32)>, entries: u32) -> Vec<u32> {
    const FREE: u32 = u32::MAX;
    let size = u64::from(entries);
    let heaviest = endpoints.values().map(|(_, weight)| *weight).max().unwrap_or(1);
    if endpoints.is_empty() || size < 2 {
        return endpoints.values().take(1).map(|(place, _)| *place).collect();
    }
    struct Turn {
        place: u32,
        weight: u64,
        due: u64,
        next: u64,
        skip: u64,
    }
    let turn = |(uid, (place, weight)): (&&str, &(u32, u32))| Turn {
        place: *place,
        weight: u64::from(*weight),
        due: 0,
        next: xxh64(uid.as_bytes(), 1) % size,
        skip: xxh64(uid.as_bytes(), 2) % (size - 1) + 1,
    };
    let mut turns: Vec<Turn> = endpoints.iter().map(turn).collect();
    let mut table = vec![FREE; entries as usize];
    let mut free = table.len();
    while free > 0 {
        for turn in &mut turns {
            turn.due += turn.weight;
            if turn.due < u64::from(heaviest) || free == 0 {
                continue;
            }
            turn.due -= u64::from(heaviest);
            // The size is a prime, so the steps visit every entry.
            while table[turn.next as usize] != FREE {
                turn.next = (turn.next + turn.skip) % size;
            }
            table[turn.next as usize] = turn.place;
            free -= 1;
        }
    }
    table
}

#[cfg(test)]
mod tests;
