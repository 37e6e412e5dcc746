//! Sequenced-packet UNIX sockets that carry descriptors: one message is one datagram.
//!
//! The standard library and tokio know only stream and datagram sockets. Descriptors that arrive
//! are owned from the first instant, so that a message nobody wanted cannot leak one.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, accept4, bind,
    connect, listen, recvmsg, sendmsg, socket, socketpair,
};
use tokio::io::unix::AsyncFd;

/// The most descriptors the kernel puts into one message (`SCM_MAX_FD`). With room for all of them
/// none is ever cut off; those cut off would stay open and unknown to us.
const DESCRIPTORS_MAX: usize = 253;

/// Connections that may wait for `accept`: one proxy and its successor, with room to spare.
const BACKLOG: i32 = 16;

/// One end of a connection.
#[derive(Debug)]
pub struct Seqpacket {
    fd: AsyncFd<OwnedFd>,
}

/// A message, whole.
#[derive(Debug)]
pub struct Datagram {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

impl Seqpacket {
    /// Connects to the socket at `path`. It does not wait: a full queue of the listener is an error.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let fd = new_socket()?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Self::from_fd(fd)
    }

    /// Two ends that are connected to each other.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self::from_fd(one)?, Self::from_fd(other)?))
    }

    /// The user that the process at the other end runs as, as the kernel knows it.
    pub fn peer_uid(&self) -> io::Result<u32> {
        Ok(nix::sys::socket::getsockopt(self.fd.get_ref(), nix::sys::socket::sockopt::PeerCredentials)?.uid())
    }

    fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { fd: watch(fd)? })
    }

    /// Sends one message, with at most one descriptor. Cancelled, it was sent whole or not at all.
    pub async fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let raw: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        loop {
            let mut ready = self.fd.writable().await?;
            let sent = ready.try_io(|fd| {
                let rights = [ControlMessage::ScmRights(&raw)];
                let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
                let flags = MsgFlags::MSG_NOSIGNAL;
                sendmsg::<UnixAddr>(fd.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None).map_err(Into::into)
            });
            match sent {
                Ok(result) => return result.map(drop),
                Err(_would_block) => {}
            }
        }
    }

    /// Receives one message of at most `bytes_max` bytes; `None`: the other end is gone. A longer
    /// one is an error. Cancelled, nothing is lost.
    pub async fn receive(&self, bytes_max: usize) -> io::Result<Option<Datagram>> {
        loop {
            let mut ready = self.fd.readable().await?;
            match ready.try_io(|fd| receive_now(fd.as_fd(), bytes_max)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }
}

/// Waits for connections at a path.
#[derive(Debug)]
pub struct SeqpacketListener {
    fd: AsyncFd<OwnedFd>,
}

impl SeqpacketListener {
    /// Listens at `path`, where nothing may be yet.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let fd = new_socket()?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        listen(&fd, Backlog::new(BACKLOG)?)?;
        Ok(Self { fd: watch(fd)? })
    }

    /// The next connection. Cancelled, none is lost.
    pub async fn accept(&self) -> io::Result<Seqpacket> {
        loop {
            let mut ready = self.fd.readable().await?;
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            match ready.try_io(|fd| accept4(fd.as_raw_fd(), flags).map_err(Into::into)) {
                Ok(Ok(raw)) => return Seqpacket::from_fd(own(raw)),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?)
}

fn receive_now(fd: BorrowedFd<'_>, bytes_max: usize) -> io::Result<Option<Datagram>> {
    let mut bytes = vec![0; bytes_max];
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(fd.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            descriptors.extend(raw.into_iter().map(own));
        }
    }
    let (length, flags) = (message.bytes, message.flags);
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        let reason = format!("a message of more than {bytes_max} bytes, or more descriptors than fit");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    if length == 0 && descriptors.is_empty() {
        return Ok(None);
    }
    bytes.truncate(length);
    Ok(Some(Datagram { bytes, descriptors }))
}

/// Puts a descriptor under the runtime's watch.
#[expect(unsafe_code, reason = "tokio asks its caller to vouch for the descriptor")]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and says the same number, until the `AsyncFd` that holds it drops it.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}

#[expect(unsafe_code, reason = "nix gives new descriptors as bare numbers")]
fn own(raw: RawFd) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us in the call that just returned, and nobody
    // else has seen its number.
    unsafe { OwnedFd::from_raw_fd(raw) }
}
