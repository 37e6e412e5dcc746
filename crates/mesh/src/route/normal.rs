//! Request targets and hosts in the one form that everything else compares.
//!
//! Two spellings of one resource must not get two answers from a policy, so a target is
//! normalised before any rule or policy sees it, and the backend is sent the normalised one: what
//! was judged is what is asked. What has no safe normal form is refused (the caller answers 400).
//!
//! Queries are never changed. Parameters of a path (`;a=b`) are part of their element.

use std::borrow::Cow;

/// How far paths are normalised (MeshConfig `pathNormalization`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathNormalization {
    /// `NONE`: as they come.
    None,
    /// `BASE`: RFC 3986 §6.2.2 (upper-case escapes, unreserved characters decoded, dot segments
    /// removed), and `\` is `/`.
    Base,
    /// `MERGE_SLASHES`: also, several slashes are one. The default here, where Istio's is `BASE`:
    /// most backends read `//admin` as `/admin`, so a policy must too.
    #[default]
    MergeSlashes,
    /// `DECODE_AND_MERGE_SLASHES`: first, `%2F` and `%5C` are slashes.
    DecodeAndMergeSlashes,
}

/// A request target, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Its scheme, in absolute form.
    pub scheme: Option<&'static str>,
    /// Its authority, in absolute form, normalised.
    pub authority: Option<Cow<'a, str>>,
    /// Its path, normalised; `*` of `OPTIONS *`.
    pub path: Cow<'a, str>,
    /// What stands after the `?`, as it came.
    pub query: Option<&'a str>,
}

/// Why a target or a host is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// It is neither a path, nor `http://…` or `https://…`, nor the `*` of OPTIONS.
    #[error("the request target is neither a path nor an http or https URL")]
    Form,
    /// It has a control character, a space, or something outside ASCII.
    #[error("byte {0:#04x} may not stand in a request target")]
    Byte(u8),
    /// It has a NUL, percent-encoded.
    #[error("the path has an encoded NUL")]
    Nul,
    /// Dots between slashes that are percent-encoded, or before a `;`: whoever decodes the slashes, or
    /// drops what stands behind the `;`, would go to another path than the one that was judged.
    #[error("the path hides `.` or `..` behind an encoded slash or a parameter")]
    HiddenDots,
    /// A `%` without two hexadecimal digits.
    #[error("the path has a percent sign without two hexadecimal digits")]
    Escape,
    /// A fragment, which is never sent.
    #[error("the request target has a fragment")]
    Fragment,
    /// A host with a user.
    #[error("the host has user information")]
    User,
    /// A host that is none.
    #[error("the host is not a name or an address with an optional port")]
    Host,
}

/// Takes a request target apart and normalises it.
pub fn target<'a>(method: &str, target: &'a str, how: PathNormalization) -> Result<Target<'a>, BadTarget> {
    if let Some(byte) = target.bytes().find(|byte| !byte.is_ascii_graphic()) {
        return Err(BadTarget::Byte(byte));
    }
    if target.contains('#') {
        return Err(BadTarget::Fragment);
    }
    if target == "*" {
        let whole = Target { scheme: None, authority: None, path: target.into(), query: None };
        return if method == "OPTIONS" { Ok(whole) } else { Err(BadTarget::Form) };
    }
    let (scheme, host, rest) = match target.starts_with(['/', '?']) || target.is_empty() {
        true => (None, None, target),
        false => {
            let (scheme, rest) = absolute(target).ok_or(BadTarget::Form)?;
            let (host, rest) = rest.split_at(rest.find(['/', '?', '\\']).unwrap_or(rest.len()));
            (Some(scheme), Some(authority(host)?), rest)
        }
    };
    let (raw, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
    Ok(Target { scheme, authority: host, path: path(raw, how)?, query })
}

fn absolute(target: &str) -> Option<(&'static str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    let known = ["http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(scheme))?;
    Some((known, rest))
}

