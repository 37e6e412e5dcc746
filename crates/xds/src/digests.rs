//! What a client has, said in short, so that a thousand of them can come back at once.
//!
//! Delta ADS has a client that resumes say name and version of everything that it has: 10 MB of a hundred thousand
//! workloads, for each proxy, to be sent, read and compared before the answer, which is most often "nothing". This is an
//! extension of ours:
//!
//! * A server that knows it has the word [`WORD`] in `control_plane.identifier` of each answer to a first request.
//! * A client that was answered so claims, when it comes back, one resource named [`CLAIM`], the version of which is a
//!   digest of each of [`BUCKETS`] buckets, into which names fall by their hash; and nothing else.
//! * The server sends all that there is in buckets which differ, and lists those among what is removed, as [`resent`].
//!   Whatever the client had in them and was not sent now is gone.
//! * A server that does not know it (an older one, Istio's) hears of one resource that it has not got, and sends
//!   everything: without the word, the first answer is all that there is.
//!
//! A digest is of SHA-256 over the bucket's names and versions in their order. A sum of hashes could be kept up
//! more cheaply, but then whoever may write some of the resources could choose them so that another's change is not seen.

use crate::Kind;
use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use std::collections::BTreeMap;
use xxhash_rust::xxh64::xxh64;

/// Says that a server knows digests: a word of `control_plane.identifier`.
pub const WORD: &str = "digests-1";
/// Name of what a client claims to have. No resource is named so: all have a `/` in their names.
pub const CLAIM: &str = "~digests-1";
/// A hundred thousand names are 24 to a bucket: what changed while a client was away is sent with so many others.
pub const BUCKETS: usize = 4096;
/// Who has fewer resources says them one by one, as everybody does: the digests take as much (87 kB).
pub const RESOURCES_MIN: usize = 1000;

/// The digest of a bucket: half of SHA-256, of which nobody can find two that are alike; zeros if nothing is in it.
pub type Digest = [u8; 16];

/// What the name of a bucket begins with that was sent whole.
const RESENT: &str = "~bucket-";

/// The bucket of a name.
pub fn bucket(name: &str) -> usize {
    (xxh64(name.as_bytes(), 0) % BUCKETS as u64) as usize
}

/// The digest of a bucket: of its names, in their order, and their versions.
pub fn digest(resources: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>) -> Digest {
    let mut resources = resources.into_iter().peekable();
    if resources.peek().is_none() {
        return Digest::default();
    }
    let mut context = Context::new(&SHA256);
    for (name, version) in resources {
        for text in [name.as_ref(), version.as_ref()] {
            context.update(&(text.len() as u64).to_le_bytes());
            context.update(text.as_bytes());
        }
    }
    *context.finish().as_ref().first_chunk().expect("SHA-256 has 32 bytes")
}

/// The claim of a client that has these resources: name and version of a resource.
pub fn claim<'a>(resources: impl Iterator<Item = (&'a str, &'a str)>) -> (String, String) {
    let mut buckets = vec![Vec::new(); BUCKETS];
    for resource in resources {
        buckets[bucket(resource.0)].push(resource);
    }
    let mut digests = Vec::with_capacity(BUCKETS * size_of::<Digest>());
    for mut bucket in buckets {
        bucket.sort_unstable();
        digests.extend(digest(bucket));
    }
    (CLAIM.to_owned(), BASE64.encode(digests))
}

/// Whether a client may say in short what it has of a kind. Of the other kinds there are few, and what is gone of
/// them may come in an answer of its own.
pub fn are_of(kind: Kind) -> bool {
    kind == Kind::Address
}

/// What a client claims, if it claims it in short, and so that it can be read.
pub fn claimed(kind: Kind, claims: &BTreeMap<String, String>) -> Option<Vec<Digest>> {
    let bytes = BASE64.decode(claims.get(CLAIM).filter(|_| are_of(kind))?).ok()?;
    let (digests, rest) = bytes.as_chunks();
    (digests.len() == BUCKETS && rest.is_empty()).then(|| digests.to_vec())
}

/// What stands among the removed for a bucket that was sent whole.
pub fn resent(bucket: usize) -> String {
    format!("{RESENT}{bucket}")
}

/// Which bucket that is.
pub fn resent_bucket(removed: &str) -> Option<usize> {
    removed.strip_prefix(RESENT)?.parse().ok().filter(|bucket| *bucket < BUCKETS)
}

/// Whether the server that says so of itself knows digests.
pub fn known_to(identifier: &str) -> bool {
    identifier.split_whitespace().any(|word| word == WORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(version: &str) -> Option<Vec<Digest>> {
        claimed(Kind::Address, &[(CLAIM.to_owned(), version.to_owned())].into())
    }

    #[test]
    fn a_claim_is_the_same_in_any_order_and_another_for_any_difference() {
        let text = |resources: &[(&'static str, &'static str)]| claim(resources.iter().copied()).1;
        let base = text(&[("a", "1"), ("b", "2")]);
        assert_eq!(base, text(&[("b", "2"), ("a", "1")]));
        for other in
            [&[("a", "1"), ("b", "3")][..], &[("a", "1")], &[("a", "2"), ("b", "1")], &[("a", "12"), ("b", "")]]
        {
            assert_ne!(base, text(other), "{other:?}");
        }
        let (one, other) = (read(&base).unwrap(), read(&text(&[("a", "1"), ("b", "3")])).unwrap());
        assert_eq!((0..BUCKETS).filter(|n| one[*n] != other[*n]).collect::<Vec<_>>(), [bucket("b")]);
        assert_eq!(base.len(), (BUCKETS * 16 * 4).div_ceil(3));
    }

    #[test]
    fn texts_do_not_run_into_one_another() {
        assert_ne!(digest([("ab", "c")]), digest([("a", "bc")]));
        assert_ne!(digest([("a", "b"), ("c", "d")]), digest([("a", "bc"), ("", "d")]));
    }

    #[test]
    fn what_is_no_claim_is_none() {
        let good = claim([].into_iter()).1;
        assert!(read(&good).is_some());
        for bad in ["", "AAAA", "!", &good[4..], &format!("{good}AAAA")] {
            assert_eq!(read(bad), None, "{bad:.20}");
        }
        let claims = [(CLAIM.to_owned(), good)].into();
        assert!(claimed(Kind::ServiceRules, &claims).is_none() && claimed(Kind::Address, &[].into()).is_none());
    }

    #[test]
    fn a_bucket_that_was_sent_whole_is_named() {
        assert_eq!(resent_bucket(&resent(4095)), Some(4095));
        for other in ["~bucket-4096", "~bucket-", "~bucket-x", "~bucket--1", "shop/web", CLAIM] {
            assert_eq!(resent_bucket(other), None, "{other}");
        }
    }

    #[test]
    fn a_server_says_that_it_knows_them_among_other_words() {
        for (identifier, want) in
            [("istiod-lite digests-1", true), ("digests-1", true), ("digests-12", false), ("", false)]
        {
            assert_eq!(known_to(identifier), want, "{identifier}");
        }
    }
}
