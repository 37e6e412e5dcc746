//! Numbers that bound what certificates cost us, each with its reason.

use std::time::Duration;

/// Largest request for a certificate that is read. A P-256 request is 0.5 KiB, an RSA-8192 one
/// 3 KiB; the rest is room for attributes that we ignore.
pub const CSR_BYTES_MAX: usize = 16 * 1024;

/// Longest answer of an authority that is read: every element of the chain together. A leaf, a few
/// intermediates and a bundle of some dozen RSA-4096 roots (2 KiB each) stay far below.
pub const CHAIN_BYTES_MAX: usize = 256 * 1024;

/// Most certificates in one chain or bundle that are parsed.
pub const CHAIN_CERTIFICATES_MAX: usize = 100;

/// Most certificates that a peer may show in a handshake: a leaf and 6 intermediates are what path
/// building follows, one more may be the root itself.
pub const PEER_CHAIN_MAX: usize = 8;

/// Certificates asked for at the same time. Istio's node proxy does 8: enough to hide the round
/// trip, few enough that a node that starts does not flood its authority.
pub const FETCHES_MAX: usize = 8;

/// Identities held at once. A node has some hundreds of pods at most, and each identity in use
/// costs about 10 KiB, so this is 40 MiB and no real node reaches it.
pub const IDENTITIES_MAX: usize = 4096;

/// First wait after a failed request, doubled after each further one.
pub const BACKOFF_MIN: Duration = Duration::from_secs(1);

/// Longest wait between failed requests.
pub const BACKOFF_MAX: Duration = Duration::from_secs(150);

/// A wait is spread by this share either way, so that nodes that failed together do not come back
/// together.
pub const BACKOFF_JITTER: f64 = 0.2;

/// While connections wait for an identity without a usable certificate, its next try comes no
/// later than this after the last: with jitter still under the 2 s in which we want to be back
/// after the authority is.
pub const DEMANDED_RETRY: Duration = Duration::from_millis(1500);

/// How often the schedule is asked again though nothing is due: a suspend or a set clock is
/// noticed within this time.
pub const TICK: Duration = Duration::from_secs(1);

/// How long a connection waits for a certificate before it fails: one request to the authority and
/// a little, so that the error names the authority's answer and not our impatience.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(12);

/// Deadline of one request to the authority, connecting (5 s) included.
pub const CERTIFY_DEADLINE: Duration = Duration::from_secs(10);

/// Deadline of TCP connect and TLS handshake with the control plane, each.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// How long one attempt to reach the control plane's address stays without any answer before it is made anew. Within a
/// cluster an answer takes milliseconds; the kernel by itself would ask the same replica again after this time.
pub const DIAL_PATIENCE: Duration = Duration::from_secs(1);

/// Largest root or token file that is read: a bundle of a hundred roots is 200 KiB.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How often the file of revocation lists is looked at: revoked peers are cut off within this time.
pub const REVOCATION_LOOK: Duration = Duration::from_millis(500);
