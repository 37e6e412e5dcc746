//! The first part of a body, read to be shown to somebody, and the whole body again behind it.

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use mesh::route::guard::BodyShown;
use pin_project_lite::pin_project;
use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

pin_project! {
    /// A body of which some was read already; it reads as if none was.
    #[derive(Debug)]
    pub struct Held<B> {
        frames: VecDeque<Frame<Bytes>>,
        held: u64,
        #[pin]
        rest: B,
    }
}

/// The part that is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Its bytes.
    pub bytes: Bytes,
    /// There is more that is not shown.
    pub cut: bool,
}

/// Why a body cannot be shown.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotShow<E> {
    /// It is longer than may be shown, and no part of it may be shown alone: 413.
    #[error("the body is longer than may be shown")]
    TooLarge,
    /// It broke off.
    #[error("the body broke off: {0}")]
    Broken(E),
}

/// Reads what is shown of a body. The caller's time-out is around it.
pub async fn show<B>(mut body: B, shown: BodyShown) -> Result<(Part, Held<B>), CannotShow<B::Error>>
where
    B: Body<Data = Bytes> + Unpin,
{
    let most = shown.bytes_max as usize;
    let (mut bytes, mut frames, mut read) = (BytesMut::new(), VecDeque::new(), 0);
    while read <= most {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(CannotShow::Broken)?;
        if let Some(chunk) = frame.data_ref() {
            bytes.extend_from_slice(&chunk[..chunk.len().min(most - bytes.len())]);
            read += chunk.len();
        }
        frames.push_back(frame);
    }
    let cut = read > most;
    if cut && !shown.allow_partial {
        return Err(CannotShow::TooLarge);
    }
    Ok((Part { bytes: bytes.freeze(), cut }, Held { frames, held: read as u64, rest: body }))
}

impl<B: Body<Data = Bytes>> Body for Held<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        match this.frames.pop_front() {
            Some(frame) => {
                *this.held -= frame.data_ref().map_or(0, |chunk| chunk.len() as u64);
                Poll::Ready(Some(Ok(frame)))
            }
            None => this.rest.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + self.held);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + self.held);
        }
        hint
    }
}
