//! A tunnel whose first bytes were looked at, and are read again.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use hbone::relay::Wire;
use hbone::stream::Tunnel;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::sniff::{Spoken, judge};
use crate::limits::{SNIFF_BYTES_MAX, SNIFF_DEADLINE};

/// A tunnel, and bytes of it that were read before.
#[derive(Debug)]
pub struct Rewound {
    ahead: Bytes,
    /// Bytes that were taken from `ahead` and not yet said to be delivered. Their credit went back
    /// when they were read.
    owed: usize,
    tunnel: Tunnel,
}

impl From<Tunnel> for Rewound {
    fn from(tunnel: Tunnel) -> Self {
        Self { ahead: Bytes::new(), owed: 0, tunnel }
    }
}

/// Looks at what the caller says first. A caller that says nothing for long is waiting for the server.
pub async fn look(mut tunnel: Tunnel) -> io::Result<(Spoken, Rewound)> {
    let deadline = Instant::now() + SNIFF_DEADLINE;
    let mut read = BytesMut::new();
    let spoken = loop {
        if let Some(spoken) = judge(&read) {
            break spoken;
        }
        if read.len() >= SNIFF_BYTES_MAX {
            break Spoken::Other;
        }
        // The deadline loses nothing: what was read is kept.
        match timeout_at(deadline, tunnel.read_buf(&mut read)).await {
            Ok(Ok(0)) | Err(_) => break Spoken::Other,
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
        }
    };
    Ok((spoken, Rewound { ahead: read.freeze(), owed: 0, tunnel }))
}

impl AsyncRead for Rewound {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.tunnel).poll_read(cx, buf);
        }
        let length = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..length]);
        self.ahead.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tunnel).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tunnel).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tunnel).poll_shutdown(cx)
    }
}

impl Wire for Rewound {
    fn poll_take(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<Option<Bytes>>> {
        if self.ahead.is_empty() {
            return Wire::poll_take(&mut self.tunnel, cx, size);
        }
        let ahead = std::mem::take(&mut self.ahead);
        self.owed += ahead.len();
        Poll::Ready(Ok(Some(ahead)))
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        Wire::poll_stall(&mut self.tunnel, cx)
    }

    fn delivered(&mut self, bytes: usize) {
        let ahead = bytes.min(self.owed);
        self.owed -= ahead;
        Wire::delivered(&mut self.tunnel, bytes - ahead);
    }

    fn poll_give(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<usize>> {
        Wire::poll_give(&mut self.tunnel, cx, bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        Wire::finish(&mut self.tunnel)
    }

    fn reset(&mut self) {
        Wire::reset(&mut self.tunnel);
    }
}
