//! Sessions: which endpoint a request comes back to.
//!
//! The value is the uid of an endpoint, as base64url; where a session ends at some time, when it began
//! stands before it. It is not signed: somebody who makes one up reaches an endpoint that balancing could
//! have given them as well, and no other.

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

/// What a beginning in the future is forgiven: clocks of replicas differ.
const CLOCK_SKEW: u64 = 60;

impl Session {
    /// The uid of the endpoint that a request comes back to, at this time (seconds since 1970). Whether
    /// there still is such an endpoint is for the caller to see; if not, it is a new session.
    pub fn asked(&self, head: &Head<'_>, now: u64) -> Option<String> {
        let said = match self.carrier {
            SessionCarrier::Header => head.header(&self.name).and_then(|value| decode(&value)),
            SessionCarrier::SessionCookie | SessionCarrier::PermanentCookie => head.cookie(&self.name).and_then(decode),
        }?;
        let Some(life) = self.life() else { return Some(said) };
        let (began, uid) = said.split_once('@')?;
        let began: u64 = began.parse().ok()?;
        (now < began.saturating_add(life) && began <= now.saturating_add(CLOCK_SKEW)).then(|| uid.to_owned())
    }

    /// For how many seconds a session lives, whatever is done; none: for ever.
    fn life(&self) -> Option<u64> {
        self.absolute_timeout.filter(|life| !life.is_zero()).map(|life| life.as_secs().max(1))
    }

    /// The header of the response that begins a session at an endpoint at this time: its name and value.
    pub fn begun(&self, uid: &str, now: u64) -> (&str, String) {
        let value = match self.life() {
            Some(_) => encode(&format!("{now}@{uid}")),
            None => encode(uid),
        };
        let cookie = |life: &str| format!("{}={value}; Path=/{life}; HttpOnly", self.name);
        match self.carrier {
            SessionCarrier::Header => (&self.name, value),
            SessionCarrier::SessionCookie => ("set-cookie", cookie("")),
            SessionCarrier::PermanentCookie => match self.life() {
                Some(life) => ("set-cookie", cookie(&format!("; Max-Age={life}"))),
                None => ("set-cookie", cookie("")),
            },
        }
    }
}

#[cfg(test)]
mod tests;
