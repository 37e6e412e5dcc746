//! Who may open a stream of configuration.
//!
//! A token says who the caller is. What it says of itself in its first request must agree with
//! that, and what it may see follows from the token alone.

use crate::{
    authn::{self, Authenticator, Caller},
    ca::policy::Policy,
    limits::AUTHENTICATION_TIMEOUT,
    publish::{self, SharedIndex},
};
use std::sync::Arc;
use tonic::{Status, metadata::MetadataMap};
use xds::{Node, server::Scope};

/// The door of xDS.
pub struct Door {
    authenticator: Arc<dyn Authenticator>,
    policy: Policy,
    index: SharedIndex,
}

impl Door {
    /// A door that believes `authenticator`, and `index` as to who is a waypoint.
    pub fn new(authenticator: Arc<dyn Authenticator>, policy: Policy, index: SharedIndex) -> Self {
        Self { authenticator, policy, index }
    }
}

impl xds::server::Admission for Door {
    type Caller = Caller;

    async fn authenticate(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let asked = authn::caller(&*self.authenticator, metadata);
        match tokio::time::timeout(AUTHENTICATION_TIMEOUT, asked).await {
            Ok(Ok(caller)) => Ok(caller),
            Ok(Err(error)) => {
                tracing::info!(%error, "caller of xDS not believed");
                Err(Status::unauthenticated("request authenticate failure"))
            }
            Err(_) => Err(Status::unavailable("authentication takes too long, try again")),
        }
    }

    fn admit(&self, caller: &Caller, node: &Node) -> Result<Scope, Status> {
        let identity = &caller.identity;
        agrees(&identity.to_string(), "NAMESPACE", identity.namespace(), node.namespace())?;
        if node.service_account().is_some() {
            agrees(&identity.to_string(), "SERVICE_ACCOUNT", identity.service_account(), node.service_account())?;
        }
        publish::scope(identity, &self.policy, &self.index.read()).ok_or_else(|| {
            Status::permission_denied(format!(
                "{identity} is no node proxy of this mesh, whose account must be in CA_TRUSTED_NODE_ACCOUNTS, \
                 and not the account of a Gateway of class istio-waypoint"
            ))
        })
    }
}

fn agrees(caller: &str, key: &str, proven: &str, said: Option<&str>) -> Result<(), Status> {
    match said {
        Some(said) if said == proven => Ok(()),
        said => Err(Status::permission_denied(format!(
            "{caller} says in its node metadata that its {key} is {:?}",
            said.unwrap_or_default().chars().take(100).collect::<String>()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authn::{Authenticating, AuthenticationError},
        index::Mesh,
    };
    use mesh::Identity;
    use tonic::Code;
    use xds::server::Admission;

    struct Nobody;

    impl Authenticator for Nobody {
        fn authenticate<'a>(&'a self, _: &'a str, _: &'a str) -> Authenticating<'a> {
            Box::pin(std::future::ready(Err(AuthenticationError::NoToken)))
        }
    }

    fn admitted(namespace: &str, account: &str, node: Node) -> Result<Scope, Code> {
        let identity = Identity::new("cluster.local", namespace, account).expect("a good identity");
        let door = Door::new(Arc::new(Nobody), Policy::default(), SharedIndex::new(Mesh::default()));
        door.admit(&Caller { identity, pod: None }, &node).map_err(|status| status.code())
    }

    #[test]
    fn only_a_node_proxy_that_says_who_it_is_gets_in() {
        let node = |namespace: &str| Node::ztunnel(None, "ztunnel-1", namespace, "n1");
        let denied = Err(Code::PermissionDenied);
        assert_eq!(admitted("istio-system", "ztunnel", node("istio-system")), Ok(Scope::NodeProxy));
        let said = node("istio-system").with("SERVICE_ACCOUNT", "ztunnel");
        assert_eq!(admitted("istio-system", "ztunnel", said), Ok(Scope::NodeProxy));
        assert_eq!(admitted("istio-system", "ztunnel", node("shop")), denied, "another namespace");
        assert_eq!(admitted("istio-system", "ztunnel", Node::default()), denied, "says nothing");
        let said = node("istio-system").with("SERVICE_ACCOUNT", "istiod");
        assert_eq!(admitted("istio-system", "ztunnel", said), denied, "another account");
        // Whatever a pod of the shop says it is, its token says who it is.
        assert_eq!(admitted("shop", "web", node("istio-system")), denied);
        assert_eq!(admitted("shop", "web", node("shop")), denied);
    }

    #[tokio::test]
    async fn nobody_gets_in_without_a_token() {
        let door = Door::new(Arc::new(Nobody), Policy::default(), SharedIndex::new(Mesh::default()));
        let refused = door.authenticate(&MetadataMap::new()).await.expect_err("there is no token");
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
}
