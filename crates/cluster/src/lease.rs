//! One leader among replicas, by a Lease that all of them see.
//!
//! Whose turn it is, [`next`] says, which is pure. Clocks of machines are never compared: a lease is
//! over when it did not change for as long as it holds, by our own clock.

use crate::{CallError, Client, limits, resource};
use chassis::{drain::Signal, run::Process};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Which lease, and who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Namespace of the lease.
    pub namespace: String,
    /// Its name: `istio-gateway-deployment-default`.
    pub name: String,
    /// Us: the name of the pod. No two replicas may have the same.
    pub me: String,
}

/// A lease as the server has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Who has it; "" is nobody.
    pub holder: String,
    /// How long it holds without being renewed.
    pub duration: Duration,
    /// Version of the object.
    pub version: String,
    /// How often it went from hand to hand.
    pub transitions: u64,
    /// Since when the holder has it, as it says.
    pub acquired: Value,
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: make it.
    Create,
    /// It is nobody's any more: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// It is somebody else's.
    Wait,
}

/// What to do about `lease`, which has not changed for as long as `unchanged`.
pub fn next(lease: Option<&Held>, unchanged: Duration, me: &str) -> Step {
    match lease {
        None => Step::Create,
        Some(held) if held.holder == me => Step::Renew,
        Some(held) if held.holder.is_empty() || unchanged >= held.duration => Step::Take,
        Some(_) => Step::Wait,
    }
}

/// Begins to campaign, as long as the process lives. The receiver says whether we lead now. The lease
/// is given back when the process drains.
pub fn campaign(process: &Process, client: Client, lease: Lease) -> watch::Receiver<bool> {
    let (leading, led) = watch::channel(false);
    let signal = process.signal.clone();
    process.vital("lease", async move {
        run(client, lease, leading, signal).await;
        Ok(())
    });
    led
}

/// Campaigns until the drain, then gives the lease back.
pub async fn run(client: Client, lease: Lease, leading: watch::Sender<bool>, mut drain: Signal) {
    let _giving_back = drain.guard();
    let mut campaign = Campaign { client, lease, seen: None, renewed: None };
    loop {
        let begun = Instant::now();
        match timeout(limits::LEASE_RETRY, campaign.turn()).await {
            Ok(Ok(true)) => campaign.renewed = Some(begun),
            Ok(Ok(false)) => campaign.renewed = None,
            Ok(Err(error)) => tracing::warn!(lease = %campaign.lease.name, %error, "the lease was not renewed"),
            Err(_) => tracing::warn!(lease = %campaign.lease.name, "the lease was not renewed in time"),
        }
        let leads = campaign.renewed.is_some_and(|at| at.elapsed() < limits::LEASE_RENEW_DEADLINE);
        if leading.send_if_modified(|led| std::mem::replace(led, leads) != leads) {
            tracing::info!(lease = %campaign.lease.name, me = %campaign.lease.me, leads, "leadership");
        }
        // Half a retry of chance at most, so that those who wait do not all ask at once.
        let pause = limits::LEASE_RETRY.mul_f64(1.0 - 0.2 * rand::random::<f64>());
        tokio::select! {
            () = sleep(pause.saturating_sub(begun.elapsed())) => {}
            _deadline = drain.draining() => break,
        }
    }
    leading.send_replace(false);
    if campaign.renewed.is_some() {
        match timeout(limits::LEASE_RETRY, campaign.give_back()).await {
            Ok(Ok(())) => tracing::info!(lease = %campaign.lease.name, "given back"),
            Ok(Err(error)) => tracing::warn!(lease = %campaign.lease.name, %error, "not given back, it runs out"),
            Err(_) => tracing::warn!(lease = %campaign.lease.name, "not given back in time, it runs out"),
        }
    }
}

struct Campaign {
    client: Client,
    lease: Lease,
    /// The lease as we saw it last, and since when it is like that.
    seen: Option<(Held, Instant)>,
    /// When the request was sent that made us the holder, or kept us.
    renewed: Option<Instant>,
}

