//! The real client and the real service over HTTP/2 in memory: admission, slow readers, servers
//! that go away, and responses that cannot be read.

use futures_util::{FutureExt, future::BoxFuture};
use hyper_util::rt::TokioIo;
use mesh::{Change, Workload};
use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{io::DuplexStream, sync::mpsc, time::timeout};
use tonic::{
    Code, Status,
    body::Body,
    metadata::MetadataMap,
    transport::{Channel, Endpoint, Server},
};
use xds::{
    Node, client,
    server::{Admission, Catalog, Discovery, Publisher, Scope, catalog, state::Event},
};

const PATIENCE: Duration = Duration::from_secs(20);

/// Lets in who says the word, and only in its own namespace.
struct Word;

impl Admission for Word {
    type Caller = String;

    async fn authenticate(&self, metadata: &MetadataMap) -> Result<String, Status> {
        match metadata.get("authorization").and_then(|value| value.to_str().ok()) {
            Some("Bearer friend") => Ok("istio-system".into()),
            _ => Err(Status::unauthenticated("say the word")),
        }
    }

    fn admit(&self, caller: &String, node: &Node) -> Result<Scope, Status> {
        match node.namespace() {
            Some(namespace) if namespace == caller => Ok(Scope::NodeProxy),
            _ => Err(Status::permission_denied("another namespace")),
        }
    }
}

#[derive(Default)]
struct Seen {
    sent: AtomicUsize,
    open: AtomicUsize,
    events: Mutex<Vec<Event>>,
}

impl xds::server::Report for Seen {
    fn opened(&self, _: u64, _: &Node) {
        self.open.fetch_add(1, Ordering::SeqCst);
    }

    fn sent(&self, _: u64, _: xds::Kind, _: &xds::wire::Response, _: Option<Duration>) {
        self.sent.fetch_add(1, Ordering::SeqCst);
    }

    fn heard(&self, _: u64, event: &Event) {
        self.events.lock().expect("no panic").push(event.clone());
    }

    fn closed(&self, _: u64) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The service where tonic's server finds it.
#[derive(Clone)]
struct Routed(Discovery<Word>);

impl tower::Service<http::Request<Body>> for Routed {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let discovery = self.0.clone();
        async move { Ok(discovery.call(request).await.map(Body::new)) }.boxed()
    }
}

impl tonic::server::NamedService for Routed {
    const NAME: &'static str = xds::wire::SERVICE;
}

/// A control plane whose connections are pipes.
#[derive(Clone)]
struct Plane {
    connections: mpsc::Sender<DuplexStream>,
    seen: Arc<Seen>,
}

impl Plane {
    fn start(catalog: Catalog) -> Self {
        let (connections, incoming) = mpsc::channel::<DuplexStream>(16);
        let seen = Arc::new(Seen::default());
        let service = Routed(Discovery::new(catalog, Word, seen.clone()));
        let incoming = tokio_stream::wrappers::ReceiverStream::new(incoming);
        let incoming = tokio_stream::StreamExt::map(incoming, Ok::<_, std::io::Error>);
        spawn(async move {
            Server::builder().add_service(service).serve_with_incoming(incoming).await.expect("it serves");
        });
        Self { connections, seen }
    }

    /// A channel through a pipe that holds this many bytes.
    fn channel(&self, pipe_bytes: usize) -> Channel {
        let connections = self.connections.clone();
        let connect = tower::service_fn(move |_| {
            let connections = connections.clone();
            async move {
                let (near, far) = tokio::io::duplex(pipe_bytes);
                connections.send(far).await.map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(near))
            }
        });
        Endpoint::from_static("http://plane").connect_with_connector_lazy(connect)
    }

    fn dial(&self, word: &'static str) -> impl client::Dial + use<> {
        let plane = self.clone();
        move || {
            let channel = plane.channel(1 << 16);
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", word.parse().expect("a header value"));
            async move { Ok((channel, metadata)) }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this crate may not depend on the one that spawns")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(future)
}

struct Ear(mpsc::UnboundedSender<String>);

impl client::Sink for Ear {
    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            let line = match change {
                Change::Workload(workload) => format!("{}@{}", workload.uid, workload.node),
                other => format!("{other:?}"),
            };
            let _ = self.0.send(line);
        }
    }

    fn synced(&mut self) {
        let _ = self.0.send("synced".into());
    }
}

