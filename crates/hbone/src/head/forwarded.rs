//! Whom a sender says it speaks for: the `forwarded` header (RFC 7239), as far as the mesh uses it.
//! For attribution in logs and metrics only.

use super::Authority;
use mesh::Str;
use std::net::SocketAddr;

/// Bytes of the header that are read; ours is under 330.
const BYTES_MAX: usize = 1024;

/// `for="ip:port";host=name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// The client's own address.
    pub client: Option<SocketAddr>,
    /// The hostname of the service that the client asked for.
    pub host: Option<Str>,
}

impl Forwarded {
    /// Reads the first element; what cannot be read is absent, and nothing at all is none.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let mut forwarded = Self::default();
        // No value of ours has a comma or a semicolon inside its quotes, so they always separate.
        for pair in text.split(',').next()?.split(';') {
            let Some((key, value)) = pair.split_once('=') else { continue };
            let value = unquoted(value.trim());
            match key.trim() {
                key if key.eq_ignore_ascii_case("for") => forwarded.client = address(value),
                key if key.eq_ignore_ascii_case("host") => forwarded.host = host(value),
                _ => {}
            }
        }
        (forwarded != Self::default()).then_some(forwarded)
    }

    /// The header that says this.
    pub fn print(&self) -> Option<String> {
        match (&self.client, &self.host) {
            (Some(client), Some(host)) => Some(format!("for=\"{client}\";host={host}")),
            (Some(client), None) => Some(format!("for=\"{client}\"")),
            (None, Some(host)) => Some(format!("host={host}")),
            (None, None) => None,
        }
    }
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

fn address(value: &str) -> Option<SocketAddr> {
    match Authority::parse(value) {
        Ok(Authority::Address(address)) => Some(address),
        _ => None,
    }
}

/// A hostname as [`Authority`] takes it; it is judged with a port that nobody sees.
fn host(value: &str) -> Option<Str> {
    if value.contains(':') {
        return None;
    }
    match Authority::parse(&format!("{value}:1")) {
        Ok(Authority::Host { host, .. }) => Some(host),
        _ => None,
    }
}
