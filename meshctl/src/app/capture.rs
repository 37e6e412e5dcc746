//! Copies what passes an interface to standard output, in the format of
//! `tcpdump -w -`, so that any program that reads captures can look at it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};

/// Longest frame that is kept whole: a segment of 64 KiB that the kernel has
/// not cut yet, and its headers.
const FRAME_BYTES_MAX: usize = 65_536 + 128;
/// What waits in the kernel while we write.
const BUFFER_BYTES: usize = 8 << 20;
/// How often we look whether we are to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// `ETH_P_ALL`: every protocol.
const EVERY_PROTOCOL: u16 = 3;

/// What passes an interface, as a pcap file on standard output.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Capture {
    /// The interface.
    #[arg(long, short, default_value = "eth0")]
    interface: String,
}

/// Copies until standard output is closed or a signal ends us.
pub(crate) fn run(capture: &Capture) -> anyhow::Result<ExitCode> {
    let index = nix::net::if_::if_nametoindex(capture.interface.as_str())
        .with_context(|| format!("there is no interface {}", capture.interface))?;
    let protocol = Protocol::from(i32::from(EVERY_PROTOCOL.to_be()));
    let socket =
        Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).context("cannot capture; it takes CAP_NET_RAW")?;
    // More than the default is allowed to root only; less does.
    let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    socket.set_read_timeout(Some(LOOK_AGAIN))?;
    let mut out = io::stdout().lock();
    out.write_all(&file_header())?;
    out.flush()?;
    let mut frame = vec![0; FRAME_BYTES_MAX];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) {
            Ok((length, Some(from))) if from.ifindex() == index as usize => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let written = out.write_all(&frame_header(now, length)).and_then(|()| out.write_all(&frame[..length]));
                if written.and_then(|()| out.flush()).is_err() {
                    return Ok(ExitCode::SUCCESS);
                }
            }
            Ok(_) | Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot read frames"),
        }
    }
}

/// Version 2.4, times in microseconds, Ethernet.
fn file_header() -> [u8; 24] {
    let mut header = [0; 24];
    header[..4].copy_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
    header[4..6].copy_from_slice(&2_u16.to_le_bytes());
    header[6..8].copy_from_slice(&4_u16.to_le_bytes());
    header[16..20].copy_from_slice(&(FRAME_BYTES_MAX as u32).to_le_bytes());
    header[20..].copy_from_slice(&1_u32.to_le_bytes());
    header
}

fn frame_header(at: Duration, length: usize) -> [u8; 16] {
    let mut header = [0; 16];
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    header[..4].copy_from_slice(&(at.as_secs() as u32).to_le_bytes());
    header[4..8].copy_from_slice(&at.subsec_micros().to_le_bytes());
    header[8..12].copy_from_slice(&length);
    header[12..].copy_from_slice(&length);
    header
}

/// One TCP segment of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub payload: Vec<u8>,
}

/// The TCP segments of a capture made by [`run`]. What is cut off at the end,
/// or is no TCP, is left out.
pub(crate) fn segments(file: &[u8]) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut rest = file.get(24..).unwrap_or_default();
    while let Some((header, after)) = rest.split_at_checked(16) {
        let length = header[8..12].iter().rev().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
        let Some((frame, next)) = after.split_at_checked(length) else { break };
        segments.extend(segment(frame));
        rest = next;
    }
    segments
}

fn segment(frame: &[u8]) -> Option<Segment> {
    let packet = frame.get(14..)?;
    let (source, destination, tcp): (std::net::IpAddr, std::net::IpAddr, &[u8]) = match frame.get(12..14)? {
        [0x08, 0x00] if packet.get(9) == Some(&6) => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
            let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (source.into(), destination.into(), packet.get(header..total.min(packet.len()))?)
        }
        [0x86, 0xdd] if packet.get(6) == Some(&6) => {
            let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            let destination: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (source.into(), destination.into(), packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    Some(Segment {
        source: SocketAddr::new(source, port(0)?),
        destination: SocketAddr::new(destination, port(2)?),
        payload: tcp.get(header..)?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_read_as_it_was_written() {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00]);
        frame.extend([0x45, 0, 0, 45, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend([0x12, 0x34, 0x00, 0x50, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        // Ethernet pads short frames: the padding is no payload.
        frame.extend(b"hello\0\0\0");
        let mut file = file_header().to_vec();
        file.extend(frame_header(Duration::from_secs(1), frame.len()));
        file.extend(&frame);
        file.extend(frame_header(Duration::from_secs(1), 100));
        file.extend(b"cut off");
        let segment = Segment {
            source: "10.0.0.1:4660".parse().unwrap(),
            destination: "10.0.0.2:80".parse().unwrap(),
            payload: b"hello".to_vec(),
        };
        assert_eq!(segments(&file), [segment]);
        assert_eq!(segments(b""), []);
    }

    proptest::proptest! {
        #[test]
        fn no_frame_panics(frame: Vec<u8>) {
            let _ = segment(&frame);
            let _ = segments(&frame);
        }
    }
}
