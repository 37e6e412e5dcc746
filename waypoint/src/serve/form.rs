//! What a request must look like before anybody judges it, and what of its head goes no further. Pure.
//!
//! hyper refuses by itself: folded lines, bare CR and NUL, names and values with forbidden bytes,
//! different lengths, a `transfer-encoding` that does not end in `chunked`, any in HTTP/1.0, heads
//! that are too large. A request with both lengths and `chunked` it reads as chunked, takes the
//! length away and closes the connection afterwards (RFC 9112 §6.1), so that it cannot be smuggled
//! on. What is left to refuse is here: another coding before `chunked`, two hosts, two answers to
//! which host it is, a CONNECT with a body or for something other than WebSocket, and expectations that
//! nobody knows.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};
use mesh::Identity;
use mesh::route::head::Head;
use mesh::route::normal::{self, BadTarget, PathNormalization};
use serde_json::Value;

use super::switch::WEBSOCKET;
use crate::digits;

/// Why a request is not read as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadForm {
    /// A coding that we do not undo, so that the length is somebody's guess.
    #[error("a transfer-encoding other than chunked")]
    TransferEncoding,
    /// None or several.
    #[error("there must be exactly one host")]
    Host,
    /// The request line and the host header say different things.
    #[error("the target names another host than the host header")]
    TwoHosts,
    /// Its target or host.
    #[error(transparent)]
    Target(#[from] BadTarget),
    /// HTTP/1.0 has none.
    #[error("there is no CONNECT in HTTP/1.0")]
    Connect,
    /// What would be its body is the tunnel.
    #[error("a CONNECT has no body")]
    ConnectBody,
    /// An extended CONNECT for something else.
    #[error("a CONNECT for a protocol other than websocket")]
    Protocol,
    /// Something other than `100-continue`.
    #[error("an expectation that is not known")]
    Expectation,
}

impl BadForm {
    /// What the caller is answered.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TransferEncoding | Self::Protocol => StatusCode::NOT_IMPLEMENTED,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Host | Self::TwoHosts | Self::Target(_) | Self::ConnectBody => StatusCode::BAD_REQUEST,
        }
    }
}

/// What a request asks for, in the form that is judged and sent on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The method.
    pub method: Method,
    /// Host and port as it names them.
    pub authority: String,
    /// The path, normalised.
    pub path: String,
    /// What stands after the `?`.
    pub query: Option<String>,
}

/// Who asks, and where: the part of a head that no request says itself.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The caller, as proven.
    pub caller: &'a Identity,
    /// Its address.
    pub from: SocketAddr,
    /// The port that was asked for.
    pub port: u16,
}

impl Wanted {
    /// Reads what a request asks for; `default_host` is for HTTP/1.0, which needs to name none.
    pub fn of(parts: &Parts, default_host: &str) -> Result<Self, BadForm> {
        let codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter();
        if codings.into_iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(BadForm::TransferEncoding);
        }
        if parts.headers.get_all(header::TRANSFER_ENCODING).iter().nth(1).is_some() {
            return Err(BadForm::TransferEncoding);
        }
        let expects = parts.headers.get_all(header::EXPECT).iter();
        if expects.into_iter().any(|expects| !expects.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
            return Err(BadForm::Expectation);
        }
        let text = target_text(parts);
        let target = normal::target(parts.method.as_str(), &text, PathNormalization::default())?;
        let authority = authority(parts, default_host)?;
        Ok(Self {
            method: parts.method.clone(),
            authority,
            path: target.path.into_owned(),
            query: target.query.map(str::to_owned),
        })
    }

    /// The head that rules and policies are asked with.
    pub fn head<'a>(&'a self, headers: &'a HeaderMap, asker: Asker<'a>, claims: Option<&'a Value>) -> Head<'a> {
        Head {
            method: self.method.as_str(),
            scheme: "http",
            authority: &self.authority,
            path: &self.path,
            query: self.query.as_deref(),
            headers,
            port: asker.port,
            caller: Some(asker.caller),
            caller_address: asker.from.ip(),
            remote_address: asker.from.ip(),
            claims,
        }
    }

    /// Another host instead of the one that is named; a CONNECT needs its port.
    pub fn with_port(&self, host: &str) -> String {
        let named = |host| mesh::route::head::split_port(host).1;
        match named(&self.authority).filter(|_| self.method == Method::CONNECT && named(host).is_none()) {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Path and query, as they go on.
    pub fn path_and_query(&self) -> String {
        path_and_query(&self.path, self.query.as_deref())
    }
}

/// A path with its query.
pub fn path_and_query(path: &str, query: Option<&str>) -> String {
    query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
}

/// The path and query as they came. The host is read apart, so that it is judged once.
fn target_text(parts: &Parts) -> Cow<'_, str> {
    match parts.uri.path_and_query() {
        Some(target) if !target.as_str().is_empty() => target.as_str().into(),
        // `http://host` without a path asks for `/`, and so does CONNECT, so that what is said of all paths is
        // said of it; of OPTIONS it asks for the server itself.
        _ if parts.method == Method::OPTIONS => "*".into(),
        _ => "/".into(),
    }
}