#[derive(Default)]
struct Ends(Mutex<Vec<client::Termination>>);

impl client::Report for Ends {
    fn terminated(&self, reason: client::Termination) {
        self.0.lock().expect("no panic").push(reason);
    }
}

fn listen(dial: impl client::Dial + 'static, namespace: &str) -> (mpsc::UnboundedReceiver<String>, Arc<Ends>) {
    let (send, heard) = mpsc::unbounded_channel();
    let node = Node::ztunnel(None, "ztunnel-1", namespace, "n1");
    let ends = Arc::new(Ends::default());
    let config = client::Config { backoff_max: Duration::from_millis(50), ..client::Config::new(node) };
    drop(spawn(client::run(config, dial, Ear(send), ends.clone())));
    (heard, ends)
}

async fn until(heard: &mut mpsc::UnboundedReceiver<String>, line: &str) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.last().map(String::as_str) != Some(line) {
        match timeout(PATIENCE, heard.recv()).await {
            Ok(Some(heard)) => lines.push(heard),
            _ => panic!("{line:?} never came, only {lines:?}"),
        }
    }
    lines
}

fn workload(uid: &str, node: &str) -> Change {
    Change::Workload(Arc::new(Workload { node: node.into(), ..Workload::named(uid) }))
}

fn started() -> (Publisher, Plane) {
    let (mut publisher, catalog) = catalog();
    publisher.apply([workload("a", "1")], Instant::now());
    publisher.set_synced();
    (publisher, Plane::start(catalog))
}

#[tokio::test]
async fn what_is_there_comes_first_and_then_every_change() {
    let (mut publisher, plane) = started();
    let (mut heard, _) = listen(plane.dial("Bearer friend"), "istio-system");
    assert_eq!(until(&mut heard, "synced").await, ["a@1", "synced"]);
    publisher.apply([workload("b", "1")], Instant::now());
    until(&mut heard, "b@1").await;
    publisher.apply([Change::RemoveAddress("b".into())], Instant::now());
    until(&mut heard, "RemoveAddress(\"b\")").await;
    let events = plane.seen.events.lock().expect("no panic");
    assert!(!events.iter().any(|event| matches!(event, Event::Nacked(..) | Event::Stale(_))), "{events:?}");
}

