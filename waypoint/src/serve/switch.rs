//! Requests after whose answer the connection, or the stream, is no HTTP any more: WebSocket, asked for by an
//! upgrade of HTTP/1.1 (RFC 6455) or by an extended CONNECT of HTTP/2 (RFC 8441), and CONNECT (RFC 9110
//! §9.3.6). What each side says is put into the words of the other's version. Pure.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode, Version};
use hyper::ext::Protocol;
use mesh::route::normal::BadTarget;

use super::form::BadForm;

/// What is written in `upgrade`, and what `:protocol` says.
pub const WEBSOCKET: &str = "websocket";
/// The caller's part of the agreement on WebSocket over HTTP/1.1.
pub const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;
/// The endpoint's part.
pub const ACCEPT: HeaderName = header::SEC_WEBSOCKET_ACCEPT;
/// RFC 6455 §1.3.
const SALT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// WebSocket.
    WebSocket,
    /// Bytes to whomever the authority names.
    Tunnel,
}

impl Switch {
    /// What a CONNECT asks for; none: it is another method. An extended one becomes the GET that it stands for, so
    /// that rules and policies read WebSocket in one way.
    pub fn of_connect(parts: &mut Parts) -> Result<Option<Self>, BadForm> {
        if parts.method != Method::CONNECT {
            return Ok(None);
        }
        let has_body =
            parts.headers.contains_key(header::CONTENT_LENGTH) || parts.headers.contains_key(header::TRANSFER_ENCODING);
        if has_body {
            return Err(BadForm::ConnectBody);
        }
        if let Some(protocol) = parts.extensions.get::<Protocol>() {
            if !protocol.as_str().eq_ignore_ascii_case(WEBSOCKET) {
                return Err(BadForm::Protocol);
            }
            parts.method = Method::GET;
            return Ok(Some(Self::WebSocket));
        }
        if parts.version < Version::HTTP_11 {
            return Err(BadForm::Connect);
        }
        // RFC 9112 §3.2.3: a host and a port, and nothing else.
        let uri = &parts.uri;
        let named = uri.authority().filter(|_| uri.scheme().is_none() && uri.path_and_query().is_none());
        match named.and_then(|authority| authority.port_u16()) {
            Some(port) if port > 0 => Ok(Some(Self::Tunnel)),
            _ => Err(BadTarget::Form.into()),
        }
    }

    /// Whether an endpoint that speaks this version has agreed.
    pub fn agreed(self, version: Version, status: StatusCode) -> bool {
        match (self, version) {
            (Self::WebSocket, Version::HTTP_2) | (Self::Tunnel, _) => status.is_success(),
            (Self::WebSocket, _) => status == StatusCode::SWITCHING_PROTOCOLS,
        }
    }

    /// Adds what an endpoint of HTTP/1.1 wants to hear of a caller that has no need to say it.
    pub fn complete(self, caller: Version, headers: &mut HeaderMap, random: [u8; 16]) {
        if self == Self::WebSocket && caller == Version::HTTP_2 {
            // What it may have said means nothing there.
            if let Ok(key) = HeaderValue::try_from(BASE64.encode(random)) {
                headers.insert(KEY, key);
            }
            headers.entry(header::SEC_WEBSOCKET_VERSION).or_insert(HeaderValue::from_static("13"));
        }
    }

    /// Turns the agreement of an endpoint into what a caller of this version understands; `asked` is the key that
    /// the endpoint was given, `spoken` its version. False: it has agreed to something else.
    #[must_use]
    pub fn tell(
        self,
        caller: Version,
        spoken: Version,
        asked: Option<&HeaderValue>,
        status: &mut StatusCode,
        headers: &mut HeaderMap,
    ) -> bool {
        // What comes has no end that a length could say (RFC 9110 §9.3.6).
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        if self == Self::Tunnel {
            return true;
        }
        let (over_one, wanted) = (spoken != Version::HTTP_2, asked.map(accept));
        if caller == Version::HTTP_2 {
            *status = StatusCode::OK;
            let said = headers.remove(ACCEPT);
            // Nobody behind us compares it.
            return !over_one || (said.is_some() && said == wanted);
        }
        *status = StatusCode::SWITCHING_PROTOCOLS;
        headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        if let Some(accept) = wanted.filter(|_| !over_one) {
            headers.insert(ACCEPT, accept);
        }
        true
    }
}

