//! The head of a request as an endpoint gets it. Pure.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use hyper::ext::Protocol;
use mesh::route::traffic::{HttpVersion, Pool};
use mesh::service::AppProtocol;

use crate::body::Outgoing;
use crate::serve::form;
use crate::serve::switch::{self, Switch};

/// What an endpoint is asked.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The method.
    pub method: Method,
    /// Host and port.
    pub authority: String,
    /// The path.
    pub path: String,
    /// What stands after the `?`.
    pub query: Option<String>,
    /// The headers, without the host.
    pub headers: HeaderMap,
    /// What the connection is to become.
    pub upgrade: Option<Switch>,
    /// It goes through TLS of our own.
    pub tls: bool,
}

/// A rewrite made of a request what cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no request target")]
pub struct NoTarget(String);

impl Sent {
    /// The request in this version of HTTP.
    pub fn request(&self, version: HttpVersion, body: Outgoing) -> Result<Request<Outgoing>, NoTarget> {
        let target = Bytes::from(form::path_and_query(&self.path, self.query.as_deref()));
        let wrong = |_| NoTarget(String::from_utf8_lossy(&target).chars().take(200).collect());
        let path = PathAndQuery::from_maybe_shared(target.clone()).map_err(|error| wrong(error.to_string()))?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        let headers = request.headers_mut();
        *headers = self.headers.clone();
        let tunnel = self.upgrade == Some(Switch::Tunnel);
        let websocket = self.upgrade == Some(Switch::WebSocket);
        let mut parts = http::uri::Parts::default();
        // The target of a tunnel is the host and nothing else.
        parts.path_and_query = (!tunnel).then_some(path);
        if tunnel || version == HttpVersion::Http2 {
            let host = self.authority.parse();
            parts.authority = Some(host.map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?);
        }
        match version {
            HttpVersion::Http1 => {
                let host = HeaderValue::from_str(&self.authority).map_err(|error| wrong(error.to_string()))?;
                headers.insert(header::HOST, host);
                // In HTTP/1 the word stands among what `connection` names.
                if headers.remove(header::TE).is_some() && self.upgrade.is_none() {
                    headers.insert(header::TE, HeaderValue::from_static("trailers"));
                    headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
                }
                if websocket {
                    headers.insert(header::UPGRADE, HeaderValue::from_static(switch::WEBSOCKET));
                    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                }
            }
            HttpVersion::Http2 => {
                headers.remove(header::HOST);
                if !tunnel {
                    parts.scheme = Some(if self.tls { Scheme::HTTPS } else { Scheme::HTTP });
                }
                if websocket {
                    // RFC 8441: the protocol says what the key says in HTTP/1.1.
                    headers.remove(switch::KEY);
                    *request.method_mut() = Method::CONNECT;
                    request.extensions_mut().insert(Protocol::from_static(switch::WEBSOCKET));
                }
            }
        }
        *request.uri_mut() = Uri::from_parts(parts).map_err(|error| wrong(error.to_string()))?;
        *request.version_mut() = match version {
            HttpVersion::Http1 => Version::HTTP_11,
            HttpVersion::Http2 => Version::HTTP_2,
        };
        Ok(request)
    }
}

