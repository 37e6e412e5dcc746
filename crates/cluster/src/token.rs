//! Whose token is it? Asked of the API server, which alone can say. It keeps nothing.

use crate::{
    CallError, Client,
    call::{JSON, request},
};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// What the API server says of a token that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct User {
    /// `system:serviceaccount:<namespace>:<name>`, or another name.
    pub username: String,
    /// Uid of the account.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// More, by name: `authentication.kubernetes.io/pod-name` and the like.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a review says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Review {
    /// The token holds, for at least one of the audiences.
    Holds(User),
    /// It does not, and why.
    Refused(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
    error: String,
}

impl Client {
    /// Asks whether a token holds for one of `audiences`.
    pub async fn review_token(&self, token: &str, audiences: &[String]) -> Result<Review, CallError> {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": audiences },
        });
        let body = review.to_string().into_bytes();
        let mut answer = self.call(request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", JSON, body)?).await?;
        let status = answer.get_mut("status").map(serde_json::Value::take).unwrap_or_default();
        let status = serde_json::from_value(status).map_err(|e| CallError::Unusable(e.to_string()))?;
        Ok(verdict(status, audiences))
    }
}

fn verdict(status: Status, audiences: &[String]) -> Review {
    if !status.authenticated {
        let reason = if status.error.is_empty() { "it does not hold".into() } else { status.error };
        return Review::Refused(reason);
    }
    // A server that knows nothing of audiences answers without them, and its word is about another question.
    if !status.audiences.iter().any(|audience| audiences.contains(audience)) {
        return Review::Refused("it is for another audience".into());
    }
    Review::Holds(status.user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_token_for_our_audience_holds() {
        let audiences = ["istio-ca".to_owned()];
        let status = |json| serde_json::from_value::<Status>(json).expect("a status");
        let user = User { username: "u".into(), ..User::default() };
        for (said, want) in [
            (json!({"authenticated": true, "audiences": ["istio-ca"], "user": {"username": "u"}}), Some(&user)),
            (json!({"authenticated": true, "audiences": ["x", "istio-ca"], "user": {"username": "u"}}), Some(&user)),
            (json!({"authenticated": true, "audiences": ["x"], "user": {"username": "u"}}), None),
            (json!({"authenticated": true, "user": {"username": "u"}}), None),
            (json!({"authenticated": false, "audiences": ["istio-ca"], "user": {"username": "u"}}), None),
            (json!({"error": "expired"}), None),
            (json!({}), None),
        ] {
            let got = match verdict(status(said.clone()), &audiences) {
                Review::Holds(user) => Some(user),
                Review::Refused(_) => None,
            };
            assert_eq!(got.as_ref(), want, "{said}");
        }
    }
}
