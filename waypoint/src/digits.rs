//! Numbers and addresses as text, for what is written for every request: its line in the access log, its trace, its
//! `x-forwarded-for`. Pure.
//!
//! The formatter of the standard library does the same and takes many more instructions for it; with it, these
//! texts were a sixth of all that a waypoint executes for a request (callgrind).

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// A number.
pub fn decimal(text: &mut String, number: u64) {
    text.push_str(itoa::Buffer::new().format(number));
}

/// A number in at least so many digits.
pub fn padded(text: &mut String, number: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number);
    text.extend(std::iter::repeat_n('0', width.saturating_sub(digits.len())));
    text.push_str(digits);
}

/// The last digits of a number, to base 16; 32 at most.
pub fn hexadecimal(text: &mut String, number: u128, width: usize) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut rest = number;
    let mut digits = [0; 32];
    for digit in digits.iter_mut().rev().take(width) {
        *digit = DIGITS[rest as usize & 0xf];
        rest >>= 4;
    }
    let wanted = &digits[32_usize.saturating_sub(width)..];
    text.push_str(std::str::from_utf8(wanted).expect("digits are ASCII"));
}

/// An address.
pub fn ip(text: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [first, rest @ ..] = address.octets();
            decimal(text, first.into());
            for part in rest {
                text.push('.');
                decimal(text, part.into());
            }
        }
        // Its short form has rules enough; writing to a string cannot fail.
        IpAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

/// An address with its port.
pub fn socket(text: &mut String, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            ip(text, (*address.ip()).into());
            text.push(':');
            decimal(text, address.port().into());
        }
        SocketAddr::V6(address) => drop(write!(text, "{address}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut text = "before ".to_owned();
        write(&mut text);
        text.split_off("before ".len())
    }

    proptest! {
        #[test]
        fn everything_is_as_the_standard_library_writes_it(
            number: u64, wide: u128, v4: [u8; 4], v6: [u8; 16], port: u16, width in 0_usize..24,
        ) {
            prop_assert_eq!(text(|text| decimal(text, number)), number.to_string());
            prop_assert_eq!(text(|text| padded(text, number >> 40, width)), format!("{:0width$}", number >> 40));
            prop_assert_eq!(text(|text| hexadecimal(text, wide, 32)), format!("{wide:032x}"));
            prop_assert_eq!(text(|text| hexadecimal(text, number.into(), 16)), format!("{number:016x}"));
            for address in [IpAddr::from(v4), IpAddr::from(v6)] {
                prop_assert_eq!(text(|text| ip(text, address)), address.to_string());
                let address = SocketAddr::new(address, port);
                prop_assert_eq!(text(|text| socket(text, address)), address.to_string());
            }
        }
    }
}
