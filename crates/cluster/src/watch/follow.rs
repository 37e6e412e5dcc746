//! Follows one kind for ever: finds its version, lists, watches, and begins anew when it must.
//!
//! Nothing that a server does ends it, and none of it takes an object away but the server's word that
//! the object is gone: a list without it, its deletion, or the deletion of its definition.

use super::{Kind, known::Known, lines::Lines, pending::Pending, served};
use crate::{
    CallError, Client, Resource,
    call::{JSON, asking},
    limits, resource,
    resource::encode,
};
use chassis::backoff::Backoff;
use serde::Deserialize;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

/// What asks for metadata alone.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Tells `defined` whenever a definition of a kind came, changed or went.
pub(super) async fn definitions(client: Client, defined: watch::Sender<()>) {
    let pending = Arc::new(Pending::new(1));
    let follow = kind(
        client,
        Kind::of(resource::CUSTOM_RESOURCE_DEFINITION).metadata_only(),
        pending.clone(),
        defined.subscribe(),
    );
    let tell = async {
        loop {
            pending.changed().await;
            if pending.take(false).is_some() {
                defined.send_replace(());
            }
        }
    };
    tokio::join!(follow, tell);
}

/// Follows a kind; what happens goes to `pending`.
pub(super) async fn kind(client: Client, kind: Kind, pending: Arc<Pending>, mut definitions: watch::Receiver<()>) {
    let known = Known::new(&kind.resource.group, &kind.resource.kind, kind.trim);
    let retry = Backoff::new(limits::RETRY_MIN, limits::RETRY_MAX).with_jitter(0.5);
    let mut follow = Follow { client, kind, known, pending, listed: false, retry, trouble: None };
    let mut absent = Backoff::new(limits::RETRY_MIN, limits::ABSENT_RETRY);
    loop {
        match follow.served().await {
            Ok(Some(resource)) => {
                absent.reset();
                let error = follow.list_and_watch(&resource).await;
                follow.wait(&error).await;
            }
            Ok(None) => {
                follow.is_absent();
                tokio::select! {
                    () = sleep(absent.next(rand::random())) => {}
                    // The sender ends only with the process.
                    Ok(()) = definitions.changed() => absent.reset(),
                }
            }
            Err(error) => follow.wait(&error).await,
        }
    }
}

struct Follow {
    client: Client,
    kind: Kind,
    known: Known,
    pending: Arc<Pending>,
    listed: bool,
    retry: Backoff,
    /// The trouble that was told last.
    trouble: Option<CallError>,
}

/// One line of a watch.
#[derive(Deserialize)]
struct Line {
    r#type: String,
    object: Value,
}

