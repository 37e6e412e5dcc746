//! A map that is replaced, not changed, and shares what did not change with the one before.
//!
//! A tree of small sorted leaves, sixteen children to a branch, placed by the key's hash. A copy
//! costs one reference count. A change copies only the path to its leaf, and only once while the
//! copy is the sole owner, so a batch of changes pays for each touched node one time.
//!
//! The shape follows from the content alone: whatever came and went before, equal content is laid
//! out equally and is walked in the same order. It never locks, and it is not for keys that an
//! outsider may choose freely without a bound on their number.

use std::{
    borrow::Borrow,
    hash::{DefaultHasher, Hash, Hasher},
    hint::black_box,
    sync::Arc,
};

/// Most entries of a leaf; with one more it becomes a branch. Small enough that copying a leaf is
/// about a microsecond, large enough that 100,000 entries are four levels deep.
const LEAF_MAX: usize = 16;
/// Hash bits that one level consumes.
const LEVEL_BITS: u32 = 4;
/// Children of a branch.
const FANOUT: usize = 1 << LEVEL_BITS;

/// A persistent map of `K` to `V`. Both should be cheap to clone.
#[derive(Debug)]
pub struct Shards<K, V> {
    root: Arc<Node<K, V>>,
    len: usize,
}

#[derive(Debug)]
enum Node<K, V> {
    /// Sorted by hash, then key.
    Leaf(Vec<Entry<K, V>>),
    /// More entries than a leaf holds, by the next bits of their hashes.
    Branch(Children<K, V>),
}

type Child<K, V> = Option<Arc<Node<K, V>>>;
type Children<K, V> = [Child<K, V>; FANOUT];

#[derive(Clone, Debug)]
struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K: Clone, V: Clone> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(entries) => Self::Leaf(entries.clone()),
            Self::Branch(children) => {
                // Counting a reference waits for memory before the next one may begin. Reading does not: all
                // counts are under way at once, and at hand when they rise.
                black_box(children.iter().flatten().map(Arc::strong_count).sum::<usize>());
                Self::Branch(children.clone())
            }
        }
    }
}

impl<K, V> Clone for Shards<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Shards<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && (Arc::ptr_eq(&self.root, &other.root) || self.iter().eq(other.iter()))
    }
}

impl<K, V> Shards<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every entry, in an order that depends on the content only.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { leaf: [].iter(), branches: Vec::new() };
        iter.enter(&self.root);
        iter
    }

    /// The value of the key that hashes like `probe` and is the `same`. It spares building a key
    /// of owned parts for a look-up: `probe` may be a tuple of borrowed ones.
    pub fn find(&self, probe: &(impl Hash + ?Sized), same: impl Fn(&K) -> bool) -> Option<&V> {
        let hash = hash_of(probe);
        let leaf = leaf(&self.root, hash);
        let start = leaf.partition_point(|entry| entry.hash < hash);
        leaf[start..].iter().take_while(|entry| entry.hash == hash).find(|entry| same(&entry.key)).map(|e| &e.value)
    }

    /// The value of a key.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.find(key, |candidate| candidate.borrow() == key)
    }
}

impl<K: Hash + Ord + Clone, V: Clone> Shards<K, V> {
    /// Puts a value under a key; the earlier one comes back.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let entry = Entry { hash: hash_of(&key), key, value };
        let earlier = insert(Arc::make_mut(&mut self.root), entry, 0);
        self.len += usize::from(earlier.is_none());
        earlier
    }

    /// Takes a key out; its value comes back. Nothing is copied when the key is not there.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Ord + ?Sized,
    {
        self.get(key)?;
        let removed = remove(Arc::make_mut(&mut self.root), key, hash_of(key), 0);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Replaces the value of a key by what `change` makes of it, beginning with the default when
    /// there is none. A value that is `vacant` afterwards is taken out.
    pub fn update(&mut self, key: &K, change: impl FnOnce(&mut V), vacant: impl FnOnce(&V) -> bool)
    where
        V: Default,
    {
        if self.get(key).is_none() {
            let mut value = V::default();
            change(&mut value);
            if !vacant(&value) {
                self.insert(key.clone(), value);
            }
        } else if let Some(value) = value_mut(&mut self.root, key) {
            // In place: a copy of it would be a second owner of all that is in it.
            change(value);
            if vacant(value) {
                self.remove(key);
            }
        }
    }
}

/// The walk over a map's entries.
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    leaf: std::slice::Iter<'a, Entry<K, V>>,
    branches: Vec<std::slice::Iter<'a, Child<K, V>>>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn enter(&mut self, node: &'a Node<K, V>) {
        match node {
            Node::Leaf(entries) => self.leaf = entries.iter(),
            Node::Branch(children) => self.branches.push(children.iter()),
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some((&entry.key, &entry.value));
            }
            match self.branches.last_mut()?.next() {
                Some(Some(child)) => self.enter(child),
                Some(None) => {}
                None => drop(self.branches.pop()),
            }
        }
    }
}

