//! The resources of one kind by buckets of their names, with a digest of each: what a client is compared with that says
//! in short what it has ([`crate::digests`]). A digest is made when it is first asked for, and again after a change.

use super::shelf::Entry;
use crate::{codec, digests};
use std::sync::{Arc, OnceLock};

/// All of them.
#[derive(Debug)]
pub(super) struct Buckets(Vec<Bucket>);

#[derive(Debug, Default)]
struct Bucket {
    /// What is there, by name.
    entries: Vec<Arc<Entry>>,
    digest: OnceLock<digests::Digest>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self((0..digests::BUCKETS).map(|_| Bucket::default()).collect())
    }
}

impl Buckets {
    /// Takes in what became of a resource.
    pub(super) fn put(&mut self, entry: &Arc<Entry>) {
        let bucket = &mut self.0[digests::bucket(entry.name())];
        let at = bucket.entries.binary_search_by(|known| known.name().cmp(entry.name()));
        match (at, entry.is_there()) {
            (Ok(at), true) => bucket.entries[at] = entry.clone(),
            (Ok(at), false) => drop(bucket.entries.remove(at)),
            (Err(at), true) => bucket.entries.insert(at, entry.clone()),
            (Err(_), false) => return,
        }
        bucket.digest = OnceLock::new();
    }

    /// The buckets in which somebody has something else, who has what this says.
    pub(super) fn differing(&self, claimed: &[digests::Digest]) -> Vec<usize> {
        let pairs = self.0.iter().zip(claimed).enumerate();
        pairs.filter(|(_, (bucket, claimed))| bucket.digest() != *claimed).map(|(number, _)| number).collect()
    }

    /// What is in a bucket, whoever sees it.
    pub(super) fn entries(&self, number: usize) -> &[Arc<Entry>] {
        &self.0[number].entries
    }
}

impl Bucket {
    /// Of what everybody sees. Who sees more, or has seen more, is told of the bucket anew each time.
    fn digest(&self) -> &digests::Digest {
        self.digest.get_or_init(|| {
            let common = self.entries.iter().filter(|entry| entry.is_for_everyone());
            digests::digest(common.map(|entry| (entry.name(), codec::version(entry.hash()))))
        })
    }
}
