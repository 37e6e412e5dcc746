//! What a mesh says to all of its proxies at once: Istio's ProxyConfig, as a file and as a variable.
//!
//! It becomes settings below those of the environment, so that whoever reads settings needs to know of
//! nothing else. What it says that no proxy of this kind heeds is passed over, as Istio does.

use std::collections::BTreeMap;

use chassis::env::Strings;
use chassis::objects;
use serde_json::{Map, Value};

use super::keys::{ADMIN_PORT, PROXY_CONFIG, STATS_PORT, XDS_ADDRESS, ZTUNNEL_WORKER_THREADS};

/// Where the mesh's configuration is mounted.
pub const MESH_FILE: &str = "./etc/istio/config/mesh";

/// What a proxy says of itself to the control plane begins with this as a variable.
pub(super) const METADATA: &str = "ISTIO_META_";

/// The environment, and below it what the mesh says.
pub struct Layered<'a> {
    above: &'a dyn Strings,
    below: BTreeMap<String, String>,
}

/// Why what the mesh says cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct ProxyConfigError {
    /// The file or the variable, and the field.
    place: String,
    /// What was expected there.
    reason: String,
}

impl<'a> Layered<'a> {
    /// `environment` over its own PROXY_CONFIG over the text of the mesh's file, if there is one.
    pub fn new(environment: &'a dyn Strings, mesh_file: Option<&str>) -> Result<Self, ProxyConfigError> {
        let mut below = BTreeMap::new();
        if let Some(text) = mesh_file
            && let Some(default) = mapping(MESH_FILE, text)?.get("defaultConfig").filter(|value| !value.is_null())
        {
            let place = format!("defaultConfig of {MESH_FILE}");
            let config = default.as_object().ok_or_else(|| wrong(&place, "expected a mapping"))?;
            lay(&mut below, &place, config)?;
        }
        let name = PROXY_CONFIG.row.name;
        if let Some(text) = environment.value(name).filter(|text| !text.trim().is_empty()) {
            lay(&mut below, name, &mapping(name, &text)?)?;
        }
        Ok(Self { above: environment, below })
    }
}

impl Strings for Layered<'_> {
    fn value(&self, name: &str) -> Option<String> {
        // Set to nothing counts as not set.
        self.above.value(name).filter(|text| !text.is_empty()).or_else(|| self.below.get(name).cloned())
    }

    fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        let mut all: BTreeMap<String, String> = self.below.with_prefix(prefix).into_iter().collect();
        all.extend(self.above.with_prefix(prefix));
        all.into_iter().collect()
    }
}

fn mapping(place: &str, text: &str) -> Result<Map<String, Value>, ProxyConfigError> {
    match objects::value(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(Value::Null) => Ok(Map::new()),
        Ok(_) => Err(wrong(place, "expected a mapping")),
        Err((line, reason)) => Err(wrong(&format!("{place}, line {line}"), &reason)),
    }
}

/// Lays one ProxyConfig over what is there.
fn lay(below: &mut BTreeMap<String, String>, place: &str, config: &Map<String, Value>) -> Result<(), ProxyConfigError> {
    for (field, name) in [
        ("discoveryAddress", XDS_ADDRESS.row.name),
        ("concurrency", ZTUNNEL_WORKER_THREADS.row.name),
        ("proxyAdminPort", ADMIN_PORT.row.name),
        ("statusPort", STATS_PORT.row.name),
    ] {
        if let Some(value) = config.get(field).filter(|value| !value.is_null()) {
            below.insert(name.to_owned(), scalar(&format!("{place}: {field}"), value)?);
        }
    }
    let Some(metadata) = config.get("proxyMetadata").filter(|value| !value.is_null()) else { return Ok(()) };
    let place = format!("{place}: proxyMetadata");
    for (name, value) in metadata.as_object().ok_or_else(|| wrong(&place, "expected a mapping"))? {
        let value = scalar(&format!("{place}.{name}"), value)?;
        let name = if name.starts_with(METADATA) { name.clone() } else { format!("{METADATA}{name}") };
        below.insert(name, value);
    }
    Ok(())
}

fn scalar(place: &str, value: &Value) -> Result<String, ProxyConfigError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(flag) => Ok(flag.to_string()),
        _ => Err(wrong(place, "expected a text or a number")),
    }
}

fn wrong(place: &str, reason: &str) -> ProxyConfigError {
    ProxyConfigError { place: place.into(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const MESH: &str = "
trustDomain: mesh
defaultConfig:
  discoveryAddress: istiod.mesh:15012
  concurrency: 3
  statusPort: 15888
  tracing: {}
  proxyMetadata:
    ISTIO_META_DNS_CAPTURE: \"false\"
    ISTIO_META_A: file
    B: file
";

    #[test]
    fn the_environment_stands_over_the_variable_and_that_over_the_file() {
        let above = environment(&[
            ("PROXY_CONFIG", "{discoveryAddress: 'istiod.variable:15012', proxyMetadata: {ISTIO_META_A: variable}}"),
            ("ISTIO_META_C", "environment"),
            ("ISTIO_META_B", ""),
        ]);
        let layered = Layered::new(&above, Some(MESH)).expect("nothing is wrong");
        for (name, expected) in [
            ("XDS_ADDRESS", Some("istiod.variable:15012")),
            ("ZTUNNEL_WORKER_THREADS", Some("3")),
            ("STATS_PORT", Some("15888")),
            ("ADMIN_PORT", None),
            ("ISTIO_META_DNS_CAPTURE", Some("false")),
            ("ISTIO_META_A", Some("variable")),
            ("ISTIO_META_B", Some("file")),
            ("ISTIO_META_C", Some("environment")),
        ] {
            assert_eq!(layered.value(name).as_deref(), expected, "{name}");
        }
        let set = environment(&[("XDS_ADDRESS", "istiod.environment:15012")]);
        let layered = Layered::new(&set, Some(MESH)).expect("nothing is wrong");
        assert_eq!(layered.value("XDS_ADDRESS").as_deref(), Some("istiod.environment:15012"));
    }

    #[test]
    fn a_mesh_that_says_nothing_is_no_mistake() {
        for text in [None, Some(""), Some("trustDomain: a"), Some("defaultConfig:")] {
            assert!(Layered::new(&environment(&[]), text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_with_its_place() {
        for (file, variable, expected) in [
            ("defaultConfig: 3", "", "defaultConfig of ./etc/istio/config/mesh: expected a mapping"),
            ("- a", "", "mesh: expected a mapping"),
            ("a: [", "", "mesh, line"),
            ("", "{concurrency: [1]}", "PROXY_CONFIG: concurrency: expected a text or a number"),
            ("", "proxyMetadata: {A: {}}", "PROXY_CONFIG: proxyMetadata.A: expected"),
            ("", "proxyMetadata: A", "PROXY_CONFIG: proxyMetadata: expected a mapping"),
        ] {
            let error = Layered::new(&environment(&[("PROXY_CONFIG", variable)]), Some(file)).err();
            let text = error.expect("it is wrong").to_string();
            assert!(text.contains(expected), "{text} lacks {expected}");
        }
    }
}
