//! Who is at one end of a request, as metrics, logs and traces name it.
//!
//! Values come from the view and from proven identities only. What a peer says of itself is never
//! a label: it would let strangers fill the memory of whoever stores the metrics.

use mesh::{Identity, Str, Workload, workload::WorkloadType};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
};

/// What stands where nothing is known.
pub(super) static UNKNOWN: LazyLock<Str> = LazyLock::new(|| "unknown".into());

/// What stands for all that came when there were too many.
pub(super) static OVERFLOW: LazyLock<Str> = LazyLock::new(|| "overflow".into());

/// A value that is compared by its hash first, and copied by counting. Made once for a connection
/// or an endpoint, so that a request hashes eight bytes instead of ten names.
#[derive(Debug)]
pub struct Shared<T>(Arc<(u64, T)>);

impl<T: Hash + Eq> Shared<T> {
    /// Shares a value.
    pub fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(Arc::new((hasher.finish(), value)))
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.1
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.0);
    }
}

impl<T: Eq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.0 == other.0.0 && self.0.1 == other.0.1)
    }
}

impl<T: Eq> Eq for Shared<T> {}

/// One end of a request. Make it once for a connection or endpoint and clone it for each request.
pub type Party = Shared<Facts>;

/// What is known of one end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Name of its owner (Deployment, …).
    pub workload: Str,
    /// Name of the pod.
    pub instance: Str,
    /// `service.name` of its telemetry.
    pub canonical_service: Str,
    /// `service.version` of its telemetry.
    pub canonical_revision: Str,
    /// Namespace.
    pub namespace: Str,
    /// `spiffe://…`, where it is proven.
    pub principal: Str,
    /// Cluster.
    pub cluster: Str,
    /// What kind of owner it has, as traces write it; "" if nobody knows.
    pub workload_type: &'static str,
}

impl Party {
    /// One end: what the view knows of its address, and what its certificate proves.
    pub fn of(workload: Option<&Workload>, identity: Option<&Identity>) -> Self {
        let unknown = || UNKNOWN.clone();
        let principal = identity.map_or_else(unknown, |identity| identity.to_string().into());
        // A proven identity tells its namespace, whatever the view thinks of the address.
        let namespace = identity.map(|identity| identity.namespace().clone());
        Self::new(match workload {
            Some(workload) => Facts {
                workload: known(&workload.workload_name),
                instance: known(&workload.name),
                canonical_service: known(&workload.canonical_name),
                canonical_revision: revision(&workload.canonical_revision),
                namespace: namespace.unwrap_or_else(|| known(&workload.namespace)),
                principal,
                cluster: known(&workload.cluster_id),
                workload_type: kind(workload.workload_type),
            },
            None => Facts {
                workload: unknown(),
                instance: unknown(),
                canonical_service: unknown(),
                canonical_revision: "latest".into(),
                namespace: namespace.unwrap_or_else(unknown),
                principal,
                cluster: unknown(),
                workload_type: "",
            },
        })
    }

    /// Somebody of whom nothing is known.
    pub fn unknown() -> Self {
        static NOBODY: LazyLock<Party> = LazyLock::new(|| Party::of(None, None));
        NOBODY.clone()
    }

    /// Everybody who came when there were too many.
    pub(super) fn overflow() -> Self {
        let word = || OVERFLOW.clone();
        Self::new(Facts {
            workload: word(),
            instance: word(),
            canonical_service: word(),
            canonical_revision: word(),
            namespace: word(),
            principal: word(),
            cluster: word(),
            workload_type: "",
        })
    }
}

/// The service that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    /// Fully qualified name.
    pub host: Str,
    /// Short name.
    pub name: Str,
    /// Namespace.
    pub namespace: Str,
}

impl Shared<Asked> {
    /// A service of the view.
    pub fn service(service: &mesh::Service) -> Self {
        Self::new(Asked {
            host: known(&service.hostname),
            name: known(&service.name),
            namespace: known(&service.namespace),
        })
    }

    /// No service: a workload was asked for by address.
    pub fn none() -> Self {
        static NONE: LazyLock<Shared<Asked>> = LazyLock::new(|| {
            let unknown = || UNKNOWN.clone();
            Shared::new(Asked { host: unknown(), name: unknown(), namespace: unknown() })
        });
        NONE.clone()
    }

    pub(super) fn overflow() -> Self {
        let word = || OVERFLOW.clone();
        Self::new(Asked { host: word(), name: word(), namespace: word() })
    }
}

fn known(text: &Str) -> Str {
    if text.is_empty() { UNKNOWN.clone() } else { text.clone() }
}

fn revision(text: &Str) -> Str {
    if text.is_empty() { "latest".into() } else { text.clone() }
}

const fn kind(of: WorkloadType) -> &'static str {
    match of {
        WorkloadType::Deployment => "deployment",
        WorkloadType::CronJob => "cronjob",
        WorkloadType::Pod => "pod",
        WorkloadType::Job => "job",
    }
}
