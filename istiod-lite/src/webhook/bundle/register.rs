//! Keeps the webhook's configuration right, while we lead.

use super::{FailurePolicy, patch, relies};
use crate::{ca::root::Root, limits};
use base64::{Engine, engine::general_purpose::STANDARD};
use cluster::{CallError, Client, resource};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::sleep;

/// Keeps the webhook's configuration right.
#[derive(Debug)]
pub struct Registrar {
    /// The cluster.
    pub client: Client,
    /// Whether we lead.
    pub leads: tokio::sync::watch::Receiver<bool>,
    /// Whose certificates we show.
    pub root: Arc<Root>,
    /// The name of the configuration.
    pub configuration: String,
    /// What failures should mean once it is proven that we are reached.
    pub policy: FailurePolicy,
    /// Our own namespace.
    pub namespace: String,
}

impl Registrar {
    /// Looks while we lead, until leadership is no more to be had.
    pub async fn run(mut self) {
        while self.leads.wait_for(|leads| *leads).await.is_ok() {
            match self.look().await {
                Ok(()) => {}
                // Whoever installed no webhook wants none.
                Err(CallError::NotFound(_)) => {
                    tracing::debug!(name = self.configuration, "there is no webhook configuration");
                }
                Err(error) => {
                    tracing::warn!(name = self.configuration, %error, "cannot keep the webhook configuration right");
                }
            }
            sleep(limits::WEBHOOK_REVIEW).await;
        }
    }

    async fn look(&self) -> Result<(), CallError> {
        let resource = &resource::VALIDATING_WEBHOOK_CONFIGURATION;
        let bundle = STANDARD.encode(self.root.issuer().roots_pem());
        let mut now = self.client.get(resource, "", &self.configuration).await?;
        if let Some(patch) = patch(&now, &bundle, None) {
            now = self.client.merge_patch(resource, "", &self.configuration, "", &patch).await?;
            tracing::info!(name = self.configuration, "the webhook configuration has our roots");
        }
        let proven = relies(&now, self.policy) || self.policy == FailurePolicy::Ignore || self.is_asked().await;
        if proven && let Some(patch) = patch(&now, &bundle, Some(self.policy)) {
            self.client.merge_patch(resource, "", &self.configuration, "", &patch).await?;
            tracing::info!(name = self.configuration, policy = self.policy.text(), "the webhook is relied on");
        }
        Ok(())
    }

    /// Whether the API server asks us, and hears the answer: it refuses what we refuse.
    async fn is_asked(&self) -> bool {
        let probe = probe(&self.namespace);
        match self.client.would_create(&resource::AUTHORIZATION_POLICY, &probe).await {
            Ok(_) => false,
            Err(error) => {
                let refused = error.to_string().contains(NO_ADDRESS);
                if !refused {
                    tracing::debug!(%error, "the webhook is not asked yet");
                }
                refused
            }
        }
    }
}

/// What no reader of ours takes for an address, and no schema refuses.
const NO_ADDRESS: &str = "validation-probe";

fn probe(namespace: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "namespace": namespace, "name": "istiod-lite-validation-probe" },
        "spec": { "rules": [{ "from": [{ "source": { "ipBlocks": [NO_ADDRESS] } }] }] },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::verdict::judge;

    #[test]
    fn the_probe_is_refused_by_its_own_words() {
        let origin = chassis::objects::Origin { file: std::path::Path::new("probe").into(), line: 0 };
        let (api_version, kind) = ("security.istio.io/v1".to_owned(), "AuthorizationPolicy".to_owned());
        let (namespace, name) = ("istio-system".to_owned(), "probe".to_owned());
        let value = probe("istio-system");
        let object = chassis::objects::Object { api_version, kind, namespace, name, value, origin };
        assert!(judge(&object, None).refused[0].contains(NO_ADDRESS));
    }
}
