//! Three replicas, ten keys and a network that takes its time, in virtual time and with seeded
//! chance: every key gets its rate, and no more than the bound of `docs/traffic.md`.

use super::{
    bucket::{Bucket, Rate},
    lease::{Borrower, Step, lent, owner},
    limits::WAIT_MAX,
};
use mesh::Str;
use std::{collections::HashMap, time::Duration};

const LIMIT: &str = "TrafficPolicy/shop/web/0";
const RATE: Rate = Rate { requests: 100, per: Duration::from_secs(1), burst: 100 };
const KEYS: usize = 10;
/// What callers want, in requests a second and key.
const WANTED: u64 = 300;
/// One way between two replicas.
const DELAY: Duration = Duration::from_millis(1);

/// A replica: what it owns, what it was lent, and who it thinks there is.
struct Replica {
    name: Str,
    alive: bool,
    members: Vec<Str>,
    owned: HashMap<usize, Bucket>,
    borrowed: HashMap<usize, Borrower>,
    /// Requests that wait for an answer: (key, until).
    waiting: Vec<(usize, Duration)>,
}

/// Something on the network.
enum Message {
    Ask { from: usize, to: Str, key: usize, wanted: u32 },
    Grant { to: usize, key: usize, tokens: u32, next: Option<Duration> },
    Lost { to: usize, key: usize },
}

struct World {
    now: Duration,
    replicas: Vec<Replica>,
    network: Vec<(Duration, Message)>,
    /// When requests of a key passed.
    passed: Vec<Vec<Duration>>,
    seed: u64,
}

impl World {
    fn new(replicas: usize, seed: u64) -> Self {
        let names: Vec<Str> = (0..replicas).map(|n| format!("pod-{n}").into()).collect();
        let replica = |name: &Str| Replica {
            name: name.clone(),
            alive: true,
            members: names.clone(),
            owned: HashMap::new(),
            borrowed: HashMap::new(),
            waiting: Vec::new(),
        };
        let replicas = names.iter().map(replica).collect();
        Self { now: Duration::ZERO, replicas, network: Vec::new(), passed: vec![Vec::new(); KEYS], seed }
    }

