//! The same policies as the YAML that a user would apply.

use super::{Fields, Pod, Policy, Rule};
use std::collections::BTreeMap;

impl Policy {
    /// This policy as a manifest, beginning with a document marker.
    pub fn manifest(&self) -> String {
        let Self { namespace, name, action, .. } = self;
        let annotations = if self.dry_run { ", annotations: {istio.io/dry-run: 'true'}" } else { "" };
        let selector = match self.selector.is_empty() {
            true => String::new(),
            false => format!("  selector: {{matchLabels: {}}}\n", map(&self.selector)),
        };
        let rules: Vec<String> = self.rules.iter().map(rule).collect();
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: {name}, namespace: {namespace}{annotations}}}\n\
             spec:\n  action: {action}\n{selector}  rules: [{}]\n",
            rules.join(", ")
        )
    }
}

impl Pod {
    /// This pod as a manifest, running, beginning with a document marker.
    pub fn manifest(&self) -> String {
        let Self { namespace, name, address, .. } = self;
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {}}}\n\
             status: {{phase: Running, podIP: '{address}'}}\n",
            map(&self.labels)
        )
    }
}

fn rule(rule: &Rule) -> String {
    let mut parts = Vec::new();
    for (name, inner, entries) in [("from", "source", &rule.from), ("to", "operation", &rule.to)] {
        let entries: Vec<String> = entries.iter().map(|entry| format!("{{{inner}: {}}}", fields(entry))).collect();
        if !entries.is_empty() {
            parts.push(format!("{name}: [{}]", entries.join(", ")));
        }
    }
    let when: Vec<String> = rule
        .when
        .iter()
        .map(|condition| {
            let mut parts = vec![format!("key: '{}'", condition.key)];
            for (name, values) in [("values", &condition.values), ("notValues", &condition.not_values)] {
                if !values.is_empty() {
                    parts.push(format!("{name}: {}", list(values)));
                }
            }
            format!("{{{}}}", parts.join(", "))
        })
        .collect();
    if !when.is_empty() {
        parts.push(format!("when: [{}]", when.join(", ")));
    }
    format!("{{{}}}", parts.join(", "))
}

fn fields(fields: &Fields) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, values)| format!("{name}: {}", list(values))).collect();
    format!("{{{}}}", fields.join(", "))
}

fn list(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("'{value}'")).collect();
    format!("[{}]", quoted.join(", "))
}

fn map(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: '{value}'")).collect();
    format!("{{{}}}", pairs.join(", "))
}
