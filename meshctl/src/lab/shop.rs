//! The sample shop: what `meshctl lab` runs when it is given nothing else.

/// Its manifests.
pub(crate) const MANIFESTS: &str = include_str!("shop.yaml");
