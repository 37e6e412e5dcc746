//! An `AdmissionReview`: what the API server asks, and what it is answered. Pure: bytes in, JSON out.

use super::verdict::{self, Verdict};
use chassis::objects::{Object, Origin};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc};

/// Most warnings that are told, and how long each may be: Kubernetes cuts what is beyond 4 KiB in all.
const WARNINGS_MAX: usize = 12;
const WARNING_CHARS_MAX: usize = 250;
/// Longest reason of a refusal, so that a terminal can show it.
const MESSAGE_CHARS_MAX: usize = 4000;

/// Why something is no review.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// It is no JSON.
    #[error("the body is no JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// It is something else.
    #[error("the body is no AdmissionReview of admission.k8s.io with a request and its uid")]
    NotAReview,
}

/// Answers a review.
pub fn answer(body: &[u8]) -> Result<Value, ReviewError> {
    let review: Value = serde_json::from_slice(body)?;
    let request = &review["request"];
    let version = review["apiVersion"].as_str().unwrap_or_default();
    let known = matches!(version, "admission.k8s.io/v1" | "admission.k8s.io/v1beta1");
    let Some(uid) = request["uid"].as_str().filter(|_| known && review["kind"] == "AdmissionReview") else {
        return Err(ReviewError::NotAReview);
    };
    let verdict = judge(request);
    let mut response = json!({ "uid": uid, "allowed": verdict.refused.is_empty() });
    if !verdict.refused.is_empty() {
        let message = cut(&verdict.refused.join("; "), MESSAGE_CHARS_MAX);
        response["status"] = json!({ "code": 400, "reason": "Invalid", "status": "Failure", "message": message });
    }
    if !verdict.warnings.is_empty() {
        let warnings = verdict.warnings.iter().take(WARNINGS_MAX).map(|text| cut(text, WARNING_CHARS_MAX));
        response["warnings"] = warnings.map(Value::from).collect();
    }
    Ok(json!({ "apiVersion": version, "kind": "AdmissionReview", "response": response }))
}

fn judge(request: &Value) -> Verdict {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let changes = matches!(request["operation"].as_str(), Some("CREATE" | "UPDATE"));
    let part = request["subResource"].as_str().is_some_and(|part| !part.is_empty());
    let value = &request["object"];
    if !changes || part || !value.is_object() {
        return Verdict::default();
    }
    let name = [&value["metadata"]["name"], &request["name"], &value["metadata"]["generateName"]]
        .map(text)
        .into_iter()
        .find(|name| !name.is_empty());
    let object = Object {
        api_version: text(&value["apiVersion"]),
        kind: text(&value["kind"]),
        namespace: text(&request["namespace"]),
        // The server makes one up after it asked us.
        name: name.unwrap_or_default().trim_end_matches('-').to_owned(),
        value: value.clone(),
        origin: Origin { file: Arc::from(Path::new("review")), line: 0 },
    };
    let before = &request["oldObject"];
    verdict::judge(&object, before.is_object().then_some(before))
}

fn cut(text: &str, chars: usize) -> String {
    text.chars().take(chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn review(version: &str, operation: &str, spec: Value) -> Vec<u8> {
        json!({
            "apiVersion": version, "kind": "AdmissionReview",
            "request": {
                "uid": "u-1", "operation": operation, "namespace": "shop",
                "object": {
                    "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                    "metadata": {"generateName": "p-"}, "spec": spec,
                },
            },
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn a_review_is_answered_in_its_own_version() {
        let bad = json!({"rules": [{"from": [{"source": {"ipBlocks": ["x"]}}]}]});
        for (version, operation, spec, allowed) in [
            ("admission.k8s.io/v1", "CREATE", json!({}), true),
            ("admission.k8s.io/v1", "CREATE", bad.clone(), false),
            ("admission.k8s.io/v1beta1", "UPDATE", bad.clone(), false),
            ("admission.k8s.io/v1", "DELETE", bad.clone(), true),
            ("admission.k8s.io/v1", "CONNECT", bad, true),
        ] {
            let answer = answer(&review(version, operation, spec)).expect("a review");
            assert_eq!((&answer["apiVersion"], &answer["kind"]), (&json!(version), &json!("AdmissionReview")));
            assert_eq!((&answer["response"]["uid"], &answer["response"]["allowed"]), (&json!("u-1"), &json!(allowed)));
            let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
            assert_eq!(message.starts_with("spec.rules[0].from[0].source.ipBlocks[0]: "), !allowed, "{message}");
        }
    }

    #[test]
    fn what_is_no_review_is_said_to_be_none() {
        for body in ["", "[", "{}", r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#] {
            assert!(answer(body.as_bytes()).is_err(), "{body:?}");
        }
        assert!(answer(&review("admission.k8s.io/v2", "CREATE", json!({}))).is_err());
    }
}
