//! A netlink socket: sends messages, waits for the kernel's answers.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use super::{F_ACK, F_DUMP, HEADER_BYTES, Message, aligned};
use crate::net::netns::Netns;

/// The kernel answers within microseconds; this only keeps a broken one from
/// holding a thread for ever.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// Room for one read. The kernel fills dumps up to 32 KiB at a time.
const READ_BYTES: usize = 64 * 1024;

/// Asked-for send buffer. The kernel refuses a larger batch, so this bounds
/// how many rules can be replaced in one step: about 1 KiB a Service port.
const SEND_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// How often a listing that changed under our eyes is read again.
const DUMP_ATTEMPTS: u32 = 8;

const F_DUMP_INTERRUPTED: u16 = 0x10;
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;

/// A message of the kernel: its kind, and what it holds.
pub(in crate::net) type Answer = (u16, Vec<u8>);

/// Which part of the kernel a socket speaks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::net) enum Family {
    /// Links, addresses, routes.
    Route,
    /// Firewall rules.
    Netfilter,
    /// Sockets.
    SocketDiagnosis,
}

/// A netlink socket of one namespace.
#[derive(Debug)]
pub(in crate::net) struct Socket {
    fd: OwnedFd,
    sequence: Cell<u32>,
}

impl Socket {
    /// Opens a socket inside `netns`.
    pub(in crate::net) fn open(netns: &Netns, family: Family) -> io::Result<Self> {
        netns.run(|| {
            let protocol = match family {
                Family::Route => SockProtocol::NetlinkRoute,
                Family::Netfilter => SockProtocol::NetlinkNetFilter,
                Family::SocketDiagnosis => SockProtocol::NetlinkSockDiag,
            };
            let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            let seconds = i64::try_from(ANSWER_DEADLINE.as_secs()).unwrap_or(i64::MAX);
            setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(seconds, 0))?;
            // Beyond the system's limit only with rights outside of a user
            // namespace; where they are missing the limit itself is the best.
            if setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER_BYTES).is_err() {
                setsockopt(&fd, sockopt::SndBuf, &SEND_BUFFER_BYTES)?;
            }
            Ok(Self { fd, sequence: Cell::new(1) })
        })?
    }

    /// Asks for one act and waits until the kernel says it is done.
    pub(in crate::net) fn request(&self, message: Message) -> io::Result<()> {
        self.answered(message).map(|_| ())
    }

    /// Asks for one thing and returns the answer.
    pub(in crate::net) fn answered(&self, mut message: Message) -> io::Result<Vec<Answer>> {
        let sequence = self.next_sequence();
        message.seal(sequence, F_ACK);
        self.send(&message.bytes)?;
        self.collect(sequence).map(|(found, _)| found)
    }

    /// Sends messages as one transaction: all of them happen, or none.
    /// `open` and `close` are the brackets that the family wants around.
    pub(in crate::net) fn transaction(&self, open: Message, acts: Vec<Message>, close: Message) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut last = 0;
        let count = acts.len();
        for (index, mut message) in std::iter::once(open).chain(acts).chain(std::iter::once(close)).enumerate() {
            let sequence = self.next_sequence();
            // Only the last act is to be confirmed; whichever fails says so.
            let flags = if index == count { F_ACK } else { 0 };
            message.seal(sequence, flags);
            if index == count {
                last = sequence;
            }
            bytes.extend_from_slice(&message.bytes);
        }
        self.send(&bytes)?;
        self.collect(last).map(|_| ())
    }

    /// Reads a listing to its end. Read anew when it changed meanwhile.
    pub(in crate::net) fn dump(&self, message: Message) -> io::Result<Vec<Answer>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut message = message.clone();
            let sequence = self.next_sequence();
            message.seal(sequence, F_DUMP);
            self.send(&message.bytes)?;
            let (found, interrupted) = self.collect(sequence)?;
            if !interrupted {
                return Ok(found);
            }
        }
        Err(io::Error::other("the kernel's listing keeps changing while it is read"))
    }

    fn next_sequence(&self) -> u32 {
        self.sequence.replace(self.sequence.get().wrapping_add(1))
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match sendto(self.fd.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
            Ok(_) => Ok(()),
            Err(Errno::EMSGSIZE) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} bytes of rules do not fit into one step, raise net.core.wmem_max", bytes.len()),
            )),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads until the end of a listing, the confirmation of message `last`,
    /// or the first error. Messages of earlier, failed acts are passed over.
    fn collect(&self, last: u32) -> io::Result<(Vec<Answer>, bool)> {
        let mut found = Vec::new();
        let mut interrupted = false;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let len = match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Ok(len) if len > buffer.len() => return Err(io::Error::other("the kernel sent an oversized message")),
                Ok(len) => len,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer"));
                }
                Err(errno) => return Err(errno.into()),
            };
            for (header, content) in messages(&buffer[..len]) {
                interrupted |= header.flags & F_DUMP_INTERRUPTED != 0;
                match header.kind {
                    KIND_ERROR => match code(content) {
                        0 if header.sequence == last => return Ok((found, interrupted)),
                        0 => {}
                        code => return Err(io::Error::from_raw_os_error(-code)),
                    },
                    KIND_DONE if header.sequence == last => match ended(content) {
                        0.. => return Ok((found, interrupted)),
                        code => return Err(io::Error::from_raw_os_error(-code)),
                    },
                    _ if header.sequence == last => found.push((header.kind, content.to_vec())),
                    _ => {}
                }
            }
        }
    }
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The messages in one read.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::try_from(u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?)).ok()?;
        let header = Header {
            kind: u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?),
        };
        let content = bytes.get(HEADER_BYTES..len)?;
        bytes = bytes.get(aligned(len)..).unwrap_or_default();
        Some((header, content))
    })
}

/// What a listing ended with: less than nothing is an error, no word is none.
fn ended(content: &[u8]) -> i32 {
    if content.is_empty() { 0 } else { code(content) }
}

/// The error number in an answer; a malformed one counts as an error.
fn code(content: &[u8]) -> i32 {
    content.get(0..4).and_then(|raw| raw.try_into().ok()).map_or(-libc::EPROTO, i32::from_ne_bytes)
}
