//! Bound service-account tokens without Kubernetes: issued and checked with a key of our own.
//!
//! The tokens have the claims that a Kubernetes API server writes, so that what reads them need
//! not know who issued them. The key stays in the state directory; the lab, which is the kubelet
//! there, opens the same directory.

use super::{
    Authenticating, AuthenticationError, Authenticator, Caller,
    claims::{self, AUDIENCE, Bound, Claims, ISSUER, Kubernetes, Named},
};
use crate::{ca::files, facts::PodLookup};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use pki::Clock;
use rcgen::{KeyPair, PublicKeyData};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Longest token that is read. Those of Kubernetes are about 1 KiB.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

const KEY_FILE: &str = "token-key.pem";

/// Issues tokens, as the API server does for kubelet. The key lives in the state directory.
pub struct TokenIssuer {
    signing: EncodingKey,
    verifying: DecodingKey,
}

/// For whom a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest<'a> {
    /// The namespace of pod and service account.
    pub namespace: &'a str,
    /// The service account.
    pub service_account: &'a str,
    /// The pod's name.
    pub pod: &'a str,
    /// The pod's uid.
    pub pod_uid: &'a str,
    /// The node that the pod runs on.
    pub node: &'a str,
    /// How long the token holds.
    pub lifetime: Duration,
}

/// Why no token can be issued or checked.
#[derive(Debug, thiserror::Error)]
pub enum TokenIssuerError {
    /// The key file cannot be read or written.
    #[error("cannot read or write the token signing key {path}: {source}")]
    KeyFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key is unusable.
    #[error("the token signing key is unusable; delete it to have a new one made: {0}")]
    Key(String),
    /// Signing failed.
    #[error("cannot sign a token: {0}")]
    Sign(String),
}

impl TokenIssuer {
    /// The issuer of this state directory; makes a key if there is none. Two processes that open
    /// the same directory have the same key.
    pub fn open(state_dir: &Path) -> Result<Self, TokenIssuerError> {
        let path = state_dir.join(KEY_FILE);
        Self::of_key(&key_pem(&path).map_err(|source| TokenIssuerError::KeyFile { path, source })?)
    }

    fn of_key(pem: &str) -> Result<Self, TokenIssuerError> {
        let unusable = |reason: &dyn ToString| TokenIssuerError::Key(reason.to_string());
        let key = KeyPair::from_pem(pem).map_err(|e| unusable(&e))?;
        if key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(unusable(&"it is not a P-256 key"));
        }
        let signing = EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|e| unusable(&e))?;
        Ok(Self { signing, verifying: DecodingKey::from_ec_der(key.der_bytes()) })
    }

    /// A token, good from now on.
    pub fn issue(&self, request: &TokenRequest<'_>, now: SystemTime) -> Result<String, TokenIssuerError> {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = Claims {
            iss: ISSUER.into(),
            sub: format!("system:serviceaccount:{}:{}", request.namespace, request.service_account),
            aud: vec![AUDIENCE.into()],
            iat: seconds,
            nbf: seconds,
            exp: seconds.saturating_add(request.lifetime.as_secs()),
            kubernetes: Kubernetes {
                namespace: request.namespace.into(),
                serviceaccount: Named { name: request.service_account.into() },
                pod: Bound { name: request.pod.into(), uid: request.pod_uid.into() },
                node: Named { name: request.node.into() },
            },
        };
        self.sign(&claims)
    }

    pub(crate) fn sign(&self, claims: &impl serde::Serialize) -> Result<String, TokenIssuerError> {
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &self.signing)
            .map_err(|e| TokenIssuerError::Sign(e.to_string()))
    }
}

/// The key of the file. Of two who find none, the first to make one wins and the other takes that.
fn key_pem(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
        read => return read,
    }
    let made = KeyPair::generate().map_err(io::Error::other)?.serialize_pem();
    match files::create_secret(path, &made) {
        Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => fs::read_to_string(path),
        Err(other) => Err(other),
        Ok(()) => Ok(made),
    }
}

/// Never prints the key.
impl fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenIssuer").finish_non_exhaustive()
    }
}

/// Checks the tokens of a [`TokenIssuer`] against the pods that are there.
pub struct LocalAuthenticator {
    verifying: DecodingKey,
    trust_domain: String,
    cluster_id: String,
    pods: Arc<dyn PodLookup>,
    clock: Arc<dyn Clock>,
}

impl LocalAuthenticator {
    /// Believes the tokens of `issuer`, for pods that `pods` knows. Takes callers that name no
    /// cluster or `cluster_id`.
    pub fn new(
        issuer: &TokenIssuer,
        trust_domain: &str,
        cluster_id: &str,
        pods: Arc<dyn PodLookup>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (trust_domain, cluster_id) = (trust_domain.to_owned(), cluster_id.to_owned());
        Self { verifying: issuer.verifying.clone(), trust_domain, cluster_id, pods, clock }
    }

    /// Who a token belongs to. Needs nobody else for it, so it does not wait.
    pub fn review(&self, bearer: &str, cluster_id: &str) -> Result<Caller, AuthenticationError> {
        if !cluster_id.is_empty() && cluster_id != self.cluster_id {
            return Err(AuthenticationError::UnknownCluster(cluster_id.chars().take(64).collect()));
        }
        if bearer.len() > TOKEN_BYTES_MAX {
            return Err(AuthenticationError::BadToken(format!("it has {} bytes", bearer.len())));
        }
        let decoded = jsonwebtoken::decode::<Claims>(bearer, &self.verifying, &signature_only());
        let claims = decoded.map_err(|e| AuthenticationError::BadToken(e.to_string()))?.claims;
        claims::caller(&claims, &self.trust_domain, &*self.pods, self.clock.now().wall)
    }
}

impl Authenticator for LocalAuthenticator {
    fn authenticate<'a>(&'a self, bearer: &'a str, cluster_id: &'a str) -> Authenticating<'a> {
        Box::pin(async move { self.review(bearer, cluster_id) })
    }
}

/// The library checks the signature, by the one algorithm that we use; the claims are checked in
/// [`claims`], by our clock.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

#[cfg(test)]
mod tests;
