//! A control plane that says what a test tells it to, byte for byte, to proxies that take it for theirs.
//!
//! TLS, HTTP/2 and the frames of gRPC are as they should be; what is in a frame is the test's. It
//! answers nothing by itself, and looks at no token.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::Change;
use pki::{
    issue::{Issuer, ROOT_LIFETIME},
    tls,
};
use prost::Message;
use rustls::server::ResolvesServerCertUsingSni;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use xds::{
    codec,
    wire::{Any, FRAME_HEAD_BYTES, Request, Resource, Response},
};

/// A proxy connects, sends its first requests and waits; more than that is never on its way.
const QUEUED_MAX: usize = 16;

/// The listener of a control plane that says anything.
pub struct FalseControlPlane {
    listener: TcpListener,
    tls: TlsAcceptor,
    roots: String,
}

impl FalseControlPlane {
    /// Listens with a certificate of its own for `hostname`.
    pub async fn listen(address: SocketAddr, hostname: &str) -> io::Result<Self> {
        let now = SystemTime::now();
        let issuer = Issuer::self_signed("cluster.local", ROOT_LIFETIME, now).map_err(io::Error::other)?;
        let key = issuer.issue_serving(&[hostname.to_owned()], Duration::from_secs(3600), now);
        let mut resolver = ResolvesServerCertUsingSni::new();
        resolver.add(hostname, key.map_err(io::Error::other)?).map_err(io::Error::other)?;
        let tls = TlsAcceptor::from(Arc::new(tls::serving_config(Arc::new(resolver))));
        Ok(Self { listener: TcpListener::bind(address).await?, tls, roots: issuer.roots_pem().to_owned() })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What a proxy must believe, in PEM.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// Waits for the next stream that a proxy opens.
    pub async fn stream(&self) -> io::Result<FalseStream> {
        loop {
            let (socket, _) = self.listener.accept().await?;
            if let Some(stream) = self.opened(socket).await {
                return Ok(stream);
            }
        }
    }

    /// The stream of a connection, if it comes to that.
    async fn opened(&self, socket: TcpStream) -> Option<FalseStream> {
        let io = TokioIo::new(self.tls.accept(socket).await.ok()?);
        let (opened, mut streams) = mpsc::channel(1);
        let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
            let opened = opened.clone();
            async move {
                let (says, said) = mpsc::channel::<Bytes>(QUEUED_MAX);
                let _ = opened.send((request.into_body(), says)).await;
                let frames = stream::unfold(said, |mut said| async {
                    let frame = Frame::data(said.recv().await?);
                    Some((Ok::<_, Infallible>(frame), said))
                });
                let answer = http::Response::builder().header("content-type", "application/grpc");
                answer.body(StreamBody::new(Box::pin(frames)))
            }
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
        #[expect(clippy::disallowed_methods, reason = "the stream ends it, and the stream sees its end")]
        let connection = tokio::spawn(async move { drop(serving.await) });
        let (heard, says) = streams.recv().await?;
        Some(FalseStream { heard, rest: BytesMut::new(), says, connection })
    }
}

/// One stream of a proxy.
pub struct FalseStream {
    heard: Incoming,
    /// The beginning of a message.
    rest: BytesMut,
    says: mpsc::Sender<Bytes>,
    connection: JoinHandle<()>,
}

impl Drop for FalseStream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What a proxy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The kind it asks for or answers about.
    pub type_url: String,
    /// Which response it answers; empty if it asks.
    pub nonce: String,
    /// Why it refuses that, if it does.
    pub refusal: Option<String>,
    /// What it says it has: name and version.
    pub has: BTreeMap<String, String>,
}

impl FalseStream {
    /// Waits for the proxy to say something; none if it ended the stream.
    pub async fn hear(&mut self) -> Option<Heard> {
        loop {
            if let Some(message) = unframed(&mut self.rest) {
                let request = Request::decode(message).ok()?;
                return Some(Heard {
                    type_url: request.type_url,
                    nonce: request.response_nonce,
                    refusal: request.error_detail.map(|status| status.message),
                    has: request.initial_resource_versions.into_iter().collect(),
                });
            }
            let frame = self.heard.frame().await?.ok()?;
            if let Ok(part) = frame.into_data() {
                self.rest.extend_from_slice(&part);
            }
        }
    }

    /// Says one message, which may be anything. It does not wait for an answer.
    pub async fn say(&self, message: &[u8]) {
        let mut framed = BytesMut::with_capacity(FRAME_HEAD_BYTES + message.len());
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).expect("a test says less than 4 GiB"));
        framed.put_slice(message);
        // A proxy that is gone is noticed by whoever listens to it.
        let _ = self.says.send(framed.freeze()).await;
    }
}

/// Takes a whole message from the front of what was heard.
fn unframed(heard: &mut BytesMut) -> Option<Bytes> {
    let length = heard.get(1..FRAME_HEAD_BYTES)?;
    let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
    if heard.len() < FRAME_HEAD_BYTES + length {
        return None;
    }
    heard.advance(FRAME_HEAD_BYTES);
    Some(heard.split_to(length).freeze())
}

/// One resource: its kind and name, and its content, good or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its kind.
    pub type_url: String,
    /// Its name.
    pub name: String,
    /// The bytes that should be it.
    pub bytes: Vec<u8>,
}

impl Content {
    /// What a change adds, as a good control plane says it; none if it only removes.
    pub fn of(change: &Change) -> Option<Self> {
        let resource = Resource::decode(codec::encode(change)?.bytes).ok()?;
        let any = resource.resource?;
        Some(Self { type_url: any.type_url, name: resource.name, bytes: any.value.to_vec() })
    }

    /// The same name with something else in it.
    #[must_use]
    pub fn changed(&self, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut other = self.clone();
        change(&mut other.bytes);
        other
    }
}

/// A response with these resources, which are all of one kind.
pub fn response(nonce: &str, type_url: &str, contents: &[Content]) -> Vec<u8> {
    let resource = |content: &Content| {
        let any = Any { type_url: content.type_url.clone(), value: content.bytes.clone().into() };
        let version = nonce.to_owned();
        Resource { version, resource: Some(any), name: content.name.clone(), ..Resource::default() }
    };
    let response = Response {
        resources: contents.iter().map(|content| resource(content).encode_to_vec().into()).collect(),
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        ..Response::default()
    };
    response.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_out_of_any_split() {
        let framed = [&[0, 0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], &[9]].concat();
        let (mut heard, mut messages) = (BytesMut::new(), Vec::new());
        for byte in framed {
            heard.put_u8(byte);
            messages.extend(unframed(&mut heard));
        }
        assert_eq!(messages, [&[7, 8][..], &[], &[9]]);
    }

    #[test]
    fn a_good_content_is_read_by_who_should() {
        let changes = mesh::fixture::changes("pod web ns=shop sa=web ip=10.0.0.1\n");
        let content = Content::of(&changes[0]).expect("it adds a workload");
        let response =
            Response::decode(&response("1", &content.type_url, std::slice::from_ref(&content))[..]).expect("it is one");
        let read = codec::decode(xds::Kind::Address, &response.resources[0], &mut codec::Names::new());
        let again = read.map(|read| Content::of(&read.change));
        assert_eq!(again, Ok(Content::of(&changes[0])));
    }
}
