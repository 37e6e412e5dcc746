//! What the played server lets its one caller do, by the rules of roles.

use super::answer::Target;
use hyper::Method;
use serde_json::Value;

/// Rules of a role, and the namespace that they hold in; none: in all.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) namespace: Option<String>,
    pub(super) rules: Vec<Value>,
}

/// A request, in the words of roles.
#[derive(Debug)]
pub(super) struct Attributes {
    verb: &'static str,
    group: String,
    resource: String,
    namespace: String,
    name: String,
}

impl Attributes {
    /// `fields` is the field selector: one for a name is a question for that name.
    pub(super) fn of(method: &Method, path: &str, target: &Target, watch: bool, fields: &str) -> Self {
        let verb = match (method.as_str(), target.name.is_empty()) {
            ("GET", true) if watch => "watch",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", false) => "delete",
            _ => "deletecollection",
        };
        let mut kind = target.kind.trim_start_matches('/').split('/');
        let group = if kind.next() == Some("apis") { kind.next().unwrap_or_default() } else { "" };
        let plural = target.kind.rsplit('/').next().unwrap_or_default();
        let sub = path.ends_with("/status") && !target.name.is_empty() && target.name != "status";
        let name = fields.strip_prefix("metadata.name=").filter(|_| target.name.is_empty());
        Self {
            verb,
            group: group.to_owned(),
            resource: if sub { format!("{plural}/status") } else { plural.to_owned() },
            namespace: target.namespace.clone(),
            name: name.unwrap_or(&target.name).to_owned(),
        }
    }
}

impl Granted {
    pub(super) fn allows(&self, asked: &Attributes) -> bool {
        let holds = |rule: &Value, field: &str, wanted: &str| {
            rule[field].as_array().is_some_and(|all| all.iter().any(|one| one == wanted || one == "*"))
        };
        self.namespace.as_ref().is_none_or(|namespace| *namespace == asked.namespace)
            && self.rules.iter().any(|rule| {
                holds(rule, "apiGroups", &asked.group)
                    && holds(rule, "resources", &asked.resource)
                    && holds(rule, "verbs", asked.verb)
                    && (rule["resourceNames"].is_null() || holds(rule, "resourceNames", &asked.name))
            })
    }
}
