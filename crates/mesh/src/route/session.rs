//! Sessions: which endpoint a request comes back to.
//!
//! The value is the uid of an endpoint, as base64url. It is not signed: somebody who makes one up
//! reaches an endpoint that balancing could have given them as well, and no other.

use super::{
    head::Head,
    http::{Session, SessionCarrier},
};
use crate::limits;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// The value for an endpoint.
pub fn encode(uid: &str) -> String {
    URL_SAFE_NO_PAD.encode(uid)
}

/// The uid in a value; none if it is none of ours.
pub fn decode(value: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(value).ok().filter(|_| value.len() <= limits::SESSION_BYTES_MAX)?;
    String::from_utf8(bytes).ok().filter(|uid| !uid.is_empty())
}

impl Session {
    /// The uid of the endpoint that a request comes back to. Whether there still is such an
    /// endpoint is for the caller to see; if not, it is a new session.
    pub fn asked(&self, head: &Head<'_>) -> Option<String> {
        match self.carrier {
            SessionCarrier::Header => head.header(&self.name).and_then(|value| decode(&value)),
            SessionCarrier::SessionCookie | SessionCarrier::PermanentCookie => head.cookie(&self.name).and_then(decode),
        }
    }

    /// The header of the response that begins a session at an endpoint: its name and value.
    pub fn begun(&self, uid: &str) -> (&str, String) {
        let value = encode(uid);
        let cookie = |life: &str| format!("{}={value}; Path=/{life}; HttpOnly", self.name);
        match self.carrier {
            SessionCarrier::Header => (&self.name, value),
            SessionCarrier::SessionCookie => ("set-cookie", cookie("")),
            SessionCarrier::PermanentCookie => match self.absolute_timeout {
                Some(life) => ("set-cookie", cookie(&format!("; Max-Age={}", life.as_secs()))),
                None => ("set-cookie", cookie("")),
            },
        }
    }
}

#[cfg(test)]
mod tests;
