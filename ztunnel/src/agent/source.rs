//! Where facts come from: a directory of objects, or a cluster. Who reads them does not know which.

use chassis::objects::{Directory, ObjectEvent};

use super::facts::Labels;
#[cfg(feature = "kubernetes")]
use super::kubernetes::Kubernetes;

/// Namespaces and Pods, as events.
#[derive(Debug)]
pub enum Source {
    /// Of a directory.
    Files(Directory),
    /// Of a cluster.
    #[cfg(feature = "kubernetes")]
    Cluster(Box<cluster::watch::Watches>),
}

impl Source {
    /// What changed: at first everything there is, then each change. Cancel safe.
    pub(super) async fn next(&mut self) -> Vec<ObjectEvent> {
        match self {
            Self::Files(directory) => directory.next().await,
            #[cfg(feature = "kubernetes")]
            Self::Cluster(watches) => watches.next().await,
        }
    }

    /// Whether a namespace that is not told of is one that we have not heard of yet. In a directory
    /// it may just not be written down.
    pub(super) fn tells_every_namespace(&self) -> bool {
        match self {
            Self::Files(_) => false,
            #[cfg(feature = "kubernetes")]
            Self::Cluster(_) => true,
        }
    }
}

/// Who is asked again before a new pod starts outside of the mesh: what a watch says may be a
/// moment old, and its namespace may have been labelled in that moment.
#[derive(Debug, Clone)]
pub enum Witness {
    /// Nobody: a directory is read at once.
    Nobody,
    /// The API server.
    #[cfg(feature = "kubernetes")]
    Cluster(Kubernetes),
}

impl Witness {
    /// Whether the labels of a namespace still say the same of the mesh.
    pub(super) async fn confirms(&self, namespace: &str, known: &Labels) -> Result<bool, String> {
        match self {
            Self::Nobody => {
                let (_, _) = (namespace, known);
                Ok(true)
            }
            #[cfg(feature = "kubernetes")]
            Self::Cluster(cluster) => match cluster.namespace(namespace).await {
                Ok(now) => Ok(now.as_ref().map(super::enrol::mode) == Some(super::enrol::mode(known))),
                Err(error) => Err(format!("cannot ask whether namespace {namespace} is in the mesh: {error}")),
            },
        }
    }
}
