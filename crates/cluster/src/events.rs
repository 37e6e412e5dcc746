//! What people see in `kubectl describe`: events of the core group, each told once and then counted.
//!
//! They are for reading only: nothing waits for them, and when too many come some are left out.

use crate::{CallError, Client, limits, resource};
use chassis::task::{self, Task};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{sync::mpsc, time::Instant};

/// Something to tell of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Of which object.
    pub about: Reference,
    /// Whether somebody should do something.
    pub warning: bool,
    /// One word in CamelCase.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

/// An object that is told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `gateway.networking.k8s.io/v1`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; "" if it is in none.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid, "" if it is not known.
    pub uid: String,
}

impl Reference {
    /// What an object says of itself.
    pub fn of(object: &Value) -> Self {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
            uid: text("/metadata/uid"),
        }
    }
}

/// Writes events. Clones write to the same place.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Event>,
    left_out: Arc<AtomicU64>,
    _writer: Arc<Task<()>>,
}

impl Recorder {
    /// A recorder for `component` (`istiod-lite`) in `instance` (the pod). It has to be made within a runtime.
    pub fn start(client: Client, component: &'static str, instance: &str) -> Self {
        let (queue, events) = mpsc::channel(limits::EVENTS_QUEUED_MAX);
        let writer = Writer { client, component, instance: instance.to_owned(), told: Told::default() };
        let writer = task::spawn("events", writer.run(events));
        Self { queue, left_out: Arc::default(), _writer: Arc::new(writer) }
    }

    /// Tells; never waits.
    pub fn record(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were left out because too many waited.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }
}

/// What to do about an event.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    /// It is new.
    Create { name: String },
    /// It happened again.
    Count { name: String, count: u64 },
    /// It was told a moment ago.
    Nothing,
}

/// Which events were told. Pure.
#[derive(Debug, Default)]
struct Told {
    events: HashMap<Event, (String, u64, Instant)>,
    /// Oldest first.
    order: VecDeque<Event>,
}

impl Told {
    /// What to do about `event` now; a new one gets a name that ends in `unique`.
    fn decide(&mut self, event: &Event, now: Instant, unique: u64) -> Act {
        if let Some((name, count, last)) = self.events.get_mut(event) {
            *count += 1;
            if now.duration_since(*last) < limits::EVENT_REPEAT {
                return Act::Nothing;
            }
            *last = now;
            return Act::Count { name: name.clone(), count: *count };
        }
        if self.order.len() >= limits::EVENTS_REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.events.remove(&oldest);
        }
        let name = format!("{}.{unique:016x}", event.about.name);
        self.events.insert(event.clone(), (name.clone(), 1, now));
        self.order.push_back(event.clone());
        Act::Create { name }
    }

    /// It is not there any more, or never was: the next time it is new.
    fn forget(&mut self, event: &Event) {
        self.events.remove(event);
        self.order.retain(|told| told != event);
    }
}

struct Writer {
    client: Client,
    component: &'static str,
    instance: String,
    told: Told,
}

impl Writer {
    async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            let act = self.told.decide(&event, Instant::now(), rand::random());
            if let Err(error) = self.act(&event, act).await {
                tracing::debug!(object = %event.about.name, reason = %event.reason, %error, "event not written");
                self.told.forget(&event);
            }
        }
    }

    async fn act(&self, event: &Event, act: Act) -> Result<(), CallError> {
        match act {
            Act::Nothing => Ok(()),
            Act::Create { name } => self.client.create(&resource::EVENT, &self.written(event, &name)).await.map(drop),
            // Kubernetes forgets events after an hour.
            Act::Count { name, count } => {
                let patch = json!({ "count": count, "lastTimestamp": Time(Timestamp::now()) });
                let namespace = namespace(&event.about);
                self.client.merge_patch(&resource::EVENT, namespace, &name, "", &patch).await.map(drop)
            }
        }
    }

    fn written(&self, event: &Event, name: &str) -> Value {
        let Event { about, warning, reason, message } = event;
        let now = json!(Time(Timestamp::now()));
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "namespace": namespace(about), "name": name },
            "involvedObject": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
            "type": if *warning { "Warning" } else { "Normal" },
            "reason": reason,
            "message": cut(message, limits::EVENT_NOTE_BYTES_MAX),
            "source": { "component": self.component },
            "reportingComponent": self.component,
            "reportingInstance": self.instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        })
    }
}

/// Events of objects that are in no namespace stand in this one, as Kubernetes has it.
fn namespace(about: &Reference) -> &str {
    if about.namespace.is_empty() { "default" } else { &about.namespace }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn event(name: &str, message: &str) -> Event {
        let text = str::to_owned;
        let about = Reference {
            api_version: text("v1"),
            kind: text("Pod"),
            namespace: text("shop"),
            name: text(name),
            uid: text("u"),
        };
        Event { about, warning: true, reason: text("Refused"), message: text(message) }
    }

    #[test]
    fn the_same_event_is_told_once_and_then_counted_now_and_then() {
        let (mut told, begin) = (Told::default(), Instant::now());
        let a = event("a", "m");
        let name = || "a.0000000000000001".to_owned();
        for (minute, want) in [
            (0, Act::Create { name: name() }),
            (1, Act::Nothing),
            (9, Act::Nothing),
            (10, Act::Count { name: name(), count: 4 }),
            (11, Act::Nothing),
        ] {
            assert_eq!(told.decide(&a, begin + Duration::from_secs(60 * minute), 1), want, "minute {minute}");
        }
        assert_eq!(told.decide(&event("a", "other"), begin, 2), Act::Create { name: "a.0000000000000002".into() });
        told.forget(&a);
        assert_eq!(told.decide(&a, begin, 3), Act::Create { name: "a.0000000000000003".into() });
    }

    #[test]
    fn only_so_many_are_remembered() {
        let (mut told, now) = (Told::default(), Instant::now());
        for n in 0..3 * limits::EVENTS_REMEMBERED_MAX {
            told.decide(&event(&n.to_string(), ""), now, 0);
        }
        assert_eq!(
            (told.events.len(), told.order.len()),
            (limits::EVENTS_REMEMBERED_MAX, limits::EVENTS_REMEMBERED_MAX)
        );
    }

    #[test]
    fn a_long_text_is_cut_between_letters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("a", 9), "a");
    }
}
