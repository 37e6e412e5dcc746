//! Moves the bytes of one connection between its socket and its core.

use super::{
    batch::{Batch, PARTS},
    config::Config,
    core::Core,
    failure::Lost,
    shared::Shared,
};
use crate::keep::Keep;
use bytes::BytesMut;
use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, Sleep},
};

/// What a read is made for at first: one TLS record…
const READ_BYTES_LEAST: usize = 16 << 10;
/// …and while much comes: eight, so that a reader gets few large pieces.
const READ_BYTES_MOST: usize = 128 << 10;
/// What is left of a buffer is copied out of it if it is less.
const COPY_BELOW: usize = 4 << 10;
/// Answers that wait for a peer which does not read. It is not heard until it does.
const CONTROL_BYTES_MAX: usize = 16 << 10;
/// Reads and writes of one connection before others have their turn.
const ROUNDS: usize = 16;
/// How long a peer that was told why it is cut off may go on to talk. A socket that is closed while something comes
/// resets the connection, and takes what was said last with it.
const LINGER: Duration = Duration::from_secs(1);
/// How much it may say in that time: what the buffers of two sockets hold.
const LINGER_BYTES: usize = 8 << 20;

thread_local! {
    /// A buffer for whichever connection reads: none is kept by one that waits.
    static SPARE: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// One connection's socket, and what is on its way there.
pub(super) struct Driver<IO> {
    io: IO,
    shared: Arc<Shared>,
    /// Read, and not enough to be understood.
    unread: BytesMut,
    read_bytes: usize,
    batch: Batch,
    unflushed: bool,
    /// Answers in the core that no batch has taken.
    control_bytes: usize,
    /// Something was heard since this was asked.
    heard: Option<Instant>,
    keep: Keep,
    wakes: Vec<Waker>,
    /// All was said, also why; what still comes is for nobody.
    lingers: Option<Lingering>,
    over: bool,
}

/// What a peer may still say that was told to go.
struct Lingering {
    time: Pin<Box<Sleep>>,
    bytes: usize,
}

/// What a connection has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Somebody asks for a tunnel.
    Asked,
    /// The connection has ended.
    Over,
}

