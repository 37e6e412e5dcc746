//! Responses of gRPC, read as their bytes arrive: of each resource only the name and the version are kept. Pure.
//!
//! A library keeps a buffer as large as the largest message for each stream; a thousand streams that were each told of
//! a hundred thousand workloads would be 30 GB.

use super::Told;
use prost::{Message, bytes::Buf, encoding::decode_varint};
use xds::{Kind, wire::FRAME_HEAD_BYTES};

/// Fields of a response, and how each is on the wire: a length, and so many bytes.
const RESOURCES: u64 = 2 << 3 | LENGTH;
const TYPE_URL: u64 = 4 << 3 | LENGTH;
const NONCE: u64 = 5 << 3 | LENGTH;
const REMOVED: u64 = 6 << 3 | LENGTH;
const LENGTH: u64 = 2;

/// What has arrived and is not a whole field yet, and the response so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    rest: Vec<u8>,
    /// Bytes of the response that have not been read; none between two.
    left: Option<usize>,
    told: Response,
}

#[derive(Debug, Default)]
struct Response {
    type_url: String,
    nonce: String,
    bytes: usize,
    resources: Vec<(String, String)>,
    removed: Vec<String>,
}

/// A resource, of which what it says takes no memory.
#[derive(Clone, PartialEq, prost::Message)]
struct Heading {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "3")]
    name: String,
}

impl Reading {
    /// Takes bytes in, and gives the responses that are whole now.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<Vec<Told>, String> {
        self.rest.extend_from_slice(bytes);
        let (mut whole, mut at) = (Vec::new(), 0);
        loop {
            let rest = &self.rest[at..];
            match self.left {
                None if rest.len() < FRAME_HEAD_BYTES => break,
                None => {
                    let mut head = rest;
                    if head.get_u8() != 0 {
                        return Err("a response is compressed".into());
                    }
                    self.left = Some(head.get_u32() as usize);
                    at += FRAME_HEAD_BYTES;
                }
                Some(0) => {
                    self.left = None;
                    whole.push(std::mem::take(&mut self.told).told()?);
                }
                Some(left) => {
                    let Some((field, value, length)) = field(rest) else { break };
                    self.told.take(field, value)?;
                    self.left = Some(left.checked_sub(length).ok_or("a field is longer than its response")?);
                    at += length;
                }
            }
        }
        self.rest.drain(..at);
        Ok(whole)
    }
}

/// The first field, its value, and how long both are; none if it is not whole.
fn field(bytes: &[u8]) -> Option<(u64, &[u8], usize)> {
    let mut rest = bytes;
    let field = decode_varint(&mut rest).ok()?;
    let value = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
    let head = bytes.len() - rest.len();
    Some((field, rest.get(..value)?, head + value))
}

impl Response {
    fn take(&mut self, field: u64, value: &[u8]) -> Result<(), String> {
        let text = || String::from_utf8(value.to_vec()).map_err(|error| error.to_string());
        match field {
            RESOURCES => {
                let heading = Heading::decode(value).map_err(|error| error.to_string())?;
                self.bytes += value.len();
                self.resources.push((heading.name, heading.version));
            }
            TYPE_URL => self.type_url = text()?,
            NONCE => self.nonce = text()?,
            REMOVED => self.removed.push(text()?),
            _ if field % 8 == LENGTH => {}
            _ => return Err(format!("a response has no field {field:#x}")),
        }
        Ok(())
    }

    fn told(self) -> Result<Told, String> {
        let kind = Kind::of_type_url(&self.type_url).ok_or_else(|| format!("unasked: {}", self.type_url))?;
        let Self { nonce, bytes, resources, removed, .. } = self;
        Ok(Told { kind, nonce, bytes, resources, removed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xds::wire;

    fn framed(names: &[&str], nonce: &str) -> Vec<u8> {
        let resource = |name: &&str| wire::Resource {
            version: format!("of {name}"),
            name: (*name).into(),
            resource: Some(wire::Any { type_url: "x".into(), value: vec![7; 300].into() }),
            aliases: vec!["alias".into()],
        };
        let response = wire::Response {
            system_version_info: "1".into(),
            resources: names.iter().map(|name| resource(name).encode_to_vec().into()).collect(),
            type_url: Kind::Address.type_url().into(),
            nonce: nonce.into(),
            removed_resources: vec!["gone".into()],
            control_plane: None,
        };
        super::super::framed(&response).to_vec()
    }

    #[test]
    fn responses_are_read_however_they_are_cut() {
        let bytes = [framed(&["a", "b"], "n1"), framed(&[], "n2"), framed(&["c"], "n3")].concat();
        for size in [1, 2, 7, 100, bytes.len()] {
            let mut reading = Reading::default();
            let told: Vec<Told> = bytes.chunks(size).flat_map(|chunk| reading.take(chunk).unwrap()).collect();
            let shown: Vec<_> =
                told.iter().map(|told| (&*told.nonce, told.resources.len(), told.removed.len())).collect();
            assert_eq!(shown, [("n1", 2, 1), ("n2", 0, 1), ("n3", 1, 1)], "{size}");
            assert_eq!(told[2].resources, [("c".to_owned(), "of c".to_owned())]);
            assert!(told[0].bytes > 600 && told[1].bytes == 0 && reading.rest.is_empty());
        }
    }

    #[test]
    fn what_is_no_response_is_said() {
        assert!(Reading::default().take(&[1, 0, 0, 0, 0]).is_err(), "compressed");
        assert!(Reading::default().take(&[0, 0, 0, 0, 0]).is_err(), "of no kind");
        assert!(Reading::default().take(&[0, 0, 0, 0, 1, 0x22, 2, b'a', b'b']).is_err(), "longer than it says");
    }
}
