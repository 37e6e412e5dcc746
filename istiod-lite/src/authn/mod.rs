//! Who is calling? Turns the bearer token of a request into a [`Caller`].
//!
//! Every door of the control plane asks here, and nobody is trusted for where they come from.

use mesh::Identity;
use std::{future::Future, pin::Pin};

pub mod claims;
pub mod local;
#[cfg(feature = "kubernetes")]
pub mod reviewed;

/// Who a request comes from, as its token proves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The service account as an identity of this mesh.
    pub identity: Identity,
    /// The pod that the token is bound to, checked to exist.
    pub pod: Option<PodRef>,
}

/// A pod as a token names it, in the namespace of the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodRef {
    /// Its name.
    pub name: String,
    /// Its uid: another pod of the same name has another.
    pub uid: String,
}

/// Why a caller is not believed. Callers are told none of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// No `authorization: Bearer` header.
    #[error("no bearer token in the request")]
    NoToken,
    /// The cluster that the caller names is not ours.
    #[error("unknown cluster {0:?}")]
    UnknownCluster(String),
    /// The token is forged, expired, for another audience, or garbage.
    #[error("the token does not hold: {0}")]
    BadToken(String),
    /// The token's subject is no service account.
    #[error("the token's subject {0:?} is not of the form system:serviceaccount:<namespace>:<name>")]
    BadSubject(String),
    /// The token is bound to a pod that is not there, or is another one, or runs as somebody else.
    #[error("the token is bound to pod {0}, which is not there as the token says")]
    PodGone(String),
    /// Who could tell could not be asked.
    #[error("could not review the token: {0}")]
    Unavailable(String),
}

/// A future of an [`Authenticator`].
pub type Authenticating<'a> = Pin<Box<dyn Future<Output = Result<Caller, AuthenticationError>> + Send + 'a>>;

/// Says who a bearer token belongs to.
pub trait Authenticator: Send + Sync + 'static {
    /// The caller with this token, from the cluster it names (empty: ours).
    fn authenticate<'a>(&'a self, bearer: &'a str, cluster_id: &'a str) -> Authenticating<'a>;
}

/// Asks `authenticator` about the credentials in the metadata of a request.
pub async fn caller(
    authenticator: &dyn Authenticator,
    metadata: &tonic::metadata::MetadataMap,
) -> Result<Caller, AuthenticationError> {
    let bearer = only(metadata, "authorization").and_then(|value| value.strip_prefix("Bearer "));
    let bearer = bearer.map(str::trim).filter(|token| !token.is_empty()).ok_or(AuthenticationError::NoToken)?;
    let cluster = only(metadata, "clusterid").unwrap_or_default();
    authenticator.authenticate(bearer, cluster).await
}

/// The value of a header that stands there once. Of two, nobody could say which one counts.
fn only<'a>(metadata: &'a tonic::metadata::MetadataMap, name: &str) -> Option<&'a str> {
    let mut values = metadata.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}
