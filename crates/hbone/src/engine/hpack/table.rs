//! What an index of a header block stands for: the static table (RFC 7541, Appendix A), and the
//! dynamic one that the peer fills.

use std::collections::VecDeque;

/// What an entry costs beyond its bytes (RFC 7541 §4.1).
pub(crate) const ENTRY_BYTES: usize = 32;

/// A name and a value.
type Field<'a> = (&'a [u8], &'a [u8]);

/// What the peer has put into its table. Holds nothing until it does.
#[derive(Debug)]
pub(super) struct Table {
    /// The newest is first.
    entries: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    /// Name and value, one after the other.
    text: Box<[u8]>,
    name_bytes: usize,
}

impl Entry {
    fn cost(&self) -> usize {
        self.text.len() + ENTRY_BYTES
    }
}

impl Table {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// What an index stands for, from 1.
    pub(super) fn field(&self, index: usize) -> Option<Field<'_>> {
        let at = index.checked_sub(1)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Some((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(at - STATIC.len())?;
        Some(entry.text.split_at(entry.name_bytes))
    }

    /// Adds a field. One that is larger than the table empties it.
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        let entry = Entry { text: [name, value].concat().into(), name_bytes: name.len() };
        self.shrink(self.bytes_max.saturating_sub(entry.cost()));
        if entry.cost() <= self.bytes_max {
            self.bytes += entry.cost();
            self.entries.push_front(entry);
        }
    }

    pub(super) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
        self.shrink(bytes_max);
    }

    fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let Some(oldest) = self.entries.pop_back() else { break };
            self.bytes -= oldest.cost();
        }
    }
}

/// `:authority`, of any value.
pub(super) const AUTHORITY: usize = 1;
/// `:method`, of any value.
pub(super) const METHOD: usize = 2;
/// `:status`, of any value.
pub(super) const STATUS: usize = 8;

pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
