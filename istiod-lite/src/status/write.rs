//! Writes what is wanted: the only part of this room that waits. Only while we lead.

use super::{
    condition::timestamp,
    wanted::{self, Write},
};
use crate::{deploy::outcome::Outcomes, facts::FactKey, ledger::Ledger, limits, publish::SharedIndex};
use cluster::{
    CallError, Client, Resource,
    events::{Event, Recorder, Reference},
    resource,
};
use std::{collections::HashMap, sync::Arc};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// What statuses are written by.
#[derive(Debug)]
pub struct StatusWriter {
    /// The cluster.
    pub client: Client,
    /// Whether we lead.
    pub leads: tokio::sync::watch::Receiver<bool>,
    /// What is known of the mesh.
    pub index: SharedIndex,
    /// What is known of objects.
    pub ledger: Arc<Ledger>,
    /// What became of deployments.
    pub outcomes: Arc<Outcomes>,
    /// Where events go.
    pub events: Recorder,
    /// The time of day.
    pub clock: Arc<dyn pki::Clock>,
}

/// What was last sent for an object, and when it may be sent again.
#[derive(Debug)]
struct Sent {
    print: u64,
    /// The version of the object that it was made for.
    version: String,
    again: Instant,
    failures: u32,
}

impl StatusWriter {
    /// Writes while we lead, until leadership is no more to be had.
    pub async fn run(mut self) {
        while self.leads.wait_for(|leads| *leads).await.is_ok() {
            let mut leads = self.leads.clone();
            tokio::select! {
                () = self.lead() => {}
                // A write that is under way is whole or not at all.
                _ = leads.wait_for(|leads| !*leads) => {}
            }
        }
    }

    async fn lead(&self) {
        let mut moved = self.ledger.moved();
        if moved.wait_for(|moved| moved.moments > 0).await.is_err() {
            return;
        }
        let mut sent = HashMap::new();
        loop {
            moved.mark_unchanged();
            let next = self.pass(&mut sent).await;
            // What comes close together is written together.
            sleep(limits::STATUS_SETTLE).await;
            let next = next.unwrap_or_else(|| Instant::now() + limits::STATUS_REVIEW);
            tokio::select! {
                ended = moved.changed() => if ended.is_err() { return },
                () = sleep_until(next) => {}
            }
        }
    }

    /// Writes what differs now, a few at a time; when to look again if nothing happens.
    async fn pass(&self, sent: &mut HashMap<FactKey, Sent>) -> Option<Instant> {
        let now = timestamp(self.clock.now().wall);
        let wanted = {
            let index = self.index.read();
            let entries = self.ledger.read();
            sent.retain(|key, _| entries.contains_key(key));
            wanted::writes(&index, &entries, &self.outcomes, &now)
        };
        let mut next: Option<Instant> = None;
        let mut written = 0;
        for write in wanted {
            let version = version(&self.ledger, &write.key);
            if let Some(last) = sent.get(&write.key) {
                let same = last.print == write.print && last.version == version && last.failures == 0;
                let early = last.again > Instant::now();
                if same || early {
                    if !same {
                        next = Some(next.map_or(last.again, |next| next.min(last.again)));
                    }
                    continue;
                }
            }
            if written == limits::STATUS_WRITES_PER_PASS {
                return Some(Instant::now());
            }
            written += 1;
            let failures =
                sent.get(&write.key).filter(|last| last.print == write.print).map_or(0, |last| last.failures);
            let failures = if self.write(&write).await { 0 } else { failures + 1 };
            let wait = limits::STATUS_WRITE_AGAIN * 2u32.pow(failures.min(limits::STATUS_DOUBLINGS));
            let again = Instant::now() + wait;
            if failures > 0 {
                next = Some(next.map_or(again, |next| next.min(again)));
            }
            sent.insert(write.key.clone(), Sent { print: write.print, version, again, failures });
            sleep(limits::STATUS_PACE).await;
        }
        next
    }

    /// Writes one status. Returns whether it is done with, well or not.
    async fn write(&self, write: &Write) -> bool {
        let Some(resource) = resource_of(&write.key) else { return true };
        let applied = self.client.apply_status(resource, &write.body, write.manager, true);
        let applied = timeout(limits::STATUS_WRITE_TIMEOUT, applied).await;
        match applied {
            Ok(Ok(answer)) => {
                self.ledger.note_answer(write.key.clone(), &answer);
                self.tell(write);
                true
            }
            // It is gone, or it came after the one that this was for.
            Ok(Err(CallError::NotFound(_))) => true,
            Ok(Err(CallError::Conflict(_))) => {
                let place = (&*write.key.namespace, &*write.key.name);
                if let Ok(now) = self.client.get(resource, place.0, place.1).await {
                    self.ledger.note_answer(write.key.clone(), &now);
                }
                false
            }
            Ok(Err(error)) => {
                tracing::warn!(object = %write.key, %error, "cannot write its status");
                false
            }
            Err(_) => {
                tracing::warn!(object = %write.key, "cannot write its status in time");
                false
            }
        }
    }

    /// What is refused is told where people look for it.
    fn tell(&self, write: &Write) {
        for (reason, message) in &write.refused {
            let message = message.chars().take(limits::EVENT_MESSAGE_CHARS).collect();
            let about = Reference::of(&write.body);
            self.events.record(Event { about, warning: true, reason: reason.clone(), message });
        }
    }
}

fn version(ledger: &Ledger, key: &FactKey) -> String {
    let entries = ledger.read();
    let version = entries.get(key).and_then(|object| object["metadata"]["resourceVersion"].as_str());
    version.unwrap_or_default().to_owned()
}

fn resource_of(key: &FactKey) -> Option<&'static Resource> {
    let name = format!("{:?}", key.kind);
    resource::ALL.iter().find(|resource| resource.kind == name)
}
