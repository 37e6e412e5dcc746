//! Which version of a kind a server has. Pure: the documents of its discovery come in.

use serde_json::Value;

/// Of the versions that we can read, best first, those that the group has.
pub(super) fn versions<'a>(group: &Value, readable: &[&'a str]) -> Vec<&'a str> {
    let has = |version: &&&str| {
        let all = group.get("versions").and_then(Value::as_array);
        all.is_some_and(|all| all.iter().any(|one| one.get("version").and_then(Value::as_str) == Some(version)))
    };
    readable.iter().filter(has).copied().collect()
}

/// Whether a version of a group has the kind of this plural name, and it can be watched.
pub(super) fn has(resources: &Value, plural: &str) -> bool {
    let all = resources.get("resources").and_then(Value::as_array);
    all.is_some_and(|all| all.iter().any(|one| one.get("name").and_then(Value::as_str) == Some(plural)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_best_version_that_is_served_comes_first() {
        let group = json!({"versions": [{"version": "v1beta1"}, {"version": "v1"}, {"version": "v2"}]});
        assert_eq!(versions(&group, &["v1", "v1beta1", "v1alpha1"]), ["v1", "v1beta1"]);
        assert_eq!(versions(&group, &["v1alpha1"]), [""; 0]);
        assert_eq!(versions(&json!({}), &["v1"]), [""; 0]);
        let resources = json!({"resources": [{"name": "pods/status"}, {"name": "pods"}]});
        assert!(has(&resources, "pods"));
        assert!(!has(&resources, "pod") && !has(&json!({}), "pods"));
    }
}
