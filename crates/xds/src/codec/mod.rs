//! Between wire types and the words of `mesh`, both directions, one file a kind.
//!
//! Decoding is strict where a mistake could weaken policy or send traffic elsewhere, and refuses
//! one resource, never a response. Encoding leaves out what a reader assumes anyway, so that the
//! same content always gives the same bytes.

pub mod address;
mod names;
pub mod policy;
pub mod rules;
pub mod service;
pub mod workload;

pub use names::Names;

use crate::{Kind, limits, resource, wire};
use bytes::Bytes;
use mesh::{
    Change, Str,
    route::{Compiled, CompiledGateway, Unusable},
};
use prost::Message;
use std::sync::Arc;
use xxhash_rust::xxh64::xxh64;

/// Why a resource is refused. It is the reason in a NACK, read by operators of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no protobuf message, or end too early.
    #[error("cannot be parsed: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// It is not what the response says it is.
    #[error("has type {found:?} in a response of type {expected}")]
    Type {
        /// Type of the response.
        expected: Kind,
        /// Type of the resource.
        found: String,
    },
    /// A field that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An enum value of a newer control plane. Guessing what it means could be wrong.
    #[error("{field} has the unknown value {value}")]
    UnknownEnum {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: i32,
    },
    /// The tunnel protocol of sidecars, which node proxies do not speak.
    #[error("tunnel_protocol LEGACY_ISTIO_MTLS is not supported")]
    LegacyTunnel,
    /// An address that is neither IPv4 nor IPv6.
    #[error("{field} has {bytes} bytes; an address has 4 or 16")]
    Address {
        /// Which field.
        field: &'static str,
        /// How long it is.
        bytes: usize,
    },
    /// A prefix longer than its address.
    #[error("{field} has the prefix length {length}, longer than its address")]
    Prefix {
        /// Which field.
        field: &'static str,
        /// The length.
        length: u32,
    },
    /// A number that is no port.
    #[error("{field} is {value}; a port is at most 65535")]
    Port {
        /// Which field.
        field: &'static str,
        /// The number.
        value: u32,
    },
    /// A key that is not `namespace/hostname`.
    #[error("{field} has {text:?}, which is not of the form <namespace>/<hostname>")]
    Key {
        /// Which field.
        field: &'static str,
        /// What it says.
        text: String,
    },
    /// A number that is none of those that may stand there.
    #[error("{field} cannot be {value}")]
    Number {
        /// Which field.
        field: &'static str,
        /// The number.
        value: u32,
    },
    /// A duration that is negative, or no duration at all.
    #[error("{0} is no duration, or a negative one")]
    Duration(&'static str),
    /// Something in a part that has a name.
    #[error("{place}: {error}")]
    Within {
        /// Which part.
        place: String,
        /// What is wrong there.
        error: Box<Self>,
    },
    /// Rules that can be read and not be used.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The resource says another name than its envelope, so its removal would miss it.
    #[error("names itself {0:?}")]
    Name(String),
    /// The resource is larger than one may be.
    #[error("has {0} bytes; a resource has at most {max}", max = limits::RESOURCE_BYTES_MAX)]
    TooLarge(usize),
    /// The name is longer than one may be.
    #[error("has a name of {0} bytes; a name has at most {max}", max = limits::NAME_BYTES_MAX)]
    NameTooLong(usize),
    /// There are more resources than a client holds.
    #[error("is one more than the {max} resources that a client holds", max = limits::RESOURCES_MAX)]
    TooMany,
}

/// A resource as it goes into responses: encoded once, shared by every session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The encoded [`wire::Resource`].
    pub bytes: Bytes,
    /// xxhash64 of the message; equal content has an equal version, also after a restart.
    pub hash: u64,
}

/// The version of a resource on the wire, of the kinds that have one ([`Kind::versioned`]).
pub fn version(hash: u64) -> String {
    format!("{hash:x}")
}

