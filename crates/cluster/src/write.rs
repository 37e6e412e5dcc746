//! The verbs, over untyped values. Each is one call; none tries again.

use crate::{
    CallError, Client, Resource,
    call::{JSON, asking, request},
    limits,
    resource::encode,
};
use serde_json::{Value, json};

/// Server-side apply takes YAML, of which JSON is a part.
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";

impl Client {
    /// One object.
    pub async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Value, CallError> {
        self.call(asking(&resource.path_of(namespace, name)?, JSON)?).await
    }

    /// Every object, or those of a namespace, that a label selector agrees to ("": all of them).
    pub async fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        labels: &str,
    ) -> Result<Vec<Value>, CallError> {
        let path = resource.path(namespace)?;
        let (mut items, mut next) = (Vec::new(), String::new());
        loop {
            let query = format!("limit={}&labelSelector={}&continue={}", limits::PAGE_OBJECTS, encode(labels), next);
            let mut page = self.call(asking(&format!("{path}?{query}"), JSON)?).await?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more.into_iter().map(|item| named(item, resource)));
            }
            match page.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(token) if !token.is_empty() => next = encode(token),
                _ => return Ok(items),
            }
        }
    }

    /// Makes an object that must not be there yet.
    pub async fn create(&self, resource: &Resource, object: &Value) -> Result<Value, CallError> {
        let resource = &in_version_of(resource, object);
        let path = resource.path(Some(place(object).0))?;
        self.call(request("POST", &path, JSON, body(object))?).await
    }

    /// Whether the server would take an object that is not there yet. It makes none.
    pub async fn would_create(&self, resource: &Resource, object: &Value) -> Result<Value, CallError> {
        let resource = &in_version_of(resource, object);
        let path = format!("{}?dryRun=All", resource.path(Some(place(object).0))?);
        self.call(request("POST", &path, JSON, body(object))?).await
    }

    /// Replaces an object. With a `metadata.resourceVersion` it must not have changed since.
    pub async fn replace(&self, resource: &Resource, object: &Value) -> Result<Value, CallError> {
        let (namespace, name) = place(object);
        let path = in_version_of(resource, object).path_of(namespace, name)?;
        self.call(request("PUT", &path, JSON, body(object))?).await
    }

    /// Server-side apply as `manager`: the fields of `object` are ours, those that we had and left out
    /// go. With `force` we take fields that others own; without, that is a conflict.
    pub async fn apply(
        &self,
        resource: &Resource,
        object: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, CallError> {
        self.apply_to(resource, "", object, manager, force).await
    }

    /// The same for the status of an object: `object` has `apiVersion`, `kind`, `metadata` and `status`.
    pub async fn apply_status(
        &self,
        resource: &Resource,
        object: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, CallError> {
        self.apply_to(resource, "/status", object, manager, force).await
    }

    async fn apply_to(
        &self,
        resource: &Resource,
        below: &str,
        object: &Value,
        manager: &str,
        force: bool,
    ) -> Result<Value, CallError> {
        let (namespace, name) = place(object);
        let resource = in_version_of(resource, object);
        let path = resource.path_of(namespace, name)?;
        let path = format!("{path}{below}?fieldManager={}&force={force}", encode(manager));
        let object = named(object.clone(), &resource);
        self.call(request("PATCH", &path, APPLY, body(&object))?).await
    }

    /// Lays `patch` over an object: maps are merged, `null` removes. `subresource` is `status` or "".
    pub async fn merge_patch(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Value,
    ) -> Result<Value, CallError> {
        let mut path = resource.path_of(namespace, name)?;
        if !subresource.is_empty() {
            path = format!("{path}/{subresource}");
        }
        self.call(request("PATCH", &path, MERGE, body(patch))?).await
    }

    /// Removes an object, and what it owns after it; with a `uid` only that one, not another of the same
    /// name. One that is gone already is no error.
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        uid: Option<&str>,
    ) -> Result<(), CallError> {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"});
        if let Some(uid) = uid {
            options["preconditions"] = json!({ "uid": uid });
        }
        let path = resource.path_of(namespace, name)?;
        match self.call(request("DELETE", &path, JSON, body(&options))?).await {
            Ok(_) | Err(CallError::NotFound(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The items of a list do not say what they are.
fn named(mut object: Value, resource: &Resource) -> Value {
    if let Value::Object(members) = &mut object {
        members.insert("apiVersion".into(), resource.api_version().into());
        members.insert("kind".into(), (&*resource.kind).into());
    }
    object
}

/// The resource in the version that the object is written in, if it is of that group.
fn in_version_of(resource: &Resource, object: &Value) -> Resource {
    let said = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let (group, version) = said.split_once('/').unwrap_or(("", said));
    if group == resource.group && !version.is_empty() { resource.at(version.to_owned()) } else { resource.clone() }
}

fn place(object: &Value) -> (&str, &str) {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    (text("/metadata/namespace"), text("/metadata/name"))
}

fn body(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource;

    #[test]
    fn an_object_is_written_in_its_own_version() {
        for (said, want) in [
            ("gateway.networking.k8s.io/v1beta1", "gateway.networking.k8s.io/v1beta1"),
            ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1"),
            ("other.io/v9", "gateway.networking.k8s.io/v1"),
            ("", "gateway.networking.k8s.io/v1"),
        ] {
            assert_eq!(in_version_of(&resource::GATEWAY, &json!({ "apiVersion": said })).api_version(), want);
        }
        assert_eq!(in_version_of(&resource::POD, &json!({"apiVersion": "v1"})).api_version(), "v1");
    }
}