/// A path in its normal form.
pub fn path(raw: &str, how: PathNormalization) -> Result<Cow<'_, str>, BadTarget> {
    if raw.is_empty() {
        return Ok("/".into());
    }
    if is_plain(raw) {
        return Ok(raw.into());
    }
    if let Some(byte) = raw.bytes().find(|byte| !byte.is_ascii_graphic()) {
        return Err(BadTarget::Byte(byte));
    }
    let decoded = decoded(raw, how)?;
    if how == PathNormalization::None {
        return Ok(raw.into());
    }
    let flat = without_dots(&decoded);
    if hides_dots(&flat) {
        return Err(BadTarget::HiddenDots);
    }
    let merge = matches!(how, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes);
    Ok(if merge { merged(&flat) } else { flat }.into())
}

/// Whether nothing in a path can need a change: it begins with `/` and has neither escapes, nor
/// backslashes, nor `//`, nor an element that begins with a dot.
fn is_plain(path: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'%' && byte != b'\\';
    path.starts_with('/')
        && path.bytes().all(good)
        && path.as_bytes().windows(2).all(|pair| pair[0] != b'/' || !matches!(pair[1], b'/' | b'.'))
}

/// With escapes in upper case, and those of unreserved characters (and of slashes, if wanted) decoded.
fn decoded(raw: &str, how: PathNormalization) -> Result<String, BadTarget> {
    let (bytes, mut decoded, mut at) = (raw.as_bytes(), String::with_capacity(raw.len() + 1), 0);
    let slashes = how == PathNormalization::DecodeAndMergeSlashes;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte == b'\\' {
            decoded.push('/');
        } else if byte != b'%' {
            decoded.push(char::from(byte));
        } else {
            let meant = escaped(&bytes[at - 1..]).ok_or(BadTarget::Escape)?;
            at += 2;
            match meant {
                0 => return Err(BadTarget::Nul),
                b'/' | b'\\' if slashes => decoded.push('/'),
                _ if is_unreserved(meant) => decoded.push(char::from(meant)),
                _ => decoded.push_str(&format!("%{meant:02X}")),
            }
        }
    }
    if !decoded.starts_with('/') {
        decoded.insert(0, '/');
    }
    Ok(decoded)
}

/// The byte that `%XX` at the beginning stands for.
pub(super) fn escaped(at: &[u8]) -> Option<u8> {
    match at {
        [b'%', high, low, ..] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
        }
        _ => None,
    }
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §5.2.4: `.` goes, `..` takes its parent with it, and both leave the `/` before them.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut elements = path[1..].split('/').peekable();
    while let Some(element) = elements.next() {
        let last = elements.peek().is_none();
        match element {
            "." | ".." => {
                if element == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(element),
        }
    }
    format!("/{}", kept.join("/"))
}

/// Whether a reader who goes further than RFC 3986 would find dots to follow.
fn hides_dots(path: &str) -> bool {
    let elements = path.split('/').flat_map(|element| element.split("%2F")).flat_map(|part| part.split("%5C"));
    let mut names = elements.map(|element| element.split(';').next().unwrap_or_default());
    names.any(|name| matches!(name, "." | ".."))
}

fn merged(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

/// A host, with its port if it names one: in lower case, without the dot of the root.
pub fn authority(text: &str) -> Result<Cow<'_, str>, BadTarget> {
    if text.contains('@') {
        return Err(BadTarget::User);
    }
    let (host, port) = super::head::split_port(text);
    // A port has one spelling: no sign, and no zero in front.
    if port.is_some_and(|port| port.parse::<u16>().is_err() || port.starts_with(['0', '+'])) {
        return Err(BadTarget::Host);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let good = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok() && name.len() == host.len(),
        None => is_name(name),
    };
    if !good {
        return Err(BadTarget::Host);
    }
    if name.len() == host.len() && !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(text.into());
    }
    let mut normal = name.to_ascii_lowercase();
    if let Some(port) = port {
        normal.push(':');
        normal.push_str(port);
    }
    Ok(normal.into())
}

/// Names of hosts, and what people use as such; never an empty label.
fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    name.len() <= crate::limits::NAME_BYTES_MAX && name.bytes().all(legal) && !name.split('.').any(str::is_empty)
}

#[cfg(test)]
mod tests;
