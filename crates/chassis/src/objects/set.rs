//! Files → objects, and what changed. Plain data: it reads no file and no clock.
//!
//! Each object has at most one base document and any number of overlays; the work of a change is
//! that of the objects its file describes.

use super::{Object, ObjectEvent, ObjectKey, Origin, Problem};
use litemap::LiteMap;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::Hasher,
    path::Path,
    sync::Arc,
};

/// The objects of every file.
#[derive(Debug, Default)]
pub(super) struct Set {
    files: BTreeMap<Arc<Path>, BTreeSet<Arc<ObjectKey>>>,
    described: BTreeMap<Arc<ObjectKey>, Description>,
}

/// By file, what it says of one object: nearly always there is one file, and the first node of a tree has room for
/// eleven.
type Documents = LiteMap<Arc<Path>, Kept>;

/// Every document about one object, and what they add up to.
#[derive(Debug, Default)]
struct Description {
    bases: Documents,
    overlays: Documents,
    /// The digest of what was told last.
    sum: Option<u64>,
}

/// A document, as text: its values as a tree take ten times the memory, and they are wanted again only when another
/// document about the same object comes or goes.
#[derive(Debug)]
struct Kept {
    api_version: Box<str>,
    origin: Origin,
    json: Box<str>,
    digest: u64,
}

impl Kept {
    fn of(object: &Object) -> Self {
        let json = object.value.to_string().into_boxed_str();
        let digest = digest(&json);
        Self { api_version: object.api_version.as_str().into(), origin: object.origin.clone(), json, digest }
    }

    fn value(&self) -> Value {
        serde_json::from_str(&self.json).expect("a text that was written here can be read here")
    }

    fn object(&self, key: &ObjectKey, value: Value) -> Object {
        let ObjectKey { kind, namespace, name, .. } = key.clone();
        Object { api_version: self.api_version.to_string(), kind, namespace, name, value, origin: self.origin.clone() }
    }
}

/// Keeps what a file says; a list that has one takes the memory of one.
fn put(documents: &mut Documents, file: Arc<Path>, kept: Kept) {
    if documents.is_empty() {
        *documents = LiteMap::with_capacity(1);
    }
    documents.insert(file, kept);
}

fn digest(json: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(json.as_bytes());
    hasher.finish()
}

/// What a file was found to hold.
#[derive(Debug)]
pub(super) struct Content {
    /// Its objects are an overlay over those of other files.
    pub(super) overlay: bool,
    /// What could be read.
    pub(super) objects: Vec<Object>,
    /// What could not. If there is any, objects that the file had before are kept.
    pub(super) problems: Vec<Problem>,
}

impl Set {
    /// Takes what a file now holds, `None` when it is gone.
    pub(super) fn apply(&mut self, file: &Path, content: Option<Content>) -> Vec<ObjectEvent> {
        let (name, before) = self.files.remove_entry(file).unwrap_or_else(|| (file.into(), BTreeSet::new()));
        let mut touched = before.clone();
        let mut events = Vec::new();
        let (mut now, mut fresh) = (BTreeSet::new(), BTreeMap::new());
        let keep = content.as_ref().is_some_and(|c| !c.problems.is_empty());
        if let Some(content) = content {
            events.extend(content.problems.into_iter().map(ObjectEvent::Problem));
            for object in content.objects {
                let key = self.key(object.key());
                if !now.insert(key.clone()) {
                    events.push(twice(&key, object.origin.line, file, "in this file"));
                    continue;
                }
                let description = self.described.entry(key.clone()).or_default();
                let side = if content.overlay { &mut description.overlays } else { &mut description.bases };
                put(side, name.clone(), Kept::of(&object));
                touched.insert(key.clone());
                if !content.overlay {
                    fresh.insert(key, object);
                }
            }
        }
        if keep {
            now.extend(before);
        } else {
            for key in before.difference(&now) {
                if let Some(description) = self.described.get_mut(key) {
                    description.bases.remove(file);
                    description.overlays.remove(file);
                }
            }
        }
        for key in touched {
            let fresh = fresh.remove(&key);
            events.extend(self.settle(&key, file, fresh));
        }
        if !now.is_empty() {
            self.files.insert(name, now);
        }
        events
    }

    /// The same key, in the memory where it already is.
    fn key(&self, key: ObjectKey) -> Arc<ObjectKey> {
        self.described.get_key_value(&key).map_or_else(|| Arc::new(key), |(known, _)| known.clone())
    }

    /// Adds up the documents of one object again and says what that changed. `fresh` is the one that this file has.
    fn settle(&mut self, key: &ObjectKey, file: &Path, fresh: Option<Object>) -> Vec<ObjectEvent> {
        let Some(description) = self.described.get_mut(key) else { return Vec::new() };
        let mut events = Vec::new();
        let first = description.bases.first();
        if let (Some((first, _)), Some(mine)) = (first, description.bases.get(file))
            && **first != *file
        {
            events.push(twice(key, mine.origin.line, file, &format!("already in {}, which counts", first.display())));
        }
        let (before, fresh) = (description.sum, fresh.filter(|_| first.is_some_and(|(first, _)| **first == *file)));
        description.sum = match first {
            None => {
                events.extend(before.map(|_| ObjectEvent::Removed(key.clone())));
                None
            }
            Some((_, base)) if description.overlays.is_empty() => {
                if before != Some(base.digest) {
                    let object = fresh.unwrap_or_else(|| base.object(key, base.value()));
                    events.push(ObjectEvent::Applied(Arc::new(object)));
                }
                Some(base.digest)
            }
            Some((_, base)) => {
                let mut value = base.value();
                for overlay in description.overlays.values() {
                    merge(&mut value, &overlay.value());
                }
                let digest = digest(&value.to_string());
                if before != Some(digest) {
                    events.push(ObjectEvent::Applied(Arc::new(base.object(key, value))));
                }
                Some(digest)
            }
        };
        if description.bases.is_empty() && description.overlays.is_empty() {
            self.described.remove(key);
        }
        events
    }
}

