//! Responses as they go over the wire, cut into parts as there is room for them.
//!
//! gRPC's own encoder lays a response out in one buffer first, and keeps that buffer for as long as the stream lives:
//! with 100,000 workloads that was 30 MB for each proxy. Here a session holds one part at a time, and the resources that
//! it has still to send are those of the catalog, shared by all.

use crate::{
    limits::PART_BYTES,
    wire::{FRAME_HEAD_BYTES, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use http::HeaderMap;
use http_body::{Body, Frame};
use prost::{
    Message,
    encoding::{encode_varint, encoded_len_varint},
};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tonic::Status;

/// The body of a stream's answer.
pub(super) struct Answer<S> {
    responses: Option<S>,
    parts: Parts,
}

/// Nothing.
impl<S> Default for Answer<S> {
    fn default() -> Self {
        Self { responses: None, parts: Parts::default() }
    }
}

impl<S> Answer<S> {
    /// One that sends what comes.
    pub(super) fn new(responses: S) -> Self {
        Self { responses: Some(responses), parts: Parts::default() }
    }
}

impl<S: Stream<Item = Result<Response, Status>> + Unpin> Body for Answer<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(part) = self.parts.next() {
                return Poll::Ready(Some(Ok(Frame::data(part))));
            }
            // A list that was sent to its end still has its memory.
            self.parts = Parts::default();
            let Some(responses) = &mut self.responses else { return Poll::Ready(None) };
            let status = match ready!(Pin::new(responses).poll_next(cx)) {
                Some(Ok(response)) => {
                    self.parts = Parts::of(response);
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            self.responses = None;
            let mut trailers = HeaderMap::new();
            status.add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.responses.is_none()
    }
}

/// One response, as far as it has not been sent.
#[derive(Default)]
struct Parts {
    /// What comes next: at first the frame's head and all fields but the resources, which may come in any order.
    next: BytesMut,
    resources: std::vec::IntoIter<Bytes>,
}

/// The number of the field of resources, and that a length follows.
const RESOURCE: u8 = 2 << 3 | 2;

impl Parts {
    fn of(mut response: Response) -> Self {
        let resources = std::mem::take(&mut response.resources);
        let one = |resource: &Bytes| 1 + encoded_len_varint(resource.len() as u64) + resource.len();
        let length = response.encoded_len() + resources.iter().map(one).sum::<usize>();
        let mut next = BytesMut::with_capacity(PART_BYTES.min(FRAME_HEAD_BYTES + length));
        next.put_u8(0);
        next.put_u32(u32::try_from(length).expect("a mesh is told in less than 4 GB"));
        response.encode_raw(&mut next);
        Self { next, resources: resources.into_iter() }
    }

    /// About [`PART_BYTES`] of it; none when all is sent.
    fn next(&mut self) -> Option<Bytes> {
        let mut part = std::mem::take(&mut self.next);
        while part.len() < PART_BYTES {
            let Some(resource) = self.resources.next() else { break };
            if part.capacity() == 0 {
                part.reserve(PART_BYTES);
            }
            part.put_u8(RESOURCE);
            encode_varint(resource.len() as u64, &mut part);
            part.extend_from_slice(&resource);
        }
        (!part.is_empty()).then(|| part.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(sizes: &[usize]) -> Response {
        Response {
            system_version_info: "1".into(),
            resources: sizes.iter().map(|size| vec![7; *size].into()).collect(),
            type_url: "a type".into(),
            nonce: "n".into(),
            removed_resources: vec!["gone".into(), "gone too".into()],
            control_plane: None,
        }
    }

    #[test]
    fn the_parts_are_the_response() {
        for sizes in [&[][..], &[0], &[300], &[PART_BYTES], &[300; 1000], &[1, 3 * PART_BYTES, 2, PART_BYTES - 4]] {
            let mut parts = Parts::of(response(sizes));
            let parts: Vec<Bytes> = std::iter::from_fn(|| parts.next()).collect();
            let most = PART_BYTES + sizes.iter().max().unwrap_or(&0) + 300;
            assert!(parts.iter().all(|part| part.len() <= most), "{sizes:?}");
            let whole = parts.concat();
            let (head, message) = whole.split_at(FRAME_HEAD_BYTES);
            assert_eq!((head[0], u32::from_be_bytes(head[1..].try_into().unwrap())), (0, message.len() as u32));
            assert_eq!(Response::decode(message).unwrap(), response(sizes), "{sizes:?}");
        }
    }
}
