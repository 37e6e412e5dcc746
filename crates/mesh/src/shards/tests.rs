//! The map against the standard one, and its sharing.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Colliding(u16);

impl Hash for Colliding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 % 3).hash(state);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u8),
    Remove(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0u16..400;
    prop::collection::vec(
        prop_oneof![
            3 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Insert(key, value)),
            2 => key.prop_map(Step::Remove),
        ],
        0..900,
    )
}

fn check<K: Hash + Ord + Clone + std::fmt::Debug>(steps: &[Step], key: impl Fn(u16) -> K) {
    let (mut shards, mut model) = (Shards::default(), BTreeMap::new());
    for step in steps {
        match *step {
            Step::Insert(k, value) => assert_eq!(shards.insert(key(k), value), model.insert(key(k), value)),
            Step::Remove(k) => assert_eq!(shards.remove(&key(k)), model.remove(&key(k))),
        }
        assert_eq!(shards.len(), model.len());
    }
    let walked: BTreeMap<_, _> = shards.iter().map(|(k, v)| (k.clone(), *v)).collect();
    assert_eq!(walked, model);
    let mut fresh = Shards::default();
    for (k, v) in model.iter().rev() {
        fresh.insert(k.clone(), *v);
    }
    assert!(fresh.iter().eq(shards.iter()), "equal content is walked in another order");
}

proptest! {
    #[test]
    fn it_holds_what_a_plain_map_holds(steps in steps()) {
        check(&steps, |k| k);
    }

    #[test]
    fn keys_that_hash_alike_are_kept_apart(steps in steps()) {
        check(&steps, Colliding);
    }
}

#[test]
fn a_copy_does_not_see_later_changes() {
    let mut now: Shards<u32, u32> = (0..10_000).fold(Shards::default(), |mut map, k| {
        map.insert(k, k);
        map
    });
    let before = now.clone();
    now.insert(7, 0);
    now.remove(&8);
    now.insert(20_000, 1);
    assert_eq!((before.get(&7), before.get(&8), before.get(&20_000), before.len()), (Some(&7), Some(&8), None, 10_000));
    assert_eq!((now.get(&7), now.get(&8), now.get(&20_000), now.len()), (Some(&0), None, Some(&1), 10_000));
    assert!(before != now && before == before.clone());
}

#[test]
fn a_borrowed_tuple_finds_an_owned_key() {
    let mut map: Shards<(String, u8), &str> = Shards::default();
    map.insert(("a".into(), 1), "found");
    assert_eq!(map.find(&("a", 1u8), |key| key.0 == "a" && key.1 == 1), Some(&"found"));
    assert_eq!(map.find(&("a", 2u8), |key| key.0 == "a" && key.1 == 2), None);
}

#[test]
fn an_update_that_leaves_nothing_takes_the_key_out() {
    let mut map: Shards<u8, Vec<u8>> = Shards::default();
    map.update(&1, |list| list.push(9), Vec::is_empty);
    assert_eq!(map.get(&1), Some(&vec![9]));
    map.update(&1, Vec::clear, Vec::is_empty);
    assert!(map.is_empty());
}
