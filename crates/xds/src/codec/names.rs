//! Text that many resources repeat, held once.
//!
//! A hundred thousand workloads share a few namespaces, nodes, accounts and owners. Read one by one
//! each would have its own copy of them all, which is most of what a workload weighs.

use mesh::Str;
use std::{collections::HashSet, sync::Arc};

/// Every text that is shared, and may be needed again.
#[derive(Debug, Default)]
pub struct Names {
    held: HashSet<Str>,
    /// Sweep when there are more than this.
    sweep_at: usize,
}

/// Fewer than this are not worth a sweep.
const SWEEP_MIN: usize = 1024;

impl Names {
    /// Nothing is held.
    pub fn new() -> Self {
        Self::default()
    }

    /// The one copy of this text.
    pub fn share(&mut self, text: &str) -> Str {
        if let Some(held) = self.held.get(text) {
            return held.clone();
        }
        if self.held.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.sweep();
        }
        let text = Str::from(text);
        self.held.insert(text.clone());
        text
    }

    /// Lets go of what nobody else has any more. Done again only when there is twice as much as is
    /// left, so that a text costs a constant share of all sweeps.
    fn sweep(&mut self) {
        self.held.retain(|text| Arc::strong_count(text) > 1);
        self.held.shrink_to(self.held.len() * 2);
        self.sweep_at = self.held.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one() {
        let mut names = Names::new();
        let (a, b) = (names.share("shop"), names.share("shop"));
        assert!(Arc::ptr_eq(&a, &b));
    }

    #[test]
    fn what_nobody_has_is_let_go() {
        let mut names = Names::new();
        let kept: Vec<Str> = (0..100).map(|n| names.share(&format!("kept-{n}"))).collect();
        for n in 0..100_000 {
            names.share(&format!("passing-{n}"));
        }
        assert!(names.held.len() <= SWEEP_MIN + kept.len(), "{} are held", names.held.len());
        assert!(Arc::ptr_eq(&names.share("kept-7"), &kept[7]));
    }
}
