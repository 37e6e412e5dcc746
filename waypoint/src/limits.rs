//! Every number of the data path, with its reason. What an operator or a policy may change has its
//! default here.

use std::time::Duration;

/// How long a TLS handshake of a caller may take: two round trips, and a busy peer. ztunnel's value.
pub const TLS_ACCEPT_DEADLINE: Duration = Duration::from_secs(10);
/// How long we wait for our own certificate when somebody calls.
pub const CERTIFICATE_DEADLINE: Duration = Duration::from_secs(5);
/// How long the first certificate may take before that is said in the log. Listeners open without it.
pub const FIRST_CERTIFICATE_DEADLINE: Duration = Duration::from_secs(30);
/// A pause after an accept that failed for want of descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections of callers that wait to be accepted by one core.
pub const ACCEPT_BACKLOG: i32 = 1024;

/// First bytes of a connection that are looked at to tell what is spoken. A TLS ClientHello with a
/// post-quantum key share is about 1.8 KiB; one with long extensions seldom over 4.
pub const SNIFF_BYTES_MAX: usize = 16 << 10;
/// How long a caller may be silent on a port of unknown protocol before the connection is taken for
/// one where the server speaks first (MySQL, SMTP). Such a connection begins that much later: name
/// the port's protocol to spare it. Istio's default was the same until it became endless.
pub const SNIFF_DEADLINE: Duration = Duration::from_millis(200);

/// How long a caller whom we closed may take to notice: a round trip, and a busy peer.
pub const GOODBYE: Duration = Duration::from_secs(1);

/// Header fields of a request or response of HTTP/1. Browsers send 20 to 40. It is what hyper takes where nothing
/// is set, and so nothing is: a limit that is set, were it the same, makes hyper fill four lists of that length for
/// each request.
pub const HEADERS_MAX: usize = 100;
/// Bytes of a head. Envoy's default of 60 KiB, rounded up.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a caller may take for a head, from its first byte, and between requests of a kept-alive
/// connection: longer than the 90 s after which Go's clients leave an idle connection themselves, so
/// that a request seldom meets one that is closing; a trickling attacker's does not stay.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(120);
/// HTTP/2 requests of one caller's connection at a time. Envoy's recommendation for untrusted callers.
pub const REQUEST_STREAMS_MAX: u32 = 100;
/// What a caller may send of one request before we read it (HTTP/2). Bounds memory at 100 streams to
/// 25 MiB a connection, and fills 1 Gb/s at 2 ms.
pub const REQUEST_WINDOW_BYTES: u32 = 256 << 10;
/// The same for all requests of a connection.
pub const REQUEST_CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Bytes of one HTTP/2 stream that wait for the socket.
pub const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Silence after which an HTTP/2 caller is asked whether it is there, and how long it may take to say.
pub const HTTP2_PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));
/// Nothing moved in either direction of a request for so long, where no route says otherwise. Envoy's
/// stream idle time-out.
pub const STREAM_IDLE: Duration = Duration::from_secs(300);
/// How old a caller's HTTP connection may get while there are several replicas of us: a tunnel, and so
/// each connection in it, stays with the replica that the node proxy picked. Ending connections in
/// order now and then is what spreads requests over replicas; 60 to 90 s each, at random.
pub const CONNECTION_AGE_MAX: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30));
/// Requests after which a caller's HTTP connection ends for the same reason, so that a busy caller's
/// requests are shared too, however few connections it has. A new connection in a tunnel that is open costs
/// about as much as three requests, so this is about a hundredth.
pub const SHARE_REQUESTS: u32 = 250;
/// But not before it is so old: a caller of 10,000 requests a second on one connection makes one a second.
pub const SHARE_AGE: Duration = Duration::from_secs(1);
/// How long a connection to be ended for its age may finish what runs on it.
pub const CONNECTION_GOODBYE: Duration = Duration::from_secs(300);

/// Bytes of a request that are kept so that it can be sent again. Envoy's default is 1 MiB; most
/// bodies that are worth another try are far smaller, and 100 streams of 10,000 callers are many.
pub const REPLAY_BYTES_MAX: usize = 64 << 10;
/// Bytes that a copy of a request may lag behind the request before the copy is given up.
pub const MIRROR_LAG_FRAMES: usize = 32;
/// Copies of requests under way at a time, a core.
pub const MIRRORS_MAX: usize = 256;
/// How long a copy may take, altogether.
pub const MIRROR_DEADLINE: Duration = Duration::from_secs(15);

/// How long a TCP connection to an endpoint may take, where nobody says. Istio's default.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long TLS of our own to an endpoint may take.
pub const ORIGINATION_DEADLINE: Duration = Duration::from_secs(10);
/// Requests at a time on one HTTP/2 connection to an endpoint, where nobody says.
pub const UPSTREAM_STREAMS_MAX: u32 = 100;
/// How long an idle connection to an endpoint is kept, where nobody says: less than the 60 s after
/// which common servers close theirs, so that a request seldom meets a connection that is closing.
pub const UPSTREAM_IDLE: Duration = Duration::from_secs(50);
/// How often idle connections are looked through.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Idle HTTP/1 connections to one endpoint, a core.
pub const IDLE_PER_HOST_MAX: usize = 128;
/// What an endpoint may send of one response before we read it (HTTP/2).
pub const RESPONSE_WINDOW_BYTES: u32 = 256 << 10;
/// The same for all responses of a connection: what its streams may be sent together, so that those whose
/// callers stall leave the others theirs. 25 MiB at worst.
pub const RESPONSE_CONNECTION_WINDOW_BYTES: u32 = UPSTREAM_STREAMS_MAX * RESPONSE_WINDOW_BYTES;
/// Names of endpoints that are remembered with their addresses.
pub const NAMES_MAX: usize = 1024;
/// How long the addresses of a name are believed: the system's resolver does not tell their life.
pub const NAME_TTL: Duration = Duration::from_secs(5);
/// How long a lookup may take.
pub const NAME_DEADLINE: Duration = Duration::from_secs(5);
/// Destinations whose state is kept. One is a port of a service, or a subset of it.
pub const CLUSTERS_MAX: usize = 64 << 10;

/// Open TCP connections that are judged again when policy changes, at a time.
pub const LIVE_MAX: usize = 256 << 10;
/// How long a connection that came in a drain may take to ask for its first tunnel.
pub const FIRST_TUNNEL: Duration = Duration::from_secs(1);
/// How long a kept HTTP/1 connection that is to end may stay without a request, whose answer says so
/// (half of the drain at most). Servers close connections that rest for 5 s every day; one that a
/// caller uses more often than that hears of the end before it comes.
pub const LAST_REQUEST: Duration = Duration::from_secs(5);
/// How long connections are still taken in a drain: callers hear of it within a second or so.
pub const LISTEN_ON: Duration = Duration::from_secs(2);
/// How long a WebSocket waits for an HTTP/2 endpoint to say whether it takes them (it says so first of all, so
/// one round trip, and a busy peer) before it is asked in HTTP/1.1 instead.
pub const SETTINGS_WAIT: Duration = Duration::from_secs(1);
/// The pause between two looks whether they have come, while somebody waits for them.
pub const SETTINGS_LOOK: Duration = Duration::from_millis(5);
