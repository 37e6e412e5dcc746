//! Proxies that take whatever the control plane tells them, and keep nothing of it: many fit into one process.
//!
//! Each has a connection of its own, says that it is a node proxy, and acknowledges every response. A response is
//! read as far as the names in it, as it arrives.

mod reading;

use crate::authority::Place;
use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::Connection};
use http::{HeaderMap, header};
use pki::control_plane::{ControlPlane, Source};
use prost::Message;
use reading::Reading;
use std::{
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use xds::{
    Kind, Node, digests,
    wire::{self, FRAME_HEAD_BYTES, Request},
};

/// What a response may be ahead of its reader: so much of the first, which is everything, is on its way at once.
const WINDOW_BYTES: u32 = 2 << 20;

/// What is known from an earlier stream: name → version, of addresses.
pub type Versions = BTreeMap<String, String>;

/// What a proxy says first: a request for each kind. Made once for all of them; what is known is said in short.
#[derive(Clone, Debug)]
pub struct Opening(Bytes);

/// One proxy, connected. It lives as long as somebody waits for its next response: no task works beside that one.
pub struct Listener {
    connection: Connection<TlsStream<TcpStream>>,
    answers: SendStream<Bytes>,
    responses: RecvStream,
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
        let io = plane.connection().await.map_err(|error| format!("no connection: {error}"))?;
        let mut request = http::Request::post(format!("{}{}", place.address, wire::METHOD))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(())
            .map_err(|error| error.to_string())?;
        request.headers_mut().extend(plane.metadata().map_err(|error| error.to_string())?.into_headers());
        Self::ask(io, request, opening.0.clone()).await.map_err(|error| format!("no stream: {error}"))?
    }

    async fn ask(
        io: TlsStream<TcpStream>,
        request: http::Request<()>,
        first: Bytes,
    ) -> Result<Result<Self, String>, h2::Error> {
        let mut client = h2::client::Builder::new();
        client.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (requests, mut connection) = client.handshake(io).await?;
        let (response, mut answers) = requests.ready().await?.send_request(request, false)?;
        answers.send_data(first, false)?;
        let mut response = std::pin::pin!(response);
        let response = poll_fn(|cx| {
            let connection = Pin::new(&mut connection).poll(cx);
            driven(connection, response.as_mut().poll(cx))
        });
        let response = response.await?;
        Ok(refused(response.headers()).map(|()| Self {
            connection,
            answers,
            responses: response.into_body(),
            reading: Reading::default(),
            whole: VecDeque::new(),
        }))
    }

    /// The next response; it is acknowledged.
    pub async fn next(&mut self) -> Result<Told, String> {
        loop {
            if let Some(told) = self.whole.pop_front() {
                let type_url = told.kind.type_url().to_owned();
                let answer = Request { type_url, response_nonce: told.nonce.clone(), ..Request::default() };
                self.answers.send_data(framed(&answer), false).map_err(|error| error.to_string())?;
                return Ok(told);
            }
            let Self { connection, responses, .. } = self;
            let data = poll_fn(|cx| {
                let connection = Pin::new(&mut *connection).poll(cx);
                // Whatever comes for the stream has just come by the connection, so nobody needs to be woken for it.
                let data = responses.poll_data(&mut Context::from_waker(Waker::noop()));
                driven(connection, data.map(Option::transpose))
            });
            match data.await.transpose() {
                Some(Ok(bytes)) => {
                    // Fails only if more is given back than came.
                    let _ = responses.flow_control().release_capacity(bytes.len());
                    self.whole.extend(self.reading.take(&bytes)?);
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => {
                    let trailers = poll_fn(|cx| {
                        let connection = Pin::new(&mut *connection).poll(cx);
                        driven(connection, responses.poll_trailers(cx))
                    });
                    trailers.await.map_err(|error| error.to_string())?.as_ref().map_or(Ok(()), refused)?;
                    return Err("the control plane ended the stream".into());
                }
            }
        }
    }
}

/// What came of a stream, whose connection was just driven: there is more of it only while the connection lives.
fn driven<T>(
    connection: Poll<Result<(), h2::Error>>,
    stream: Poll<Result<T, h2::Error>>,
) -> Poll<Result<T, h2::Error>> {
    match (stream, connection) {
        (Poll::Pending, Poll::Ready(ended)) => {
            Poll::Ready(Err(ended.err().unwrap_or_else(|| h2::Reason::NO_ERROR.into())))
        }
        (stream, _) => stream,
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
    let mut bytes = BytesMut::with_capacity(FRAME_HEAD_BYTES + message.encoded_len());
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len() as u32);
    message.encode_raw(&mut bytes);
    bytes.freeze()
}
