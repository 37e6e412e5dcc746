//! Proxies that take whatever the control plane tells them, and keep nothing of it: many fit into one process.
//!
//! Each has a connection of its own, says that it is a node proxy, and acknowledges every response. A response is
//! read as far as the names in it, as it arrives.

mod reading;

use crate::authority::Place;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use pki::control_plane::{ControlPlane, Source};
use prost::Message;
use reading::Reading;
use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, body::Body, client::GrpcService};
use xds::{
    Kind, Node, digests,
    wire::{self, Request},
};

/// The first requests, and an answer to each response.
const REQUESTS_QUEUED_MAX: usize = 16;

/// What is known from an earlier stream: name → version, of addresses.
pub type Versions = BTreeMap<String, String>;

/// What a proxy says first: a request for each kind. Made once for all of them; what is known is said in short.
#[derive(Clone, Debug)]
pub struct Opening(Bytes);

/// One proxy, connected.
pub struct Listener {
    answers: mpsc::Sender<Bytes>,
    responses: Body,
    reading: Reading,
    whole: VecDeque<Told>,
}

/// One response.
#[derive(Clone, Debug)]
pub struct Told {
    /// Of which kind.
    pub kind: Kind,
    /// What the answer to it names.
    pub nonce: String,
    /// How many bytes its resources were.
    pub bytes: usize,
    /// Names and versions of the resources in it.
    pub resources: Vec<(String, String)>,
    /// Names of those that are gone.
    pub removed: Vec<String>,
}

impl Told {
    /// Whether it is of workloads and services.
    pub fn is_address(&self) -> bool {
        self.kind == Kind::Address
    }

    /// The names of what it tells of.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().map(|(name, _)| &**name)
    }
}

impl Opening {
    /// That of the node proxy `pod` of `istio-system`, which asks for everything that is not known already.
    pub fn of(pod: &str, known: &Versions) -> Self {
        let node = Node::ztunnel(None, pod, "istio-system", "node1");
        let mut requests = xds::client::state::Client::new(node, Kind::NODE_PROXY).open();
        for request in &mut requests {
            if request.type_url == Kind::Address.type_url() && !known.is_empty() {
                let short = digests::claim(known.iter().map(|(name, version)| (&**name, &**version)));
                request.initial_resource_versions = [short].into();
            }
        }
        Self(requests.iter().map(framed).collect::<Vec<_>>().concat().into())
    }
}

impl Listener {
    /// Connects with the token of the node proxy.
    pub async fn open(place: &Place, token: &str, opening: &Opening) -> Result<Self, String> {
        let plane = ControlPlane {
            address: place.address.parse().map_err(|_| format!("{:?} is no address", place.address))?,
            roots: Source::Literal(place.roots.clone()),
            token: Some(Source::Literal(token.to_owned())),
            cluster_id: "Kubernetes".into(),
            alternative_hostname: Some("istiod.istio-system.svc".into()),
            headers: vec![],
        };
        let (answers, outgoing) = mpsc::channel(REQUESTS_QUEUED_MAX);
        answers.try_send(opening.0.clone()).map_err(|_| "the first requests do not fit")?;
        let frames = ReceiverStream::new(outgoing).map(|bytes| Ok::<_, Status>(Frame::data(bytes)));
        let request = http::Request::post(wire::METHOD)
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Body::new(StreamBody::new(frames)));
        let mut request = request.map_err(|error| error.to_string())?;
        request.headers_mut().extend(plane.metadata().map_err(|error| error.to_string())?.into_headers());
        let mut channel = plane.channel().map_err(|error| error.to_string())?;
        poll_fn(|cx| channel.poll_ready(cx)).await.map_err(|error| format!("no connection: {error:?}"))?;
        let response = channel.call(request).await.map_err(|error| format!("no stream: {error:?}"))?;
        refused(response.headers())?;
        Ok(Self { answers, responses: response.into_body(), reading: Reading::default(), whole: VecDeque::new() })
    }

    /// The next response; it is acknowledged.
    pub async fn next(&mut self) -> Result<Told, String> {
        loop {
            if let Some(told) = self.whole.pop_front() {
                let type_url = told.kind.type_url().to_owned();
                let answer = Request { type_url, response_nonce: told.nonce.clone(), ..Request::default() };
                self.answers.send(framed(&answer)).await.map_err(|_| "the stream takes no answers")?;
                return Ok(told);
            }
            let frame = self.responses.frame().await.ok_or("the control plane ended the stream")?;
            match frame.map_err(|status| status.to_string())?.into_data() {
                Ok(bytes) => self.whole.extend(self.reading.take(&bytes)?),
                Err(frame) => frame.trailers_ref().map_or(Ok(()), refused)?,
            }
        }
    }
}

/// Fails if headers or trailers say that the call has ended in an error.
fn refused(headers: &HeaderMap) -> Result<(), String> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != tonic::Code::Ok => Err(status.to_string()),
        _ => Ok(()),
    }
}

/// A message as gRPC sends it, not compressed.
fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.encoded_len() + 5);
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode_raw(&mut bytes);
    bytes.freeze()
}