impl Campaign {
    /// One look, and what follows from it. Whether we hold the lease now.
    async fn turn(&mut self) -> Result<bool, CallError> {
        let Lease { namespace, name, me } = &self.lease;
        let held = match self.client.get(&resource::LEASE, namespace, name).await {
            Ok(object) => Some(read(&object)),
            Err(CallError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        if self.seen.as_ref().map(|(seen, _)| seen) != held.as_ref() {
            self.seen = held.clone().map(|held| (held, now));
        }
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| now - *since);
        let written = match next(held.as_ref(), unchanged, me) {
            Step::Wait => return Ok(false),
            Step::Create => self.client.create(&resource::LEASE, &self.written(None, me, limits::LEASE_DURATION)).await,
            Step::Take | Step::Renew => {
                self.client.replace(&resource::LEASE, &self.written(held.as_ref(), me, limits::LEASE_DURATION)).await
            }
        };
        match written {
            Ok(object) => {
                self.seen = Some((read(&object), now));
                Ok(true)
            }
            // Somebody else was faster.
            Err(CallError::Conflict(_) | CallError::AlreadyExists(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn give_back(&mut self) -> Result<(), CallError> {
        let Some((held, _)) = self.seen.take().filter(|(held, _)| held.holder == self.lease.me) else { return Ok(()) };
        // Kubernetes wants a duration above nothing.
        self.client.replace(&resource::LEASE, &self.written(Some(&held), "", Duration::from_secs(1))).await.map(drop)
    }

    /// The object that says that `holder` has the lease from now on.
    fn written(&self, before: Option<&Held>, holder: &str, duration: Duration) -> Value {
        let now = json!(MicroTime(Timestamp::now()));
        let same = before.is_some_and(|held| held.holder == holder);
        let acquired = before.filter(|_| same).map_or_else(|| now.clone(), |held| held.acquired.clone());
        let transitions = before.map_or(0, |held| held.transitions + u64::from(!same && !holder.is_empty()));
        let mut object = json!({
            "apiVersion": resource::LEASE.api_version(),
            "kind": "Lease",
            "metadata": { "namespace": self.lease.namespace, "name": self.lease.name },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": duration.as_secs(),
                "acquireTime": acquired,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        });
        if let Some(before) = before {
            object["metadata"]["resourceVersion"] = json!(before.version);
        }
        object
    }
}

/// What a Lease says. One that says nothing of its duration is believed for as long as ours would be.
fn read(object: &Value) -> Held {
    let spec = &object["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Held {
        holder: text(&spec["holderIdentity"]),
        duration: spec["leaseDurationSeconds"].as_u64().map_or(limits::LEASE_DURATION, Duration::from_secs),
        version: text(&object["metadata"]["resourceVersion"]),
        transitions: spec["leaseTransitions"].as_u64().unwrap_or_default(),
        acquired: spec["acquireTime"].clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_when_it_is_nobodys() {
        let held = |holder: &str| Held { holder: holder.into(), duration: Duration::from_secs(30), ..Held::default() };
        for (lease, unchanged, want) in [
            (None, 0, Step::Create),
            (Some(held("me")), 0, Step::Renew),
            // A leader that slept through its lease still has it if nobody else took it.
            (Some(held("me")), 99, Step::Renew),
            (Some(held("other")), 0, Step::Wait),
            (Some(held("other")), 29, Step::Wait),
            (Some(held("other")), 30, Step::Take),
            (Some(held("")), 0, Step::Take),
        ] {
            assert_eq!(next(lease.as_ref(), Duration::from_secs(unchanged), "me"), want, "{lease:?} for {unchanged} s");
        }
    }

    #[test]
    fn a_lease_is_read_as_kubernetes_writes_it() {
        let object = json!({
            "metadata": {"resourceVersion": "7"},
            "spec": {"holderIdentity": "a", "leaseDurationSeconds": 15, "leaseTransitions": 2, "acquireTime": "t"},
        });
        let held = read(&object);
        assert_eq!((&*held.holder, held.duration.as_secs(), &*held.version, held.transitions), ("a", 15, "7", 2));
        assert_eq!(read(&json!({})), Held { duration: limits::LEASE_DURATION, ..Held::default() });
    }
}
