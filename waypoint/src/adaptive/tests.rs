use super::*;

fn bounds(minimum: u32, maximum: u32) -> AdaptiveConcurrency {
    AdaptiveConcurrency { minimum, maximum }
}

/// A destination with so many workers, each 10 ms a request: what the limit is after `rounds` in
/// which callers always want more than is let through.
fn settle(adaptive: &mut Adaptive, workers: u32, rounds: u32) -> u32 {
    for _ in 0..rounds {
        let mut entered = 0;
        while entered < 2_000 && adaptive.enter() {
            entered += 1;
        }
        let took = Duration::from_millis(10).mul_f64((f64::from(entered) / f64::from(workers)).max(1.0));
        (0..entered).for_each(|_| adaptive.ended(Ended::Answered(took)));
    }
    adaptive.limit()
}

#[test]
fn the_limit_grows_while_more_at_a_time_does_not_take_longer() {
    let mut adaptive = Adaptive::new(bounds(1, 200));
    let first = adaptive.limit();
    assert!(settle(&mut adaptive, 1_000, 100) > first);
    assert_eq!(adaptive.limit(), 200);
}

#[test]
fn a_destination_that_becomes_slow_gets_less() {
    let mut adaptive = Adaptive::new(bounds(1, 500));
    settle(&mut adaptive, 1_000, 50);
    let before = adaptive.limit();
    for _ in 0..40 {
        while adaptive.enter() {}
        adaptive.ended(Ended::Answered(Duration::from_millis(200)));
    }
    assert!(adaptive.limit() < before / 2, "{} after {before}", adaptive.limit());
}

#[test]
fn overload_shrinks_the_limit_to_the_fewest_and_never_below() {
    let mut adaptive = Adaptive::new(bounds(3, 100));
    for _ in 0..200 {
        assert!(adaptive.enter());
        adaptive.ended(Ended::Overloaded);
    }
    assert_eq!(adaptive.limit(), 3);
}

#[test]
fn what_says_nothing_of_the_load_changes_nothing() {
    let mut adaptive = Adaptive::new(bounds(1, 100));
    let before = adaptive.limit();
    for _ in 0..100 {
        assert!(adaptive.enter());
        adaptive.ended(Ended::Otherwise);
        assert!(adaptive.enter());
        adaptive.ended(Ended::Answered(Duration::from_secs(9)));
    }
    assert_eq!((adaptive.limit(), adaptive.in_flight()), (before, 0), "one at a time is no load");
}

#[test]
fn more_than_the_limit_are_never_let_through() {
    let mut adaptive = Adaptive::new(bounds(2, 2));
    assert!(adaptive.enter() && adaptive.enter() && !adaptive.enter());
    adaptive.ended(Ended::Answered(Duration::ZERO));
    assert!(adaptive.enter() && !adaptive.enter());
}

#[test]
fn bounds_that_make_no_sense_still_let_one_through() {
    assert_eq!(Adaptive::new(bounds(0, 0)).limit(), 1);
    assert_eq!(Adaptive::new(bounds(50, 10)).limit(), 10);
}
