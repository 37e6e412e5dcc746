//! The root of a mesh in a cluster: in the Secret `istio-ca-secret`, which the first replica makes and
//! all of them follow. Whoever sees that a step of its rotation is due takes it; of two, one wins.

use super::{
    keys::{Keys, KeysError},
    root::Root,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use cluster::{CallError, Client, resource};
use pki::issue::IssuerError;
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime};

const NAME: &str = "istio-ca-secret";
const TYPE: &str = "istio.io/ca-root";

/// The Secret, and what it said when we looked last.
#[derive(Debug)]
pub struct Vault {
    client: Client,
    namespace: String,
    trust_domain: String,
    overlap: Duration,
    seen: Keys,
}

/// Why the root stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The Secret cannot be read or written.
    #[error("cannot read or write the Secret {NAME}: {0}")]
    Call(#[from] CallError),
    /// What it holds is no root.
    #[error("the Secret {NAME} cannot be used: {0}")]
    Keys(#[from] KeysError),
    /// It was replaced by the root of another mesh.
    #[error(
        "the roots in the Secret {NAME} have none in common with those that workloads trust now; \
         restore it, or restart every replica to cut them off"
    )]
    Unrelated,
}

impl From<IssuerError> for VaultError {
    fn from(error: IssuerError) -> Self {
        Self::Keys(error.into())
    }
}

impl Vault {
    /// The root of the Secret in this namespace; makes it if there is none. `overlap` lies between the
    /// steps of its replacement and should be the life of the certificates that it signs.
    pub async fn open(
        client: Client,
        namespace: &str,
        trust_domain: &str,
        overlap: Duration,
        now: SystemTime,
    ) -> Result<(Self, Root), VaultError> {
        let (namespace, trust_domain) = (namespace.to_owned(), trust_domain.to_owned());
        let mut vault = Self { client, namespace, trust_domain, overlap, seen: Keys::default() };
        let (keys, _) = match vault.read().await? {
            Some(there) => there,
            None => vault.make(&Keys::fresh(&vault.trust_domain, now)?).await?,
        };
        let root = Root::kept(keys.issuer(now)?);
        vault.seen = keys;
        Ok((vault, root))
    }

    /// Follows the Secret and takes the step that is due. True if `root` changed; on an error it stays as
    /// it is. To be called every few seconds.
    pub async fn tick(&mut self, root: &Root, now: SystemTime) -> Result<bool, VaultError> {
        let (mut keys, mut version) = match self.read().await? {
            Some(there) => there,
            // Somebody deleted what every workload trusts: it is written down again.
            None => self.make(&self.seen).await?,
        };
        if let Some(next) = keys.next(&self.trust_domain, self.overlap, now)? {
            match self.client.replace(&resource::SECRET, &self.written(&next, Some(&version))).await {
                Ok(_) => keys = next,
                // Another replica was faster.
                Err(CallError::Conflict(_)) => {
                    (keys, version) = self.read().await?.ok_or_else(|| CallError::NotFound(NAME.into()))?;
                    tracing::debug!(version, "another replica has taken the step");
                }
                Err(error) => return Err(error.into()),
            }
        }
        if keys == self.seen {
            return Ok(false);
        }
        let issuer = keys.issuer(now)?;
        let trusted = root.issuer();
        if !issuer.roots().iter().any(|new| trusted.roots().iter().any(|old| old.der == new.der)) {
            return Err(VaultError::Unrelated);
        }
        tracing::info!(signer = %issuer.certificate().serial, roots = issuer.roots().len(), "the root was taken from its Secret");
        root.replace(issuer);
        self.seen = keys;
        Ok(true)
    }

    /// What the Secret holds, and its version.
    async fn read(&self) -> Result<Option<(Keys, String)>, CallError> {
        match self.client.get(&resource::SECRET, &self.namespace, NAME).await {
            Ok(object) => read(&object).map(Some),
            Err(CallError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the Secret, or reads the one that somebody made first.
    async fn make(&self, keys: &Keys) -> Result<(Keys, String), CallError> {
        match self.client.create(&resource::SECRET, &self.written(keys, None)).await {
            Ok(object) => read(&object),
            Err(CallError::AlreadyExists(_)) => {
                self.read().await?.ok_or_else(|| CallError::NotFound(format!("{NAME} came and went")))
            }
            Err(error) => Err(error),
        }
    }

    fn written(&self, keys: &Keys, version: Option<&str>) -> Value {
        let encoded = |(name, text): (&String, &String)| (name.clone(), Value::from(BASE64_STANDARD.encode(text)));
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "namespace": self.namespace, "name": NAME, "resourceVersion": version },
            "type": TYPE,
            "data": keys.0.iter().map(encoded).collect::<Map<_, _>>(),
        })
    }
}

fn read(object: &Value) -> Result<(Keys, String), CallError> {
    let unusable = |name: &str| CallError::Unusable(format!("{name} in the Secret {NAME} is no text"));
    let mut keys = Keys::default();
    for (name, encoded) in object["data"].as_object().into_iter().flatten() {
        let bytes = BASE64_STANDARD.decode(encoded.as_str().unwrap_or_default()).map_err(|_| unusable(name))?;
        keys.0.insert(name.clone(), String::from_utf8(bytes).map_err(|_| unusable(name))?);
    }
    let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
    Ok((keys, version.to_owned()))
}
