//! The messages of delta ADS in the form that costs least: a response holds its resources as
//! bytes.
//!
//! On the wire `repeated Resource` and `repeated bytes` are the same thing, so a server encodes a
//! resource once and every session's response shares it, and a client reads a resource that
//! cannot be parsed as one bad resource and not as a bad response. The tests hold these types
//! against the generated ones.

use bytes::Bytes;

pub use proto::discovery::{ControlPlane, DeltaDiscoveryRequest as Request, Status};

/// Path of the stream.
pub const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// Name of the gRPC service.
pub const SERVICE: &str = "envoy.service.discovery.v3.AggregatedDiscoveryService";

/// What gRPC puts before a message: a flag, which says whether it is compressed, and its length.
pub const FRAME_HEAD_BYTES: usize = 5;

/// `DeltaDiscoveryResponse`, with each resource encoded.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// Version of the push, for people.
    #[prost(string, tag = "1")]
    pub system_version_info: String,
    /// Each an encoded [`Resource`].
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub resources: Vec<Bytes>,
    /// What they are.
    #[prost(string, tag = "4")]
    pub type_url: String,
    /// Names this response in its answer.
    #[prost(string, tag = "5")]
    pub nonce: String,
    /// Names that are gone.
    #[prost(string, repeated, tag = "6")]
    pub removed_resources: Vec<String>,
    /// Who answers.
    #[prost(message, optional, tag = "7")]
    pub control_plane: Option<ControlPlane>,
}

/// `Resource`, sharing the buffer it was read from.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// Version of this resource, compared when a client resumes.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The resource itself.
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Any>,
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Other names, for clients that asked for one of them.
    #[prost(string, repeated, tag = "4")]
    pub aliases: Vec<String>,
}

/// `Resource`, of which only the name is wanted: whatever else it has takes no memory.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Named {
    /// Its name.
    #[prost(string, tag = "3")]
    pub name: String,
}

/// `google.protobuf.Any`, sharing the buffer it was read from.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    /// Type of the message.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The message.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}
