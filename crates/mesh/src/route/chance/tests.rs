//! Shares fall as they are written.

use super::*;
use crate::route::text::Fraction;

#[test]
fn each_place_has_its_share_of_the_faces() {
    for (weights, expected) in [
        (&[1, 3][..], [250, 750, 0]),
        (&[0, 1, 1], [0, 500, 500]),
        (&[5], [1000, 0, 0]),
        (&[u32::MAX, u32::MAX], [500, 500, 0]),
    ] {
        let mut counts = [0; 3];
        for step in 0..1000u64 {
            let throw = step * (u64::MAX / 1000) + u64::MAX / 2000;
            counts[weighted(weights.iter().copied(), throw).expect("one of them")] += 1;
        }
        assert_eq!(counts, expected, "{weights:?}");
        assert_eq!(weighted(weights.iter().copied(), 0), weights.iter().position(|weight| *weight > 0));
        assert_eq!(weighted(weights.iter().copied(), u64::MAX), weights.iter().rposition(|weight| *weight > 0));
    }
    for weights in [&[][..], &[0], &[0, 0]] {
        for throw in [0, 1 << 40, u64::MAX] {
            assert_eq!(weighted(weights.iter().copied(), throw), None);
        }
    }
}

#[test]
fn of_each_kind_of_fault_the_first_that_falls_befalls() {
    let delay =
        |millis, share| Fault { delay: Some((Duration::from_millis(millis), Fraction(share))), ..Fault::default() };
    let abort = |status, share| Fault { abort: Some((AbortStatus::Http(status), Fraction(share))), ..Fault::default() };
    let faults = [delay(1, 500_000), delay(2, 1_000_000), abort(500, 1), abort(501, 1_000_000)];
    for (throws, millis, status) in
        [([0, 0, 0, 0], 1, 500), ([499_999, 0, 1, 999_999], 1, 501), ([500_000, 999_999, 0, 0], 2, 500)]
    {
        let mut throws = throws.into_iter();
        let mishap = mishap(faults.iter(), || throws.next().expect("a throw"));
        assert_eq!(mishap.delay, Some(Duration::from_millis(millis)));
        assert_eq!(mishap.abort, Some(AbortStatus::Http(status)));
    }
    assert_eq!(mishap([delay(1, 0)].iter(), || 0), Mishap::default());
}
