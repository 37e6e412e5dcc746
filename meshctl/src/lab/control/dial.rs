//! The caller's end of the control socket. Blocking: a caller has nothing
//! else to do.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::fds;
use super::protocol::{Reply, Request};
use crate::lab::rundir::RunDir;

/// An order other than a command is carried out within this time, or the lab
/// hangs.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// A connection on which a request was made.
#[derive(Debug)]
pub(crate) struct Call {
    stream: UnixStream,
    lines: BufReader<UnixStream>,
}

impl Call {
    /// Connects and asks. `files` are the standard streams of an `exec`.
    pub(crate) fn make(run_dir: &RunDir, request: &Request, files: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let mut stream = UnixStream::connect(run_dir.control_socket())?;
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        let sent = fds::send(&stream, &text, files)?;
        stream.write_all(&text[sent..])?;
        if files.is_empty() {
            stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        }
        Ok(Self { lines: BufReader::new(stream.try_clone()?), stream })
    }

    /// The next answer.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the lab has ended"));
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Says something more on the same connection.
    pub(crate) fn add(&self, request: &Request) -> io::Result<()> {
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        (&self.stream).write_all(&text)
    }

    /// Another handle, to speak while one waits for an answer.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let stream = self.stream.try_clone()?;
        Ok(Self { lines: BufReader::new(stream.try_clone()?), stream })
    }
}

/// Asks for one thing and returns the answer.
pub(crate) fn ask(run_dir: &RunDir, request: &Request) -> io::Result<Reply> {
    Call::make(run_dir, request, &[])?.reply()
}