enum Read {
    /// Nothing more is there.
    All,
    /// More may be.
    Some,
    /// It would be read if the peer read.
    Clogged,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    pub(super) fn new(io: IO, config: Config, keep: Keep) -> Self {
        Self {
            io,
            shared: Shared::new(Core::new(config)),
            unread: BytesMut::new(),
            read_bytes: READ_BYTES_LEAST,
            batch: Batch::default(),
            unflushed: false,
            control_bytes: 0,
            heard: None,
            keep,
            wakes: Vec::new(),
            lingers: None,
            over: false,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Moves what can be moved.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.over {
            return Poll::Ready(Turn::Over);
        }
        for _ in 0..ROUNDS {
            if self.lingers.is_some() {
                return self.hear_out(cx);
            }
            let (read, asked) = self.read(cx);
            if self.keep.poll(cx, self.heard.take(), || self.shared.with(Core::ping)).is_ready() {
                self.lose(Lost::Silent);
            }
            let written = self.write(cx);
            if self.lingers.is_some() {
                continue;
            }
            if self.over {
                return Poll::Ready(Turn::Over);
            }
            if asked {
                return Poll::Ready(Turn::Asked);
            }
            match (read, written) {
                (Read::All, _) | (Read::Clogged, Poll::Pending) => return Poll::Pending,
                (Read::Some, _) | (Read::Clogged, Poll::Ready(())) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when the peer has begun as it should.
    pub(super) fn poll_begun(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What else it has come to is met again.
        let _ = self.poll(cx);
        let (begun, lost) = self.shared.with(|core| (core.begun(), core.lost().cloned()));
        match lost {
            _ if begun => Poll::Ready(Ok(())),
            Some(lost) => Poll::Ready(Err(lost.error())),
            None => Poll::Pending,
        }
    }

    /// Reads as much as is there, up to a buffer's worth; true with it if somebody asks for a tunnel.
    fn read(&mut self, cx: &mut Context<'_>) -> (Read, bool) {
        if !self.batch.is_empty() && self.control_bytes > CONTROL_BYTES_MAX {
            return (Read::Clogged, false);
        }
        let mut buffer = SPARE.take().unwrap_or_default();
        if !self.unread.is_empty() {
            buffer.extend_from_slice(&std::mem::take(&mut self.unread));
        }
        let before = buffer.len();
        let end = self.fill(cx, &mut buffer);
        let read = buffer.len() - before;
        let mut asked = false;
        if read > 0 {
            let now = Instant::now();
            let lives;
            (self.control_bytes, asked, lives) = self.shared.drive(&mut self.wakes, |core| {
                core.receive(&mut buffer, now.into_std());
                (core.control_bytes(), core.is_asked(), core.lost().is_none())
            });
            // One that is told why it is cut off has no say in how long that takes.
            self.heard = lives.then_some(now);
            self.adapt(read);
        }
        self.put_away(buffer);
        match end {
            Poll::Pending => (Read::All, asked),
            Poll::Ready(Ok(false)) => (Read::Some, asked),
            Poll::Ready(Ok(true)) => {
                self.lose_by_end();
                (Read::All, false)
            }
            Poll::Ready(Err(error)) => {
                self.lose(error.into());
                (Read::All, false)
            }
        }
    }

    /// Fills a buffer; ready when it is full, and with true at the end of what comes.
    fn fill(&mut self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<bool>> {
        let most = buffer.len() + self.read_bytes;
        if buffer.capacity() - buffer.len() < self.read_bytes / 2 {
            buffer.reserve(self.read_bytes);
        }
        while buffer.len() < most && buffer.len() < buffer.capacity() {
            match ready!(pin!(self.io.read_buf(buffer)).poll(cx)) {
                Ok(0) => return Poll::Ready(Ok(true)),
                // What TLS says of a peer that leaves without a word; many do.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(true)),
                Err(error) => return Poll::Ready(Err(error)),
                Ok(_) => {}
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Reads more at once while much comes, and less when less does.
    fn adapt(&mut self, read: usize) {
        if read >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MOST);
        } else if read < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_LEAST);
        }
    }

    /// Keeps what was not understood, and leaves the buffer to others.
    fn put_away(&mut self, mut buffer: BytesMut) {
        if buffer.len() >= COPY_BELOW {
            self.unread = buffer;
            return;
        }
        if !buffer.is_empty() {
            self.unread = BytesMut::from(&buffer[..]);
            buffer.clear();
        }
        SPARE.set(Some(buffer));
    }

    /// Writes all that there is; pending while the socket takes no more.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.try_write(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(error)) => {
                self.lose(error.into());
                self.over = true;
                Poll::Ready(())
            }
        }
    }

    fn try_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // What TLS has not got rid of comes first: it takes four whole records when it has nothing
            // left, and cuts them anywhere when it has.
            if self.unflushed {
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                self.unflushed = false;
            }
            if self.batch.is_empty() {
                let lost = self.next_batch(cx.waker());
                match (self.batch.is_empty(), lost) {
                    (true, None) => return Poll::Ready(Ok(())),
                    (true, Some(lost)) => return self.shut_down(cx, &lost),
                    // There is nobody to write to.
                    (false, Some(lost)) if lost.is_sudden() => return self.shut_down(cx, &lost),
                    (false, _) => {}
                }
            }
            let mut slices = [IoSlice::new(&[]); PARTS];
            let parts = self.batch.slices(&mut slices);
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..parts]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.batch.advance(written);
            self.unflushed = true;
        }
    }

    /// Takes what is to be written next; where there is nothing, waits to be woken.
    fn next_batch(&mut self, waker: &Waker) -> Option<Arc<Lost>> {
        let batch = &mut self.batch;
        self.control_bytes = 0;
        self.shared.drive(&mut self.wakes, |core| {
            core.transmit(batch);
            if batch.is_empty() {
                core.rest(waker);
            }
            core.lost().cloned()
        })
    }

    fn shut_down(&mut self, cx: &mut Context<'_>, lost: &Lost) -> Poll<io::Result<()>> {
        // Whether that works does not matter any more.
        let _ = ready!(Pin::new(&mut self.io).poll_shutdown(cx));
        match lost {
            Lost::Ours(_) if !self.over => {
                let time = Box::pin(tokio::time::sleep(LINGER));
                self.lingers = Some(Lingering { time, bytes: LINGER_BYTES });
            }
            _ => self.over = true,
        }
        Poll::Ready(Ok(()))
    }

    /// Throws away what a peer says that was told to go, until it has gone or its time is over.
    fn hear_out(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        let mut buffer = SPARE.take().unwrap_or_default();
        let heard = self.fill(cx, &mut buffer);
        let bytes = buffer.len();
        buffer.clear();
        SPARE.set(Some(buffer));
        let ends = self.lingers.as_mut().is_none_or(|left| {
            left.bytes = left.bytes.saturating_sub(bytes);
            left.bytes == 0 || left.time.as_mut().poll(cx).is_ready()
        });
        match heard {
            Poll::Pending if !ends => Poll::Pending,
            Poll::Ready(Ok(false)) if !ends => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => {
                self.over = true;
                Poll::Ready(Turn::Over)
            }
        }
    }

    fn lose(&mut self, lost: Lost) {
        self.over |= lost.is_sudden();
        self.shared.drive(&mut self.wakes, |core| core.lose(lost));
    }

    fn lose_by_end(&mut self) {
        self.over = true;
        self.shared.drive(&mut self.wakes, Core::receive_end);
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        // Whoever still holds a tunnel hears of it.
        self.shared.with(|core| core.lose(Lost::Vanished));
    }
}
