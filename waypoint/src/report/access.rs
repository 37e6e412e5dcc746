//! One line of the access log for each request: Istio's default text, or the same as JSON.
//!
//! Values that come from callers are cut at a length, and quotes and control characters in them
//! are escaped, so that nobody writes lines of his own.

use super::outcome::{Outcome, Protocol};
use chassis::limits::LOG_VALUE_BYTES_MAX;
use std::{
    fmt::{self, Display, Write},
    net::SocketAddr,
    time::{Duration, SystemTime},
};

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Istio's default text.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl Format {
    /// The line of a request, with its line end.
    pub fn line(self, outcome: &Outcome) -> String {
        let mut line = String::with_capacity(512);
        // Writing to a string cannot fail.
        let _never = match self {
            Self::Text => text(&mut line, outcome),
            Self::Json => json(&mut line, outcome),
        };
        line.push('\n');
        line
    }
}

fn text(line: &mut String, o: &Outcome) -> fmt::Result {
    let (method, path) = asked(o);
    write!(line, "[{}] \"{} ", Timestamp(o.started), method)?;
    escaped(line, path.unwrap_or("-"))?;
    write!(line, " {}\" {} {} ", o.protocol.label(), o.status, o.flags)?;
    bare(line, Some(&o.details))?;
    line.push(' ');
    bare(line, o.termination.as_deref())?;
    line.push(' ');
    quoted(line, o.upstream_failure.as_deref())?;
    write!(line, " {} {} {} ", o.received_bytes, o.sent_bytes, o.duration.as_millis())?;
    line.write_fmt(format_args!("{} ", Dashed(o.upstream_time.map(|time| time.as_millis()))))?;
    quoted(line, o.header("x-forwarded-for"))?;
    line.push(' ');
    quoted(line, o.header("user-agent"))?;
    line.push(' ');
    quoted(line, Some(&o.request_id))?;
    line.push(' ');
    quoted(line, Some(&o.authority))?;
    write!(line, " \"{}\" ", Dashed(o.upstream))?;
    bare(line, Some(&o.cluster))?;
    write!(line, " {} {} {} ", Dashed(o.upstream_local), Dashed(o.downstream_local), Dashed(o.downstream_remote))?;
    bare(line, o.server_name.as_deref())?;
    line.push(' ');
    bare(line, Some(&o.route))
}

fn json(line: &mut String, o: &Outcome) -> fmt::Result {
    let (method, path) = asked(o);
    let http = o.protocol != Protocol::Tcp;
    let mut object = Object { line, first: true };
    object.text("start_time", Some(&Timestamp(o.started).to_string()))?;
    object.text("route_name", Some(&o.route))?;
    object.text("method", http.then_some(method))?;
    object.text("path", path)?;
    object.text("protocol", http.then_some(o.protocol.label()))?;
    object.number("response_code", o.status.into())?;
    object.text("response_flags", Some(&o.flags.to_string()))?;
    object.text("response_code_details", Some(&o.details))?;
    object.text("connection_termination_details", o.termination.as_deref())?;
    object.number("bytes_received", o.received_bytes)?;
    object.number("bytes_sent", o.sent_bytes)?;
    object.number("duration", millis(o.duration))?;
    object.text("upstream_service_time", o.upstream_time.map(|time| time.as_millis().to_string()).as_deref())?;
    object.text("x_forwarded_for", o.header("x-forwarded-for"))?;
    object.text("user_agent", o.header("user-agent"))?;
    object.text("request_id", Some(&o.request_id))?;
    object.text("authority", Some(&o.authority))?;
    object.address("upstream_host", o.upstream)?;
    object.text("upstream_cluster", Some(&o.cluster))?;
    object.address("upstream_local_address", o.upstream_local)?;
    object.address("downstream_local_address", o.downstream_local)?;
    object.address("downstream_remote_address", o.downstream_remote)?;
    object.text("requested_server_name", o.server_name.as_deref())?;
    object.text("upstream_transport_failure_reason", o.upstream_failure.as_deref())?;
    line.push('}');
    Ok(())
}

fn asked(o: &Outcome) -> (&str, Option<&str>) {
    if o.protocol == Protocol::Tcp {
        return ("-", None);
    }
    // Behind a rewriting proxy of Envoy's kind the path that was asked for first counts.
    (o.method.as_str(), o.header("x-envoy-original-path").or(Some(&o.path)))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Something or `-`.
struct Dashed<T>(Option<T>);

impl<T: Display> Display for Dashed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}

/// A word without quotes: blanks in it would shift the columns behind it.
fn bare(line: &mut String, value: Option<&str>) -> fmt::Result {
    let value = value.filter(|value| !value.is_empty()).unwrap_or("-");
    if value.contains(' ') { escaped(line, &value.replace(' ', "_")) } else { escaped(line, value) }
}

fn quoted(line: &mut String, value: Option<&str>) -> fmt::Result {
    line.push('"');
    escaped(line, value.filter(|value| !value.is_empty()).unwrap_or("-"))?;
    line.push('"');
    Ok(())
}

/// As in JSON, and no longer than a value may be.
fn escaped(line: &mut String, value: &str) -> fmt::Result {
    let end = value.floor_char_boundary(LOG_VALUE_BYTES_MAX);
    for c in value[..end].chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            c if c.is_control() => write!(line, "\\u{:04x}", u32::from(c))?,
            c => line.push(c),
        }
    }
    line.push_str(if end < value.len() { "…" } else { "" });
    Ok(())
}

/// An object that is written field by field; what is unknown is null.
struct Object<'a> {
    line: &'a mut String,
    first: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) -> fmt::Result {
        let before = if self.first { '{' } else { ',' };
        self.first = false;
        write!(self.line, "{before}\"{key}\":")
    }

    fn text(&mut self, key: &str, value: Option<&str>) -> fmt::Result {
        self.key(key)?;
        match value.filter(|value| !value.is_empty()) {
            Some(value) => quoted(self.line, Some(value)),
            None => self.line.write_str("null"),
        }
    }

    fn number(&mut self, key: &str, value: u64) -> fmt::Result {
        self.key(key)?;
        write!(self.line, "{value}")
    }

    fn address(&mut self, key: &str, value: Option<SocketAddr>) -> fmt::Result {
        self.key(key)?;
        match value {
            Some(value) => write!(self.line, "\"{value}\""),
            None => self.line.write_str("null"),
        }
    }
}

/// RFC 3339 with milliseconds, as Envoy's `START_TIME`.
struct Timestamp(SystemTime);

impl Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
        let at = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = at.to_calendar_date();
        let (hour, minute, second) = at.to_hms();
        let millis = since.subsec_millis();
        let month = u8::from(month);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}
