//! Memory goes back to the node after a crowd of connections.
//!
//! A node proxy lives for weeks beside pods that pay for what it keeps. What a crowd of connections
//! has used is free when they are gone, but the allocator keeps it, unless it is told.

use crate::limits::{CROWD_MIN, EBB_LOOK, EBB_TIMES};
use crate::live::Live;
use crate::net::heap;

/// Tells when a crowd has gone.
#[derive(Debug, Default)]
struct Tide {
    /// The most that were open since the last crowd went.
    high: usize,
    /// How often there is still something to give back of it.
    owed: u32,
}

impl Tide {
    /// With so many open now, and so many at most since the last look, whether there is memory to give back: half of the
    /// connections are gone, and enough of them to matter; and a few looks after that again, for their tunnels go later.
    fn ebbs(&mut self, peak: usize, open: usize) -> bool {
        self.high = self.high.max(peak).max(open);
        if self.high - open >= CROWD_MIN.max(self.high / 2) {
            (self.high, self.owed) = (open, EBB_TIMES);
        }
        let owed = self.owed > 0;
        self.owed = self.owed.saturating_sub(1);
        owed
    }
}

/// Gives memory back after each crowd, as long as the future lives.
pub async fn watch(live: Live) {
    let mut tide = Tide::default();
    let mut looks = tokio::time::interval(EBB_LOOK);
    loop {
        looks.tick().await;
        if tide.ebbs(live.peak(), live.len()) && tokio::task::spawn_blocking(heap::give_back).await.is_err() {
            tracing::warn!("giving memory back to the system failed; it is tried again after the next crowd");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often memory is given back while so many are open at each look.
    fn times(open: &[usize]) -> u32 {
        let mut tide = Tide::default();
        open.iter().map(|open| u32::from(tide.ebbs(0, *open))).sum()
    }

    #[test]
    fn a_crowd_that_came_and_went_between_two_looks_is_noticed() {
        let mut tide = Tide::default();
        let looks = [(0, 0), (10_000, 0), (0, 0), (0, 0), (0, 0), (0, 0)];
        assert_eq!(looks.map(|(peak, open)| u32::from(tide.ebbs(peak, open))).iter().sum::<u32>(), EBB_TIMES);
    }

    #[test]
    fn memory_goes_back_when_a_crowd_has_gone() {
        let gone = [&[10_000][..], &[0; 20]].concat();
        for (open, want, why) in [
            (&[0; 30][..], 0, "nobody came"),
            (&[0, 100, 200, 255, 0, 0], 0, "too few to matter"),
            (&[10_000; 30], 0, "all are there"),
            (&[10_000, 9000, 8000, 7000, 5001], 0, "more than half are there"),
            (&gone, EBB_TIMES, "all went, and their tunnels after them"),
            (&[10_000, 0, 10_000, 0], 3, "a crowd after a crowd"),
        ] {
            assert_eq!(times(open), want, "{why}");
        }
    }

    #[test]
    fn those_that_go_slowly_are_noticed_too() {
        let slowly: Vec<usize> = (0..=100).rev().map(|hundred| hundred * 100).collect();
        assert!(times(&slowly) > EBB_TIMES);
    }
}