impl Follow {
    /// The kind in the best version that the server has; `None`: its definition is not there.
    async fn served(&self) -> Result<Option<Resource>, CallError> {
        let Kind { resource, older_versions, may_be_absent, .. } = &self.kind;
        if older_versions.is_empty() && !may_be_absent {
            return Ok(Some(resource.clone()));
        }
        let group_path = format!("/apis/{}", resource.group);
        let readable: Vec<&str> = [&*resource.version].into_iter().chain(older_versions.iter().copied()).collect();
        let versions = match self.client.call(asking(&group_path, JSON)?).await {
            Ok(group) => served::versions(&group, &readable),
            Err(CallError::NotFound(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        for version in versions {
            let resources = match self.client.call(asking(&format!("{group_path}/{version}"), JSON)?).await {
                Err(CallError::NotFound(_)) => continue,
                resources => resources?,
            };
            if served::has(&resources, &resource.plural) {
                return Ok(Some(resource.at(version.to_owned())));
            }
        }
        if !may_be_absent {
            return Err(CallError::NotFound(format!("the server has no {}", resource.full_name())));
        }
        // A server that has just begun may not know all kinds. Objects that were there are taken away
        // only when the definition itself is known to be gone.
        if !self.known.is_empty() {
            match self.client.get(&resource::CUSTOM_RESOURCE_DEFINITION, "", &resource.full_name()).await {
                Err(CallError::NotFound(_)) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    let reason =
                        format!("{} is defined and not served in a version of {readable:?}", resource.full_name());
                    return Err(CallError::Unavailable { status: 404, reason, after: None });
                }
            }
        }
        Ok(None)
    }

    fn is_absent(&mut self) {
        self.trouble = None;
        let gone = self.known.kind_is_gone();
        if !self.listed || !gone.is_empty() {
            let kind = self.kind.resource.full_name();
            tracing::info!(kind, objects = gone.len(), "the cluster does not have this kind now");
        }
        self.pending.add(gone);
        self.is_listed();
    }

    fn is_listed(&mut self) {
        if !std::mem::replace(&mut self.listed, true) {
            self.pending.listed();
        }
    }

    /// Lists, and then watches until that cannot go on from where it is.
    async fn list_and_watch(&mut self, resource: &Resource) -> CallError {
        let mut version = match self.list(resource).await {
            Ok(version) => version,
            Err(error) => return error,
        };
        self.is_listed();
        let mut failed = 0;
        loop {
            let begun = Instant::now();
            let before = version.clone();
            match self.watch(resource, &mut version).await {
                // Every server ends a watch now and then.
                Ok(()) if version != before || begun.elapsed() > limits::WATCH_SETTLES => failed = 0,
                Ok(()) => {
                    let ended = CallError::Unreachable("the watch ended at once".into());
                    self.wait(&ended).await;
                }
                // Somebody else says that they are gone, or what becomes of them.
                Err(error @ (CallError::Gone(_) | CallError::NotFound(_))) => return error,
                // Nobody answered: where we are still holds.
                Err(error @ CallError::Unreachable(_)) => self.wait(&error).await,
                Err(error) => {
                    failed += 1;
                    if failed >= limits::RESUMES_MAX {
                        return error;
                    }
                    self.wait(&error).await;
                }
            }
        }
    }

    /// Takes in everything that is there. Returns its version.
    async fn list(&mut self, resource: &Resource) -> Result<String, CallError> {
        let accept = if self.kind.metadata_only { METADATA_LIST } else { JSON };
        let path = resource.path(self.kind.namespace.as_deref())?;
        let api_version = resource.api_version();
        let mut next = String::new();
        self.known.list_begins();
        loop {
            let query = format!("{}&limit={}{next}", self.selectors(), self.kind.page);
            let mut page = self.client.call(asking(&format!("{path}?{query}"), accept)?).await?;
            let items = match page.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items,
                // An empty list of metadata has none, as the server writes it.
                Some(Value::Null) => Vec::new(),
                _ => return Err(CallError::Unusable("a list has no items".into())),
            };
            let events: Vec<_> =
                items.into_iter().filter_map(|item| self.known.list_names(&api_version, item)).collect();
            self.pending.add(events);
            let text = |pointer| page.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
            if let Some(token) = text("/metadata/continue") {
                next = format!("&continue={}", encode(token));
                continue;
            }
            let version = text("/metadata/resourceVersion").map(str::to_owned);
            let version = version.ok_or_else(|| CallError::Unusable("a list has no resourceVersion".into()))?;
            self.pending.add(self.known.list_ends());
            return Ok(version);
        }
    }

    /// Takes in what happens after `version`, and moves it on. Returns when the server, or time, ends it.
    async fn watch(&mut self, resource: &Resource, version: &mut String) -> Result<(), CallError> {
        let accept = if self.kind.metadata_only { METADATA } else { JSON };
        let path = resource.path(self.kind.namespace.as_deref())?;
        let seconds = limits::WATCH_TIMEOUT.mul_f64(0.75 + 0.25 * rand::random::<f64>()).as_secs();
        let query = format!(
            "{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            self.selectors(),
            encode(version)
        );
        let answer = self.client.begin(asking(&format!("{path}?{query}"), accept)?).await?;
        let mut lines = Lines::of(answer.into_body());
        let end = Instant::now() + Duration::from_secs(seconds) + limits::WATCH_OVERTIME;
        let api_version = resource.api_version();
        // A server in trouble may let us begin and break off; it is well when it says something, or goes on.
        let mut settles = Some(Instant::now() + limits::WATCH_SETTLES);
        loop {
            let line = match timeout_at(settles.unwrap_or(end), lines.next()).await {
                Ok(line) => line?,
                Err(_) if settles.take().is_some() => {
                    self.works();
                    continue;
                }
                // Silence beyond the end is a connection that is no more; a new one goes on from here.
                Err(_) => return Ok(()),
            };
            let Some(line) = line else { return Ok(()) };
            let Line { r#type, object } =
                serde_json::from_slice(&line).map_err(|e| CallError::Unusable(e.to_string()))?;
            if r#type == "ERROR" {
                let status = object.get("code").and_then(Value::as_u64).and_then(|code| code.try_into().ok());
                return Err(CallError::of(status.unwrap_or(500), object.to_string().as_bytes(), None));
            }
            if settles.take().is_some() {
                self.works();
            }
            if let Some(Value::String(said)) = object.pointer("/metadata/resourceVersion") {
                version.clone_from(said);
            }
            let event = match &*r#type {
                "ADDED" | "MODIFIED" => self.known.applied(&api_version, object),
                "DELETED" => self.known.removed(&object),
                _ => None,
            };
            self.pending.add(event);
        }
    }

    fn selectors(&self) -> String {
        format!("fieldSelector={}&labelSelector={}", encode(&self.kind.fields), encode(&self.kind.labels))
    }

    /// Tells the trouble, once, and waits before the next try.
    async fn wait(&mut self, error: &CallError) {
        let kind = self.kind.resource.full_name();
        if self.trouble.as_ref() == Some(error) {
            tracing::debug!(%kind, %error, "still cannot be watched");
        } else if matches!(error, CallError::Gone(_)) {
            tracing::info!(%kind, %error, "listing anew");
        } else {
            tracing::warn!(%kind, %error, "cannot be watched, what is known of it stays; trying again");
        }
        self.trouble = Some(error.clone());
        let wait = self.retry.next(rand::random());
        sleep(error.after().map_or(wait, |after| after.max(wait))).await;
    }

    fn works(&mut self) {
        self.retry.reset();
        if self.trouble.take().is_some() {
            tracing::info!(kind = %self.kind.resource.full_name(), "is watched again");
        }
    }
}
