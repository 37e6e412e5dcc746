//! A backend that is in another state for each request: which one follows from a seed, the name of the call
//! and how often it has come, so that a run can be had again. Pure.

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It is answered.
    Good,
    /// It is answered late.
    Slow,
    /// It is answered with 503.
    Unavailable,
    /// Its connection ends without an answer.
    Reset,
    /// The same, and nobody listens for a moment.
    Refused,
}

impl State {
    /// Out of a hundred requests: so many of each.
    const SHARES: [(Self, u64); 5] =
        [(Self::Good, 45), (Self::Slow, 15), (Self::Unavailable, 20), (Self::Reset, 15), (Self::Refused, 5)];

    /// The state for a call that comes for the `nth` time.
    pub(super) fn of(seed: u64, call: &str, nth: usize) -> Self {
        let mut lot =
            mixed(call.bytes().fold(mixed(seed ^ nth as u64), |sum, byte| mixed(sum ^ u64::from(byte)))) % 100;
        for (state, share) in Self::SHARES {
            if lot < share {
                return state;
            }
            lot -= share;
        }
        Self::Good
    }

    /// How it is written in what the backend counts.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Good => 'g',
            Self::Slow => 's',
            Self::Unavailable => '5',
            Self::Reset => 'r',
            Self::Refused => 'x',
        }
    }
}

/// One step of SplitMix64.
fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_as_often_as_said_and_the_same_in_every_run() {
        let all = |seed| (0..10_000).map(|n| State::of(seed, &format!("call-{n}"), n % 3)).collect::<Vec<_>>();
        assert_eq!(all(7), all(7));
        assert_ne!(all(7), all(8));
        for (state, share) in State::SHARES {
            let found = all(7).into_iter().filter(|it| *it == state).count() as u64;
            assert!(found.abs_diff(share * 100) < 200, "{state:?}: {found}");
        }
    }
}
