//! A node in virtual time: each second, and each time the schedule asks for, it does what it says.

use super::*;
use std::time::Duration as D;

const HOUR: D = D::from_secs(3600);

fn id(name: &str) -> Identity {
    Identity::new("mesh", "shop", name).unwrap()
}

struct Node {
    schedule: Schedule,
    now: Now,
    /// Life of the certificates that the authority gives; its clock is right.
    life: D,
    /// How far this node's date is ahead of, or behind, the authority's.
    ahead: D,
    behind: D,
    authority_works: bool,
    /// Half of the jitter, so that waits are exact.
    dice: f64,
    asked: Vec<(Identity, D)>,
    began: Now,
}

impl Node {
    fn new(life: D) -> Self {
        let now = Now { wall: SystemTime::UNIX_EPOCH + D::from_secs(1_800_000_000), monotonic: Instant::now() };
        let (ahead, behind) = (D::ZERO, D::ZERO);
        let schedule = Schedule::default();
        Self { schedule, now, life, ahead, behind, authority_works: true, dice: 0.5, asked: Vec::new(), began: now }
    }

    fn since(&self) -> D {
        self.now.monotonic - self.began.monotonic
    }

    fn want(&mut self, name: &str, priority: Priority) {
        self.schedule.want(&id(name), priority, self.now).unwrap();
    }

    fn usable(&self, name: &str) -> bool {
        self.schedule.usable(&id(name), self.now)
    }

    /// Does everything that is due now.
    fn act(&mut self) {
        for _ in 0..10_000 {
            let Next::Ask(ticket) = self.schedule.next(self.now) else { return };
            self.asked.push((ticket.identity.clone(), self.since()));
            if self.authority_works {
                let theirs = self.now.wall - self.ahead + self.behind;
                let validity = Validity { not_before: theirs - D::from_secs(120), not_after: theirs + self.life };
                self.schedule.issued(&ticket, validity, self.dice, self.now);
            } else {
                self.schedule.failed(&ticket, self.dice, self.now);
            }
        }
        panic!("the schedule asks without end");
    }

    /// Time passes, in steps of 100 ms.
    fn pass(&mut self, time: D) {
        let step = D::from_millis(100);
        for _ in 0..time.as_millis() / 100 {
            self.now = Now { wall: self.now.wall + step, monotonic: self.now.monotonic + step };
            self.act();
        }
    }

    /// The date moves alone: a suspend, or a clock that is set forward.
    fn jump(&mut self, by: D) {
        self.now.wall += by;
        self.ahead += by;
        self.act();
    }

    fn jump_back(&mut self, by: D) {
        self.now.wall -= by;
        self.behind += by;
        self.act();
    }

    /// The whole world slept, the authority too: both dates moved.
    fn suspend(&mut self, by: D) {
        self.now.wall += by;
        self.act();
    }

    fn asked_since(&self, since: D) -> usize {
        self.asked.iter().filter(|(_, at)| *at >= since).count()
    }
}

#[test]
fn a_certificate_is_renewed_at_half_of_its_life() {
    let mut node = Node::new(HOUR);
    node.want("web", Priority::RealTime);
    node.act();
    assert!(node.usable("web"));
    node.pass(HOUR / 2 - D::from_secs(1));
    assert_eq!(node.asked.len(), 1);
    node.pass(D::from_secs(2));
    assert_eq!(node.asked.len(), 2);
    node.pass(HOUR);
    assert_eq!(node.asked.len(), 4, "and so on");
}

#[test]
fn failures_wait_twice_as_long_each_time_up_to_150_seconds() {
    let mut node = Node::new(HOUR);
    node.authority_works = false;
    node.want("web", Priority::Warmup);
    node.act();
    node.pass(D::from_secs(900));
    let at: Vec<f64> = node.asked.iter().map(|(_, at)| at.as_secs_f64()).collect();
    let waits: Vec<f64> = at.windows(2).map(|pair| (pair[1] - pair[0]).round()).collect();
    assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 150.0, 150.0, 150.0, 150.0]);
}

