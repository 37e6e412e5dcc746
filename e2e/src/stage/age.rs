//! Objects that differ in age: on the lab they have the time that their text says, on a cluster the one at which they were
//! made, in whole seconds.

use super::Stage;
use anyhow::Result;
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A second goes by within this.
const SECOND_DEADLINE: Duration = Duration::from_secs(3);

impl Stage {
    /// Applies objects so that they are as old, one compared to the other, as their `creationTimestamp` says.
    pub fn apply_by_age(&mut self, manifests: &str) -> Result<()> {
        let groups = by_age(manifests);
        if !self.is_cluster() || groups.len() < 2 {
            return self.apply(manifests);
        }
        for group in groups {
            self.apply(&group)?;
            let made = now();
            self.wait("the second is over", SECOND_DEADLINE, |_| Ok(now() > made))?;
        }
        Ok(())
    }
}

/// The whole seconds of the clock, which the nodes of a cluster on this machine share.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Documents of one age together, the oldest first; those that say none are the oldest.
fn by_age(manifests: &str) -> Vec<String> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for document in manifests.split("\n---\n") {
        let age = document.split("creationTimestamp: '").nth(1).and_then(|rest| rest.split('\'').next());
        groups.entry(age.unwrap_or_default()).or_default().push(document);
    }
    groups.into_values().map(|documents| documents.join("\n---\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::by_age;

    #[test]
    fn the_oldest_come_first() {
        let text = "a: { creationTimestamp: '2026-02' }\n---\nb: { creationTimestamp: '2026-01' }\n---\nc\n---\n\
                    d: { creationTimestamp: '2026-01' }";
        let expected = [
            "c",
            "b: { creationTimestamp: '2026-01' }\n---\nd: { creationTimestamp: '2026-01' }",
            "a: { creationTimestamp: '2026-02' }",
        ];
        assert_eq!(by_age(text), expected);
        assert_eq!(by_age("a\n---\nb"), ["a\n---\nb"]);
    }
}
