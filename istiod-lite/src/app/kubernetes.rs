//! The wiring in a cluster: its API server is the source, says whose tokens they are, and keeps the
//! root; what must be written once, the leader writes.

use super::{Ground, bind, serve, spawn_root_watch};
use crate::{
    authn::reviewed::ReviewingAuthenticator,
    ca::{
        bundle::{self, Bundle},
        root::Root,
        secret::Vault,
        serving,
    },
    config::{Addresses, Config, InCluster},
    deploy::{Deployer, outcome::Outcomes, settings::Settings},
    index::Mesh,
    ledger::Ledger,
    limits,
    publish::SharedIndex,
    source,
    status::StatusWriter,
    webhook::{self, bundle::Registrar},
};
use anyhow::Context;
use chassis::{backoff::Backoff, run::Process};
use cluster::{
    CallError, Client,
    events::Recorder,
    lease::{self, Lease},
    resource,
};
use pki::{Clock, SystemClock};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::time::sleep;

/// Where the chart mounts a plugged-in CA, if there is one.
const CACERTS: &str = "/etc/cacerts";

/// The ConfigMap with the configuration of the mesh, and its key.
const MESH_CONFIG: (&str, &str) = ("istio", "mesh");

/// Who keeps the roots in every namespace, by Istio's name of it.
const NAMESPACE_LEASE: &str = "istio-namespace-controller-election";

/// Who deploys gateways, by Istio's name of it; the revision follows.
const GATEWAY_LEASE: &str = "istio-gateway-deployment";

/// Starts everything and returns where it listens.
pub(super) async fn start(mut config: Config, us: InCluster, process: &Process) -> anyhow::Result<Addresses> {
    let client = Client::open().await?;
    start_with(&mut config, us, client, process).await
}

async fn start_with(
    config: &mut Config,
    us: InCluster,
    client: Client,
    process: &Process,
) -> anyhow::Result<Addresses> {
    tracing::info!(server = client.server(), namespace = us.namespace, pod = us.pod, "in a cluster");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    told_by_mesh_config(&mut config.mesh, &mesh_config(&client, &us.namespace).await, &us)?;
    let root = match plugged_in(config) {
        Some(dir) => {
            let root = Root::plugged(&dir, None, clock.now().wall).context("the certificate authority cannot start")?;
            let root = Arc::new(root);
            spawn_root_watch(process, root.clone(), clock.clone());
            root
        }
        None => keep_in_secret(config, &us, &client, process, &clock).await,
    };
    let index = SharedIndex::new(config.mesh.clone());
    let authenticator = ReviewingAuthenticator::new(
        client.clone(),
        us.audiences.clone(),
        &config.mesh.trust_domain,
        &config.mesh.cluster_id,
        Arc::new(index.clone()),
    );
    let names = serving::hostnames(&us.namespace, &us.revision, &config.mesh.domain);
    let ledger = Arc::new(Ledger::default());
    let called = names.iter().chain(&config.serving_names).cloned().collect();
    let tls = serving::tls_config(root.clone(), called, clock.clone());
    let reviews = bind(us.webhook_address).await?;
    let ground = Ground {
        index: index.clone(),
        root: root.clone(),
        authenticator: Arc::new(authenticator),
        clock: clock.clone(),
        names,
        ledger: Some(ledger.clone()),
    };
    let (line, told) = source::line();
    let bound = serve(config, process, ground, told).await?;
    let drain = process.signal.clone();
    process.vital("webhook", async move {
        webhook::serve(reviews, tls, drain).await;
        Ok(())
    });
    write_as_leader(Written { config, us: &us, client: &client, index, ledger, root: root.clone(), clock }, process);

    let reader = client.clone();
    process.vital("source", async move {
        source::read_cluster(&reader, line).await;
        Ok(())
    });
    let lease = Lease { namespace: us.namespace, name: NAMESPACE_LEASE.into(), me: us.pod };
    let leading = lease::campaign(process, client.clone(), lease);
    let bundle = Bundle { owner: owner(&client, &us.owner).await, name: us.trust_bundle };
    let bundles = bundle::keep(client, bundle, root, leading, process.signal.clone());
    process.vital("trust bundles", async move {
        bundles.await;
        Ok(())
    });
    Ok(bound)
}

/// What those stand on who write to the cluster.
struct Written<'a> {
    config: &'a Config,
    us: &'a InCluster,
    client: &'a Client,
    index: SharedIndex,
    ledger: Arc<Ledger>,
    root: Arc<Root>,
    clock: Arc<dyn Clock>,
}

/// Deploys gateways, writes statuses and keeps the webhook's configuration, while we hold one lease:
/// who writes the status of a gateway must know what became of its deployment.
fn write_as_leader(written: Written<'_>, process: &Process) {
    let Written { config, us, client, index, ledger, root, clock } = written;
    let name = format!("{GATEWAY_LEASE}-{}", us.revision);
    let lease = Lease { namespace: us.namespace.clone(), name, me: us.pod.clone() };
    let leads = lease::campaign(process, client.clone(), lease);
    let outcomes = Arc::new(Outcomes::default());
    let deployer = Deployer {
        client: client.clone(),
        leads: leads.clone(),
        index: index.clone(),
        ledger: ledger.clone(),
        outcomes: outcomes.clone(),
        // The configuration of the mesh may have named the trust domain.
        settings: Settings { trust_domain: config.mesh.trust_domain.to_string(), ..us.waypoints.clone() },
    };
    let writer = StatusWriter {
        client: client.clone(),
        leads: leads.clone(),
        index,
        ledger,
        outcomes,
        events: Recorder::start(client.clone(), "istiod-lite", &us.pod),
        clock,
    };
    let registrar = Registrar {
        client: client.clone(),
        leads,
        root,
        configuration: us.webhook.clone(),
        policy: us.failure_policy,
        namespace: us.namespace.clone(),
    };
    until_drain(process, "gateways", deployer.run());
    until_drain(process, "statuses", writer.run());
    until_drain(process, "webhook configuration", registrar.run());
}

