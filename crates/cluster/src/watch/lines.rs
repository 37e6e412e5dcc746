//! A stream of bytes, line by line, each line bounded. A last line without its end is no line: the
//! connection broke within it.

use crate::{CallError, call::chain, limits};
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use kube::client::Body;

/// The lines of an answer.
#[derive(Debug)]
pub(super) struct Lines {
    body: Body,
    buffer: Buffer,
}

impl Lines {
    pub(super) fn of(body: Body) -> Self {
        Self { body, buffer: Buffer::default() }
    }

    /// The next line; `None` when the answer ended. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(line) = self.buffer.line() {
                return Ok(Some(line));
            }
            if self.buffer.rest.len() > limits::WATCH_LINE_BYTES_MAX {
                let most = limits::WATCH_LINE_BYTES_MAX;
                return Err(CallError::Unusable(format!("a line of a watch has more than {most} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(CallError::Unreachable(chain(&error))),
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.buffer.rest.extend_from_slice(&bytes);
                    }
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Buffer {
    rest: BytesMut,
    /// So many bytes of `rest` are known to hold no end of a line.
    looked: usize,
}

impl Buffer {
    fn line(&mut self) -> Option<Bytes> {
        loop {
            let Some(end) = self.rest[self.looked..].iter().position(|byte| *byte == b'\n') else {
                self.looked = self.rest.len();
                return None;
            };
            let line = self.rest.split_to(self.looked + end).freeze();
            self.rest.advance(1);
            self.looked = 0;
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_however_they_are_cut() {
        let text = "{\"a\":1}\n\n{\"b\":2}\r\n{\"c\":";
        for step in 1..text.len() {
            let (mut buffer, mut lines) = (Buffer::default(), Vec::new());
            for part in text.as_bytes().chunks(step) {
                buffer.rest.extend_from_slice(part);
                while let Some(line) = buffer.line() {
                    lines.push(String::from_utf8_lossy(line.trim_ascii()).into_owned());
                }
            }
            assert_eq!(lines, ["{\"a\":1}", "{\"b\":2}"], "in steps of {step}");
        }
    }
}
