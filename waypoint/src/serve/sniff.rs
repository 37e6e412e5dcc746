//! What is spoken on a connection, told from its first bytes.
//!
//! It never decides by what a header says, and changes no byte: what was looked at is read again by
//! whoever serves the connection.

use mesh::Str;

/// The whole of what an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Methods of HTTP/1 that a connection may begin with; others are taken for some other protocol.
const METHODS: [&[u8]; 10] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"PATCH ", b"OPTIONS ", b"TRACE ", b"CONNECT ", b"PROPFIND "];

/// What is spoken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.
    Http1,
    /// HTTP/2 without an upgrade before.
    Http2,
    /// TLS, with the server name it asks for.
    Tls(Option<Str>),
    /// Something else, or nothing.
    Other,
}

/// What the first bytes say; none: more are needed.
pub fn judge(bytes: &[u8]) -> Option<Spoken> {
    if bytes.is_empty() {
        return None;
    }
    if bytes[0] == 0x16 {
        return client_hello(bytes);
    }
    if begins(bytes, PREFACE) {
        return (bytes.len() >= PREFACE.len()).then_some(Spoken::Http2);
    }
    if METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Some(Spoken::Http1);
    }
    if METHODS.iter().any(|method| begins(bytes, method)) {
        return None;
    }
    Some(Spoken::Other)
}

/// Whether one of the two texts begins with the other.
fn begins(bytes: &[u8], whole: &[u8]) -> bool {
    let length = bytes.len().min(whole.len());
    bytes[..length] == whole[..length]
}

/// The server name of a ClientHello (RFC 8446 §4.1.2, RFC 6066 §3), which may be spread over records.
fn client_hello(bytes: &[u8]) -> Option<Spoken> {
    match hello(bytes) {
        Ok(name) => Some(Spoken::Tls(name)),
        Err(Unread::More) => None,
        Err(Unread::Wrong) => Some(Spoken::Other),
    }
}

enum Unread {
    More,
    Wrong,
}

fn hello(bytes: &[u8]) -> Result<Option<Str>, Unread> {
    let message = handshake(bytes)?;
    let mut hello = Reader(&message);
    hello.skip(2 + 32)?;
    let session = hello.number(1)?;
    hello.skip(session)?;
    let suites = hello.number(2)?;
    hello.skip(suites)?;
    let compressions = hello.number(1)?;
    hello.skip(compressions)?;
    if hello.0.is_empty() {
        return Ok(None);
    }
    let length = hello.number(2)?;
    let mut extensions = Reader(hello.take(length)?);
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let length = extensions.number(2)?;
        let mut body = Reader(extensions.take(length)?);
        if kind == 0 {
            let list = body.number(2)?;
            let mut list = Reader(body.take(list)?);
            let name_kind = list.number(1)?;
            let length = list.number(2)?;
            let name = list.take(length)?;
            return Ok((name_kind == 0).then(|| host_name(name)).flatten());
        }
    }
    Ok(None)
}

/// The first handshake message, put together from as many records as it takes.
fn handshake(bytes: &[u8]) -> Result<Vec<u8>, Unread> {
    let (mut message, mut rest) = (Vec::new(), bytes);
    loop {
        let [kind, major, _, high, low, body @ ..] = rest else { return Err(Unread::More) };
        let length = usize::from(*high) << 8 | usize::from(*low);
        // A record holds 16 KiB at most, and no handshake record is empty.
        if *kind != 0x16 || *major != 3 || length == 0 || length > 16 << 10 {
            return Err(Unread::Wrong);
        }
        let there = length.min(body.len());
        message.extend_from_slice(&body[..there]);
        if let [kind, a, b, c, hello @ ..] = &message[..] {
            let wanted = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if *kind != 1 || wanted > 64 << 10 {
                return Err(Unread::Wrong);
            }
            if hello.len() >= wanted {
                return Ok(hello[..wanted].to_vec());
            }
        }
        if there < length {
            return Err(Unread::More);
        }
        rest = &body[length..];
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The message is whole, so what is missing is wrong.
    fn take(&mut self, length: usize) -> Result<&'a [u8], Unread> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unread::Wrong)?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<(), Unread> {
        self.take(length).map(drop)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, Unread> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }
}

/// In lower case and without the dot at its end; what is no hostname counts as none.
fn host_name(name: &[u8]) -> Option<Str> {
    let name = std::str::from_utf8(name).ok()?.trim_end_matches('.');
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let good = !name.is_empty() && name.len() <= mesh::limits::NAME_BYTES_MAX && name.bytes().all(legal);
    good.then(|| name.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello that asks for `name`, in records of `record` bytes.
    fn hello_for(name: Option<&str>, record: usize) -> Vec<u8> {
        let mut extensions = vec![0, 43, 0, 3, 2, 3, 4];
        if let Some(name) = name {
            let length = name.len() as u8;
            extensions.extend([0, 0, 0, length + 5, 0, length + 3, 0, 0, length]);
            extensions.extend(name.as_bytes());
        }
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        let records = message.chunks(record).map(|part| {
            let mut bytes = vec![0x16, 3, 1];
            bytes.extend((part.len() as u16).to_be_bytes());
            bytes.extend(part);
            bytes
        });
        records.flatten().collect()
    }

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Spoken::Http1)),
            (b"PROPFIND /a", Some(Spoken::Http1)),
            (PREFACE, Some(Spoken::Http2)),
            (b"PRI * HT", None),
            (b"PRIVMSG x", Some(Spoken::Other)),
            (b"PO", None),
            (b"P", None),
            (b"", None),
            (b"SSH-2.0-", Some(Spoken::Other)),
            (b"\x00\x00", Some(Spoken::Other)),
            (b"get / HTTP/1.1", Some(Spoken::Other)),
        ] {
            assert_eq!(judge(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn the_server_name_is_read_over_any_split_of_records() {
        for record in [1, 5, 40, 16384] {
            let bytes = hello_for(Some("Api.Example"), record);
            assert_eq!(judge(&bytes), Some(Spoken::Tls(Some("api.example".into()))), "records of {record}");
            for end in 1..bytes.len() {
                let found = judge(&bytes[..end]);
                assert!(
                    found.is_none() || found == Some(Spoken::Tls(Some("api.example".into()))),
                    "{found:?} at {end}"
                );
            }
        }
        assert_eq!(judge(&hello_for(None, 100)), Some(Spoken::Tls(None)));
    }

    #[test]
    fn what_is_almost_a_client_hello_is_something_else() {
        let good = hello_for(Some("a.example"), 16384);
        for (at, byte) in [(1, 9), (5, 2)] {
            let mut bytes = good.clone();
            bytes[at] = byte;
            assert_eq!(judge(&bytes), Some(Spoken::Other));
        }
        // Lengths that lie must not be believed, nor panic.
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = byte;
                let _whatever = judge(&bytes);
            }
        }
    }
}
