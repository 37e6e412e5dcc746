//! Who a workload is: a SPIFFE id of the form `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
//!
//! Parsing is strict, because a lenient reading of an identity is a way around policy: no empty
//! segment, no dots-only segment, no trailing slash, ASCII of the SPIFFE character set only.

use crate::Str;
use std::{fmt, str::FromStr, sync::Arc};

/// Trust domain of a mesh that says nothing else.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// The identity of a workload. It says who somebody *is*, not that anyone proved it: a proven
/// peer is a `pki::verify::Peer`. Cloning it is cheap, and shares it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(Arc<Parts>);

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    trust_domain: Str,
    namespace: Str,
    service_account: Str,
}

/// Why a text is no identity of this mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The text does not have the form that every identity has.
    #[error("{0:?} is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    Form(String),
    /// A part is empty, only dots, too long, or has characters that SPIFFE does not allow.
    #[error(
        "{part} {text:?} of a SPIFFE id is empty, only dots, over 253 bytes, or has a character outside [A-Za-z0-9._-]"
    )]
    Part {
        /// Which part.
        part: &'static str,
        /// What it said.
        text: String,
    },
}

impl Identity {
    /// An identity of three checked parts.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, IdentityError> {
        check("trust domain", trust_domain)?;
        check("namespace", namespace)?;
        check("service account", service_account)?;
        Ok(Self(Arc::new(Parts {
            trust_domain: trust_domain.into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
        })))
    }

    /// The trust domain, `cluster.local` by default.
    pub fn trust_domain(&self) -> &Str {
        &self.0.trust_domain
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &Str {
        &self.0.namespace
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &Str {
        &self.0.service_account
    }

    /// The identity as policies write it: without `spiffe://`.
    pub fn principal(&self) -> String {
        format!("{}/ns/{}/sa/{}", self.0.trust_domain, self.0.namespace, self.0.service_account)
    }
}

fn check(part: &'static str, text: &str) -> Result<(), IdentityError> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = !text.is_empty()
        && text.len() <= crate::limits::NAME_BYTES_MAX
        && text.bytes().all(legal)
        && !text.bytes().all(|b| b == b'.');
    if good { Ok(()) } else { Err(IdentityError::Part { part, text: text.into() }) }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Form(text.chars().take(300).collect());
        let rest = text.strip_prefix("spiffe://").ok_or_else(form)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [trust_domain, "ns", namespace, "sa", service_account] = parts[..] else {
            return Err(form());
        };
        Self::new(trust_domain, namespace, service_account)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { trust_domain, namespace, service_account } = &*self.0;
        // Piece by piece: it is printed for each connection, and that is a third of the way by `write!`.
        let pieces = ["spiffe://", trust_domain, "/ns/", namespace, "/sa/", service_account];
        pieces.into_iter().try_for_each(|piece| f.write_str(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_prints_as_it_was_parsed() {
        let text = "spiffe://cluster.local/ns/shop/sa/web";
        let id: Identity = text.parse().expect("a good id");
        assert_eq!(id.to_string(), text);
        assert_eq!(id.principal(), "cluster.local/ns/shop/sa/web");
    }

    #[test]
    fn what_is_almost_an_identity_is_refused() {
        for text in [
            "",
            "spiffe://",
            "cluster.local/ns/a/sa/b",
            "spiffe://td/ns/a/sa/b/",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://td//ns/a/sa/b",
            "spiffe://td/ns//sa/b",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns/../sa/b",
            "spiffe://td/ns/a/sa/b\0",
            "spiffe://td/ns/a/sa/b c",
            "spiffe://td/ns/a/sa/ä",
            "spiffe://td/ns/a/sa/b%2f",
            "SPIFFE://td/ns/a/sa/b",
            "spiffe://td/sa/b/ns/a",
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text:?} was taken");
        }
    }
}
