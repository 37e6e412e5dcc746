//! Bodies on their way: a caller's request to an endpoint, once or again, with copies for others.
//!
//! Bytes are passed on frame by frame, so that whoever reads slowly slows down whoever sends. What is
//! kept for another try, and how far a copy may lag, is bounded.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::external::shown::Held;
use crate::limits::{MIRROR_LAG_FRAMES, REPLAY_BYTES_MAX};

/// Why a body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What is known of a request's body while it moves. Shared by all who move it.
#[derive(Debug)]
pub struct Passage {
    bytes: AtomicU64,
    ended: AtomicBool,
    ended_at: OnceLock<Instant>,
    failed: AtomicBool,
    whole: Notify,
    began: Instant,
    /// Milliseconds from `began` to the last byte, either way.
    moved: AtomicU64,
}

impl Default for Passage {
    fn default() -> Self {
        Self {
            bytes: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            ended_at: OnceLock::new(),
            failed: AtomicBool::new(false),
            whole: Notify::new(),
            began: Instant::now(),
            moved: AtomicU64::new(0),
        }
    }
}

impl Passage {
    /// Bytes that came.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// The caller broke its request off.
    pub fn failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Resolves when the whole request has come.
    pub async fn whole(&self) {
        loop {
            let mut notified = std::pin::pin!(self.whole.notified());
            notified.as_mut().enable();
            if self.ended.load(Relaxed) {
                return;
            }
            notified.await;
        }
    }

    /// Something moved, in either direction.
    pub fn touch(&self) {
        self.moved.store(self.began.elapsed().as_millis() as u64, Relaxed);
    }

    /// When something moved last.
    pub fn moved(&self) -> Instant {
        self.began + std::time::Duration::from_millis(self.moved.load(Relaxed))
    }

    /// When the whole request had come, if it has.
    pub fn ended_at(&self) -> Option<Instant> {
        self.ended_at.get().copied()
    }

    fn end(&self) {
        self.ended_at.get_or_init(Instant::now);
        self.ended.store(true, Relaxed);
        self.whole.notify_waiters();
    }
}

/// The body of a request that goes to an endpoint.
pub enum Outgoing {
    /// Nothing.
    Empty,
    /// All at once.
    Whole(Option<Bytes>),
    /// As the caller sends it.
    Once(Box<Source>),
    /// As the caller sends it, for the case that it must be sent again.
    Again(Attempt),
    /// A copy for somebody else.
    Copy(Copy),
    /// A request of our own to somebody who is asked.
    Own(tonic::body::Body),
}

/// A caller's body, as it comes or with a part of it that was read before.
pub enum Coming {
    /// As it comes.
    Incoming(Incoming),
    /// Its beginning was shown to somebody.
    Held(Box<Held<Incoming>>),
}

impl Body for Coming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Incoming(body) => Pin::new(body).poll_frame(cx),
            Self::Held(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(body) => body.is_end_stream(),
            Self::Held(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) => body.size_hint(),
            Self::Held(body) => body.size_hint(),
        }
    }
}

/// A caller's body, counted, and copied to whoever wants a copy.
pub struct Source {
    incoming: Coming,
    passage: Arc<Passage>,
    copies: Vec<mpsc::Sender<Frame<Bytes>>>,
}

impl Source {
    /// A caller's body.
    pub fn new(incoming: Coming, passage: Arc<Passage>, copies: Vec<mpsc::Sender<Frame<Bytes>>>) -> Self {
        if incoming.is_end_stream() {
            passage.end();
        }
        Self { incoming, passage, copies }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(bytes) = frame.data_ref() {
                    self.passage.bytes.fetch_add(bytes.len() as u64, Relaxed);
                }
                self.passage.touch();
                self.copy(&frame);
                if self.incoming.is_end_stream() || frame.is_trailers() {
                    self.end();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.passage.failed.store(true, Relaxed);
                Some(Err(error.into()))
            }
            None => {
                self.end();
                None
            }
        })
    }

    fn end(&mut self) {
        self.passage.end();
        // An end is what the reader of a copy sees when the sender is gone.
        self.copies.clear();
    }

    /// Whoever lags too far behind gets no more of it, and no end either.
    fn copy(&mut self, frame: &Frame<Bytes>) {
        self.copies.retain(|copy| {
            let again = match (frame.data_ref(), frame.trailers_ref()) {
                (Some(bytes), _) => Frame::data(bytes.clone()),
                (None, Some(trailers)) => Frame::trailers(trailers.clone()),
                (None, None) => return true,
            };
            copy.try_send(again).is_ok()
        });
    }
}

/// A body that can be sent again, as long as not too much of it has come.
#[derive(Clone)]
pub struct Replay {
    shared: Arc<Mutex<Kept>>,
}

