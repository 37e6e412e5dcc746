//! An event → a line. It decides how a line looks and never where it goes.

use super::{
    Format,
    text::{Time, bare, displayed, push, quoted},
};
use std::{fmt, time::SystemTime};
use tracing::{
    Event, Id, Level, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

/// Makes lines and hands each to `sink`.
pub(super) struct Lines<S> {
    format: Format,
    now: fn() -> SystemTime,
    sink: S,
}

/// The fields of a span, written once when it is made.
struct SpanFields(String);

impl<S: Fn(String)> Lines<S> {
    pub(super) const fn new(format: Format, now: fn() -> SystemTime, sink: S) -> Self {
        Self { format, now, sink }
    }
}

impl<S, R> Layer<R> for Lines<S>
where
    S: Fn(String) + 'static,
    R: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, R>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::new(self.format);
        attributes.record(&mut fields);
        span.extensions_mut().insert(SpanFields(fields.text));
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, R>) {
        let Some(span) = context.span(id) else { return };
        if let Some(SpanFields(text)) = span.extensions_mut().get_mut() {
            let mut fields = Fields::new(self.format);
            std::mem::swap(&mut fields.text, text);
            record.record(&mut fields);
            *text = fields.text;
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, R>) {
        let mut fields = Fields::new(self.format);
        event.record(&mut fields);
        // Spans as `name` and its fields, outermost first.
        let mut spans = String::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let text = extensions.get().map_or("", |SpanFields(text)| text.as_str());
            match self.format {
                Format::Plain if text.is_empty() => push(&mut spans, format_args!(":{}", span.name())),
                Format::Plain => push(&mut spans, format_args!(":{}{{{text}}}", span.name())),
                Format::Json => push(&mut spans, format_args!(",\"{}\":{{{text}}}", span.name())),
            }
        }
        let (level, time) = (name(*event.metadata().level()), Time((self.now)()));
        let (target, Fields { message, text, .. }) = (event.metadata().target(), fields);
        let separator = match (text.is_empty(), self.format) {
            (true, _) => "",
            (false, Format::Plain) => "\t",
            (false, Format::Json) => ",",
        };
        let mut line = String::with_capacity(96 + target.len() + spans.len() + message.len() + text.len());
        match self.format {
            Format::Plain => {
                push(&mut line, format_args!("{time}\t{level}\t{target}{spans}\t{message}{separator}{text}\n"));
            }
            Format::Json => push(
                &mut line,
                format_args!(
                    "{{\"level\":\"{level}\",\"time\":\"{time}\",\"scope\":\"{target}\",\"message\":\"{message}\"\
                     {spans}{separator}{text}}}\n"
                ),
            ),
        }
        (self.sink)(line);
    }
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The message and the other fields of an event, already written in the format.
struct Fields {
    format: Format,
    message: String,
    text: String,
}

impl Fields {
    const fn new(format: Format) -> Self {
        Self { format, message: String::new(), text: String::new() }
    }

    /// Begins a field; what follows is its value.
    fn key(&mut self, field: &Field) -> &mut String {
        match self.format {
            Format::Plain => {
                let space = if self.text.is_empty() { "" } else { " " };
                push(&mut self.text, format_args!("{space}{}=", field.name()));
            }
            Format::Json => {
                let comma = if self.text.is_empty() { "" } else { "," };
                push(&mut self.text, format_args!("{comma}\"{}\":", field.name()));
            }
        }
        &mut self.text
    }

    /// Messages stand bare, and within the quotes that a JSON line has around them.
    fn set_message(&mut self, text: fmt::Arguments<'_>) {
        self.message.clear();
        match self.format {
            Format::Plain => bare(&mut self.message, self.format, text),
            Format::Json => {
                quoted(&mut self.message, self.format, text);
                self.message.pop();
                self.message.remove(0);
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            return self.set_message(format_args!("{value:?}"));
        }
        let format = self.format;
        displayed(self.key(field), format, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            return self.set_message(format_args!("{value}"));
        }
        let format = self.format;
        quoted(self.key(field), format, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let format = self.format;
        quoted(self.key(field), format, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        push(self.key(field), format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        push(self.key(field), format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        push(self.key(field), format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match (self.format, value.is_finite()) {
            (Format::Json, false) => push(self.key(field), format_args!("\"{value}\"")),
            _ => push(self.key(field), format_args!("{value}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        net::SocketAddr,
        sync::{Arc, Mutex},
        time::{Duration, UNIX_EPOCH},
    };
    use tracing_subscriber::layer::SubscriberExt;

    fn written(format: Format, act: impl FnOnce()) -> String {
        let page = Arc::new(Mutex::new(String::new()));
        let copy = page.clone();
        let now = || UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let lines = Lines::new(format, now, move |line: String| copy.lock().unwrap().push_str(&line));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), act);
        page.lock().unwrap().split_off(0)
    }

    fn an_access_line() {
        let address: SocketAddr = "10.0.0.1:80".parse().unwrap();
        tracing::event!(
            target: "access",
            Level::INFO,
            src.addr = %address,
            src.workload = "web\"\n",
            src.cluster = None::<&str>,
            bytes_sent = 7u64,
            duration = "3ms",
            "connection complete"
        );
    }

    #[test]
    fn a_plain_line_is_tab_separated_with_quoted_strings() {
        assert_eq!(
            written(Format::Plain, an_access_line),
            "2023-11-14T22:13:20.000000Z\tinfo\taccess\tconnection complete\t\
             src.addr=10.0.0.1:80 src.workload=\"web\\\"\\n\" bytes_sent=7 duration=\"3ms\"\n"
        );
    }

    #[test]
    fn a_json_line_is_json() {
        let text = written(Format::Json, an_access_line);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "level": "info", "time": "2023-11-14T22:13:20.000000Z", "scope": "access",
                "message": "connection complete", "src.addr": "10.0.0.1:80", "src.workload": "web\"\n",
                "bytes_sent": 7, "duration": "3ms",
            })
        );
        assert!(text.starts_with("{\"level\":\"info\",\"time\":"));
    }

    #[test]
    fn spans_stand_behind_the_target() {
        let act = || {
            let span = tracing::info_span!("xds", id = 1, later = tracing::field::Empty);
            span.record("later", "x y");
            span.in_scope(|| tracing::warn!(target: "client", "say \"hi\"\n{}", "\u{1b}[0m"));
        };
        assert_eq!(
            written(Format::Plain, act),
            "2023-11-14T22:13:20.000000Z\twarn\tclient:xds{id=1 later=\"x y\"}\tsay \"hi\"\\n\\u{1b}[0m\n"
        );
        let value: serde_json::Value = serde_json::from_str(&written(Format::Json, act)).unwrap();
        assert_eq!(value["xds"], serde_json::json!({"id": 1, "later": "x y"}));
        assert_eq!(value["message"], "say \"hi\"\n\u{1b}[0m");
    }
}