#[test]
fn a_wait_is_spread_by_a_fifth_either_way() {
    for (dice, want) in [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)] {
        let mut node = Node::new(HOUR);
        (node.authority_works, node.dice) = (false, dice);
        node.want("web", Priority::Warmup);
        node.act();
        let Next::Wait(wait) = node.schedule.next(node.now) else { panic!("not waiting") };
        assert_eq!(wait, TICK.min(D::from_secs_f64(want)));
        node.pass(D::from_secs_f64(want - 0.1));
        assert_eq!(node.asked.len(), 1);
        node.pass(D::from_millis(200));
        assert_eq!(node.asked.len(), 2);
    }
}

/// K-1: the authority is away for half, and for more than all, of a life.
#[test]
fn an_authority_that_is_away_costs_nothing_until_the_certificate_ends() {
    let mut node = Node::new(D::from_secs(60));
    node.want("web", Priority::RealTime);
    node.act();
    node.authority_works = false;
    for _ in 0..59 {
        node.pass(D::from_secs(1));
        assert!(node.usable("web"), "the old certificate is kept, at {:?}", node.since());
    }
    node.pass(D::from_secs(1));
    assert!(!node.usable("web"), "an expired certificate is never used");
    // Connections keep asking, as they do.
    for _ in 0..120 {
        node.want("web", Priority::RealTime);
        node.pass(D::from_millis(100));
    }
    assert!(!node.usable("web"));
    node.authority_works = true;
    for _ in 0..20 {
        node.want("web", Priority::RealTime);
        node.pass(D::from_millis(100));
    }
    assert!(node.usable("web"), "back within 2 s of the authority");
}

#[test]
fn demand_during_an_outage_does_not_become_a_storm() {
    let mut node = Node::new(HOUR);
    node.authority_works = false;
    for _ in 0..600 {
        node.want("web", Priority::RealTime);
        node.pass(D::from_millis(100));
    }
    assert!(node.asked.len() <= 42, "asked {} times in a minute", node.asked.len());
}

/// K-2: the machine sleeps.
#[test]
fn a_suspend_is_noticed_at_once() {
    for (slept, usable_after) in [(D::from_secs(17 * 60), true), (HOUR / 2 + D::from_secs(60), true), (2 * HOUR, true)]
    {
        let mut node = Node::new(HOUR);
        node.want("web", Priority::RealTime);
        node.act();
        node.pass(D::from_secs(600));
        let woke = node.since();
        node.suspend(slept);
        node.pass(D::from_secs(5));
        assert_eq!(node.usable("web"), usable_after, "slept {slept:?}");
        let due = D::from_secs(600) + slept >= HOUR / 2;
        assert_eq!(node.asked_since(woke), usize::from(due), "slept {slept:?}");
    }
}

#[test]
fn what_ended_during_a_suspend_is_not_used_even_for_a_moment() {
    let mut node = Node::new(HOUR);
    node.want("web", Priority::RealTime);
    node.act();
    node.authority_works = false;
    node.suspend(2 * HOUR);
    assert!(!node.usable("web"));
    node.pass(D::from_secs(60));
    assert!(!node.usable("web"));
}

/// K-2: the date is set, while the authority's stays right.
#[test]
fn a_clock_that_is_set_is_survived_without_a_storm() {
    let (hour, year) = (HOUR, 365 * 24 * HOUR);
    for back in [false, true] {
        for step in [hour, year] {
            let mut node = Node::new(24 * HOUR);
            node.want("web", Priority::RealTime);
            node.act();
            node.pass(D::from_secs(60));
            let stepped = node.since();
            if back {
                node.jump_back(step)
            } else {
                node.jump(step)
            }
            node.pass(D::from_secs(300));
            let what = format!("{step:?} {}", if back { "back" } else { "ahead" });
            // Two a minute for a certificate; a year ahead, every answer is expired, and the backoff holds.
            assert!(node.asked_since(stepped) <= 10, "{what}: asked {} times in 5 min", node.asked_since(stepped));
            // A year ahead, nothing that an authority with the right date can give is valid here.
            assert_eq!(node.usable("web"), back || step == hour, "{what}");
            // And when the clock is right again, so are we.
            if back {
                node.jump(step)
            } else {
                node.jump_back(step)
            }
            (node.ahead, node.behind) = (D::ZERO, D::ZERO);
            node.want("web", Priority::RealTime);
            node.pass(D::from_secs(5));
            assert!(node.usable("web"), "{what}, and set right");
        }
    }
}

