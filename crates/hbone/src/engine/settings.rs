//! What each end tells the other about itself (RFC 9113 §6.5).

use super::{
    code::Code,
    failure::Fatal,
    frame::{Head, PAYLOAD_BYTES_LEAST, flag, kind},
};

pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;
pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
const ENABLE_CONNECT_PROTOCOL: u16 = 8;

/// Bytes of one setting.
const SETTING_BYTES: usize = 6;
/// A window that HTTP/2 can express.
pub(super) const WINDOW_MAX: i64 = (1 << 31) - 1;
/// The windows of streams and of the connection before anybody says otherwise.
pub(super) const WINDOW_FIRST: u32 = 65_535;

/// What a peer has said that concerns us. Its table of headers does not: we use none. Nor does the
/// largest list of headers that it takes: ours is one that every peer must take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Of each stream that we send on.
    pub(super) initial_window: u32,
    /// The largest payload that it takes.
    pub(super) frame_bytes: usize,
    /// Streams that we may have open; none where it did not say.
    pub(super) streams: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { initial_window: WINDOW_FIRST, frame_bytes: PAYLOAD_BYTES_LEAST, streams: None }
    }
}

impl Settings {
    /// Takes over what a payload says.
    pub(super) fn read(&mut self, payload: &[u8], from_server: bool) -> Result<(), Fatal> {
        let (settings, rest) = payload.as_chunks::<SETTING_BYTES>();
        if !rest.is_empty() {
            return Err(Fatal::new(Code::FRAME_SIZE_ERROR, "a SETTINGS of a broken length"));
        }
        for [a, b, c, d, e, f] in settings {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match u16::from_be_bytes([*a, *b]) {
                ENABLE_PUSH if value > 1 || (from_server && value == 1) => {
                    return Err(Fatal::new(Code::PROTOCOL_ERROR, "a SETTINGS_ENABLE_PUSH that is none"));
                }
                MAX_CONCURRENT_STREAMS => self.streams = Some(value),
                INITIAL_WINDOW_SIZE if i64::from(value) > WINDOW_MAX => {
                    return Err(Fatal::new(Code::FLOW_CONTROL_ERROR, "a SETTINGS_INITIAL_WINDOW_SIZE that is none"));
                }
                INITIAL_WINDOW_SIZE => self.initial_window = value,
                MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                    return Err(Fatal::new(Code::PROTOCOL_ERROR, "a SETTINGS_MAX_FRAME_SIZE that is none"));
                }
                MAX_FRAME_SIZE => self.frame_bytes = value as usize,
                ENABLE_CONNECT_PROTOCOL if value > 1 => {
                    return Err(Fatal::new(Code::PROTOCOL_ERROR, "a SETTINGS_ENABLE_CONNECT_PROTOCOL that is none"));
                }
                // Unknown ones are to be ignored.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Appends the acknowledgement of the peer's.
pub(super) fn put_acknowledgement(into: &mut Vec<u8>) {
    Head::new(kind::SETTINGS, flag::ACK, 0, 0).write(into);
}

/// Appends a SETTINGS frame that says this.
pub(super) fn put(settings: &[(u16, u32)], into: &mut Vec<u8>) {
    Head::new(kind::SETTINGS, 0, 0, settings.len() * SETTING_BYTES).write(into);
    for (name, value) in settings {
        into.extend(name.to_be_bytes());
        into.extend(value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::frame::HEAD_BYTES;

    fn read(settings: &[(u16, u32)], from_server: bool) -> Result<Settings, Code> {
        let mut bytes = Vec::new();
        put(settings, &mut bytes);
        let mut read = Settings::default();
        read.read(&bytes[HEAD_BYTES..], from_server).map_err(|fatal| fatal.code)?;
        Ok(read)
    }

    #[test]
    fn what_a_peer_says_counts_from_then_on() {
        let said = [(INITIAL_WINDOW_SIZE, 1), (MAX_FRAME_SIZE, 1 << 20), (MAX_CONCURRENT_STREAMS, 0), (1, 0), (99, 7)];
        let expected = Settings { initial_window: 1, frame_bytes: 1 << 20, streams: Some(0) };
        assert_eq!(read(&said, true), Ok(expected));
        assert_eq!(read(&[], true), Ok(Settings::default()));
        assert_eq!(read(&[(INITIAL_WINDOW_SIZE, 1), (INITIAL_WINDOW_SIZE, 2)], true).map(|s| s.initial_window), Ok(2));
    }

    #[test]
    fn what_no_peer_may_say_ends_the_connection() {
        for (setting, from_server, code) in [
            ((ENABLE_PUSH, 2), false, Code::PROTOCOL_ERROR),
            ((ENABLE_PUSH, 1), true, Code::PROTOCOL_ERROR),
            ((INITIAL_WINDOW_SIZE, 1 << 31), false, Code::FLOW_CONTROL_ERROR),
            ((MAX_FRAME_SIZE, (1 << 14) - 1), false, Code::PROTOCOL_ERROR),
            ((MAX_FRAME_SIZE, 1 << 24), false, Code::PROTOCOL_ERROR),
            ((ENABLE_CONNECT_PROTOCOL, 2), false, Code::PROTOCOL_ERROR),
        ] {
            assert_eq!(read(&[setting], from_server), Err(code), "{setting:?}");
        }
        assert_eq!(read(&[(ENABLE_PUSH, 1)], false), Ok(Settings::default()));
        let broken = Settings::default().read(&[0; 7], false).map_err(|fatal| fatal.code);
        assert_eq!(broken, Err(Code::FRAME_SIZE_ERROR));
    }
}
