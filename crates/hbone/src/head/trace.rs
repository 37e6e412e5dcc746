//! The sender's span: the `traceparent` header (W3C trace context, version 00).

use std::fmt;

/// Bytes of the header's only form.
const BYTES: usize = 55;

/// Trace and span of a connection, to find the two ends of one tunnel in two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace: u128,
    span: u64,
    flags: u8,
}

impl TraceParent {
    /// A span of random numbers that the caller throws; not sampled. Zero stands for "none" on
    /// the wire, so a zero becomes one.
    pub fn new(trace: u128, span: u64) -> Self {
        Self { trace: trace.max(1), span: span.max(1), flags: 0 }
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
        let (trace, span) = (read(trace)?, u64::try_from(read(span)?).ok()?);
        let flags = u8::try_from(read(flags)?).ok()?;
        (trace != 0 && span != 0).then_some(Self { trace, span, flags })
    }

    /// The trace, as 32 hex digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The span, as 16 hex digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// Another span of the same trace.
    pub fn child(&self, span: u64) -> Self {
        Self { span: span.max(1), ..*self }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}
