//! Log lines: made on the thread that logs, written by one thread of their own.
//!
//! A plain line is `<time>\t<level>\t<target>[:span{fields}]\t<message>\t<key=value …>`, a JSON line
//! has `level`, `time`, `scope`, `message` and the fields. Text that came from a peer cannot begin a new
//! line or colour a terminal: control characters are written as escapes, strings are quoted.
//!
//! Rooms: `line` (an event → a line) · `text` (values → safe text) · `writer` (lines → standard
//! output) · `filter` (which lines, changed while running).

mod filter;
mod line;
mod text;
mod writer;

pub use filter::{BadFilter, Level};
pub use writer::{dropped, gather};

use std::str::FromStr;
use tracing_subscriber::layer::SubscriberExt;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Tab-separated text.
    #[default]
    Plain,
    /// One JSON object a line.
    Json,
}

/// A word that is no log format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log format {0:?} is unknown: use plain or json")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "plain" | "" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(text.chars().take(40).collect())),
        }
    }
}

/// The log of this process. Dropping it writes out what is waiting.
#[derive(Debug)]
#[must_use = "dropping the log at once loses lines that are logged later"]
pub struct Log {
    level: Level,
    writer: writer::Writer,
}

impl Log {
    /// Changes what is logged.
    pub fn level(&self) -> Level {
        self.level.clone()
    }

    /// Waits, for a second at most, until every line so far is written.
    pub fn flush(&self) {
        self.writer.flush();
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is wrong.
    #[error(transparent)]
    Filter(#[from] BadFilter),
    /// There is one already.
    #[error("the log of this process was started twice")]
    StartedTwice,
    /// The system gives no thread.
    #[error("cannot start the log writer's thread: raise the limit of processes")]
    Thread(#[source] std::io::Error),
}

/// Starts the log of this process, on standard output. `filter` has the syntax of `RUST_LOG`.
pub fn start(format: Format, filter: &str) -> Result<Log, LogError> {
    let (layer, level) = filter::layer(filter)?;
    let (writer, sink) = writer::start(std::io::stdout(), lost(format)).map_err(LogError::Thread)?;
    let lines = line::Lines::new(format, std::time::SystemTime::now, move |line| sink.send(line));
    let subscriber = tracing_subscriber::registry().with(layer).with(lines);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::StartedTwice)?;
    Ok(Log { level, writer })
}

/// The line about lines that were dropped. It cannot go through the log itself, which is full.
fn lost(format: Format) -> fn(u64) -> String {
    const TEXT: &str = "log lines were dropped: the output is too slow";
    match format {
        Format::Plain => |count| format!("{}\twarn\tlog\t{count} {TEXT}\n", rfc3339(std::time::SystemTime::now())),
        Format::Json => |count| {
            let time = rfc3339(std::time::SystemTime::now());
            format!("{{\"level\":\"warn\",\"time\":\"{time}\",\"scope\":\"log\",\"message\":\"{count} {TEXT}\"}}\n")
        },
    }
}

/// A moment as RFC 3339 in UTC with microseconds, as log lines have it.
pub fn rfc3339(moment: std::time::SystemTime) -> String {
    text::Time(moment).to_string()
}

/// What `act` logs on this thread, at every level, with nothing in the place of the time: for tests of log lines.
pub fn capture(format: Format, act: impl FnOnce()) -> String {
    use std::sync::{Arc, Mutex, PoisonError};
    let page = Arc::new(Mutex::new(String::new()));
    let copy = page.clone();
    let lines = line::Lines::new(
        format,
        || std::time::UNIX_EPOCH,
        move |line: String| {
            copy.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
        },
    );
    tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), act);
    let time = text::Time(std::time::UNIX_EPOCH).to_string();
    let text = page.lock().unwrap_or_else(PoisonError::into_inner).split_off(0);
    text.replace(&format!("{time}\t"), "").replace(&format!("\"time\":\"{time}\","), "")
}
