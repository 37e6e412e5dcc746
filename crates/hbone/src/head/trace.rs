//! The sender's span: the `traceparent` header (W3C trace context, version 00).

use std::{fmt, num::NonZeroU64};

/// Bytes of the header's only form.
const BYTES: usize = 55;

/// Trace and span of a connection, to find the two ends of one tunnel in two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// In halves: a number of 128 bits takes sixteen more bytes of whatever it is kept in.
    trace: [u64; 2],
    span: NonZeroU64,
    flags: u8,
}

impl TraceParent {
    /// A span of random numbers that the caller throws; not sampled. Zero stands for "none" on
    /// the wire, so a zero becomes one.
    pub fn new(trace: u128, span: u64) -> Self {
        Self { trace: halves(trace.max(1)), span: or_one(span), flags: 0 }
    }

    /// Reads `00-<32 hex>-<16 hex>-<2 hex>` in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != BYTES || !text.is_ascii() {
            return None;
        }
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "00" || (trace.len(), span.len(), flags.len()) != (32, 16, 2) || parts.next().is_some() {
            return None;
        }
        let read = |digits: &str| {
            let plain = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if plain { u128::from_str_radix(digits, 16).ok() } else { None }
        };
        let (trace, span) = (read(trace)?, NonZeroU64::new(u64::try_from(read(span)?).ok()?)?);
        let flags = u8::try_from(read(flags)?).ok()?;
        (trace != 0).then_some(Self { trace: halves(trace), span, flags })
    }

    /// The trace, as 32 hex digits.
    pub fn trace_id(&self) -> String {
        let [high, low] = self.trace;
        format!("{high:016x}{low:016x}")
    }

    /// The span, as 16 hex digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// Another span of the same trace.
    pub fn child(&self, span: u64) -> Self {
        Self { span: or_one(span), ..*self }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, low] = self.trace;
        write!(f, "00-{high:016x}{low:016x}-{:016x}-{:02x}", self.span, self.flags)
    }
}

fn halves(trace: u128) -> [u64; 2] {
    [(trace >> 64) as u64, trace as u64]
}

fn or_one(span: u64) -> NonZeroU64 {
    NonZeroU64::new(span).unwrap_or(NonZeroU64::MIN)
}
