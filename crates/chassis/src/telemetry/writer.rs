//! Lines → standard output, on a thread of its own. Nobody who logs ever waits: when the queue is
//! full the line is dropped and counted.

use crate::limits;
use std::{
    io::Write,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    time::Duration,
};

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many log lines this process dropped because they could not be written fast enough.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The thread, seen from the one who ends it.
#[derive(Debug)]
pub(super) struct Writer {
    queue: SyncSender<Message>,
}

/// The thread, seen from those who log.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    queue: SyncSender<Message>,
}

enum Message {
    Line(String),
    Flush(SyncSender<()>),
}

/// How long the end of a process waits for its log to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// `lost` makes the line that says how many lines were dropped.
pub(super) fn start(out: impl Write + Send + 'static, lost: fn(u64) -> String) -> std::io::Result<(Writer, Sink)> {
    let (queue, messages) = sync_channel(limits::LOG_LINES_QUEUED_MAX);
    std::thread::Builder::new().name("log".into()).spawn(move || write_all(out, &messages, lost))?;
    Ok((Writer { queue: queue.clone() }, Sink { queue }))
}

impl Sink {
    /// Hands over a whole line with its line end.
    pub(super) fn send(&self, line: String) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writer {
    pub(super) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        if self.queue.try_send(Message::Flush(done)).is_ok() {
            let _late = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Gathers what is waiting and writes it with one call, and then lets lines gather: a thread that
/// waits for the next one is woken by each, which costs who logs more than the line does.
fn write_all(mut out: impl Write, messages: &Receiver<Message>, lost: fn(u64) -> String) {
    let mut batch = String::with_capacity(limits::LOG_BATCH_BYTES);
    let mut flushed: Vec<SyncSender<()>> = Vec::new();
    let mut reported = 0;
    while let Ok(first) = messages.recv() {
        let mut next = Ok(first);
        loop {
            match next {
                Ok(Message::Line(line)) => batch.push_str(&line),
                Ok(Message::Flush(done)) => flushed.push(done),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
            if batch.len() >= limits::LOG_BATCH_BYTES {
                break;
            }
            next = messages.try_recv();
        }
        let more_waits = batch.len() >= limits::LOG_BATCH_BYTES;
        let now = dropped();
        if now > reported {
            batch.push_str(&lost(now - reported));
            reported = now;
        }
        // Whoever reads our output may have gone; the process goes on without a log.
        let _nobody_to_tell = out.write_all(batch.as_bytes()).and_then(|()| out.flush());
        batch.clear();
        batch.shrink_to(2 * limits::LOG_BATCH_BYTES);
        for done in flushed.drain(..) {
            let _gone = done.send(());
        }
        if !more_waits {
            gather();
        }
    }
}

/// Lets lines gather, for a thread that writes a log and has just written all there were.
#[expect(clippy::disallowed_methods, reason = "nothing is waited for: it is the time in which lines wake nobody")]
pub fn gather() {
    std::thread::sleep(limits::LOG_GATHERED);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_written_in_order_before_a_flush_returns() {
        let page = Page::default();
        let (writer, sink) = start(page.clone(), |_| String::new()).unwrap();
        for n in 0..1000 {
            sink.send(format!("{n}\n"));
        }
        writer.flush();
        let expected: String = (0..1000).map(|n| format!("{n}\n")).collect();
        assert_eq!(String::from_utf8(page.0.lock().unwrap().clone()).unwrap(), expected);
    }

    #[test]
    fn who_logs_never_waits_and_lost_lines_are_counted() {
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
                let _released = self.0.recv();
                Ok(text.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (release, stuck) = sync_channel(0);
        let (_writer, sink) = start(Stuck(stuck), |_| String::new()).unwrap();
        let before = dropped();
        for _ in 0..limits::LOG_LINES_QUEUED_MAX * 3 {
            sink.send("x".repeat(30));
        }
        assert!(dropped() > before);
        drop(release);
    }
}