fn authority(parts: &Parts, default_host: &str) -> Result<String, BadForm> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(BadForm::Host);
    }
    let header = match first {
        None => None,
        Some(value) => {
            let text = value.to_str().map_err(|_| BadForm::Target(BadTarget::Host))?;
            Some(normal::authority(text)?)
        }
    };
    let named = match parts.uri.authority() {
        None => None,
        Some(authority) => Some(normal::authority(authority.as_str())?),
    };
    match (named, header) {
        (Some(named), Some(header)) if named != header => Err(BadForm::TwoHosts),
        (Some(named), _) => Ok(named.into_owned()),
        (None, Some(header)) => Ok(header.into_owned()),
        (None, None) if parts.version == Version::HTTP_10 => Ok(default_host.to_owned()),
        (None, None) => Err(BadForm::Host),
    }
}

/// Headers that are for the next hop only (RFC 9110 §7.6.1), beside those that `connection` names.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes away what is for us only. To be done before anybody judges the headers: what is judged is
/// what goes on. Whether it is an upgrade to WebSocket is told, which goes on by itself.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> bool {
    // Many heads have none, and have fewer names than would be asked for below.
    if !headers.keys().any(|name| HOP_BY_HOP.contains(name) || [header::TE, header::EXPECT].contains(name)) {
        return false;
    }
    let upgrade = websocket(headers);
    let trailers = wants_trailers(headers);
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        // What most heads have here goes in any case.
        .filter(|name| !name.eq_ignore_ascii_case("keep-alive"))
        .filter_map(|name| name.parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // We answer it ourselves, once the request has somewhere to go.
    headers.remove(header::EXPECT);
    upgrade
}

/// Only WebSocket is passed on; other upgrades are not answered, as RFC 9110 §7.8 allows.
fn websocket(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asks = connection.flat_map(|value| value.split(',')).any(|name| name.trim().eq_ignore_ascii_case("upgrade"));
    let upgrade = headers.get(header::UPGRADE);
    asks && upgrade.is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()))
}