#[tokio::test]
async fn strangers_are_told_nothing() {
    let (_publisher, plane) = started();
    for (word, namespace) in [("Bearer stranger", "istio-system"), ("Bearer friend", "shop")] {
        let (mut heard, ends) = listen(plane.dial(word), namespace);
        timeout(PATIENCE, async {
            while ends.0.lock().expect("no panic").len() < 3 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("it is refused each time");
        assert_eq!(heard.recv().now_or_never(), None);
        let ends = ends.0.lock().expect("no panic");
        assert!(ends.iter().all(|end| *end == client::Termination::ConnectionError), "{ends:?}");
    }
}

#[tokio::test]
async fn nobody_is_told_anything_before_the_sources_are_read() {
    let (mut publisher, catalog) = catalog();
    let plane = Plane::start(catalog);
    let (mut heard, ends) = listen(plane.dial("Bearer friend"), "istio-system");
    timeout(PATIENCE, async {
        while ends.0.lock().expect("no panic").is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is told to come again");
    publisher.apply([workload("a", "1")], Instant::now());
    publisher.set_synced();
    assert_eq!(until(&mut heard, "synced").await, ["a@1", "synced"], "and it does");
}

#[tokio::test]
async fn when_the_server_goes_the_client_finds_the_next_one() {
    let (publisher, plane) = started();
    let current = Arc::new(Mutex::new(plane));
    let dialled = current.clone();
    let dial = move || {
        let plane = dialled.lock().expect("no panic").clone();
        let mut dial = plane.dial("Bearer friend");
        async move { client::Dial::dial(&mut dial).await }
    };
    let (mut heard, ends) = listen(dial, "istio-system");
    until(&mut heard, "synced").await;
    let (mut other, next) = started();
    other.apply([workload("c", "1"), Change::RemoveAddress("a".into())], Instant::now());
    *current.lock().expect("no panic") = next;
    drop(publisher);
    let told = until(&mut heard, "RemoveAddress(\"a\")").await;
    assert_eq!(told, ["c@1", "RemoveAddress(\"a\")"], "only what is different");
    assert_eq!(ends.0.lock().expect("no panic")[0], client::Termination::Error);
}

#[tokio::test]
async fn a_slow_reader_finds_the_latest_and_costs_nothing() {
    let (mut publisher, plane) = started();
    // A client that opens a stream by hand and does not read.
    let mut grpc = tonic::client::Grpc::new(plane.channel(1 << 12));
    grpc.ready().await.expect("it connects");
    let mut client =
        xds::client::state::Client::new(Node::ztunnel(None, "slow", "istio-system", "n1"), xds::Kind::NODE_PROXY);
    let (send, requests) = mpsc::channel(64);
    for request in client.open() {
        send.try_send(request).expect("there is room");
    }
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(requests));
    request.metadata_mut().insert("authorization", "Bearer friend".parse().expect("a header value"));
    let codec = tonic_prost::ProstCodec::<xds::wire::Request, xds::wire::Response>::default();
    let path = http::uri::PathAndQuery::from_static(xds::wire::METHOD);
    let mut responses = grpc.streaming(request, path, codec).await.expect("it is let in").into_inner();
    // Ten thousand changes, while a client that reads is told of the last one.
    let (mut fast, _) = listen(plane.dial("Bearer friend"), "istio-system");
    until(&mut fast, "synced").await;
    let padding = "x".repeat(2000);
    for n in 0..10_000 {
        publisher.apply([workload(&format!("w{}", n % 10), &format!("{n}-{padding}"))], Instant::now());
        tokio::task::yield_now().await;
    }
    until(&mut fast, &format!("w9@9999-{padding}")).await;
    let mut latest = std::collections::BTreeMap::new();
    let mut read = 0;
    timeout(PATIENCE, async {
        while latest.get("w9").map(String::as_str) != Some(&*format!("9999-{padding}")) {
            let response = responses.message().await.expect("the stream is well").expect("and goes on");
            read += 1;
            for change in client.receive(response).expect("asked for").changes {
                if let Change::Workload(workload) = change {
                    latest.insert(workload.uid.to_string(), workload.node.to_string());
                }
            }
        }
    })
    .await
    .expect("it gets there");
    assert_eq!(latest.len(), 11);
    assert!(read < 1000, "{read} responses for 10 000 changes");
}

#[tokio::test]
async fn a_stream_that_does_not_say_who_it_is_is_refused() {
    let (_publisher, plane) = started();
    let mut grpc = tonic::client::Grpc::new(plane.channel(1 << 16));
    grpc.ready().await.expect("it connects");
    let request = xds::wire::Request { type_url: xds::Kind::Address.type_url().into(), ..Default::default() };
    let mut request = tonic::Request::new(tokio_stream::iter([request]));
    request.metadata_mut().insert("authorization", "Bearer friend".parse().expect("a header value"));
    let codec = tonic_prost::ProstCodec::<xds::wire::Request, xds::wire::Response>::default();
    let path = http::uri::PathAndQuery::from_static(xds::wire::METHOD);
    let refused = grpc.streaming(request, path, codec).await.expect_err("it has no node id");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(plane.seen.open.load(Ordering::SeqCst), 0);
}
