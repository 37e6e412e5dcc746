//! Whom the configuration of the mesh names: authorizers, collectors.

use crate::{
    facts::{FactKey, Kind, MeshConfig, Provider},
    index::Index,
};

/// The object that the configuration of the mesh is.
pub(super) fn config_key(index: &Index) -> FactKey {
    FactKey { kind: Kind::ConfigMap, namespace: index.mesh.root_namespace.clone(), name: "istio".into() }
}

/// The configuration of the mesh, if there is one.
pub(super) fn config(index: &Index) -> Option<&MeshConfig> {
    let key = config_key(index);
    index.told.mesh_configs.get(&(key.namespace, key.name))
}

/// Somebody by name.
pub(super) fn find<'a>(index: &'a Index, name: &str) -> Option<&'a Provider> {
    config(index)?.providers.get(name)
}