struct Kept {
    source: Source,
    /// Data that came, for the next try.
    frames: Vec<Bytes>,
    bytes: usize,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// More came than is kept: what the running try has is all there is.
    lost: bool,
    /// Which try reads; an earlier one that is still held by somebody gets nothing more.
    reader: u64,
}

/// The body of one try.
pub struct Attempt {
    shared: Arc<Mutex<Kept>>,
    number: u64,
    /// Frames of those kept that went out already.
    at: usize,
    trailers_sent: bool,
}

impl Replay {
    /// Of a caller's body.
    pub fn new(source: Source) -> Self {
        let ended = source.incoming.is_end_stream();
        let kept = Kept { source, frames: Vec::new(), bytes: 0, trailers: None, ended, lost: false, reader: 0 };
        Self { shared: Arc::new(Mutex::new(kept)) }
    }

    /// Whether all that came can be sent again.
    pub fn can_begin_again(&self) -> bool {
        !lock(&self.shared).lost
    }

    /// Whether anything of the body has come yet.
    pub fn began(&self) -> bool {
        lock(&self.shared).bytes > 0
    }

    /// The body of the next try; the one before gets nothing more.
    pub fn attempt(&self) -> Attempt {
        let mut kept = lock(&self.shared);
        kept.reader += 1;
        Attempt { shared: self.shared.clone(), number: kept.reader, at: 0, trailers_sent: false }
    }
}

impl Attempt {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut kept = lock(&self.shared);
        if kept.reader != self.number {
            return Poll::Ready(Some(Err("another try took over".into())));
        }
        if !kept.lost
            && let Some(frame) = kept.frames.get(self.at)
        {
            self.at += 1;
            return Poll::Ready(Some(Ok(Frame::data(frame.clone()))));
        }
        if kept.ended {
            let trailers = if self.trailers_sent { None } else { kept.trailers.clone() };
            self.trailers_sent = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(kept.source.poll(cx));
        match &frame {
            None => kept.ended = true,
            Some(Ok(frame)) => {
                kept.keep(frame);
                if frame.is_data() {
                    self.at += 1;
                } else {
                    self.trailers_sent = true;
                }
            }
            Some(Err(_)) => kept.lost = true,
        }
        Poll::Ready(frame)
    }
}

impl Kept {
    fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Some(bytes) = frame.data_ref() {
            self.bytes += bytes.len();
            if self.lost || self.bytes > REPLAY_BYTES_MAX {
                self.lost = true;
                self.frames = Vec::new();
            } else {
                // What arrives may be a small part of a large buffer.
                self.frames.push(Bytes::copy_from_slice(bytes));
            }
        } else if let Some(trailers) = frame.trailers_ref() {
            self.trailers = Some(trailers.clone());
            self.ended = true;
        }
        self.ended |= self.source.incoming.is_end_stream();
    }
}

fn lock(shared: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A copy of a request's body.
pub struct Copy {
    frames: mpsc::Receiver<Frame<Bytes>>,
    passage: Arc<Passage>,
}

impl Copy {
    /// A copy and where its frames are to be sent.
    pub fn new(passage: Arc<Passage>) -> (mpsc::Sender<Frame<Bytes>>, Self) {
        let (sender, frames) = mpsc::channel(MIRROR_LAG_FRAMES);
        (sender, Self { frames, passage })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(self.frames.poll_recv(cx)) {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            // The end of what it is a copy of, or the end of our patience.
            None if self.passage.ended.load(Relaxed) && !self.passage.failed() => Poll::Ready(None),
            None => Poll::Ready(Some(Err("the copy fell too far behind".into()))),
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Once(source) => source.poll(cx),
            Self::Again(attempt) => attempt.poll(cx),
            Self::Copy(copy) => copy.poll(cx),
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_none(),
            Self::Once(source) => source.incoming.is_end_stream(),
            Self::Again(attempt) => {
                let kept = lock(&attempt.shared);
                kept.ended && attempt.at >= kept.frames.len() && (attempt.trailers_sent || kept.trailers.is_none())
            }
            Self::Copy(_) => false,
            Self::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Once(source) => source.incoming.size_hint(),
            Self::Again(attempt) => {
                let kept = lock(&attempt.shared);
                let left: usize = kept.frames.iter().skip(attempt.at).map(Bytes::len).sum();
                match (kept.ended, kept.source.incoming.size_hint().exact()) {
                    (true, _) => SizeHint::with_exact(left as u64),
                    (false, Some(coming)) => SizeHint::with_exact(left as u64 + coming),
                    (false, None) => SizeHint::default(),
                }
            }
            Self::Copy(_) => SizeHint::default(),
            Self::Own(body) => body.size_hint(),
        }
    }
}
