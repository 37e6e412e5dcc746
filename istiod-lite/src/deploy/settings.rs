//! How waypoints are run: what the chart tells the control plane of their image and of the mesh.

use chassis::env::{Key, Reader, Row};

const IMAGE: Key<String> = Key::new(
    "WAYPOINT_IMAGE",
    "",
    "image",
    "The image of waypoints. Without it no waypoint is deployed, and Gateways say so.",
);
const PULL_POLICY: Key<String> = Key::new(
    "WAYPOINT_IMAGE_PULL_POLICY",
    "",
    "Always, IfNotPresent or Never",
    "When that image is pulled. Without it: as Kubernetes does by the tag.",
);
const PULL_SECRETS: Key<String> = Key::new(
    "WAYPOINT_IMAGE_PULL_SECRETS",
    "",
    "name,…",
    "Secrets by which it is pulled, in each namespace of a waypoint.",
);
const LOG_LEVEL: Key<String> =
    Key::new("WAYPOINT_LOG_LEVEL", "", "filter", "RUST_LOG of waypoints; without it they have their default.");
const LOG_FORMAT: Key<String> = Key::new("WAYPOINT_LOG_FORMAT", "", "plain or json", "LOG_FORMAT of waypoints.");
const CONTROL_PLANE: Key<String> = Key::new(
    "WAYPOINT_CONTROL_PLANE",
    "",
    "host:port",
    "Where waypoints find the control plane. Without it: istiod.<our namespace>.svc:15012.",
);
/// What the deployment of waypoints is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Their image; "": nobody said, and none can be deployed.
    pub image: String,
    /// When it is pulled.
    pub pull_policy: Option<String>,
    /// Secrets by which it is pulled.
    pub pull_secrets: Vec<String>,
    /// Their `RUST_LOG`.
    pub log_level: Option<String>,
    /// Their `LOG_FORMAT`.
    pub log_format: Option<String>,
    /// Where they find us.
    pub control_plane: String,
    /// The ConfigMap with the roots.
    pub trust_bundle: String,
    /// Our revision.
    pub revision: String,
    /// Our own namespace, in which the defaults of classes are.
    pub root_namespace: String,
    /// Trust domain of the mesh.
    pub trust_domain: String,
    /// DNS domain of the cluster.
    pub cluster_domain: String,
    /// The cluster.
    pub cluster_id: String,
}

impl Settings {
    /// Reads what the environment says; `mesh` is what is known already. `namespace` is our own. The revision and
    /// the bundle are left for whoever knows them.
    pub fn read(reader: &mut Reader<'_>, mesh: &crate::index::Mesh, namespace: &str) -> Self {
        let secrets = reader.optional(&PULL_SECRETS).unwrap_or_default();
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        Self {
            image: reader.optional(&IMAGE).unwrap_or_default(),
            pull_policy: pull_policy(reader),
            pull_secrets: secrets.split(',').map(str::trim).filter_map(named).collect(),
            log_level: reader.optional(&LOG_LEVEL),
            log_format: reader.optional(&LOG_FORMAT),
            control_plane: reader.optional(&CONTROL_PLANE).unwrap_or_else(|| format!("istiod.{namespace}.svc:15012")),
            trust_bundle: String::new(),
            revision: String::new(),
            root_namespace: namespace.to_owned(),
            trust_domain: mesh.trust_domain.to_string(),
            cluster_domain: mesh.domain.to_string(),
            cluster_id: mesh.cluster_id.to_string(),
        }
    }
}

/// An empty value counts as not set, as charts write it.
fn pull_policy(reader: &mut Reader<'_>) -> Option<String> {
    let said = reader.optional(&PULL_POLICY)?;
    if !["Always", "IfNotPresent", "Never"].contains(&&*said) {
        reader.mistake(PULL_POLICY.row.name, &said, "expected Always, IfNotPresent or Never");
    }
    Some(said)
}

/// Every key, for the documentation.
pub const KEYS: [Row; 6] =
    [IMAGE.row, PULL_POLICY.row, PULL_SECRETS.row, LOG_LEVEL.row, LOG_FORMAT.row, CONTROL_PLANE.row];
