//! Header blocks (RFC 7541).
//!
//! The decoder takes all that a peer may send, with a table of the usual 4096 bytes; who calls it
//! bounds what comes out. The encoder makes literals and names of the static table only, and says
//! in its first block that it keeps no table, so that no peer keeps one for us.

mod codes;
mod huffman;
mod integer;
mod table;

pub(crate) use table::ENTRY_BYTES;

use std::ops::ControlFlow;
use table::{AUTHORITY, METHOD, STATUS, Table};

/// What a peer's table may hold: what HTTP/2 begins with.
const TABLE_BYTES: usize = 4096;

/// A block that is none, after which nothing more can be understood on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads the blocks of one connection, in the order they came.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
}

/// How a field is written.
enum Form {
    Indexed,
    /// A literal, with so many bits for the index of its name.
    Literal {
        prefix: u32,
        insert: bool,
    },
    TableSize,
}

impl Form {
    fn of(first: u8) -> Self {
        match first {
            0x80.. => Self::Indexed,
            0x40.. => Self::Literal { prefix: 6, insert: true },
            0x20.. => Self::TableSize,
            // Whether it may be put into a table by others down the line: there are none.
            _ => Self::Literal { prefix: 4, insert: false },
        }
    }
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self { table: Table::new(TABLE_BYTES) }
    }

    /// Reads a block and hands its fields over, until `field` breaks: then the connection is lost.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        mut field: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Malformed> {
        let mut may_resize = true;
        let mut text = Vec::new();
        while let Some(first) = block.first() {
            let flow = match Form::of(*first) {
                Form::Indexed => {
                    let index = integer::take(&mut block, 7)?;
                    let (name, value) = self.table.field(index).ok_or(Malformed)?;
                    field(name, value)
                }
                Form::Literal { prefix, insert } => self.literal(&mut block, prefix, insert, &mut text, &mut field)?,
                Form::TableSize => {
                    let bytes = integer::take(&mut block, 5)?;
                    if !may_resize || bytes > TABLE_BYTES {
                        return Err(Malformed);
                    }
                    self.table.set_bytes_max(bytes);
                    continue;
                }
            };
            may_resize = false;
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn literal(
        &mut self,
        block: &mut &[u8],
        prefix: u32,
        insert: bool,
        text: &mut Vec<u8>,
        field: &mut impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Malformed> {
        text.clear();
        match integer::take(block, prefix)? {
            0 => string(block, text)?,
            index => text.extend(self.table.field(index).ok_or(Malformed)?.0),
        }
        let name_bytes = text.len();
        string(block, text)?;
        let (name, value) = text.split_at(name_bytes);
        if insert {
            self.table.insert(name, value);
        }
        Ok(field(name, value))
    }
}

/// Takes a string off the front of a block and appends it.
fn string(block: &mut &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    let coded = block.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer::take(block, 7)?;
    let (string, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    match coded {
        true => huffman::decode(string, into).ok_or(Malformed),
        false => {
            into.extend(string);
            Ok(())
        }
    }
}

/// Writes the blocks of one connection.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    said_no_table: bool,
}

impl Encoder {
    /// Puts before a block what must stand before the first one.
    pub(crate) fn first(&mut self, mut block: Vec<u8>) -> Vec<u8> {
        // Said before the peer asks for it: one that lowers its limit wants to hear of it, and one
        // that never had more than nothing does not.
        if !std::mem::replace(&mut self.said_no_table, true) {
            block.insert(0, 0x20);
        }
        block
    }
}

/// Appends `:method: CONNECT` and the `:authority`.
pub(crate) fn put_connect(authority: &str, block: &mut Vec<u8>) {
    put_indexed_name(METHOD, b"CONNECT", block);
    put_indexed_name(AUTHORITY, authority.as_bytes(), block);
}

/// Appends the `:status`.
pub(crate) fn put_status(status: http::StatusCode, block: &mut Vec<u8>) {
    match status.as_u16() {
        200 => integer::put(0x80, 7, STATUS, block),
        400 => integer::put(0x80, 7, STATUS + 4, block),
        _ => put_indexed_name(STATUS, status.as_str().as_bytes(), block),
    }
}

/// Appends a field. The name must be in lower case.
pub(crate) fn put_field(name: &str, value: &[u8], block: &mut Vec<u8>) {
    block.push(0);
    put_string(name.as_bytes(), block);
    put_string(value, block);
}

fn put_indexed_name(index: usize, value: &[u8], block: &mut Vec<u8>) {
    integer::put(0, 4, index, block);
    put_string(value, block);
}

fn put_string(text: &[u8], block: &mut Vec<u8>) {
    integer::put(0, 7, text.len(), block);
    block.extend(text);
}

#[cfg(test)]
mod tests;
