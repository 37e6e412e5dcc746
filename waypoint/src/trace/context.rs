//! Which trace a request belongs to: read from its headers and written for the backend.
//!
//! W3C Trace Context (`traceparent`, `tracestate`) counts first, then B3 in its single and in its
//! multiple form. What came in B3 goes on in B3 too, because its backend may know nothing else.
//! Ids that break the rules are as good as none: a new trace begins.

use crate::digits;
use http::{HeaderMap, HeaderName, HeaderValue};

/// One span of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: u128,
    /// The span.
    pub span: u64,
    /// Whether the trace is recorded, if anybody said.
    pub sampled: Option<bool>,
    form: Form,
}

/// In which headers it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    W3c,
    B3Single { short: bool },
    B3Multiple { short: bool },
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACEPARENT_BYTES: usize = 55;
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

impl Context {
    /// The caller's span, if its headers name one.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        w3c(headers).or_else(|| b3_single(headers)).or_else(|| b3_multiple(headers))
    }

    /// The beginning of a trace. Zero stands for "none" on the wire, so a zero becomes one.
    pub fn new(trace: u128, span: u64) -> Self {
        Self { trace: trace.max(1), span: span.max(1), sampled: None, form: Form::W3c }
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn child(self, span: u64, sampled: bool) -> Self {
        Self { span: span.max(1), sampled: Some(sampled), ..self }
    }

    /// Writes it for the backend, whose parent it is. `parent` is the span it came from.
    pub fn write(&self, parent: Option<&Self>, headers: &mut HeaderMap) {
        let sampled = self.sampled.unwrap_or_default();
        // Without a `traceparent` before it, a `tracestate` belongs to nothing.
        if !parent.is_some_and(|parent| parent.form == Form::W3c) {
            headers.remove(TRACESTATE);
        }
        let flags = u8::from(sampled);
        put(headers, TRACEPARENT, self.traceparent(sampled));
        let trace = |short: bool| if short { format!("{:016x}", self.trace) } else { format!("{:032x}", self.trace) };
        let above = || parent.map(|parent| format!("{:016x}", parent.span));
        match self.form {
            Form::W3c => {}
            Form::B3Single { short } => {
                let above = above().map_or_else(String::new, |above| format!("-{above}"));
                put(headers, B3, format!("{}-{:016x}-{flags}{above}", trace(short), self.span));
            }
            Form::B3Multiple { short } => {
                put(headers, B3_TRACE, trace(short));
                put(headers, B3_SPAN, format!("{:016x}", self.span));
                if let Some(above) = above() {
                    put(headers, B3_PARENT, above);
                }
                headers.remove(B3_FLAGS);
                put(headers, B3_SAMPLED, flags.to_string());
            }
        }
    }

    /// As W3C writes it.
    fn traceparent(&self, sampled: bool) -> String {
        let mut text = String::with_capacity(TRACEPARENT_BYTES);
        text.push_str("00-");
        digits::hexadecimal(&mut text, self.trace, 32);
        text.push('-');
        digits::hexadecimal(&mut text, self.span.into(), 16);
        text.push_str(if sampled { "-01" } else { "-00" });
        text
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// The only value of a header.
fn one(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).into_iter();
    let first = values.next()?;
    // Two of them contradict each other.
    if values.next().is_some() { None } else { first.to_str().ok() }
}

/// Hexadecimal digits of this number, not all zero.
fn hex(digits: &str, count: usize) -> Option<u128> {
    let plain = digits.len() == count && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let number = plain.then(|| u128::from_str_radix(digits, 16).ok()).flatten()?;
    (number != 0).then_some(number)
}

fn span(digits: &str) -> Option<u64> {
    u64::try_from(hex(digits, 16)?).ok()
}

fn w3c(headers: &HeaderMap) -> Option<Context> {
    let text = one(headers, TRACEPARENT)?;
    let mut parts = text.split('-');
    let (version, trace, of, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let version_is_known = version == "00" && parts.next().is_none();
    // Later versions may have more fields, and begin with these (W3C Trace Context §3.2.4).
    let version_is_later = version != "00" && version != "ff" && hex(version, 2).is_some();
    let flags = (flags.len() == 2).then(|| u8::from_str_radix(flags, 16).ok()).flatten()?;
    let (trace, span) = (hex(trace, 32)?, span(of)?);
    let sampled = Some(flags & 1 == 1);
    (version_is_known || version_is_later).then_some(Context { trace, span, sampled, form: Form::W3c })
}

/// A trace of B3 has 32 digits, or 16.
fn b3_trace(digits: &str) -> Option<(u128, bool)> {
    let digits = digits.to_ascii_lowercase();
    let short = digits.len() == 16;
    Some((hex(&digits, if short { 16 } else { 32 })?, short))
}

fn b3_sampled(text: &str) -> Option<bool> {
    match text {
        "1" | "d" | "true" | "True" => Some(true),
        "0" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn b3_single(headers: &HeaderMap) -> Option<Context> {
    let mut parts = one(headers, B3)?.split('-');
    let (trace, short) = b3_trace(parts.next()?)?;
    let span = span(&parts.next()?.to_ascii_lowercase())?;
    let sampled = parts.next().and_then(b3_sampled);
    Some(Context { trace, span, sampled, form: Form::B3Single { short } })
}

fn b3_multiple(headers: &HeaderMap) -> Option<Context> {
    let (trace, short) = b3_trace(one(headers, B3_TRACE)?)?;
    let span = span(&one(headers, B3_SPAN)?.to_ascii_lowercase())?;
    let debug = one(headers, B3_FLAGS) == Some("1");
    let sampled = if debug { Some(true) } else { one(headers, B3_SAMPLED).and_then(b3_sampled) };
    Some(Context { trace, span, sampled, form: Form::B3Multiple { short } })
}

/// What a caller says of sampling without naming a trace: `b3: 0`, `x-b3-sampled: 0`.
pub(super) fn wish(headers: &HeaderMap) -> Option<bool> {
    one(headers, B3).or_else(|| one(headers, B3_SAMPLED)).and_then(b3_sampled)
}