/// Encodes what a change adds; a removal has no content.
pub fn encode(change: &Change) -> Option<Encoded> {
    let (kind, message) = match change {
        Change::Workload(workload) => (Kind::Address, address::of_workload(workload).encode_to_vec()),
        Change::Service(service) => (Kind::Address, address::of_service(service).encode_to_vec()),
        Change::Policy(policy) => (Kind::Authorization, policy::encode(policy).encode_to_vec()),
        Change::ServiceRules(it) => (Kind::ServiceRules, rules::of_service(it.rules()).encode_to_vec()),
        Change::GatewayRules(it) => (Kind::GatewayRules, rules::of_gateway(it.rules()).encode_to_vec()),
        Change::RemoveAddress(_)
        | Change::RemovePolicy(_)
        | Change::RemoveServiceRules(_)
        | Change::RemoveGatewayRules(_) => return None,
    };
    let hash = xxh64(&message, 0);
    let resource = wire::Resource {
        version: if kind.versioned() { version(hash) } else { String::new() },
        name: resource::of_change(change).1.to_string(),
        resource: Some(wire::Any { type_url: kind.type_url().into(), value: message.into() }),
        aliases: Vec::new(),
    };
    Some(Encoded { bytes: resource.encode_to_vec().into(), hash })
}

/// A resource of a response, understood.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Its name.
    pub name: Str,
    /// Its version; may be empty.
    pub version: Str,
    /// What it adds.
    pub change: Change,
}

/// Reads one resource of a response of `kind`; texts that others repeat come from `names`. The error
/// comes with the name, as far as it could be read.
pub fn decode(kind: Kind, bytes: &Bytes, names: &mut Names) -> Result<Decoded, (String, DecodeError)> {
    if bytes.len() > limits::RESOURCE_BYTES_MAX {
        return Err((name_of(bytes), DecodeError::TooLarge(bytes.len())));
    }
    let resource = wire::Resource::decode(bytes.clone()).map_err(|error| (String::new(), error.into()))?;
    if resource.name.len() > limits::NAME_BYTES_MAX {
        let length = resource.name.len();
        return Err((telling(resource.name), DecodeError::NameTooLong(length)));
    }
    match content(kind, &resource, names) {
        Ok((name, change)) => Ok(Decoded { name, version: resource.version.into(), change }),
        Err(error) => Err((resource.name, error)),
    }
}

/// The name of a resource that is not read for its size; empty if it has none that can be read.
fn name_of(bytes: &Bytes) -> String {
    wire::Named::decode(bytes.clone()).map(|named| telling(named.name)).unwrap_or_default()
}

/// A name as refusals have it: the beginning of one that is too long.
fn telling(name: String) -> String {
    if name.len() > limits::NAME_BYTES_MAX { name.chars().take(100).collect() } else { name }
}

/// What a resource says, with its name as the content has it: the same text, and shared with it.
fn content(kind: Kind, resource: &wire::Resource, names: &mut Names) -> Result<(Str, Change), DecodeError> {
    let any = resource.resource.as_ref().ok_or(DecodeError::Missing("resource"))?;
    if any.type_url != kind.type_url() {
        let found = any.type_url.chars().take(200).collect();
        return Err(DecodeError::Type { expected: kind, found });
    }
    let change = match kind {
        Kind::Address => address::decode(proto::workload::Address::decode(any.value.clone())?, names)?,
        Kind::Authorization => {
            let policy = policy::decode(proto::security::Authorization::decode(any.value.clone())?)?;
            Change::Policy(Arc::new(policy))
        }
        Kind::ServiceRules => {
            let read = rules::service(proto::waypoint::ServiceRules::decode(any.value.clone())?)?;
            Change::ServiceRules(Arc::new(Compiled::new(read)?))
        }
        Kind::GatewayRules => {
            let read = rules::gateway(proto::waypoint::GatewayRules::decode(any.value.clone())?)?;
            Change::GatewayRules(Arc::new(CompiledGateway::new(read)?))
        }
    };
    let (_, own) = resource::of_change(&change);
    if *own == *resource.name { Ok((own, change)) } else { Err(DecodeError::Name(own.chars().take(200).collect())) }
}

/// A port of the wire, which is 32 bits wide there.
pub(crate) fn port(field: &'static str, value: u32) -> Result<u16, DecodeError> {
    u16::try_from(value).map_err(|_| DecodeError::Port { field, value })
}

/// An enum value of the wire; a value that this build does not know is an error.
pub(crate) fn known<E: TryFrom<i32>>(field: &'static str, value: i32) -> Result<E, DecodeError> {
    E::try_from(value).map_err(|_| DecodeError::UnknownEnum { field, value })
}

#[cfg(test)]
mod tests;
