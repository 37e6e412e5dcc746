use super::*;

fn settings() -> Outlier {
    Outlier {
        consecutive_errors: 3,
        consecutive_gateway_errors: 0,
        consecutive_local_failures: 0,
        error_codes: Vec::new(),
        interval: secs(10),
        base_ejection: secs(30),
        max_ejection: secs(300),
        max_ejected_percent: 50,
        min_healthy_percent: 0,
    }
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn detector(settings: Outlier, count: usize) -> Detector {
    let mut detector = Detector::new(settings, Duration::ZERO);
    let names: Vec<Str> = (0..count).map(|n| n.to_string().into()).collect();
    detector.endpoints(&names);
    detector
}

/// Which of the events is the first that ejects, and why.
fn first(settings: &Outlier, events: &[Heard]) -> Option<(usize, Cause)> {
    let tally = Tally::default();
    events.iter().enumerate().find_map(|(at, heard)| Some((at + 1, tally.heard(settings, *heard)?)))
}

#[test]
fn failures_one_after_the_other_are_counted_by_kind() {
    use Heard::{LocalFailure as Local, Status};
    let errors = settings();
    let gateway = Outlier { consecutive_errors: 0, consecutive_gateway_errors: 2, ..settings() };
    let split = Outlier { consecutive_local_failures: 2, ..settings() };
    let codes = Outlier { error_codes: vec![429], ..settings() };
    let both = Outlier { consecutive_gateway_errors: 2, ..settings() };
    let never = Outlier { consecutive_errors: 0, ..settings() };
    for (settings, events, expected) in [
        (&errors, vec![Status(500), Status(503), Status(599)], Some((3, Cause::Errors))),
        (&errors, vec![Status(500), Status(500), Status(404), Status(500), Status(500)], None),
        (&errors, vec![Local, Local, Local], Some((3, Cause::Errors))),
        (&gateway, vec![Status(500), Status(500), Status(502), Status(504)], Some((4, Cause::GatewayErrors))),
        (&gateway, vec![Status(502), Status(500), Status(503)], None),
        (&gateway, vec![Local, Local], Some((2, Cause::GatewayErrors))),
        (&split, vec![Status(500), Local, Local], Some((3, Cause::LocalFailures))),
        (&split, vec![Local, Status(200), Local], None),
        (&split, vec![Status(500), Local, Status(500), Status(500)], Some((4, Cause::Errors))),
        (&codes, vec![Status(500); 5], None),
        (&codes, vec![Status(429); 3], Some((3, Cause::Errors))),
        (&both, vec![Status(500), Status(502), Status(503)], Some((3, Cause::Errors))),
        (&never, vec![Status(500); 100], None),
    ] {
        assert_eq!(first(settings, &events), expected, "{events:?} with {settings:?}");
    }
}

#[test]
fn each_further_ejection_is_longer_and_good_times_make_it_shorter_again() {
    let mut detector = detector(settings(), 4);
    let tally = detector.tally("0").unwrap();
    let mut now = Duration::ZERO;
    for time in [30, 60, 90, 120] {
        assert_eq!(detector.failed("0", now), Decision::Ejected(secs(time)));
        assert!(tally.is_ejected());
        now += secs(time - 1);
        assert!(detector.sweep(now).is_empty(), "not before its time");
        now += secs(10);
        assert_eq!(detector.sweep(now), ["0".into()]);
        assert!(!tally.is_ejected());
    }
    for _ in 0..4 {
        now += secs(10);
        detector.sweep(now);
    }
    assert_eq!(detector.failed("0", now), Decision::Ejected(secs(30)));
}

#[test]
fn no_ejection_is_longer_than_the_longest() {
    let mut detector = detector(Outlier { max_ejection: secs(45), ..settings() }, 4);
    detector.failed("0", secs(0));
    detector.sweep(secs(30));
    assert_eq!(detector.failed("0", secs(30)), Decision::Ejected(secs(45)));
}

#[test]
fn one_may_always_be_ejected_and_never_more_than_the_share() {
    for (count, percent, most) in [(1, 10, 1), (4, 10, 1), (4, 50, 2), (5, 50, 2), (10, 100, 10), (3, 0, 1)] {
        let mut detector = detector(Outlier { max_ejected_percent: percent, ..settings() }, count);
        let decisions: Vec<_> = (0..count).map(|n| detector.failed(&n.to_string(), Duration::ZERO)).collect();
        assert_eq!(detector.out(), most, "{percent}% of {count}");
        assert!(decisions[most..].iter().all(|decision| *decision == Decision::Kept));
    }
}

#[test]
fn ejection_is_looked_at_once_an_interval() {
    let mut detector = detector(Outlier { base_ejection: secs(1), ..settings() }, 4);
    detector.failed("1", secs(1));
    assert!(detector.sweep(secs(9)).is_empty());
    assert_eq!(detector.sweep(secs(10)), ["1".into()]);
}

#[test]
fn too_few_healthy_ones_bring_all_back() {
    let detector = detector(Outlier { min_healthy_percent: 50, ..settings() }, 4);
    for (healthy, all, heeded) in [(4, 4, true), (2, 4, true), (1, 4, false), (0, 4, false), (0, 0, false)] {
        assert_eq!(detector.heeded(healthy, all), heeded, "{healthy} of {all}");
    }
}

#[test]
fn what_is_gone_is_forgotten_and_what_stays_is_remembered() {
    let mut detector = detector(settings(), 4);
    detector.failed("0", Duration::ZERO);
    detector.failed("1", Duration::ZERO);
    detector.endpoints(&["1".into(), "2".into(), "9".into()]);
    assert_eq!(detector.out(), 1);
    assert_eq!(detector.failed("0", Duration::ZERO), Decision::Unknown);
    assert_eq!(detector.failed("1", Duration::ZERO), Decision::Out);
}
