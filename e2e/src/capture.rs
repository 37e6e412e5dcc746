//! What a capture file says: which TCP ports were used between whom, and whether a text is in the bytes.
//!
//! Reads the classic pcap format that `tcpdump -w` writes for an Ethernet link. It never guesses: a file
//! that is not that is an error.

use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// One TCP segment.
#[derive(Debug)]
pub struct Segment {
    /// Sender.
    pub source: SocketAddr,
    /// Receiver.
    pub destination: SocketAddr,
    /// What it carried.
    pub payload: Vec<u8>,
}

/// Every TCP segment of the bytes of a capture file.
pub fn read(bytes: &[u8]) -> Result<Vec<Segment>> {
    ensure!(bytes.len() >= 24, "{} bytes are too few for a capture", bytes.len());
    let swapped = match u32::from_le_bytes(array(bytes, 0)?) {
        0xa1b2_c3d4 | 0xa1b2_3c4d => false,
        0xd4c3_b2a1 | 0x4d3c_b2a1 => true,
        magic => bail!("this is not a pcap file (it begins with {magic:#x})"),
    };
    let word = |at: usize| -> Result<usize> {
        let raw: [u8; 4] = array(bytes, at)?;
        Ok(if swapped { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) } as usize)
    };
    ensure!(word(20)? == 1, "this was not captured on an Ethernet link");
    let mut segments = Vec::new();
    let mut at = 24;
    while at + 16 <= bytes.len() {
        let length = word(at + 8)?;
        at += 16;
        let Some(frame) = bytes.get(at..at + length) else { break }; // the writer was cut off here
        segments.extend(segment(frame));
        at += length;
    }
    Ok(segments)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    bytes.get(at..at + N).and_then(|s| s.try_into().ok()).context("the capture ends in the middle of a number")
}

/// The TCP segment in an Ethernet frame, if it has one.
fn segment(frame: &[u8]) -> Option<Segment> {
    let ether_type = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    let packet = frame.get(14..)?;
    let (source, destination, tcp): (IpAddr, IpAddr, &[u8]) = match ether_type {
        0x0800 => {
            let header = usize::from(packet.first()? & 0xf) * 4;
            let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
            let address = |at: usize| -> Option<Ipv4Addr> {
                let raw: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
                Some(raw.into())
            };
            if *packet.get(9)? != 6 {
                return None;
            }
            (address(12)?.into(), address(16)?.into(), packet.get(header..total.min(packet.len()).max(header))?)
        }
        0x86dd => {
            let address = |at: usize| -> Option<Ipv6Addr> {
                let raw: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
                Some(raw.into())
            };
            if *packet.get(6)? != 6 {
                return None;
            }
            (address(8)?.into(), address(24)?.into(), packet.get(40..)?)
        }
        _ => return None,
    };
    let port = |at: usize| -> Option<u16> { Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?)) };
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    Some(Segment {
        source: SocketAddr::new(source, port(0)?),
        destination: SocketAddr::new(destination, port(2)?),
        payload: tcp.get(header..)?.to_vec(),
    })
}

/// How many segments carry `text`. A text split over two segments is found too, per direction of a connection.
pub fn occurrences(segments: &[Segment], text: &str) -> usize {
    let mut streams: BTreeMap<(SocketAddr, SocketAddr), Vec<u8>> = BTreeMap::new();
    for segment in segments {
        streams.entry((segment.source, segment.destination)).or_default().extend(&segment.payload);
    }
    let needle = text.as_bytes();
    streams.values().map(|bytes| bytes.windows(needle.len()).filter(|w| *w == needle).count()).sum()
}

/// Server ports of the segments between two addresses: the lower of the two ports of each.
pub fn ports_between(segments: &[Segment], a: IpAddr, b: IpAddr) -> std::collections::BTreeSet<u16> {
    let between = |s: &&Segment| {
        let ends = (s.source.ip(), s.destination.ip());
        ends == (a, b) || ends == (b, a)
    };
    segments.iter().filter(between).map(|s| s.source.port().min(s.destination.port())).collect()
}
