//! What a header block says: a request or a response, with what makes it none (RFC 9113 §8).
//!
//! Only the fields that a tunnel knows are kept; the others are checked for their form.

use super::hpack::ENTRY_BYTES;
use crate::head::{self, BadConnect, BaggageText, ConnectHead, Hints};
use http::{Method, StatusCode};
use std::ops::ControlFlow;

/// A list of fields that is larger than we take is read on, for the sake of the table of those that
/// follow, until it is this many times as large.
const ABUSE_FACTOR: usize = 4;

/// A block that is no request, or no response: its stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A request of somebody who wants a tunnel, or something else.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: Result<ConnectHead, BadConnect>,
    /// How many bytes must follow; none where that is not said, or is a tunnel's.
    pub(super) content_length: Option<u64>,
}

/// An answer to a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) baggage: BaggageText,
}

/// The fields of one block.
#[derive(Debug)]
pub(super) struct Fields {
    bytes: usize,
    bytes_max: usize,
    malformed: bool,
    /// Pseudo-fields may not follow.
    regular: bool,
    method: Option<Method>,
    authority: Option<String>,
    scheme: bool,
    path: bool,
    status: Option<StatusCode>,
    content_length: Option<u64>,
    hints: Hints,
}

impl Fields {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: 0,
            bytes_max,
            malformed: false,
            regular: false,
            method: None,
            authority: None,
            scheme: false,
            path: false,
            status: None,
            content_length: None,
            hints: Hints::default(),
        }
    }

    /// Whether there are more than we take.
    pub(super) fn too_large(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Takes the next field in; breaks where it is an attack.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) -> ControlFlow<()> {
        self.bytes += name.len() + value.len() + ENTRY_BYTES;
        if self.bytes > self.bytes_max * ABUSE_FACTOR {
            return ControlFlow::Break(());
        }
        if !self.malformed && !self.too_large() {
            self.malformed = self.keep(name, value).is_none();
        }
        ControlFlow::Continue(())
    }

    /// None where no message has such a field, or not there.
    fn keep(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        // All of it is looked at, so that many bytes are in one step.
        if !value.iter().fold(true, |good, byte| good & (*byte == b'\t' || (*byte >= b' ' && *byte != 0x7f))) {
            return None;
        }
        if name.first() == Some(&b':') {
            return if self.regular { None } else { self.keep_pseudo(name, value) };
        }
        self.regular = true;
        match name {
            b"connection" | b"transfer-encoding" | b"upgrade" | b"keep-alive" | b"proxy-connection" => return None,
            b"te" if value != b"trailers" => return None,
            b"content-length" => {
                let length = std::str::from_utf8(value).ok()?.parse().ok()?;
                if self.content_length.replace(length).is_some_and(|before| before != length) {
                    return None;
                }
            }
            _ if self.hints.take(name, value) => {}
            _ if name.is_empty() || !name.iter().all(|byte| is_lower_token(*byte)) => return None,
            _ => {}
        }
        Some(())
    }

    fn keep_pseudo(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        let again = match name {
            b":method" => self.method.replace(Method::from_bytes(value).ok()?).is_some(),
            b":authority" => self.authority.replace(String::from_utf8(value.to_vec()).ok()?).is_some(),
            b":scheme" => std::mem::replace(&mut self.scheme, true),
            b":path" => value.is_empty() || std::mem::replace(&mut self.path, true),
            b":status" => self.status.replace(StatusCode::from_bytes(value).ok()?).is_some(),
            // `:protocol` too: we never said that it may be used.
            _ => true,
        };
        (!again).then_some(())
    }

    pub(super) fn into_request(self) -> Result<Request, Malformed> {
        let method = self.method.ok_or(Malformed)?;
        let connect = method == Method::CONNECT;
        // A CONNECT has neither scheme nor path, anything else both.
        if self.malformed || self.status.is_some() || self.scheme == connect || self.path == connect {
            return Err(Malformed);
        }
        let content_length = self.content_length.filter(|_| !connect);
        let head = ConnectHead::read(method, false, self.authority.as_deref(), self.hints);
        Ok(Request { head, content_length })
    }

    pub(super) fn into_answer(self) -> Result<Answer, Malformed> {
        let requests = self.method.is_some() || self.authority.is_some() || self.scheme || self.path;
        if self.malformed || requests || self.too_large() {
            return Err(Malformed);
        }
        Ok(Answer { status: self.status.ok_or(Malformed)?, baggage: self.hints.baggage })
    }

    /// Whether these may stand at the end of a stream.
    pub(super) fn are_trailers(&self) -> bool {
        let pseudo = self.method.is_some() || self.authority.is_some() || self.status.is_some();
        !(self.malformed || pseudo || self.scheme || self.path)
    }
}

/// A byte of a field's name, which is never in upper case in HTTP/2.
fn is_lower_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.'
        | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// Appends the block of a CONNECT.
