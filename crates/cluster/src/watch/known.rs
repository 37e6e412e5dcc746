//! What there is of one kind, and what an answer of the server changes. Plain data: a hash for each
//! object and no object, so that it costs some 100 bytes each.

use chassis::objects::{Object, ObjectEvent, ObjectKey, Origin};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet, hash_map::DefaultHasher},
    hash::Hasher,
    io,
    path::Path,
    sync::Arc,
};

/// Namespace and name.
type Place = (String, String);

#[derive(Debug)]
pub(super) struct Known {
    group: String,
    kind: String,
    /// `cluster:HTTPRoute`, where files would have a path.
    origin: Origin,
    trim: Option<fn(&mut Value)>,
    objects: HashMap<Place, u64>,
    /// What a list that is under way has named.
    named: HashSet<Place>,
}

impl Known {
    pub(super) fn new(group: &str, kind: &str, trim: Option<fn(&mut Value)>) -> Self {
        let origin = Origin { file: Arc::from(Path::new(&format!("cluster:{kind}"))), line: 0 };
        let (group, kind) = (group.to_owned(), kind.to_owned());
        Self { group, kind, origin, trim, objects: HashMap::new(), named: HashSet::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// A list begins: what it does not name until its end is gone.
    pub(super) fn list_begins(&mut self) {
        self.named.clear();
    }

    /// The list names this object.
    pub(super) fn list_names(&mut self, api_version: &str, value: Value) -> Option<ObjectEvent> {
        self.named.insert(place(&value)?);
        self.applied(api_version, value)
    }

    /// The list is complete.
    pub(super) fn list_ends(&mut self) -> Vec<ObjectEvent> {
        let named = std::mem::take(&mut self.named);
        self.keep(|place| named.contains(place))
    }

    /// The kind itself is gone, and all of its objects.
    pub(super) fn kind_is_gone(&mut self) -> Vec<ObjectEvent> {
        self.keep(|_| false)
    }

    /// An object is like this now. Nothing, if it was so before.
    pub(super) fn applied(&mut self, api_version: &str, mut value: Value) -> Option<ObjectEvent> {
        let place = place(&value)?;
        // The items of a list do not say what they are, and metadata alone says that it is metadata.
        if let Value::Object(members) = &mut value {
            members.insert("apiVersion".into(), api_version.into());
            members.insert("kind".into(), (&*self.kind).into());
        }
        slim(&mut value);
        if let Some(trim) = self.trim {
            trim(&mut value);
        }
        let hash = fingerprint(&mut value);
        if self.objects.insert(place.clone(), hash) == Some(hash) {
            return None;
        }
        let (namespace, name) = place;
        let (api_version, kind, origin) = (api_version.to_owned(), self.kind.clone(), self.origin.clone());
        Some(ObjectEvent::Applied(Arc::new(Object { api_version, kind, namespace, name, value, origin })))
    }

    /// An object is gone. Nothing, if it was not known.
    pub(super) fn removed(&mut self, value: &Value) -> Option<ObjectEvent> {
        let place = place(value)?;
        self.objects.remove(&place)?;
        Some(self.removal(place))
    }

    fn keep(&mut self, stays: impl Fn(&Place) -> bool) -> Vec<ObjectEvent> {
        let mut gone: Vec<Place> = self.objects.keys().filter(|place| !stays(place)).cloned().collect();
        gone.sort_unstable();
        for place in &gone {
            self.objects.remove(place);
        }
        gone.into_iter().map(|place| self.removal(place)).collect()
    }

    fn removal(&self, (namespace, name): Place) -> ObjectEvent {
        ObjectEvent::Removed(ObjectKey { group: self.group.clone(), kind: self.kind.clone(), namespace, name })
    }
}

/// Where an object is; `None` for what is none, which no server sends.
fn place(value: &Value) -> Option<Place> {
    let metadata = value.get("metadata")?;
    let name = metadata.get("name")?.as_str()?;
    let namespace = metadata.get("namespace").and_then(Value::as_str).unwrap_or_default();
    Some((namespace.to_owned(), name.to_owned()))
}

/// Removes what is for the tools that write objects, and is often more than half of them.
fn slim(value: &mut Value) {
    let Some(Value::Object(metadata)) = value.get_mut("metadata") else { return };
    metadata.remove("managedFields");
    if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}

/// Equal for values that differ in nothing but their version.
fn fingerprint(value: &mut Value) -> u64 {
    let version = value.get_mut("metadata").and_then(|metadata| metadata.get_mut("resourceVersion"));
    let version = version.map(Value::take);
    let mut hash = Hashing(DefaultHasher::new());
    // Writing into a hash cannot fail, and a value has no keys that are no texts.
    let written = serde_json::to_writer(&mut hash, value);
    debug_assert!(written.is_ok(), "a value is written as JSON");
    if let Some(version) = version
        && let Some(place) = value.get_mut("metadata").and_then(|metadata| metadata.get_mut("resourceVersion"))
    {
        *place = version;
    }
    hash.0.finish()
}

struct Hashing(DefaultHasher);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(name: &str, version: u64, spec: u64) -> Value {
        json!({
            "metadata": {
                "name": name, "namespace": "shop", "resourceVersion": version.to_string(),
                "managedFields": [{"time": version}],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
            },
            "spec": spec,
        })
    }

    fn show(events: impl IntoIterator<Item = ObjectEvent>) -> Vec<String> {
        let show = |event| match event {
            ObjectEvent::Applied(object) => format!("+{} {}", object.name, object.value["spec"]),
            ObjectEvent::Removed(key) => format!("-{}", key.name),
            ObjectEvent::Problem(problem) => panic!("{problem}"),
        };
        events.into_iter().map(show).collect()
    }

    fn list(known: &mut Known, pods: &[Value]) -> Vec<String> {
        known.list_begins();
        let mut events: Vec<_> = pods.iter().filter_map(|pod| known.list_names("v1", pod.clone())).collect();
        events.extend(known.list_ends());
        show(events)
    }

    #[test]
    fn a_list_tells_what_differs_and_what_is_gone() {
        let mut known = Known::new("", "Pod", None);
        assert_eq!(list(&mut known, &[pod("a", 1, 1), pod("b", 2, 1)]), ["+a 1", "+b 1"]);
        assert_eq!(list(&mut known, &[pod("a", 1, 1), pod("b", 2, 1)]), [""; 0]);
        // Another version alone is no difference.
        assert_eq!(list(&mut known, &[pod("a", 9, 1), pod("b", 9, 2)]), ["+b 2"]);
        assert_eq!(list(&mut known, &[pod("c", 10, 1)]), ["+c 1", "-a", "-b"]);
        assert_eq!(show(known.kind_is_gone()), ["-c"]);
        assert!(known.is_empty());
    }

    #[test]
    fn a_list_that_broke_off_removes_nothing() {
        let mut known = Known::new("", "Pod", None);
        list(&mut known, &[pod("a", 1, 1), pod("b", 2, 1)]);
        known.list_begins();
        assert_eq!(known.list_names("v1", pod("a", 1, 1)), None);
        // It broke off here, and the next one names both.
        assert_eq!(list(&mut known, &[pod("b", 2, 1), pod("a", 1, 1)]), [""; 0]);
    }

    #[test]
    fn changes_are_told_once() {
        let mut known = Known::new("", "Pod", None);
        assert_eq!(show(known.applied("v1", pod("a", 1, 1))), ["+a 1"]);
        assert_eq!(show(known.applied("v1", pod("a", 2, 1))), [""; 0]);
        assert_eq!(show(known.removed(&pod("a", 3, 1))), ["-a"]);
        assert_eq!(show(known.removed(&pod("a", 3, 1))), [""; 0]);
        assert_eq!(show(known.applied("v1", pod("a", 4, 1))), ["+a 1"]);
        assert_eq!(show(known.applied("v1", json!({"metadata": {}}))), [""; 0]);
    }

    #[test]
    fn what_nobody_reads_is_neither_kept_nor_a_change() {
        let mut known = Known::new("", "Pod", Some(|value| value["spec"] = Value::Null));
        let Some(ObjectEvent::Applied(object)) = known.applied("v1", pod("a", 1, 1)) else { panic!("it is new") };
        assert_eq!(
            object.value,
            json!({
                "apiVersion": "v1", "kind": "Pod", "spec": null,
                "metadata": {"name": "a", "namespace": "shop", "resourceVersion": "1", "annotations": {"a": "b"}},
            })
        );
        assert_eq!(object.origin.to_string(), "cluster:Pod");
        assert_eq!(known.applied("v1", pod("a", 2, 2)), None);
    }
}