#[test]
fn a_clock_set_back_by_a_year_does_not_stop_renewals() {
    let mut node = Node::new(HOUR);
    node.want("web", Priority::RealTime);
    node.act();
    node.jump_back(365 * 24 * HOUR);
    node.pass(HOUR / 2 + D::from_secs(2));
    assert_eq!(node.asked.len(), 2, "half of the life passed by the monotonic clock");
    node.authority_works = false;
    // It was certified as valid for an hour and the 2 min before it was made; more nobody here can know.
    node.pass(HOUR + D::from_secs(130));
    assert!(!node.usable("web"), "over by the monotonic clock, whatever the date says");
}

#[test]
fn an_authority_near_its_own_end_is_not_asked_ever_faster() {
    let mut node = Node::new(HOUR);
    let end = node.now.wall + D::from_secs(100);
    node.want("web", Priority::RealTime);
    for _ in 0..1000 {
        if let Next::Ask(ticket) = node.schedule.next(node.now) {
            node.asked.push((ticket.identity.clone(), node.since()));
            let validity = Validity { not_before: node.now.wall - D::from_secs(120), not_after: end };
            node.schedule.issued(&ticket, validity, 0.5, node.now);
        }
        let step = D::from_millis(99);
        node.now = Now { wall: node.now.wall + step, monotonic: node.now.monotonic + step };
    }
    assert!(node.asked.len() <= 8, "asked {} times", node.asked.len());
}

#[test]
fn the_urgent_go_first_and_no_more_than_eight_at_once() {
    let mut node = Node::new(HOUR);
    for at in 0..20 {
        node.want(&format!("warm{at:02}"), Priority::Warmup);
    }
    node.want("now", Priority::RealTime);
    let mut tickets = Vec::new();
    while let Next::Ask(ticket) = node.schedule.next(node.now) {
        tickets.push(ticket);
    }
    assert_eq!(tickets.len(), FETCHES_MAX);
    assert_eq!(tickets[0].identity, id("now"));
    assert_eq!(node.schedule.next(node.now), Next::Idle, "full");
    node.want("warm19", Priority::RealTime);
    node.schedule.failed(&tickets[3], 0.5, node.now);
    let Next::Ask(next) = node.schedule.next(node.now) else { panic!("a place is free") };
    assert_eq!(next.identity, id("warm19"), "raised by a connection");
}

#[test]
fn new_pods_go_before_renewals() {
    let mut node = Node::new(HOUR);
    for at in 0..FETCHES_MAX + 2 {
        node.want(&format!("old{at}"), Priority::Warmup);
    }
    node.act();
    node.now = Now { wall: node.now.wall + HOUR / 2, monotonic: node.now.monotonic + HOUR / 2 };
    node.want("new", Priority::Warmup);
    let Next::Ask(first) = node.schedule.next(node.now) else { panic!("renewals are due") };
    assert_eq!(first.identity, id("new"));
}

#[test]
fn an_answer_for_a_forgotten_identity_is_dropped() {
    let mut node = Node::new(HOUR);
    node.want("web", Priority::RealTime);
    let Next::Ask(old) = node.schedule.next(node.now) else { panic!("due") };
    node.schedule.forget(&id("web"));
    node.want("web", Priority::RealTime);
    let Next::Ask(new) = node.schedule.next(node.now) else { panic!("due again") };
    let validity = Validity { not_before: node.now.wall, not_after: node.now.wall + HOUR };
    assert!(!node.schedule.issued(&old, validity, 0.5, node.now));
    assert!(!node.usable("web"));
    assert!(node.schedule.issued(&new, validity, 0.5, node.now));
    assert!(node.usable("web"));
}

#[test]
fn identities_are_bounded() {
    let mut node = Node::new(HOUR);
    for at in 0..IDENTITIES_MAX {
        node.want(&format!("sa{at}"), Priority::Warmup);
    }
    assert_eq!(node.schedule.want(&id("more"), Priority::RealTime, node.now), Err(Full));
    assert_eq!(node.schedule.want(&id("sa7"), Priority::RealTime, node.now), Ok(()));
    node.schedule.forget(&id("sa8"));
    assert_eq!(node.schedule.want(&id("more"), Priority::RealTime, node.now), Ok(()));
}
