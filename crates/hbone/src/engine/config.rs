//! What a connection is told when it begins.

use super::{frame::PAYLOAD_BYTES_LEAST, settings::WINDOW_MAX};
use crate::{
    credit::Grant,
    limits::{self, Limits},
};

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It asks for tunnels.
    Client,
    /// It is asked.
    Server,
}

/// The numbers of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) role: Role,
    /// What the peer may send.
    pub(crate) grant: Grant,
    /// The largest payload that we take.
    pub(crate) frame_bytes: usize,
    /// Streams that the peer may have open.
    pub(crate) streams: u32,
    /// Fields of one block, with what each costs.
    pub(crate) header_bytes: usize,
    /// Bytes of one stream that wait for the socket.
    pub(crate) queue_bytes: usize,
}

impl Config {
    /// What an operator says, as far as HTTP/2 can express it.
    pub(super) fn new(role: Role, limits: &Limits) -> Self {
        let window = |bytes: u32| bytes.min(WINDOW_MAX as u32);
        let grant =
            Grant { connection: window(limits.connection_window_bytes), stream: window(limits.stream_window_bytes) };
        let frame_bytes = (limits.frame_bytes as usize).clamp(PAYLOAD_BYTES_LEAST, (1 << 24) - 1);
        let header_bytes = match role {
            Role::Client => limits::CLIENT_HEADER_BYTES,
            Role::Server => limits::SERVER_HEADER_BYTES,
        };
        Self {
            role,
            grant,
            frame_bytes,
            streams: limits.server_streams,
            header_bytes: header_bytes as usize,
            queue_bytes: limits::SEND_BUFFER_BYTES,
        }
    }
}
