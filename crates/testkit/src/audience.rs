//! Proxies that take whatever the control plane tells them, and keep nothing of it: many fit into one process.
//!
//! Each has a connection of its own, says that it is a node proxy, and acknowledges every response. A response is
//! read as far as the names in it.

use crate::authority::Place;
use pki::control_plane::{ControlPlane, Source};
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic_prost::ProstCodec;
use xds::{
    Kind, Node, limits,
    wire::{self, Named, Request, Resource, Response},
};

/// A first request for each kind, and an answer to each response.
const REQUESTS_QUEUED_MAX: usize = 16;

/// What is known from an earlier stream: name → version, of addresses.
pub type Versions = BTreeMap<String, String>;

/// One proxy, connected.
pub struct Listener {
    requests: mpsc::Sender<Request>,
    responses: Streaming<Response>,
}

/// One response.
#[derive(Clone, Debug)]
pub struct Told {
    /// Of which kind.
    pub kind: Kind,
    /// The resources in it.
    pub resources: Vec<bytes::Bytes>,
    /// Names of those that are gone.
    pub removed: Vec<String>,
}

impl Told {
    /// Whether it is of workloads and services.
    pub fn is_address(&self) -> bool {
        self.kind == Kind::Address
    }

    /// How many bytes it was.
    pub fn bytes(&self) -> usize {
        self.resources.iter().map(bytes::Bytes::len).sum()
    }

    /// The names of what it tells of.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.resources.iter().filter_map(|one| Named::decode(one.clone()).ok()).map(|named| named.name)
    }

    /// Its names and versions.
    pub fn versions(&self) -> Versions {
        let read = self.resources.iter().filter_map(|one| Resource::decode(one.clone()).ok());
        read.map(|resource| (resource.name, resource.version)).collect()
    }
}

impl Listener {
    /// Connects as the node proxy `pod` of `istio-system`, whose token this is, and asks for everything that is not
    /// known already.
    pub async fn open(place: &Place, token: &str, pod: &str, known: &Arc<Versions>) -> Result<Self, String> {
        let plane = ControlPlane {
            address: place.address.parse().map_err(|_| format!("{:?} is no address", place.address))?,
            roots: Source::Literal(place.roots.clone()),
            token: Some(Source::Literal(token.to_owned())),
            cluster_id: "Kubernetes".into(),
            alternative_hostname: Some("istiod.istio-system.svc".into()),
            headers: vec![],
        };
        let channel = plane.channel().map_err(|error| error.to_string())?;
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(limits::RESPONSE_BYTES_MAX);
        grpc.ready().await.map_err(|error| format!("no connection: {error:?}"))?;
        let (requests, outgoing) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let mut client =
            xds::client::state::Client::new(Node::ztunnel(None, pod, "istio-system", "node1"), Kind::NODE_PROXY);
        for mut request in client.open() {
            if request.type_url == Kind::Address.type_url() {
                request.initial_resource_versions = (**known).clone();
            }
            requests.try_send(request).map_err(|_| "the first requests do not fit")?;
        }
        let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
        *request.metadata_mut() = plane.metadata().map_err(|error| error.to_string())?;
        let codec = ProstCodec::<Request, Response>::default();
        let path = http::uri::PathAndQuery::from_static(wire::METHOD);
        let responses = grpc.streaming(request, path, codec).await.map_err(|status| format!("no stream: {status}"))?;
        Ok(Self { requests, responses: responses.into_inner() })
    }

    /// The next response; it is acknowledged.
    pub async fn next(&mut self) -> Result<Told, String> {
        let response = self.responses.message().await.map_err(|status| status.to_string())?;
        let response = response.ok_or("the control plane ended the stream")?;
        let kind = Kind::of_type_url(&response.type_url).ok_or_else(|| format!("unasked: {}", response.type_url))?;
        let answer = Request { type_url: response.type_url, response_nonce: response.nonce, ..Request::default() };
        self.requests.send(answer).await.map_err(|_| "the stream takes no answers")?;
        Ok(Told { kind, resources: response.resources, removed: response.removed_resources })
    }
}