/// Which HTTP an endpoint is spoken to. gRPC cannot go over HTTP/1; WebSocket goes over it unless the policy or the
/// port says HTTP/2.
pub fn version(
    wanted: &Pool,
    protocol: AppProtocol,
    caller: Version,
    grpc: bool,
    upgrade: Option<Switch>,
) -> HttpVersion {
    if grpc && upgrade.is_none() {
        return HttpVersion::Http2;
    }
    let as_caller = match caller {
        Version::HTTP_2 if upgrade != Some(Switch::WebSocket) => HttpVersion::Http2,
        _ => HttpVersion::Http1,
    };
    match (wanted.http, protocol) {
        _ if wanted.as_caller => as_caller,
        (Some(version), _) => version,
        (None, AppProtocol::Http2 | AppProtocol::Grpc) => HttpVersion::Http2,
        (None, AppProtocol::Http11) => HttpVersion::Http1,
        (None, AppProtocol::Unknown | AppProtocol::Tcp | AppProtocol::Tls) => as_caller,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_spoken_to_as_its_port_and_policy_want() {
        let (one, two) = (HttpVersion::Http1, HttpVersion::Http2);
        let pool = |http, as_caller| Pool { http, as_caller, ..Pool::default() };
        let none = pool(None, false);
        for (wanted, protocol, caller, grpc, upgrade, expected) in [
            (none, AppProtocol::Unknown, Version::HTTP_11, false, None, one),
            (none, AppProtocol::Unknown, Version::HTTP_2, false, None, two),
            (none, AppProtocol::Http11, Version::HTTP_2, false, None, one),
            (none, AppProtocol::Http11, Version::HTTP_2, true, None, two),
            (none, AppProtocol::Grpc, Version::HTTP_11, false, None, two),
            (pool(None, true), AppProtocol::Http11, Version::HTTP_2, false, None, two),
            (pool(None, true), AppProtocol::Http2, Version::HTTP_11, false, None, one),
            (pool(Some(one), false), AppProtocol::Http2, Version::HTTP_2, false, None, one),
            (none, AppProtocol::Unknown, Version::HTTP_2, false, Some(Switch::WebSocket), one),
            (none, AppProtocol::Http2, Version::HTTP_11, false, Some(Switch::WebSocket), two),
            (pool(Some(two), false), AppProtocol::Http11, Version::HTTP_11, false, Some(Switch::WebSocket), two),
            (pool(Some(one), false), AppProtocol::Grpc, Version::HTTP_2, true, Some(Switch::WebSocket), one),
            (none, AppProtocol::Unknown, Version::HTTP_2, false, Some(Switch::Tunnel), two),
            (none, AppProtocol::Http11, Version::HTTP_2, true, Some(Switch::Tunnel), one),
        ] {
            assert_eq!(
                version(&wanted, protocol, caller, grpc, upgrade),
                expected,
                "{wanted:?} {protocol:?} {caller:?}"
            );
        }
    }

    #[test]
    fn each_version_names_its_host_in_its_own_way() {
        let sent = Sent {
            method: Method::GET,
            authority: "web:80".into(),
            path: "/a".into(),
            query: Some("b".into()),
            headers: HeaderMap::from_iter([(header::TE, HeaderValue::from_static("trailers"))]),
            upgrade: None,
            tls: false,
        };
        let one = sent.request(HttpVersion::Http1, Outgoing::Empty).expect("a request");
        assert_eq!(
            (one.uri().to_string(), &one.headers()["host"]),
            ("/a?b".into(), &HeaderValue::from_static("web:80"))
        );
        assert_eq!(one.headers()["connection"], "te");
        let two = sent.request(HttpVersion::Http2, Outgoing::Empty).expect("a request");
        assert_eq!(two.uri().to_string(), "http://web:80/a?b");
        assert!(!two.headers().contains_key("host") && !two.headers().contains_key("connection"));
        let tls = Sent { tls: true, ..sent.clone() }.request(HttpVersion::Http2, Outgoing::Empty).expect("a request");
        assert_eq!(tls.uri().scheme_str(), Some("https"));
        let chat = Sent { upgrade: Some(Switch::WebSocket), ..sent.clone() };
        let one = chat.request(HttpVersion::Http1, Outgoing::Empty).expect("a request");
        assert_eq!((one.method(), &one.headers()["upgrade"]), (&Method::GET, &HeaderValue::from_static("websocket")));
        let two = chat.request(HttpVersion::Http2, Outgoing::Empty).expect("a request");
        assert_eq!((two.method(), two.uri().to_string()), (&Method::CONNECT, "http://web:80/a?b".into()));
        assert_eq!(two.extensions().get::<Protocol>().map(Protocol::as_str), Some("websocket"));
        assert!(!two.headers().contains_key("upgrade") && !two.headers().contains_key("connection"));
        let tunnel = Sent { method: Method::CONNECT, upgrade: Some(Switch::Tunnel), ..sent.clone() };
        for version in [HttpVersion::Http1, HttpVersion::Http2] {
            let request = tunnel.request(version, Outgoing::Empty).expect("a request");
            assert_eq!((request.uri().to_string(), request.uri().scheme()), ("web:80".into(), None));
        }
        let broken = Sent { path: "/a b".into(), ..sent };
        assert!(broken.request(HttpVersion::Http1, Outgoing::Empty).is_err());
    }
}
