//! The target of a CONNECT: `address:port` or `hostname:port`, and nothing else.
//!
//! Strict, because whoever judges the target and whoever dials it must see the same thing: one
//! spelling for each address (no IPv4 in IPv6 clothes, no zones, no octal or short forms), no
//! user, no trailing dot, a port always.

use http::uri;
use mesh::Str;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Where a tunnel leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// An address of a pod or a service. An IPv4 address is never in its IPv6-mapped form.
    Address(SocketAddr),
    /// A service by name, in lower case.
    Host {
        /// Its hostname.
        host: Str,
        /// The service's port.
        port: u16,
    },
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// There is something before an `@`.
    #[error("{0:?} names a user, which no tunnel has")]
    User(String),
    /// No port, port 0, or not a plain decimal number.
    #[error("{0:?} has no port between 1 and 65535")]
    Port(String),
    /// Neither an address nor a hostname.
    #[error("{0:?} is neither an IP address nor a hostname in its plain form")]
    Host(String),
}

impl Authority {
    /// An address, in the one spelling it has here.
    pub fn address(ip: IpAddr, port: u16) -> Self {
        Self::Address(SocketAddr::new(ip.to_canonical(), port))
    }

    /// Reads `1.2.3.4:80`, `[::1]:80` or `host.name:80`.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        if text.contains('@') {
            return Err(AuthorityError::User(clipped(text)));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| AuthorityError::Port(clipped(text)))?;
        let port = port_number(port).ok_or_else(|| AuthorityError::Port(clipped(text)))?;
        if let Some(inner) = host.strip_prefix('[') {
            let ip = inner.strip_suffix(']').and_then(|ip| ip.parse::<Ipv6Addr>().ok());
            return ip.map(|ip| Self::address(ip.into(), port)).ok_or_else(|| AuthorityError::Host(clipped(text)));
        }
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return Ok(Self::address(ip.into(), port));
        }
        let host = hostname(host).ok_or_else(|| AuthorityError::Host(clipped(text)))?;
        Ok(Self::Host { host, port })
    }

    /// The port asked for.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Host { port, .. } => *port,
        }
    }

    /// As HTTP wants it.
    pub(super) fn to_http(&self) -> uri::Authority {
        self.to_string().parse().expect("an address or a checked hostname with a port is an authority")
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// A port in its only spelling: `str::parse` alone would also take `+80` and `0080`.
fn port_number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

/// A hostname in lower case: letters, digits, hyphens, underscores; labels of 1 to 63, 253 in all.
///
/// A last label that is a number is refused: `127.1`, `0x7f.1` and `2130706433` are addresses to
/// some readers.
fn hostname(text: &str) -> Option<Str> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let text = text.to_ascii_lowercase();
    let last = text.rsplit('.').next()?;
    let number = match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => last.bytes().all(|b| b.is_ascii_digit()),
    };
    let good = text.len() <= mesh::limits::NAME_BYTES_MAX && text.split('.').all(label) && !number;
    good.then(|| text.into())
}

/// What an error may repeat of a stranger's text.
fn clipped(text: &str) -> String {
    text.chars().take(80).collect()
}
