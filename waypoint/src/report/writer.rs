//! Access log lines → standard output, on a thread of their own. Nobody who serves a request ever
//! waits: when the queue is full the line is dropped and counted.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter},
};
use std::{
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

/// Lines that wait. At 500 bytes a line this is 8 MiB; at 20,000 requests a second, most of a
/// second of a reader that stalls.
const LINES_QUEUED_MAX: usize = 16 * 1024;

/// Bytes that are gathered for one call of the kernel: some 130 lines.
const BATCH_BYTES: usize = 64 * 1024;

/// How long the end of a process waits for its log.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Where lines go. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    Line(String),
    Flush(SyncSender<()>),
}

impl Writer {
    /// Starts the thread.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, messages) = sync_channel(LINES_QUEUED_MAX);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(out, &messages))?;
        Ok(Self { queue, dropped: Arc::default() })
    }

    /// Hands over a whole line with its line end.
    pub fn send(&self, line: String) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// How many lines could not be written fast enough.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Waits until what was handed over is written, for a second at most. Blocks the thread.
    pub fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _late = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// What Prometheus reads of it.
impl Collector for Writer {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (name, help) = ("waypoint_access_log_lines_dropped", "Access log lines that could not be written in time");
        let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(self.dropped()).encode(metric)
    }
}

/// Gathers what is waiting and writes it with one call; ends when the last [`Writer`] is dropped.
///
/// Then it lets lines gather. A thread that waits for the next line is woken by each: that was a fifth of
/// the CPU of a request (a futex call and an interrupt of another core for who serves, a switch of
/// threads and half a `write` here), and now is one wake-up for some 200 lines.
fn write_all(mut out: impl Write, messages: &Receiver<Message>) {
    let mut batch = String::with_capacity(BATCH_BYTES);
    let mut flushed: Vec<SyncSender<()>> = Vec::new();
    while let Ok(first) = messages.recv() {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => batch.push_str(&line),
                Message::Flush(done) => flushed.push(done),
            }
            next = if batch.len() < BATCH_BYTES { messages.try_recv().ok() } else { None };
        }
        let more_waits = batch.len() >= BATCH_BYTES;
        // Whoever reads our output may have gone; requests are served without a log.
        let _nobody_to_tell = out.write_all(batch.as_bytes()).and_then(|()| out.flush());
        batch.clear();
        batch.shrink_to(2 * BATCH_BYTES);
        for done in flushed.drain(..) {
            let _gone = done.send(());
        }
        if !more_waits {
            chassis::telemetry::gather();
        }
    }
}
