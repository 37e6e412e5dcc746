//! What ends a connection or a stream before its time, and what whoever uses it is told.

use super::code::Code;
use std::{io, sync::Arc};

/// The peer broke the protocol: the connection ends, with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fatal {
    pub(crate) code: Code,
    pub(crate) why: &'static str,
}

impl Fatal {
    pub(super) fn new(code: Code, why: &'static str) -> Self {
        Self { code, why }
    }
}

/// Why a connection is no more.
#[derive(Clone, Debug)]
pub(crate) enum Lost {
    /// In order.
    Closed,
    /// The peer closed it without a word.
    Vanished,
    /// Nothing was heard of the peer for too long.
    Silent,
    /// What is below it broke.
    Io(io::ErrorKind, Arc<str>),
    /// We ended it, for what the peer did.
    Ours(Fatal),
    /// We gave it up, though the peer did nothing wrong.
    GivenUp(Code),
    /// The peer ended it, or did not take this stream up before it went.
    Theirs(Code),
}

impl Lost {
    /// Whether nobody is left who could be told.
    pub(super) fn is_sudden(&self) -> bool {
        matches!(self, Self::Vanished | Self::Silent | Self::Io(..))
    }

    pub(crate) fn error(&self) -> io::Error {
        let aborted = |text: String| io::Error::new(io::ErrorKind::ConnectionAborted, text);
        match self {
            Self::Closed => aborted("the connection is closed".to_owned()),
            Self::Vanished => {
                io::Error::new(io::ErrorKind::BrokenPipe, "the peer closed the connection without a word")
            }
            Self::Silent => io::Error::new(io::ErrorKind::TimedOut, "the peer is silent"),
            Self::Io(kind, text) => io::Error::new(*kind, text.to_string()),
            Self::Ours(Fatal { code, why }) => aborted(format!("the peer broke the protocol: {why} ({code})")),
            Self::GivenUp(code) => aborted(format!("the connection was given up: {code}")),
            Self::Theirs(code) => aborted(format!("the peer ended the connection: {code}")),
        }
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        // Many streams are told of one error, of which there is no copy: its kind and its words.
        Self::Io(error.kind(), error.to_string().into())
    }
}

/// Why a stream is no more.
#[derive(Clone, Debug)]
pub(crate) enum Broken {
    /// Reset, by whomever.
    Reset(Code),
    /// Lost with its connection.
    Lost(Arc<Lost>),
}

impl Broken {
    /// A stream that was reset reads as a TCP connection that was.
    pub(crate) fn error(&self) -> io::Error {
        match self {
            Self::Reset(code) => {
                io::Error::new(io::ErrorKind::ConnectionReset, format!("the tunnel was reset: {code}"))
            }
            Self::Lost(lost) => lost.error(),
        }
    }
}
