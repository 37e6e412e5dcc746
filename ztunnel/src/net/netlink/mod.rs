//! Netlink, as little of it as links, routes and firewall rules need: build a
//! message, send it, read the answer.
//!
//! Everything blocks: the kernel answers at once or not at all, and a socket
//! belongs for life to the namespace it was opened in. A deadline guards
//! against a kernel that does not answer.

mod socket;

pub(super) use socket::{Family, Socket};

const HEADER_BYTES: usize = 16;
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

pub(super) const F_REQUEST: u16 = 0x1;
pub(super) const F_ACK: u16 = 0x4;
pub(super) const F_DUMP: u16 = 0x300;
pub(super) const F_REPLACE: u16 = 0x100;
pub(super) const F_EXCL: u16 = 0x200;
pub(super) const F_CREATE: u16 = 0x400;
pub(super) const F_APPEND: u16 = 0x800;

/// A message under construction. Lengths are filled in as it grows.
#[derive(Debug, Clone)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of a kind with its fixed part; `F_REQUEST` is implied.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | F_REQUEST).to_ne_bytes());
        bytes.extend_from_slice(fixed);
        Self { bytes }
    }

    /// Appends an attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        push_attribute(&mut self.bytes, kind, value);
        self
    }

    /// Appends a name, which the kernel wants to end with a zero byte.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attribute(kind, &zero_ended(value))
    }

    /// Appends an attribute that holds attributes.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes)) -> &mut Self {
        let mut inner = Attributes::default();
        fill(&mut inner);
        self.attribute(kind, &inner.bytes)
    }

    fn seal(&mut self, sequence: u32, extra_flags: u16) {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | extra_flags;
        self.bytes[0..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }
}

/// The inside of a nested attribute under construction.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    /// Appends bytes that come before the attributes, such as the header of a
    /// message within a message.
    pub(super) fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends an attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        push_attribute(&mut self.bytes, kind, value);
        self
    }

    /// Appends a name.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attribute(kind, &zero_ended(value))
    }

    /// Appends an attribute that holds attributes.
    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.attribute(kind, &inner.bytes)
    }

    /// What has been built.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// The attributes in a piece of a message, as far as it is well-formed.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..len)?;
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some((kind & ATTRIBUTE_TYPE_MASK, value))
    })
}

/// The value of one attribute.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A name as the kernel gives it, with or without its zero byte.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn push_attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).expect("callers keep attributes below 64 KiB");
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(aligned(bytes.len()), 0);
}

fn zero_ended(value: &str) -> Vec<u8> {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}
