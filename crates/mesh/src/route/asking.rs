//! Requests for tests, from a line of text.

use super::head::Head;
use crate::Identity;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use std::net::IpAddr;

/// What a [`Head`] borrows from.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    port: u16,
    caller: Option<Identity>,
    address: IpAddr,
    claims: Option<Value>,
}

impl Asking {
    /// `METHOD path[?query]`, then in any order `host=`, `port=`, `from=` (a principal), `ip=`, and
    /// headers as `name:value`, in which `_` stands for a space.
    pub(crate) fn of(text: &str) -> Self {
        let mut words = text.split_whitespace();
        let (method, target) = (words.next().unwrap_or("GET"), words.next().unwrap_or("/"));
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let mut asking = Self {
            method: method.into(),
            authority: "shop.example".into(),
            path: path.into(),
            query: query.map(Into::into),
            headers: HeaderMap::new(),
            port: 80,
            caller: None,
            address: "10.0.0.1".parse().expect("an address"),
            claims: None,
        };
        for word in words {
            match word.split_once(['=', ':']) {
                Some(("host", host)) if word.starts_with("host=") => asking.authority = host.into(),
                Some(("port", port)) => asking.port = port.parse().expect("a port"),
                Some(("from", from)) => asking.caller = Some(format!("spiffe://{from}").parse().expect("a principal")),
                Some(("ip", ip)) => asking.address = ip.parse().expect("an address"),
                Some((name, value)) => {
                    let name: HeaderName = name.parse().expect("a name of a header");
                    let value = HeaderValue::from_str(&value.replace('_', " ")).expect("a value of a header");
                    asking.headers.append(name, value);
                }
                None => panic!("{word:?} says nothing of a request"),
            }
        }
        asking
    }

    /// With the claims of a token.
    pub(crate) fn claims(mut self, json: &str) -> Self {
        self.claims = (!json.is_empty()).then(|| serde_json::from_str(json).expect("good JSON"));
        self
    }

    pub(crate) fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            scheme: "http",
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            port: self.port,
            caller: self.caller.as_ref(),
            caller_address: self.address,
            remote_address: self.address,
            claims: self.claims.as_ref(),
        }
    }
}
