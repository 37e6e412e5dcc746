//! Integers with a prefix (RFC 7541 §5.1).

use super::Malformed;

/// Larger ones stand for nothing that we take, and need no more bytes than this after the prefix.
const BYTES_MAX: u32 = 4;

/// Takes an integer off the front of a block, of which the first byte has this many bits of it.
pub(super) fn take(block: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(byte(block)?) & mask;
    if value < mask {
        return Ok(value);
    }
    for place in 0..BYTES_MAX {
        let byte = byte(block)?;
        value += usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// Appends an integer, with the bits of `first` above the prefix.
pub(super) fn put(first: u8, prefix: u32, value: usize, into: &mut Vec<u8>) {
    let mask = (1_usize << prefix) - 1;
    if value < mask {
        into.push(first | value as u8);
        return;
    }
    into.push(first | mask as u8);
    let mut rest = value - mask;
    while rest >= 0x80 {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}

fn byte(block: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = block.split_first().ok_or(Malformed)?;
    *block = rest;
    Ok(*first)
}
