//! The text of one CNI configuration: our plugin put in and taken out. Pure.
//!
//! Everything else in it stays as it was, in its order, what we do not know included.

use super::json::Json;

/// Name and type of our plugin, and of its program.
pub const PLUGIN: &str = "istio-cni";

/// What our plugin is told in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plugin {
    /// Directory of the agent's socket.
    pub run_dir: String,
    /// Namespaces whose pods start without the agent.
    pub excluded_namespaces: Vec<String>,
    /// Namespace of the agent.
    pub agent_namespace: String,
    /// How the names of the agent's own pods begin; empty if they use the host's network.
    pub agent_pods: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfError {
    /// It is no JSON.
    #[error("it is no JSON: {0}")]
    Json(String),
    /// It is no configuration of a network.
    #[error("it has neither `plugins` nor a `type`, so it is no network configuration")]
    NoPlugins,
    /// Our plugin needs what this version does not have.
    #[error("its cniVersion is {0:?}, and istio-cni can follow 0.3.0 or later only: raise it in the file")]
    Version(String),
}

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Conf {
    json: Json,
}

impl Conf {
    /// Reads a list (`.conflist`) or a single plugin (`.conf`), which becomes a list of one.
    pub fn read(text: &str) -> Result<Self, ConfError> {
        let json: Json = serde_json::from_str(text).map_err(|error| ConfError::Json(error.to_string()))?;
        let version = json.text("cniVersion").unwrap_or_default();
        if !has_results_of_today(version) {
            return Err(ConfError::Version(version.to_owned()));
        }
        let single = json.text("type").is_some();
        match json.list("plugins") {
            Some(plugins) if !plugins.is_empty() => Ok(Self { json }),
            Some(_) => Err(ConfError::NoPlugins),
            None if single => Ok(Self { json: list_of(json) }),
            None => Err(ConfError::NoPlugins),
        }
    }

    /// With our plugin: in its place if it is there, else last.
    #[must_use]
    pub fn with(mut self, plugin: &Plugin) -> Self {
        let ours = plugin.json();
        if let Some(plugins) = self.json.list_mut("plugins") {
            match plugins.iter_mut().find(|plugin| is_ours(plugin)) {
                Some(place) => *place = ours,
                None => plugins.push(ours),
            }
        }
        self
    }

    /// Without our plugin.
    #[must_use]
    pub fn without(mut self) -> Self {
        if let Some(plugins) = self.json.list_mut("plugins") {
            plugins.retain(|plugin| !is_ours(plugin));
        }
        self
    }

    /// Whether our plugin is in it, however it is told.
    pub fn has_ours(&self) -> bool {
        self.plugins().iter().any(is_ours)
    }

    /// Whether somebody else's plugin is in it.
    pub fn has_others(&self) -> bool {
        self.plugins().iter().any(|plugin| !is_ours(plugin))
    }

    fn plugins(&self) -> &[Json] {
        self.json.list("plugins").unwrap_or_default()
    }

    /// As text.
    pub fn text(&self) -> String {
        // Maps with text keys and plain values can always be written.
        serde_json::to_string_pretty(&self.json).unwrap_or_default() + "\n"
    }
}

impl Plugin {
    fn json(&self) -> Json {
        let namespaces = self.excluded_namespaces.iter().map(|name| Json::from(name.as_str())).collect();
        let members = [
            ("name", Json::from(PLUGIN)),
            ("type", Json::from(PLUGIN)),
            ("ambient_enabled", Json::Plain(true.into())),
            ("cni_agent_run_dir", Json::from(self.run_dir.as_str())),
            ("exclude_namespaces", Json::List(namespaces)),
            ("pod_namespace", Json::from(self.agent_namespace.as_str())),
            ("agent_pod_prefix", Json::from(self.agent_pods.as_str())),
        ];
        Json::Members(members.map(|(key, value)| (key.to_owned(), value)).to_vec())
    }
}

fn is_ours(plugin: &Json) -> bool {
    plugin.text("type") == Some(PLUGIN)
}

/// Results have lists of addresses since 0.3.0; our plugin reads those.
fn has_results_of_today(version: &str) -> bool {
    let mut parts = version.split('.').map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (0, 3))
}

/// The list that a single plugin stands for.
fn list_of(plugin: Json) -> Json {
    let of = |name: &str| plugin.member(name).cloned().map(|value| (name.to_owned(), value));
    let head = [of("cniVersion"), of("name")].into_iter().flatten();
    Json::Members(head.chain([("plugins".to_owned(), Json::List(vec![plugin.clone()]))]).collect())
}

#[cfg(test)]
mod tests;