    fn dice(&mut self, faces: u64) -> u64 {
        // xorshift64*: enough for a simulation, and the same on every machine.
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) % faces
    }

    /// Everybody alive knows who is alive.
    fn tell_members(&mut self) {
        let alive: Vec<Str> = self.replicas.iter().filter(|r| r.alive).map(|r| r.name.clone()).collect();
        self.replicas.iter_mut().for_each(|replica| replica.members.clone_from(&alive));
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(1);
            self.deliver();
            for key in 0..KEYS {
                // On average WANTED a second, at a replica that is alive.
                if self.dice(1_000) < WANTED {
                    let alive: Vec<usize> = (0..self.replicas.len()).filter(|at| self.replicas[*at].alive).collect();
                    let at = alive[self.dice(alive.len() as u64) as usize];
                    self.request(at, key, self.now + WAIT_MAX);
                }
            }
            self.give_up();
        }
    }

    fn request(&mut self, at: usize, key: usize, until: Duration) {
        let now = self.now;
        let replica = &mut self.replicas[at];
        let name = key.to_string();
        let owner = owner(&replica.members, LIMIT, &name).expect("there is a replica").clone();
        if owner == replica.name {
            let bucket = replica.owned.entry(key).or_insert_with(|| Bucket::full(RATE, now));
            if bucket.take(1, now) == 1 {
                self.passed[key].push(now);
            }
            return;
        }
        let replicas = replica.members.len() as u32;
        let borrower = replica.borrowed.entry(key).or_insert_with(|| Borrower::new(RATE, replicas, now));
        borrower.change(RATE, replicas);
        let ask = match borrower.take(now) {
            Step::Pass(ask) => {
                self.passed[key].push(now);
                ask
            }
            Step::Wait(ask) => {
                replica.waiting.push((key, until));
                ask
            }
            Step::Refuse(_) => None,
        };
        if let Some(wanted) = ask {
            self.network.push((now + DELAY, Message::Ask { from: at, to: owner, key, wanted }));
        }
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.network).into_iter().partition(|(at, _)| *at <= now);
        self.network = later;
        for (_, message) in due {
            match message {
                Message::Ask { from, to, key, wanted } => {
                    let to = self.replicas.iter_mut().find(|replica| replica.name == to && replica.alive);
                    let answer = to.map(|to| {
                        let bucket = to.owned.entry(key).or_insert_with(|| Bucket::full(RATE, now));
                        bucket.take(0, now);
                        let tokens = bucket.take(lent(bucket.tokens(), wanted), now);
                        Message::Grant { to: from, key, tokens, next: bucket.next() }
                    });
                    let (delay, answer) = answer.map_or((WAIT_MAX, Message::Lost { to: from, key }), |a| (DELAY, a));
                    self.network.push((now + delay, answer));
                }
                Message::Grant { to, key, tokens, next } => self.answered(to, key, |b| b.granted(tokens, next, now)),
                Message::Lost { to, key } => self.answered(to, key, |b| b.failed(now)),
            }
        }
    }

    fn answered(&mut self, at: usize, key: usize, act: impl FnOnce(&mut Borrower)) {
        if let Some(borrower) = self.replicas[at].borrowed.get_mut(&key) {
            act(borrower);
        }
        let waiting = std::mem::take(&mut self.replicas[at].waiting);
        let (retried, kept): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(of, _)| *of == key);
        self.replicas[at].waiting = kept;
        for (key, until) in retried {
            self.request(at, key, until);
        }
    }

    /// Who waited too long is counted by the replica's own share.
    fn give_up(&mut self) {
        let now = self.now;
        for at in 0..self.replicas.len() {
            let late: Vec<usize> =
                self.replicas[at].waiting.iter().filter(|(_, until)| *until <= now).map(|(key, _)| *key).collect();
            for key in late {
                self.answered(at, key, |borrower| borrower.failed(now));
            }
        }
    }

    /// How many requests of a key passed in a time.
    fn passed(&self, key: usize, from: Duration, to: Duration) -> u64 {
        self.passed[key].iter().filter(|at| **at > from && **at <= to).count() as u64
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// What may pass in a time while nothing happens to the replicas: a burst, the rate, and what was
/// lent before: less than five eighths of a burst, whatever the number of replicas.
fn bound(time: u64) -> u64 {
    100 + 100 * time + 62
}

#[test]
fn every_key_gets_its_rate_and_no_more() {
    for seed in [1, 7, 42] {
        let mut world = World::new(3, seed);
        world.run(secs(10));
        for key in 0..KEYS {
            let all = world.passed(key, secs(0), secs(10));
            assert!(all <= bound(10), "seed {seed}, key {key}: {all} passed");
            // Without the burst at the beginning: the rate itself.
            let steady = world.passed(key, secs(2), secs(10));
            assert!((790..=810).contains(&steady), "seed {seed}, key {key}: {steady} in 8 s");
        }
    }
}

#[test]
fn a_replica_that_is_lost_costs_at_most_a_burst_and_the_shares() {
    for seed in [3, 9] {
        let mut world = World::new(3, seed);
        world.run(secs(5));
        world.replicas[1].alive = false;
        // The control plane says so a second later.
        world.run(secs(1));
        world.tell_members();
        world.run(secs(10));
        for key in 0..KEYS {
            let around = world.passed(key, secs(5), secs(8));
            // A new owner begins with a full bucket; until it is known, shares of the others.
            assert!(around <= bound(3) + 100 + 100, "seed {seed}, key {key}: {around} around the loss");
            let after = world.passed(key, secs(8), secs(16));
            assert!((790..=bound(8)).contains(&after), "seed {seed}, key {key}: {after} after it");
        }
    }
}

#[test]
fn a_replica_that_joins_costs_at_most_a_burst() {
    for seed in [5, 11] {
        let mut world = World::new(3, seed);
        world.replicas[2].alive = false;
        world.tell_members();
        world.run(secs(5));
        world.replicas[2].alive = true;
        world.tell_members();
        world.run(secs(10));
        for key in 0..KEYS {
            let around = world.passed(key, secs(5), secs(7));
            assert!(around <= bound(2) + 100, "seed {seed}, key {key}: {around} around the join");
            let after = world.passed(key, secs(7), secs(15));
            assert!((790..=bound(8)).contains(&after), "seed {seed}, key {key}: {after} after it");
        }
    }
}

#[test]
fn a_replica_that_cannot_reach_the_others_limits_by_its_share() {
    let mut world = World::new(3, 13);
    // Nobody answers anybody: each is alive for its callers only.
    let names: Vec<Str> = (0..3).map(|n| format!("gone-{n}").into()).collect();
    world.replicas.iter_mut().for_each(|replica| replica.members.clone_from(&names));
    world.run(secs(10));
    for key in 0..KEYS {
        let all = world.passed(key, secs(0), secs(10));
        assert!((900..=1_100).contains(&all), "key {key}: {all} passed");
    }
}
