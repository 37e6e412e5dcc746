use super::*;
use mesh::route::text::Fraction;

#[test]
fn a_gate_lets_in_so_many_and_one_more_when_one_leaves() {
    let gate = Gate::default();
    let first = gate.enter(2).unwrap();
    let _second = gate.enter(2).unwrap();
    assert!(gate.enter(2).is_none());
    drop(first);
    assert!(gate.enter(2).is_some());
    assert_eq!(gate.taken(), 1, "a permit that is dropped gives its place back");
    assert!(gate.enter(0).is_none());
}

#[test]
fn a_limit_holds_whatever_the_number_of_threads() {
    let gate = Gate::default();
    let permits: usize = std::thread::scope(|scope| {
        let enter = || (0..500).filter_map(|_| gate.enter(700)).map(std::mem::forget).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(enter)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((permits, gate.taken()), (700, 700));
}

#[test]
fn a_budget_grows_with_the_requests_in_flight_and_never_below_its_minimum() {
    let share = |percent: u32, at_least| Retries::Share(RetryBudget { share: Fraction(percent * 10_000), at_least });
    for (retries, in_flight, most) in [
        (Retries::Fixed(3), 1_000, 3),
        (share(20, 3), 0, 3),
        (share(20, 3), 15, 3),
        (share(20, 3), 100, 20),
        (share(0, 0), 1_000, 0),
        (share(100, 0), u32::MAX, u32::MAX),
    ] {
        assert_eq!(retries.most(in_flight), most, "{retries:?} with {in_flight} in flight");
    }
}

#[test]
fn further_tries_count_the_requests_in_flight() {
    let most = Most::of(&Pool::default(), Some(RetryBudget { share: Fraction(500_000), at_least: 0 }));
    let breakers = Breakers::default();
    assert!(breakers.retry(&most).is_none());
    let _requests: Vec<_> = (0..4).map(|_| breakers.request(&most).unwrap()).collect();
    let _two: Vec<_> = (0..2).map(|_| breakers.retry(&most).unwrap()).collect();
    assert!(breakers.retry(&most).is_none());
}

#[test]
fn what_is_not_said_has_a_number_all_the_same() {
    let most = Most::of(&Pool { pending_max: Some(0), ..Pool::default() }, None);
    assert_eq!(most.connections, PLACES_DEFAULT);
    assert_eq!(most.retries, Retries::Fixed(RETRIES_DEFAULT));
    assert!(Breakers::default().wait(&most).is_none(), "none may wait");
}
