//! What a bound service-account token says, and whether that holds. Pure: the signature was checked
//! before, time and pods come in as arguments.

use super::{AuthenticationError, Caller, PodRef};
use crate::facts::PodLookup;
use mesh::Identity;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// For whom a token must be.
pub const AUDIENCE: &str = "istio-ca";

/// Who signed it, as the API server of a cluster of that name would say.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Clocks of one mesh may be this far apart before a fresh token is refused.
const LEEWAY: Duration = Duration::from_secs(10);

/// The claims that a Kubernetes API server writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Vec<String>,
    pub(crate) iat: u64,
    pub(crate) nbf: u64,
    pub(crate) exp: u64,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: Kubernetes,
}

/// What a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kubernetes {
    pub(crate) namespace: String,
    pub(crate) serviceaccount: Named,
    pub(crate) pod: Bound,
    pub(crate) node: Named,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// The service account of a subject: `system:serviceaccount:<namespace>:<name>` and nothing else.
pub fn service_account(subject: &str) -> Option<(&str, &str)> {
    let (namespace, name) = subject.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

/// Who the claims prove, if they hold now.
pub(crate) fn caller(
    claims: &Claims,
    trust_domain: &str,
    pods: &dyn PodLookup,
    now: SystemTime,
) -> Result<Caller, AuthenticationError> {
    let bad = |reason: &str| AuthenticationError::BadToken(reason.into());
    if claims.iss != ISSUER {
        return Err(bad("it is from another issuer"));
    }
    if !claims.aud.iter().any(|audience| audience == AUDIENCE) {
        return Err(bad("it is for another audience"));
    }
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if claims.exp <= seconds(now) {
        return Err(bad("it has expired"));
    }
    if claims.nbf.max(claims.iat) > seconds(now + LEEWAY) {
        return Err(bad("it is not yet valid; compare the clocks"));
    }
    let bad_subject = || AuthenticationError::BadSubject(claims.sub.clone());
    let (namespace, name) = service_account(&claims.sub).ok_or_else(bad_subject)?;
    let identity = Identity::new(trust_domain, namespace, name).map_err(|_| bad_subject())?;
    let bound = &claims.kubernetes;
    if bound.namespace != namespace || bound.serviceaccount.name != name {
        return Err(bad("its subject is not the service account that it is bound to"));
    }
    let gone = || AuthenticationError::PodGone(format!("{namespace}/{}", bound.pod.name));
    let pod = pods.pod(namespace, &bound.pod.name).ok_or_else(gone)?;
    // An empty uid would be equal to that of a pod that was written down without one.
    if bound.pod.uid.is_empty() || *pod.uid != *bound.pod.uid || *pod.service_account != *name {
        return Err(gone());
    }
    let pod = PodRef { name: bound.pod.name.clone(), uid: bound.pod.uid.clone() };
    Ok(Caller { identity, pod: Some(pod) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_subject_of_four_parts_is_a_service_account() {
        for (subject, want) in [
            ("system:serviceaccount:shop:web", Some(("shop", "web"))),
            ("system:serviceaccount:shop:web:x", None),
            ("system:serviceaccount:shop:", None),
            ("system:serviceaccount::web", None),
            ("system:serviceaccount:shop", None),
            ("system:serviceaccount:", None),
            ("system:serviceaccount", None),
            ("System:serviceaccount:shop:web", None),
            (" system:serviceaccount:shop:web", None),
            ("system:node:shop:web", None),
            ("", None),
            (":", None),
            (":::", None),
        ] {
            assert_eq!(service_account(subject), want, "{subject:?}");
        }
    }
}
