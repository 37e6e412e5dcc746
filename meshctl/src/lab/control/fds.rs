//! Open files travelling over a unix socket, beside one line of text.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

/// The three standard streams, and not one more.
pub(crate) const FDS_MAX: usize = 3;

/// Sends the first bytes of a request with the files that belong to it.
/// Returns how many bytes were sent.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many open files to send"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Receives bytes and the files that came with them. No bytes: the other
/// side has closed.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)?;
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            files.extend(more);
        }
    }
    Ok((received.bytes, files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn files_arrive_with_the_bytes_they_were_sent_with() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut one, two) = UnixStream::pair().unwrap();
        assert_eq!(send(&ours, b"hello", &[two.as_fd()]).unwrap(), 5);
        let mut buffer = [0; 16];
        let (length, files) = receive(&theirs, &mut buffer).unwrap();
        assert_eq!((&buffer[..length], files.len()), (&b"hello"[..], 1));
        drop(two);
        let mut received = UnixStream::from(files.into_iter().next().unwrap());
        received.write_all(b"x").unwrap();
        let mut byte = [0];
        one.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
}