/// What an endpoint answers to a key.
pub fn accept(key: &HeaderValue) -> HeaderValue {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key.as_bytes());
    context.update(SALT.as_bytes());
    let text = BASE64.encode(context.finish());
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455 §1.3.
    const ASKED: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ANSWERED: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    fn connect(version: Version, target: &str, headers: &[(&str, &str)], protocol: Option<&'static str>) -> Parts {
        let mut request = http::Request::builder().method("CONNECT").version(version).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut parts = request.body(()).expect("a request").into_parts().0;
        if let Some(protocol) = protocol {
            parts.extensions.insert(Protocol::from_static(protocol));
        }
        parts
    }

    #[test]
    fn a_connect_is_for_a_tunnel_or_for_websocket() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        for (version, target, headers, protocol, expected) in [
            (one, "web:443", &[][..], None, "Tunnel CONNECT"),
            (two, "web:443", &[], None, "Tunnel CONNECT"),
            (two, "http://web/chat", &[], Some("websocket"), "WebSocket GET"),
            (two, "http://web/chat", &[], Some("WebSocket"), "WebSocket GET"),
            (two, "http://web/chat", &[], Some("connect-udp"), "501"),
            (one, "web", &[], None, "400"),
            (one, "web:0", &[], None, "400"),
            (one, "/path", &[], None, "400"),
            (one, "http://web:80/", &[], None, "400"),
            (Version::HTTP_10, "web:443", &[], None, "405"),
            (one, "web:443", &[("content-length", "0")], None, "400"),
            (one, "web:443", &[("transfer-encoding", "chunked")], None, "400"),
            (two, "http://web/chat", &[("content-length", "5")], Some("websocket"), "400"),
        ] {
            let mut parts = connect(version, target, headers, protocol);
            let found = match Switch::of_connect(&mut parts) {
                Ok(switch) => format!("{:?} {}", switch.expect("it is a CONNECT"), parts.method),
                Err(error) => error.status().as_u16().to_string(),
            };
            assert_eq!(found, expected, "{target} {headers:?} {protocol:?}");
        }
        let mut get = http::Request::get("/").body(()).expect("a request").into_parts().0;
        assert_eq!(Switch::of_connect(&mut get), Ok(None));
    }

    #[test]
    fn each_version_agrees_in_its_own_way() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        for (switch, version, status, expected) in [
            (Switch::WebSocket, one, 101, true),
            (Switch::WebSocket, one, 200, false),
            (Switch::WebSocket, two, 200, true),
            (Switch::WebSocket, two, 101, false),
            (Switch::Tunnel, one, 200, true),
            (Switch::Tunnel, two, 204, true),
            (Switch::Tunnel, one, 101, false),
            (Switch::Tunnel, one, 403, false),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(switch.agreed(version, status), expected, "{switch:?} {version:?} {status}");
        }
    }

    fn told(switch: Switch, caller: Version, spoken: Version, headers: &[(&str, &str)]) -> (bool, String) {
        let parts = connect(caller, "web:80", headers, None);
        let (mut status, mut headers) = (StatusCode::OK, parts.headers);
        let key = HeaderValue::from_static(ASKED);
        let good = switch.tell(caller, spoken, Some(&key), &mut status, &mut headers);
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!(" {name}={}", value.to_str().unwrap_or("?"))).collect();
        lines.sort();
        (good, format!("{}{}", status.as_u16(), lines.concat()))
    }

    #[test]
    fn an_agreement_is_told_in_the_words_of_the_callers_version() {
        let (one, two) = (Version::HTTP_11, Version::HTTP_2);
        let upgrade = "101 connection=upgrade sec-websocket-accept=s3pPLMBiTxaQ9kYGzzhZRbK+xOo= upgrade=websocket";
        let (said, other) = ([("sec-websocket-accept", ANSWERED)], [("sec-websocket-accept", "other")]);
        let check = |found: (bool, String), good: bool, text: &str| assert_eq!(found, (good, text.to_owned()));
        check(told(Switch::WebSocket, one, one, &said), true, upgrade);
        check(told(Switch::WebSocket, one, two, &[]), true, upgrade);
        check(told(Switch::WebSocket, two, one, &said), true, "200");
        check(told(Switch::WebSocket, two, one, &other), false, "200");
        check(told(Switch::WebSocket, two, one, &[]), false, "200");
        check(
            told(Switch::WebSocket, two, two, &[("sec-websocket-protocol", "chat")]),
            true,
            "200 sec-websocket-protocol=chat",
        );
        check(told(Switch::Tunnel, one, one, &[("content-length", "7"), ("x-a", "1")]), true, "200 x-a=1");
    }

    #[test]
    fn a_caller_of_http2_gets_a_key_and_others_keep_theirs() {
        let mut headers = HeaderMap::from_iter([(KEY, HeaderValue::from_static("mine"))]);
        Switch::WebSocket.complete(Version::HTTP_11, &mut headers, [1; 16]);
        Switch::Tunnel.complete(Version::HTTP_2, &mut headers, [1; 16]);
        assert_eq!((headers.len(), &headers[KEY]), (1, &HeaderValue::from_static("mine")));
        Switch::WebSocket.complete(Version::HTTP_2, &mut headers, [0; 16]);
        assert_eq!(headers[KEY], "AAAAAAAAAAAAAAAAAAAAAA==");
        assert_eq!(headers[header::SEC_WEBSOCKET_VERSION], "13");
    }
}
