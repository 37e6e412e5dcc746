//! Kinds of objects, watched as a set of events.
//!
//! The same contract as [`chassis::objects::Directory`]: the first answer holds everything that was
//! there once every kind was listed; later ones hold what changed, and merge what happened while
//! nobody asked. A cluster that cannot be reached changes nothing: what was known stays, and after it is
//! back the difference is told, what vanished meanwhile included.
//!
//! Rooms: `known` (what there is, and what an answer changes; pure) · `served` (which version a server
//! has; pure) · `lines` (a stream, line by line) · `follow` (one kind, for ever) · `pending` (what waits to be asked for).

mod follow;
mod known;
mod lines;
mod pending;
mod served;

use crate::{Client, Resource, limits};
use chassis::{
    objects::ObjectEvent,
    task::{self, Task, TaskEnded},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use pending::Pending;
use serde_json::Value;
use std::sync::Arc;
use tokio::sync::watch;

/// A kind of object to watch.
#[derive(Clone, Debug)]
pub struct Kind {
    resource: Resource,
    older_versions: Vec<&'static str>,
    namespace: Option<String>,
    fields: String,
    labels: String,
    metadata_only: bool,
    may_be_absent: bool,
    page: u32,
    trim: Option<fn(&mut Value)>,
}

impl Kind {
    /// Every object of a kind, whole. The server must know the kind.
    pub fn of(resource: Resource) -> Self {
        Self {
            resource,
            older_versions: Vec::new(),
            namespace: None,
            fields: String::new(),
            labels: String::new(),
            metadata_only: false,
            may_be_absent: false,
            page: limits::PAGE_OBJECTS,
            trim: None,
        }
    }

    /// Versions that do as well if the server has no better one, best first.
    #[must_use]
    pub fn or_versions(mut self, versions: &[&'static str]) -> Self {
        self.older_versions = versions.to_vec();
        self
    }

    /// Only those of a namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only those that a field selector agrees to: `spec.nodeName=worker-1`.
    #[must_use]
    pub fn fields(mut self, selector: &str) -> Self {
        self.fields = selector.to_owned();
        self
    }

    /// Only those that a label selector agrees to.
    #[must_use]
    pub fn labels(mut self, selector: &str) -> Self {
        self.labels = selector.to_owned();
        self
    }

    /// Only their metadata.
    #[must_use]
    pub fn metadata_only(mut self) -> Self {
        self.metadata_only = true;
        self
    }

    /// Its definition may come later, or never: then it counts as listed and empty.
    #[must_use]
    pub fn may_be_absent(mut self) -> Self {
        self.may_be_absent = true;
        self
    }

    /// Its objects may be large, so few are asked for at once.
    #[must_use]
    pub fn large(mut self) -> Self {
        self.page = limits::PAGE_OBJECTS_LARGE;
        self
    }

    /// Removes from each object what nobody reads. What differs only there is no change, either.
    #[must_use]
    pub fn trim(mut self, trim: fn(&mut Value)) -> Self {
        self.trim = Some(trim);
        self
    }

    /// What it is.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }
}

/// Kinds that are being watched. Dropping it ends that.
#[derive(Debug)]
pub struct Watches {
    pending: Arc<Pending>,
    tasks: FuturesUnordered<Task<()>>,
    begun: bool,
}

impl Watches {
    /// Begins to watch. It has to be called within a runtime, and never fails: a server that is not
    /// there is waited for.
    pub fn open(client: &Client, kinds: Vec<Kind>) -> Self {
        let pending = Arc::new(Pending::new(kinds.len()));
        let (defined, definitions) = watch::channel(());
        let tasks = FuturesUnordered::new();
        if kinds.iter().any(|kind| kind.may_be_absent) {
            tasks.push(task::spawn("definitions", follow::definitions(client.clone(), defined)));
        }
        for kind in kinds {
            let follow = follow::kind(client.clone(), kind, pending.clone(), definitions.clone());
            tasks.push(task::spawn("watch", follow));
        }
        Self { pending, tasks, begun: false }
    }

    /// What changed since the last call. The first call waits until every kind was listed and returns
    /// everything that is there (which may be nothing); later ones wait for a change and are never
    /// empty. Cancel safe.
    ///
    /// # Panics
    /// If a watch panicked: then nobody knows any more what is there.
    pub async fn next(&mut self) -> Vec<ObjectEvent> {
        loop {
            let changed = self.pending.changed();
            if let Some(events) = self.pending.take(!self.begun) {
                self.begun = true;
                return events;
            }
            tokio::select! {
                () = changed => {}
                // Watches end only by a panic. Without kinds there is none that could.
                Some(ended) = self.tasks.next() => {
                    assert!(ended != Err(TaskEnded::Panicked), "a watch panicked, the log says where");
                }
            }
        }
    }
}
