//! ZDS, the messages by which the node agent hands pods to the node proxy. Both directions, pure.
//!
//! One datagram is one bare protobuf message. Only `AddWorkload` comes with a descriptor, exactly
//! one: the pod's network namespace. That is checked here too, because it is part of the message.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use mesh::Str;
use prost::Message;
use proto::workload::zds;

/// Longest message, in bytes: what proxies of this protocol read at once.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// What the node agent knows of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Kubernetes uid.
    pub uid: Str,
    /// Name.
    pub name: Str,
    /// Namespace.
    pub namespace: Str,
    /// Service account.
    pub service_account: Str,
}

/// What the agent asks. `Netns` is what stands for the namespace: an [`OwnedFd`] when received.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<Netns = OwnedFd> {
    /// Proxy for this pod.
    Add(Pod, Netns),
    /// Go on to proxy for the pod with this uid; its namespace is not at hand.
    Keep(Str),
    /// Stop to proxy for the pod with this uid; what is open in it may go on for so long, to the second. Without that, for
    /// as long as the proxy grants.
    Del(Str, Option<Duration>),
    /// Every pod there is was named: stop those that were not.
    SnapshotSent,
}

/// Why a message is wrong. It means that the two ends do not understand each other.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// It does not decode.
    #[error("a ZDS message does not decode: {0}")]
    Decode(#[from] prost::DecodeError),
    /// Its payload is missing or of a kind we do not know.
    #[error("a ZDS message has no payload that is known here")]
    NoPayload,
    /// The greeting is of another version.
    #[error("the ZDS greeting is of version {0}, known is 1")]
    Version(i32),
    /// An add does not say which pod it is about.
    #[error("a ZDS add for uid {0:?} does not say which pod that is")]
    NoPod(String),
    /// The uid is missing.
    #[error("a ZDS message has an empty uid")]
    NoUid,
    /// Descriptors where none belong, or not exactly one with an add.
    #[error("a ZDS {kind} came with {found} descriptors, expected {expected}")]
    Descriptors {
        /// Kind of the message.
        kind: &'static str,
        /// How many came.
        found: usize,
        /// How many belong to it.
        expected: usize,
    },
    /// Too long for the other end to read.
    #[error("a ZDS message of {0} bytes is longer than {MESSAGE_BYTES_MAX}")]
    TooLong(usize),
}

/// The proxy's greeting.
pub fn encode_hello() -> Vec<u8> {
    zds::ZdsHello { version: zds::Version::V1 as i32 }.encode_to_vec()
}

/// Reads the greeting.
pub fn decode_hello(bytes: &[u8], descriptors: &[OwnedFd]) -> Result<(), MessageError> {
    without_descriptors("hello", descriptors)?;
    match zds::ZdsHello::decode(bytes)?.version {
        version if version == zds::Version::V1 as i32 => Ok(()),
        version => Err(MessageError::Version(version)),
    }
}

/// A request as bytes, and the descriptor to send with it.
pub fn encode_request<'a>(
    request: &Request<BorrowedFd<'a>>,
) -> Result<(Vec<u8>, Option<BorrowedFd<'a>>), MessageError> {
    use zds::workload_request::Payload;
    let (payload, netns) = match request {
        Request::Add(pod, netns) => {
            let info = zds::WorkloadInfo {
                name: pod.name.to_string(),
                namespace: pod.namespace.to_string(),
                service_account: pod.service_account.to_string(),
            };
            let add = zds::AddWorkload { uid: pod.uid.to_string(), workload_info: Some(info) };
            (Payload::Add(add), Some(*netns))
        }
        Request::Keep(uid) => (Payload::Keep(zds::KeepWorkload { uid: uid.to_string() }), None),
        Request::Del(uid, patience) => {
            let seconds = patience.map_or(0, |patience| u32::try_from(patience.as_secs()).unwrap_or(u32::MAX));
            (Payload::Del(zds::DelWorkload { uid: uid.to_string(), patience_seconds: seconds }), None)
        }
        Request::SnapshotSent => (Payload::SnapshotSent(zds::SnapshotSent {}), None),
    };
    let bytes = zds::WorkloadRequest { payload: Some(payload) }.encode_to_vec();
    // A message of exactly the reader's buffer is fine; one byte more would be cut off there.
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(MessageError::TooLong(bytes.len()));
    }
    Ok((bytes, netns))
}

/// Reads a request and takes its descriptor.
pub fn decode_request(bytes: &[u8], mut descriptors: Vec<OwnedFd>) -> Result<Request, MessageError> {
    use zds::workload_request::Payload;
    let payload = zds::WorkloadRequest::decode(bytes)?.payload.ok_or(MessageError::NoPayload)?;
    let add = match payload {
        Payload::Add(add) => add,
        Payload::Keep(keep) => {
            without_descriptors("keep", &descriptors)?;
            return Ok(Request::Keep(uid(&keep.uid)?));
        }
        Payload::Del(del) => {
            without_descriptors("delete", &descriptors)?;
            let patience = (del.patience_seconds > 0).then(|| Duration::from_secs(del.patience_seconds.into()));
            return Ok(Request::Del(uid(&del.uid)?, patience));
        }
        Payload::SnapshotSent(_) => {
            without_descriptors("snapshot end", &descriptors)?;
            return Ok(Request::SnapshotSent);
        }
    };
    let info = add.workload_info.ok_or_else(|| MessageError::NoPod(add.uid.clone()))?;
    let found = descriptors.len();
    let (Some(netns), 1) = (descriptors.pop(), found) else {
        return Err(MessageError::Descriptors { kind: "add", found, expected: 1 });
    };
    let pod = Pod {
        uid: uid(&add.uid)?,
        name: info.name.into(),
        namespace: info.namespace.into(),
        service_account: info.service_account.into(),
    };
    Ok(Request::Add(pod, netns))
}

/// The proxy's answer as bytes. An error is cut to what fits.
pub fn encode_ack(result: Result<(), &str>) -> Vec<u8> {
    // What is left of a message when its own framing is taken off.
    const TEXT_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 16;
    let mut error = result.err().unwrap_or_default();
    while error.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|at| error.is_char_boundary(*at)).unwrap_or(0);
        error = &error[..end];
    }
    let ack = zds::Ack { error: error.to_owned() };
    zds::WorkloadResponse { payload: Some(zds::workload_response::Payload::Ack(ack)) }.encode_to_vec()
}

/// Reads an answer: `Err` is what the proxy says went wrong.
pub fn decode_ack(bytes: &[u8], descriptors: &[OwnedFd]) -> Result<Result<(), String>, MessageError> {
    without_descriptors("ack", descriptors)?;
    match zds::WorkloadResponse::decode(bytes)?.payload.ok_or(MessageError::NoPayload)? {
        zds::workload_response::Payload::Ack(ack) if ack.error.is_empty() => Ok(Ok(())),
        zds::workload_response::Payload::Ack(ack) => Ok(Err(ack.error)),
    }
}

fn uid(text: &str) -> Result<Str, MessageError> {
    if text.is_empty() { Err(MessageError::NoUid) } else { Ok(text.into()) }
}

fn without_descriptors(kind: &'static str, descriptors: &[OwnedFd]) -> Result<(), MessageError> {
    match descriptors.len() {
        0 => Ok(()),
        found => Err(MessageError::Descriptors { kind, found, expected: 0 }),
    }
}

#[cfg(test)]
mod tests;