/// A fixed hash: the same content has the same shape in every process.
fn hash_of(key: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn slot(hash: u64, depth: u32) -> usize {
    (hash >> (64 - LEVEL_BITS * (depth + 1))) as usize & (FANOUT - 1)
}

/// No hash bits are left to tell entries apart below this depth.
const DEPTH_MAX: u32 = 64 / LEVEL_BITS;

fn leaf<K, V>(mut node: &Node<K, V>, hash: u64) -> &[Entry<K, V>] {
    let mut depth = 0;
    loop {
        match node {
            Node::Leaf(entries) => return entries,
            Node::Branch(children) => match &children[slot(hash, depth)] {
                Some(child) => node = child,
                None => return &[],
            },
        }
        depth += 1;
    }
}

/// Where a key is in a leaf, or would be.
fn place<K: Borrow<Q>, V, Q: Ord + ?Sized>(entries: &[Entry<K, V>], hash: u64, key: &Q) -> Result<usize, usize> {
    entries.binary_search_by(|there| there.hash.cmp(&hash).then_with(|| there.key.borrow().cmp(key)))
}

/// The value of a key, on a path that nobody shares. Without the key the path is copied for nothing.
fn value_mut<'a, K: Hash + Ord + Clone, V: Clone>(node: &'a mut Arc<Node<K, V>>, key: &K) -> Option<&'a mut V> {
    let (mut node, hash) = (Arc::make_mut(node), hash_of(key));
    let mut depth = 0;
    loop {
        match node {
            Node::Leaf(entries) => {
                let at = place(entries, hash, key).ok()?;
                return Some(&mut entries[at].value);
            }
            Node::Branch(children) => node = Arc::make_mut(children[slot(hash, depth)].as_mut()?),
        }
        depth += 1;
    }
}

fn insert<K: Hash + Ord + Clone, V: Clone>(node: &mut Node<K, V>, entry: Entry<K, V>, depth: u32) -> Option<V> {
    match node {
        Node::Branch(children) => {
            let child = children[slot(entry.hash, depth)].get_or_insert_with(|| Arc::new(Node::Leaf(Vec::new())));
            insert(Arc::make_mut(child), entry, depth + 1)
        }
        Node::Leaf(entries) => match place(entries, entry.hash, &entry.key) {
            Ok(at) => Some(std::mem::replace(&mut entries[at].value, entry.value)),
            Err(at) => {
                entries.insert(at, entry);
                if entries.len() > LEAF_MAX && depth < DEPTH_MAX {
                    *node = split(std::mem::take(entries), depth);
                }
                None
            }
        },
    }
}

fn split<K, V>(entries: Vec<Entry<K, V>>, depth: u32) -> Node<K, V> {
    if entries.len() <= LEAF_MAX || depth >= DEPTH_MAX {
        return Node::Leaf(entries);
    }
    let mut children: [Vec<Entry<K, V>>; FANOUT] = Default::default();
    for entry in entries {
        children[slot(entry.hash, depth)].push(entry);
    }
    Node::Branch(children.map(|entries| (!entries.is_empty()).then(|| Arc::new(split(entries, depth + 1)))))
}

fn remove<K, V, Q>(node: &mut Node<K, V>, key: &Q, hash: u64, depth: u32) -> Option<V>
where
    K: Hash + Ord + Clone + Borrow<Q>,
    V: Clone,
    Q: Ord + ?Sized,
{
    match node {
        Node::Leaf(entries) => place(entries, hash, key).ok().map(|at| entries.remove(at).value),
        Node::Branch(children) => {
            let child = &mut children[slot(hash, depth)];
            let removed = remove(Arc::make_mut(child.as_mut()?), key, hash, depth + 1);
            if child.as_ref().is_some_and(|child| matches!(&**child, Node::Leaf(entries) if entries.is_empty())) {
                *child = None;
            }
            if let Some(entries) = gather(children) {
                *node = Node::Leaf(entries);
            }
            removed
        }
    }
}

/// The entries of a branch that would fit into one leaf, so that the shape stays that of the content.
fn gather<K: Clone, V: Clone>(children: &Children<K, V>) -> Option<Vec<Entry<K, V>>> {
    let mut total = 0;
    for child in children.iter().flatten() {
        match &**child {
            Node::Leaf(entries) => total += entries.len(),
            Node::Branch(_) => return None,
        }
        if total > LEAF_MAX {
            return None;
        }
    }
    let mut gathered = Vec::with_capacity(total);
    for child in children.iter().flatten() {
        if let Node::Leaf(entries) = &**child {
            gathered.extend_from_slice(entries);
        }
    }
    Some(gathered)
}

#[cfg(test)]
mod tests;