pub(super) fn put_request(head: &ConnectHead, block: &mut Vec<u8>) {
    super::hpack::put_connect(&head.authority.to_string(), block);
    head.each_field(|name, value| super::hpack::put_field(name, value.as_bytes(), block));
}

/// Appends the block of an answer.
pub(super) fn put_answer(status: StatusCode, baggage: Option<&BaggageText>, block: &mut Vec<u8>) {
    super::hpack::put_status(status, block);
    if let Some(text) = baggage.and_then(BaggageText::as_str) {
        super::hpack::put_field(head::BAGGAGE, text.as_bytes(), block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new(1000);
        for (name, value) in list {
            assert!(fields.take(name.as_bytes(), value.as_bytes()).is_continue());
        }
        fields
    }

    const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")];
    const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web")];

    #[test]
    fn a_connect_is_read() {
        let request = fields(&[&CONNECT[..], &[("baggage", "service.name=web"), ("x-else", "1")]].concat());
        let request = request.into_request().expect("a request");
        let head = request.head.expect("a CONNECT");
        assert_eq!(head.authority.to_string(), "10.0.0.1:80");
        assert_eq!(head.baggage.read().service.as_deref(), Some("web"));
    }

    #[test]
    fn other_requests_are_requests_and_no_connect() {
        let get = fields(&[&GET[..], &[("content-length", "5")]].concat()).into_request().expect("a request");
        assert_eq!((get.head, get.content_length), (Err(BadConnect::Method(Method::GET)), Some(5)));
        let bare = fields(&CONNECT[..1]).into_request().expect("a request");
        assert_eq!(bare.head, Err(BadConnect::NoAuthority));
    }

    #[test]
    fn what_is_no_request_is_told_apart() {
        for (more, why) in [
            (("X-Upper", "1"), "a name in upper case"),
            (("connection", "close"), "a field of one hop"),
            (("te", "gzip"), "a coding of one hop"),
            (("", "1"), "no name"),
            (("a b", "1"), "a name with a space"),
            (("a", "b\r\nc: d"), "a value with a line end"),
            (("a", "\0"), "a value with a zero"),
            ((":unknown", "1"), "an unknown pseudo-field"),
            ((":protocol", "websocket"), "an extended CONNECT"),
            ((":method", "CONNECT"), "a pseudo-field twice"),
            ((":status", "200"), "a pseudo-field of answers"),
            ((":path", "/"), "a CONNECT with a path"),
            ((":scheme", "http"), "a CONNECT with a scheme"),
            (("content-length", "-1"), "a length that is none"),
        ] {
            let list = [&CONNECT[..], &[more]].concat();
            assert_eq!(fields(&list).into_request().err(), Some(Malformed), "{why}");
        }
        for (without, (name, _)) in GET.iter().enumerate().take(3) {
            let mut list = GET.to_vec();
            list.remove(without);
            assert_eq!(fields(&list).into_request().err(), Some(Malformed), "without {name}");
        }
        let late = [&CONNECT[..1], &[("a", "b")], &CONNECT[1..]].concat();
        assert_eq!(fields(&late).into_request().err(), Some(Malformed), "a pseudo-field after others");
        let twice = [&GET[..], &[("content-length", "1"), ("content-length", "2")]].concat();
        assert_eq!(fields(&twice).into_request().err(), Some(Malformed), "two lengths");
    }

    #[test]
    fn answers_are_read() {
        let answer = fields(&[(":status", "200"), ("baggage", "service.name=web")]).into_answer().expect("an answer");
        assert_eq!((answer.status, answer.baggage.read().service.as_deref()), (StatusCode::OK, Some("web")));
        for list in [&[][..], &[(":status", "2000")], &[(":status", "200"), (":status", "200")], &CONNECT, &GET] {
            assert_eq!(fields(list).into_answer(), Err(Malformed), "{list:?}");
        }
    }

    #[test]
    fn many_fields_are_too_large_and_too_many_an_attack() {
        let mut fields = Fields::new(1000);
        for number in 0.. {
            let flow = fields.take(b"name", &[b'x'; 64]);
            assert_eq!(fields.too_large(), number >= 10);
            assert_eq!(flow.is_break(), number >= 40);
            if flow.is_break() {
                break;
            }
        }
    }

    #[test]
    fn what_we_say_is_read_again() {
        let mut head = ConnectHead::to(crate::head::Authority::parse("web.shop:80").expect("an authority"));
        head.baggage = (&head::Baggage::parse("service.name=a%2Cb,k8s.pod.name=web-1")).into();
        head.forwarded_network = Some("west".into());
        let mut block = Vec::new();
        put_request(&head, &mut block);
        let mut fields = Fields::new(1000);
        let flow = super::super::hpack::Decoder::new().decode(&block, |name, value| fields.take(name, value));
        assert_eq!(flow, Ok(ControlFlow::Continue(())));
        assert_eq!(fields.into_request().map(|request| request.head), Ok(Ok(head)));
    }
}