/// gRPC needs its trailers, and says so with the only word that may be passed on.
fn wants_trailers(headers: &HeaderMap) -> bool {
    let all = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Names that only proxies of the mesh may write.
const OURS: [HeaderName; 2] =
    [HeaderName::from_static("x-forwarded-client-cert"), HeaderName::from_static("x-istio-attributes")];
/// What Envoy reads or writes itself: from a caller it is at best a misunderstanding.
const ENVOYS: &str = "x-envoy-";
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The addresses that a request came from, the nearest last.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Takes away what a caller must not say, and adds where it came from.
pub fn sanitise(headers: &mut HeaderMap, from: SocketAddr) {
    let foreign: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(ENVOYS)).cloned().collect();
    for name in foreign {
        headers.remove(name);
    }
    for name in &OURS {
        headers.remove(name);
    }
    if !headers.contains_key(&FORWARDED_PROTO) {
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    // What was there may be true or not; what we add at its end is.
    let before: Vec<&[u8]> = headers.get_all(&FORWARDED_FOR).iter().map(HeaderValue::as_bytes).collect();
    let mut all = before.join(&b", "[..]);
    if !all.is_empty() {
        all.extend_from_slice(b", ");
    }
    let mut last = String::new();
    digits::ip(&mut last, from.ip());
    all.extend_from_slice(last.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&all) {
        headers.insert(FORWARDED_FOR, value);
    }
}

/// Whether a request is gRPC (and not gRPC-Web, which is ordinary HTTP).
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(version: Version, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().version(version).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn check(version: Version, target: &str, headers: &[(&str, &str)], expected: &str) {
        let found = match Wanted::of(&parts(version, target, headers), "default") {
            Ok(wanted) => format!("{} {}", wanted.authority, wanted.path_and_query()),
            Err(error) => error.status().as_u16().to_string(),
        };
        assert_eq!(found, expected, "{target} {headers:?}");
    }

    #[test]
    fn a_request_names_one_host_and_one_length() {
        let one = Version::HTTP_11;
        check(one, "/a?b=c", &[("host", "Web.Example:80")], "web.example:80 /a?b=c");
        check(one, "http://web/a", &[("host", "web")], "web /a");
        check(one, "http://web/a", &[("host", "other")], "400");
        check(one, "/a", &[("host", "web"), ("host", "web")], "400");
        check(one, "/a", &[], "400");
        check(one, "/a", &[("host", "")], "400");
        check(one, "/a", &[("host", "user@web")], "400");
        check(Version::HTTP_10, "/a", &[], "default /a");
        check(Version::HTTP_2, "http://web/a", &[], "web /a");
        check(Version::HTTP_2, "http://web/a", &[("host", "evil")], "400");
        check(one, "/a", &[("host", "web"), ("transfer-encoding", "gzip, chunked")], "501");
        check(one, "/a", &[("host", "web"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], "501");
        check(one, "/a", &[("host", "web"), ("transfer-encoding", "chunked")], "web /a");
        check(one, "/a", &[("host", "web"), ("expect", "100-continue")], "web /a");
        check(one, "/a", &[("host", "web"), ("expect", "money")], "417");
    }

    #[test]
    fn what_is_judged_is_what_goes_on() {
        check(Version::HTTP_11, "/a/../b//c%41", &[("host", "web")], "web /b/cA");
        check(Version::HTTP_11, "/a%00", &[("host", "web")], "400");
    }

    #[test]
    fn headers_for_one_hop_stay_behind() {
        let names = |headers: &[(&str, &str)]| {
            let mut headers = parts(Version::HTTP_11, "/", headers).headers;
            let upgrade = strip_hop_by_hop(&mut headers);
            let mut names: Vec<String> = headers.keys().map(ToString::to_string).collect();
            names.sort();
            (names.join(" "), upgrade)
        };
        let check = |headers: &[(&str, &str)], left: &str, upgrade: bool| {
            assert_eq!(names(headers), (left.to_owned(), upgrade), "{headers:?}");
        };
        check(&[("connection", "x-a, close"), ("x-a", "1"), ("x-b", "2"), ("keep-alive", "5")], "x-b", false);
        check(&[("connection", "keep-alive"), ("connection", "x-a"), ("x-a", "1")], "", false);
        check(&[("connection", "close"), ("close", "1"), ("x-b", "2")], "x-b", false);
        check(&[("te", "trailers, gzip"), ("proxy-connection", "x")], "te", false);
        check(&[("connection", "Upgrade"), ("upgrade", "WebSocket")], "", true);
        check(&[("upgrade", "websocket")], "", false);
        check(&[("connection", "upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "x")], "", false);
        check(&[("expect", "100-continue"), ("trailer", "x")], "trailer", false);
    }

    #[test]
    fn a_caller_cannot_speak_for_the_mesh() {
        let mut headers = parts(
            Version::HTTP_11,
            "/",
            &[
                ("x-forwarded-client-cert", "URI=spiffe://forged"),
                ("x-envoy-original-path", "/admin"),
                ("x-forwarded-for", "1.2.3.4"),
                ("x-forwarded-for", "5.6.7.8"),
            ],
        )
        .headers;
        sanitise(&mut headers, "10.0.0.1:999".parse().expect("an address"));
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(headers["x-forwarded-for"], "1.2.3.4, 5.6.7.8, 10.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn grpc_is_told_from_grpc_web() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=x", true),
            ("application/grpc-web", false),
            ("text/plain", false),
        ] {
            assert_eq!(is_grpc(&parts(Version::HTTP_2, "/", &[("content-type", kind)]).headers), expected, "{kind}");
        }
    }
}
