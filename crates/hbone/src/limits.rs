//! Every number of this crate, with its reason. The ones an operator may change are in [`Limits`].

use std::time::Duration;

/// What a stream's receiver grants at first: one stream may fill 10 Gb/s at 3 ms. Istio's value.
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// What a connection's receiver grants beyond the bytes it already holds for stalled readers:
/// four streams at full speed. Istio's value.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// Largest DATA frame we take. Istio's value.
pub const FRAME_BYTES: u32 = 1 << 20;
/// Bytes of one stream that wait in memory for the socket: two of the largest relay buffers.
pub const SEND_BUFFER_BYTES: usize = 400 << 10;
/// Tunnels that one connection of a peer may have open at our end. Istio's value.
pub const SERVER_STREAMS: u32 = 200;
/// Tunnels that we open in one connection, if the peer takes as many. Istio's value.
pub const POOL_STREAMS: usize = 100;
/// Decoded header bytes of a request that we take. Istio's value.
pub const SERVER_HEADER_BYTES: u32 = 64 << 10;
/// Decoded header bytes of a response that we take. Istio's value.
pub const CLIENT_HEADER_BYTES: u32 = 16 << 10;
/// How long nothing may arrive before we ask whether the peer is there. With [`PING_TIMEOUT`], a
/// peer that vanished is noticed in 15 s; Istio pings every 10 s and waits 20.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long nothing may arrive after we asked. Twice the 5 s for which a busy machine may stop.
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// From a finished TLS handshake to the peer's SETTINGS. One round trip; 4 s leave a hung peer
/// noticed within 5.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(4);
/// The whole of a dial, TCP, TLS and SETTINGS: 10 s of TCP connect (Istio's) and the rest.
pub const DIAL_DEADLINE: Duration = Duration::from_secs(15);
/// From CONNECT to its answer: the receiver may wait 5 s for its configuration and 10 s for its
/// own connect, and a busy one a little.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// How long an unused connection stays. Istio's value.
pub const POOL_IDLE: Duration = Duration::from_secs(300);
/// How long an unused connection stays beside another one of its key that is half empty. Each holds
/// 120 kB at each end after it has carried 100 tunnels, so 10,000 connections that came at once left
/// 12 MB for five minutes. Twice what a client waits that tries again.
pub const POOL_SPARE_IDLE: Duration = Duration::from_secs(10);
/// Connections of one pool to one key: 12,800 tunnels from one pod to one other, half of the
/// ports that a kernel gives to one pair of addresses.
pub const POOL_CONNECTIONS_PER_KEY: usize = 128;
/// Callers that wait for a connection of one key; as many as its connections would carry.
pub const POOL_WAITERS_PER_KEY: usize = POOL_CONNECTIONS_PER_KEY * POOL_STREAMS;
/// What small DATA frames that nobody has read yet may cost before the connection is closed (each
/// costs 256 less its length): 65,000 one-byte frames. Tunnels take their frames out and join them
/// even while their reader stalls, so only what arrives between two polls counts.
pub const DATA_FRAME_BUDGET_BYTES: usize = 16 << 20;
/// Streams the peer reset before we saw them that h2 keeps. Its default of 20 is too few where
/// a client is stopped with its connects open.
pub const PENDING_RESETS: usize = SERVER_STREAMS as usize;

/// What speaks HTTP/2 on the connections of tunnels. Peers cannot tell them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Our own, made for tunnels.
    #[default]
    Own,
    /// The `h2` crate, should ours have a fault.
    H2,
}

/// The numbers an operator may change, and the engine that keeps them.
#[derive(Clone, Debug)]
pub struct Limits {
    /// What speaks HTTP/2.
    pub engine: Engine,
    /// [`STREAM_WINDOW_BYTES`].
    pub stream_window_bytes: u32,
    /// [`CONNECTION_WINDOW_BYTES`].
    pub connection_window_bytes: u32,
    /// [`FRAME_BYTES`].
    pub frame_bytes: u32,
    /// [`SERVER_STREAMS`].
    pub server_streams: u32,
    /// [`POOL_STREAMS`].
    pub pool_streams: usize,
    /// [`POOL_IDLE`].
    pub pool_idle: Duration,
    /// [`POOL_CONNECTIONS_PER_KEY`].
    pub pool_connections_per_key: usize,
    /// [`PING_INTERVAL`].
    pub ping_interval: Duration,
    /// [`PING_TIMEOUT`].
    pub ping_timeout: Duration,
    /// [`HANDSHAKE_DEADLINE`].
    pub handshake_deadline: Duration,
    /// [`DIAL_DEADLINE`].
    pub dial_deadline: Duration,
    /// [`ANSWER_DEADLINE`].
    pub answer_deadline: Duration,
}

impl Limits {
    /// The same where so many connections share what one could carry: together they hold no more for readers that stall. Each
    /// grants a full stream at least.
    #[must_use]
    pub fn shared_by(&self, connections: usize) -> Self {
        let share = self.connection_window_bytes / u32::try_from(connections.max(1)).unwrap_or(u32::MAX);
        let least = self.stream_window_bytes.min(self.connection_window_bytes);
        Self { connection_window_bytes: share.max(least), ..self.clone() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            engine: Engine::default(),
            stream_window_bytes: STREAM_WINDOW_BYTES,
            connection_window_bytes: CONNECTION_WINDOW_BYTES,
            frame_bytes: FRAME_BYTES,
            server_streams: SERVER_STREAMS,
            pool_streams: POOL_STREAMS,
            pool_idle: POOL_IDLE,
            pool_connections_per_key: POOL_CONNECTIONS_PER_KEY,
            ping_interval: PING_INTERVAL,
            ping_timeout: PING_TIMEOUT,
            handshake_deadline: HANDSHAKE_DEADLINE,
            dial_deadline: DIAL_DEADLINE,
            answer_deadline: ANSWER_DEADLINE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_share_grant_no_more_together_and_each_a_stream() {
        let of = |stream, connection, connections| {
            let limits =
                Limits { stream_window_bytes: stream, connection_window_bytes: connection, ..Limits::default() };
            limits.shared_by(connections).connection_window_bytes
        };
        for (stream, connection, connections, want) in
            [(4, 16, 1, 16), (4, 16, 2, 8), (4, 16, 4, 4), (4, 16, 8, 4), (4, 16, 0, 16), (4, 2, 2, 2)]
        {
            assert_eq!(of(stream, connection, connections), want, "{stream} {connection} {connections}");
        }
    }
}
