//! How the API server comes to believe our certificate, and to rely on us: the `caBundle` and the
//! `failurePolicy` of the webhook's configuration. The decision is pure; `Registrar` carries it out.

#[cfg(feature = "kubernetes")]
mod register;

#[cfg(feature = "kubernetes")]
pub use register::Registrar;

use serde_json::{Value, json};

/// What becomes of an object when we cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// It is refused.
    Fail,
    /// It is stored.
    Ignore,
}

impl FailurePolicy {
    /// As Kubernetes spells it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Fail => "Fail",
            Self::Ignore => "Ignore",
        }
    }

    /// By its name.
    pub fn of(text: &str) -> Option<Self> {
        [Self::Fail, Self::Ignore].into_iter().find(|policy| policy.text() == text)
    }
}

/// The name of our webhook within a configuration, as Istio has it; others there are left alone.
fn is_ours(webhook: &Value) -> bool {
    webhook["name"].as_str().is_some_and(|name| name.ends_with("validation.istio.io"))
}

/// The patch that a configuration needs, if it needs one. `bundle` is in base64; `policy` is what failures should
/// mean, or `None` while it is not proven that we are reached.
pub fn patch(configuration: &Value, bundle: &str, policy: Option<FailurePolicy>) -> Option<Value> {
    let before = configuration["webhooks"].as_array()?;
    let mut webhooks = before.clone();
    for webhook in webhooks.iter_mut().filter(|webhook| is_ours(webhook)) {
        webhook["clientConfig"]["caBundle"] = json!(bundle);
        if let Some(policy) = policy {
            webhook["failurePolicy"] = json!(policy.text());
        }
    }
    if webhooks == *before {
        return None;
    }
    // A list is replaced whole, so it must be the one that we saw.
    let version = &configuration["metadata"]["resourceVersion"];
    Some(json!({ "metadata": { "resourceVersion": version }, "webhooks": webhooks }))
}

/// Whether the API server relies on us as it should.
pub fn relies(configuration: &Value, policy: FailurePolicy) -> bool {
    let ours = configuration["webhooks"].as_array().into_iter().flatten().filter(|webhook| is_ours(webhook));
    ours.into_iter().all(|webhook| webhook["failurePolicy"] == policy.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(bundle: Option<&str>, policy: &str) -> Value {
        json!({
            "metadata": {"resourceVersion": "7"},
            "webhooks": [
                {"name": "other.example.com", "failurePolicy": "Ignore", "clientConfig": {}},
                {"name": "rev.validation.istio.io", "failurePolicy": policy, "clientConfig": {"caBundle": bundle}},
            ],
        })
    }

    #[test]
    fn only_what_differs_is_patched_and_others_are_left_alone() {
        for (what, bundle, policy, proven, expected) in [
            ("no bundle yet", None, "Ignore", None, Some(("B", "Ignore"))),
            ("an old root", Some("A"), "Fail", None, Some(("B", "Fail"))),
            ("as it should be", Some("B"), "Ignore", None, None),
            ("proven", Some("B"), "Ignore", Some(FailurePolicy::Fail), Some(("B", "Fail"))),
            ("relied on", Some("B"), "Fail", Some(FailurePolicy::Fail), None),
            ("not to be relied on", Some("B"), "Fail", Some(FailurePolicy::Ignore), Some(("B", "Ignore"))),
        ] {
            let found = patch(&configuration(bundle, policy), "B", proven);
            let shown = found.as_ref().map(|patch| {
                assert_eq!(patch["metadata"]["resourceVersion"], "7", "{what}");
                assert_eq!(patch["webhooks"][0], configuration(None, "")["webhooks"][0], "{what}");
                let ours = &patch["webhooks"][1];
                (ours["clientConfig"]["caBundle"].as_str().unwrap_or(""), ours["failurePolicy"].as_str().unwrap_or(""))
            });
            assert_eq!(shown, expected, "{what}");
        }
    }

    #[test]
    fn it_relies_on_us_when_all_of_our_webhooks_say_so() {
        assert!(relies(&configuration(None, "Fail"), FailurePolicy::Fail));
        assert!(!relies(&configuration(None, "Ignore"), FailurePolicy::Fail));
        assert_eq!(FailurePolicy::of("Fail"), Some(FailurePolicy::Fail));
        assert_eq!(FailurePolicy::of("fail"), None);
    }
}
