//! The requests of a stream, out of the bytes of its body.
//!
//! A library keeps a buffer for each stream; a stream that has said nothing new holds none here, and of a thousand
//! proxies nearly all have said nothing new.

use crate::{
    limits::REQUEST_BYTES_MAX,
    wire::{FRAME_HEAD_BYTES, Request},
};
use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use prost::Message;
use std::{fmt::Display, future::poll_fn, pin::Pin};
use tonic::Status;

/// What a proxy says.
pub(super) struct Requests<B> {
    body: B,
    /// What has arrived and is not taken yet.
    read: BytesMut,
}

impl<B: Body<Data = Bytes, Error: Display> + Unpin> Requests<B> {
    pub(super) fn of(body: B) -> Self {
        Self { body, read: BytesMut::new() }
    }

    /// The next one; none at the end of the stream. Cancelling it loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<Request>, Status> {
        loop {
            if let Some(request) = whole(&mut self.read)? {
                if self.read.is_empty() {
                    self.read = BytesMut::new();
                }
                return Ok(Some(request));
            }
            match poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) if self.read.is_empty() => self.read = bytes.into(),
                    Ok(bytes) => self.read.extend_from_slice(&bytes),
                    Err(_trailers) => {}
                },
                Some(Err(error)) => return Err(Status::cancelled(error.to_string())),
                None if self.read.is_empty() => return Ok(None),
                None => return Err(Status::internal("the stream ended within a request")),
            }
        }
    }
}

/// Takes the first request, if all of it is there.
fn whole(read: &mut BytesMut) -> Result<Option<Request>, Status> {
    let Some((flag, mut length)) = read.get(..FRAME_HEAD_BYTES).map(|head| (head[0], &head[1..])) else {
        return Ok(None);
    };
    if flag != 0 {
        return Err(Status::unimplemented("a request is compressed, and nothing here can read that"));
    }
    let length = length.get_u32() as usize;
    if length > REQUEST_BYTES_MAX {
        let reason = format!("a request of {length} bytes is longer than {REQUEST_BYTES_MAX}");
        return Err(Status::out_of_range(reason));
    }
    if read.len() < FRAME_HEAD_BYTES + length {
        return Ok(None);
    }
    read.advance(FRAME_HEAD_BYTES);
    let request = Request::decode(read.split_to(length).freeze());
    request.map(Some).map_err(|error| Status::internal(format!("a request that cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use tonic::Code;

    fn framed(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![flag];
        bytes.put_u32(length as u32);
        bytes.put_slice(message);
        bytes
    }

    #[test]
    fn requests_are_read_however_they_are_cut() {
        let of = |nonce: &str| Request { response_nonce: nonce.into(), ..Request::default() }.encode_to_vec();
        let bytes: Vec<u8> = ["", "one", "two"].into_iter().flat_map(|n| framed(0, of(n).len(), &of(n))).collect();
        for size in [1, 4, 5, 6, bytes.len()] {
            let (mut read, mut nonces) = (BytesMut::new(), Vec::new());
            for chunk in bytes.chunks(size) {
                read.extend_from_slice(chunk);
                while let Some(request) = whole(&mut read).unwrap() {
                    nonces.push(request.response_nonce);
                }
            }
            assert_eq!(nonces, ["", "one", "two"], "{size}");
        }
    }

    #[test]
    fn what_is_no_request_ends_the_stream_with_a_reason() {
        for (bytes, code) in [
            (framed(1, 0, &[]), Code::Unimplemented),
            (framed(0, REQUEST_BYTES_MAX + 1, &[]), Code::OutOfRange),
            (framed(0, 2, &[0x0a, 9]), Code::Internal),
        ] {
            assert_eq!(whole(&mut bytes[..].into()).unwrap_err().code(), code, "{bytes:?}");
        }
        assert_eq!(whole(&mut framed(0, REQUEST_BYTES_MAX, &[])[..].into()).unwrap(), None, "the rest is awaited");
    }
}