/// Runs what has nothing to finish when the process ends.
fn until_drain(process: &Process, name: &'static str, act: impl Future<Output = ()> + Send + 'static) {
    let mut drain = process.signal.clone();
    process.vital(name, async move {
        tokio::select! {
            () = act => {}
            _deadline = drain.draining() => {}
        }
        Ok(())
    });
}

/// A directory with a plugged-in CA: the one that was named, or that of the chart if it holds anything.
fn plugged_in(config: &Config) -> Option<PathBuf> {
    let mounted = || ["ca-cert.pem", "tls.crt"].iter().any(|name| Path::new(CACERTS).join(name).exists());
    config.cacerts.clone().or_else(|| mounted().then(|| CACERTS.into()))
}

/// The root of the Secret, which is followed from now on. Without it nothing can be served, so that it
/// is waited for.
async fn keep_in_secret(
    config: &Config,
    us: &InCluster,
    client: &Client,
    process: &Process,
    clock: &Arc<dyn Clock>,
) -> Arc<Root> {
    let mut retry = Backoff::new(cluster::limits::RETRY_MIN, cluster::limits::RETRY_MAX);
    let (mut vault, root) = loop {
        let (trust_domain, overlap) = (&config.mesh.trust_domain, config.lifetimes.default);
        match Vault::open(client.clone(), &us.namespace, trust_domain, overlap, clock.now().wall).await {
            Ok(opened) => break opened,
            Err(error) => tracing::error!(%error, "the certificate authority cannot start, trying again"),
        }
        sleep(retry.next(rand::random())).await;
    };
    let root = Arc::new(root);
    let (kept, clock, mut drain) = (root.clone(), clock.clone(), process.signal.clone());
    process.vital("root", async move {
        loop {
            tokio::select! {
                () = sleep(limits::ROOT_TICK) => {}
                _deadline = drain.draining() => return Ok(()),
            }
            if let Err(error) = vault.tick(&kept, clock.now().wall).await {
                tracing::error!(%error, "the root stays as it is");
            }
        }
    });
    root
}

/// A reference to the ClusterRole that our chart made, with which goes what we write beside the chart.
/// Nothing if there is none: then what we wrote stays, which does no harm.
async fn owner(client: &Client, role: &str) -> Value {
    if role.is_empty() {
        return Value::Null;
    }
    match client.get(&resource::CLUSTER_ROLE, "", role).await {
        Ok(object) => json!({
            "apiVersion": resource::CLUSTER_ROLE.api_version(),
            "kind": resource::CLUSTER_ROLE.kind,
            "name": role,
            "uid": object["metadata"]["uid"],
        }),
        Err(error) => {
            tracing::warn!(role, %error, "what is written beside the chart stays when the chart goes");
            Value::Null
        }
    }
}

/// The configuration of the mesh as it is now; nothing if there is none.
async fn mesh_config(client: &Client, namespace: &str) -> Value {
    let mut retry = Backoff::new(cluster::limits::RETRY_MIN, cluster::limits::RETRY_MAX);
    let (name, key) = MESH_CONFIG;
    loop {
        match client.get(&resource::CONFIG_MAP, namespace, name).await {
            Ok(object) => {
                let text = object["data"][key].as_str().unwrap_or_default();
                match chassis::objects::value(text) {
                    Ok(value) => return value,
                    // The index tells of it as well, and by what it goes meanwhile.
                    Err((line, reason)) => {
                        tracing::error!(
                            line,
                            reason,
                            "the ConfigMap {namespace}/{name} cannot be read: the defaults hold"
                        );
                        return Value::Null;
                    }
                }
            }
            Err(CallError::NotFound(_)) => return Value::Null,
            Err(error) => tracing::error!(%error, "cannot read the ConfigMap {namespace}/{name}, trying again"),
        }
        sleep(retry.next(rand::random())).await;
    }
}

/// What the configuration of the mesh says of identities and of its namespace, unless the environment does.
fn told_by_mesh_config(mesh: &mut Mesh, config: &Value, us: &InCluster) -> anyhow::Result<()> {
    let text = |key: &str| config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if !us.root_namespace_said {
        mesh.root_namespace = text("rootNamespace").unwrap_or(&us.namespace).into();
    }
    if let Some(trust_domain) = text("trustDomain").filter(|_| !us.trust_domain_said) {
        // As Istio does, so that an account of a cloud may be a trust domain.
        let trust_domain = trust_domain.replace('@', ".");
        mesh::Identity::new(&trust_domain, "any", "any")
            .with_context(|| format!("trustDomain {trust_domain:?} of the mesh configuration cannot be used"))?;
        mesh.trust_domain = trust_domain.as_str().into();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