fn twice(key: &ObjectKey, line: usize, file: &Path, where_: &str) -> ObjectEvent {
    let reason = format!("{key} is described twice, {where_}: this document is ignored");
    ObjectEvent::Problem(Problem { file: file.into(), line, reason })
}

/// Lays `over` upon `base`: maps are merged, everything else is replaced.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match base.get_mut(key) {
                    Some(slot) => merge(slot, value),
                    None => {
                        base.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::document::parse;

    fn content(file: &str, text: &str) -> Content {
        let (objects, problems) = parse(Path::new(file), text);
        Content { overlay: file.starts_with("status/"), objects, problems }
    }

    fn show(events: Vec<ObjectEvent>) -> Vec<String> {
        events
            .into_iter()
            .map(|event| match event {
                ObjectEvent::Applied(o) => format!("+{} {}", o.name, o.value["spec"]),
                ObjectEvent::Removed(k) => format!("-{}", k.name),
                ObjectEvent::Problem(p) => format!("!{} {}", p.file.display(), p.line),
            })
            .collect()
    }

    fn pod(name: &str, spec: &str) -> String {
        format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {spec}\n")
    }

    /// Steps of (file, its text or `None`, what that changes).
    fn check(steps: &[(&str, Option<&str>, &[&str])]) {
        let mut set = Set::default();
        for (n, (file, text, expected)) in steps.iter().enumerate() {
            let events = set.apply(Path::new(file), text.map(|t| content(file, t)));
            assert_eq!(show(events), *expected, "step {n}: {file}");
        }
    }

    #[test]
    fn only_what_is_different_is_told() {
        let (one, two) = (pod("a", "{x: 1}") + &pod("b", "{x: 1}"), pod("a", "{x: 1}") + &pod("b", "{x: 2}"));
        check(&[
            ("f.yaml", Some(&one), &["+a {\"x\":1}", "+b {\"x\":1}"]),
            ("f.yaml", Some(&one), &[]),
            ("f.yaml", Some(&two), &["+b {\"x\":2}"]),
            ("f.yaml", Some(&pod("a", "{x: 1}")), &["-b"]),
            ("f.yaml", None, &["-a"]),
            ("f.yaml", None, &[]),
        ]);
    }

    #[test]
    fn a_file_with_a_problem_keeps_what_it_had() {
        let broken = pod("b", "{x: 2}") + "---\nkind: [\n";
        check(&[
            ("f.yaml", Some(&(pod("a", "1") + &pod("b", "1"))), &["+a 1", "+b 1"]),
            ("f.yaml", Some("kind: [\n"), &["!f.yaml 1"]),
            ("f.yaml", Some(&broken), &["!f.yaml 7", "+b {\"x\":2}"]),
            ("f.yaml", Some(&pod("b", "3")), &["-a", "+b 3"]),
        ]);
    }

    #[test]
    fn overlays_are_laid_over_their_base_in_path_order() {
        check(&[
            ("status/b.yaml", Some(&pod("a", "{n: {y: 2}, l: [9]}")), &[]),
            ("base.yaml", Some(&pod("a", "{n: {x: 1}, l: [1, 2]}")), &["+a {\"l\":[9],\"n\":{\"x\":1,\"y\":2}}"]),
            (
                "status/a.yaml",
                Some(&pod("a", "{n: {y: 1, z: 1}}")),
                &["+a {\"l\":[9],\"n\":{\"x\":1,\"y\":2,\"z\":1}}"],
            ),
            ("status/b.yaml", None, &["+a {\"l\":[1,2],\"n\":{\"x\":1,\"y\":1,\"z\":1}}"]),
            ("base.yaml", None, &["-a"]),
            ("base.yaml", Some(&pod("a", "{}")), &["+a {\"n\":{\"y\":1,\"z\":1}}"]),
        ]);
    }

    #[test]
    fn of_two_base_documents_the_first_path_counts() {
        check(&[
            ("b.yaml", Some(&pod("a", "2")), &["+a 2"]),
            ("c.yaml", Some(&pod("a", "3")), &["!c.yaml 2"]),
            ("a.yaml", Some(&pod("a", "1")), &["+a 1"]),
            ("a.yaml", None, &["+a 2"]),
            ("b.yaml", None, &["+a 3"]),
            ("d.yaml", Some(&(pod("z", "1") + &pod("z", "2"))), &["!d.yaml 7", "+z 1"]),
        ]);
    }

    #[test]
    fn an_object_may_move_from_file_to_file() {
        check(&[
            ("b.yaml", Some(&pod("a", "1")), &["+a 1"]),
            ("a.yaml", Some(&pod("a", "1")), &[]),
            ("b.yaml", None, &[]),
            ("a.yaml", None, &["-a"]),
        ]);
    }
}
