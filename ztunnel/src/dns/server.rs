//! Talks with the pod, over UDP and TCP.
//!
//! What the mesh knows is answered where it is read; only questions for others become tasks, and those
//! of a pod that started before the mesh knew it: they wait for that, as its connections do.

use super::{
    Zone,
    answer::{Answer, Family, answer},
    forward::{AskError, Reach, Transport, ask, read_framed, write_framed},
    limits,
    question::{self, Mesh, Said},
};
use crate::report::{DnsLabels, DnsMetrics};
use chassis::task;
use hickory_proto::op::{Message, ResponseCode};
use mesh::{View, Workload};
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::net::sockets::Listener;

/// What every pod's proxy has in common. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Proxy {
    zone: Zone,
    servers: Arc<[SocketAddr]>,
    metrics: DnsMetrics,
}

/// The pod that is served.
pub trait Pod: Send + Sync + 'static {
    /// The mesh now, and the pod in it.
    fn view(&self) -> (Arc<View>, Option<Arc<Workload>>);

    /// Returns when the mesh knows the pod, or when it is not worth waiting any longer.
    fn known(&self) -> impl Future<Output = ()> + Send;
}

impl Proxy {
    /// Answers from `zone`, and asks `servers` for the rest.
    pub fn new(zone: Zone, servers: &[SocketAddr], metrics: DnsMetrics) -> Self {
        Self { zone, servers: servers.into(), metrics }
    }

    /// What the mesh says about a name that `client` asks for.
    pub fn known(&self, view: &View, client: Option<&Workload>, name: &str, family: Family) -> Answer {
        answer(view, client, &self.zone, name, family)
    }

    /// Serves one pod on its sockets until the future is dropped. Only the pod itself is answered:
    /// what comes from another address than loopback and the pod's own is not read. The sockets should be
    /// bound to loopback all the same: while the view does not know the pod, its addresses are not known.
    pub async fn serve(
        &self,
        datagrams: Vec<UdpSocket>,
        listeners: Vec<Listener>,
        pod: Arc<impl Pod>,
        reach: Arc<impl Reach>,
    ) {
        let stop = CancellationToken::new();
        let _stops_all = stop.clone().drop_guard();
        let waiting = Arc::new(Semaphore::new(limits::WAITING_MAX));
        let served = Arc::new(Served { proxy: self.clone(), pod, reach, stop, waiting });
        let over_udp = datagrams.into_iter().map(|socket| served.clone().over_udp(Arc::new(socket)));
        let over_tcp = listeners.into_iter().map(|listener| served.clone().over_tcp(listener));
        tokio::join!(futures_util::future::join_all(over_udp), futures_util::future::join_all(over_tcp));
    }
}

struct Served<P, R> {
    proxy: Proxy,
    pod: Arc<P>,
    reach: Arc<R>,
    stop: CancellationToken,
    /// Places for questions that wait.
    waiting: Arc<Semaphore>,
}

/// What is to be done about a message.
enum Step {
    /// Nothing: it is none of ours, or no question.
    Ignore,
    /// Say this.
    Say(Vec<u8>),
    /// Wait for something.
    Later(Later),
}

/// What takes a while.
enum Later {
    /// Ask others this.
    Ask(Box<Asking>),
    /// Wait until the mesh knows the pod, and then look at this again.
    Client { asked: Message, from: IpAddr, over: Transport },
}

struct Asking {
    asked: Message,
    query: Message,
    labels: DnsLabels,
    over: Transport,
    limit: usize,
}

impl Later {
    fn refusal(&self) -> Vec<u8> {
        match self {
            Self::Ask(asking) => refusal(&asking.asked, asking.limit),
            Self::Client { asked, over, .. } => refusal(asked, question::limit(asked, *over == Transport::Tcp)),
        }
    }
}

fn refusal(asked: &Message, limit: usize) -> Vec<u8> {
    question::bytes_of(&question::respond(asked, ResponseCode::ServFail), limit)
}

impl<P: Pod, R: Reach> Served<P, R> {
    async fn over_udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let mut buffer = vec![0; limits::DATAGRAM_BYTES_MAX];
        loop {
            // Errors are those of earlier answers that could not be delivered, and of a namespace that goes.
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                sleep(PAUSE).await;
                continue;
            };
            match self.step(&buffer[..length], from.ip(), Transport::Udp) {
                Step::Ignore => {}
                Step::Say(bytes) => {
                    let _undeliverable = socket.send_to(&bytes, from).await;
                }
                Step::Later(later) => {
                    let Ok(place) = self.waiting.clone().try_acquire_owned() else {
                        let _undeliverable = socket.send_to(&later.refusal(), from).await;
                        continue;
                    };
                    let (served, socket) = (self.clone(), socket.clone());
                    task::spawn("dns question", async move {
                        let told = served.later(later);
                        if let Some(Some(bytes)) = served.stop.run_until_cancelled(told).await {
                            let _undeliverable = socket.send_to(&bytes, from).await;
                        }
                        drop(place);
                    })
                    .detach();
                }
            }
        }
    }

    async fn over_tcp(self: Arc<Self>, listener: Listener) {
        let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
        loop {
            let accepted = listener.accept().await;
            let Ok((stream, from)) = accepted.and_then(|(stream, from)| Ok((TcpStream::from_std(stream)?, from)))
            else {
                sleep(PAUSE).await;
                continue;
            };
            let Ok(place) = places.clone().try_acquire_owned() else { continue };
            let served = self.clone();
            task::spawn("dns connection", async move {
                let _ended = served.stop.run_until_cancelled(served.converse(stream, from.ip())).await;
                drop(place);
            })
            .detach();
        }
    }

    async fn converse(&self, mut stream: TcpStream, from: IpAddr) -> io::Result<()> {
        loop {
            let Ok(message) = timeout(limits::IDLE_TIMEOUT, read_framed(&mut stream)).await else { return Ok(()) };
            let bytes = match self.step(&message?, from, Transport::Tcp) {
                Step::Ignore => return Ok(()),
                Step::Say(bytes) => bytes,
                Step::Later(later) => match self.waiting.try_acquire() {
                    Ok(_place) => match self.later(later).await {
                        Some(bytes) => bytes,
                        None => return Ok(()),
                    },
                    Err(_) => later.refusal(),
                },
            };
            let Ok(written) = timeout(limits::IDLE_TIMEOUT, write_framed(&mut stream, &bytes)).await else {
                return Ok(());
            };
            written?;
        }
    }

    fn step(&self, bytes: &[u8], from: IpAddr, over: Transport) -> Step {
        let (view, client) = self.pod.view();
        if is_stranger(client.as_deref(), from) {
            return Step::Ignore;
        }
        let Some(asked) = question::read(bytes) else { return Step::Ignore };
        self.decide(asked, from, over, &view, client.as_deref())
    }

    fn decide(&self, asked: Message, from: IpAddr, over: Transport, view: &View, client: Option<&Workload>) -> Step {
        let mesh = Mesh { view, client, zone: &self.proxy.zone, others: !self.proxy.servers.is_empty() };
        let said = question::answer(&mesh, &asked, rand::random());
        if matches!(said, Said::UnknownClient) {
            return Step::Later(Later::Client { asked, from, over });
        }
        let labels = labels(&asked, over, client);
        self.proxy.metrics.asked(&labels);
        let limit = question::limit(&asked, over == Transport::Tcp);
        match said {
            Said::Answer(message) => Step::Say(question::bytes_of(&message, limit)),
            Said::Forward(query) => Step::Later(Later::Ask(Box::new(Asking { asked, query, labels, over, limit }))),
            Said::UnknownClient => Step::Say(refusal(&asked, limit)),
        }
    }

    /// What took a while. Says nothing only to whom nothing is said at all.
    async fn later(&self, later: Later) -> Option<Vec<u8>> {
        let (asked, from, over) = match later {
            Later::Ask(asking) => return Some(self.ask(&asking).await),
            Later::Client { asked, from, over } => (asked, from, over),
        };
        let deadline = Instant::now() + limits::DEADLINE;
        let _known_or_not = timeout(limits::CLIENT_DEADLINE, self.pod.known()).await;
        let (view, client) = self.pod.view();
        if is_stranger(client.as_deref(), from) {
            return None;
        }
        match self.decide(asked, from, over, &view, client.as_deref()) {
            Step::Ignore => None,
            Step::Say(bytes) => Some(bytes),
            Step::Later(later) => match &later {
                Later::Ask(asking) => {
                    Some(timeout_at(deadline, self.ask(asking)).await.unwrap_or_else(|_| later.refusal()))
                }
                Later::Client { asked, over, .. } => {
                    self.proxy.metrics.asked(&labels(asked, *over, None));
                    Some(later.refusal())
                }
            },
        }
    }

    /// Asks others; always says something.
    async fn ask(&self, asking: &Asking) -> Vec<u8> {
        let limit = asking.limit;
        let began = Instant::now();
        let reply = ask(&*self.reach, &self.proxy.servers, &asking.query, asking.over).await;
        self.proxy.metrics.forwarded(&asking.labels, began.elapsed(), reply.is_ok());
        match reply {
            Ok(mut reply) if reply.bytes.len() <= limit => {
                // The client's own id stands in the first two bytes.
                reply.bytes[..2].copy_from_slice(&asking.asked.metadata.id.to_be_bytes());
                reply.bytes
            }
            Ok(reply) => {
                let mut message = question::respond(&asking.asked, reply.header.metadata.response_code);
                message.metadata.truncation = true;
                question::bytes_of(&message, limit)
            }
            Err(error) => {
                if !matches!(error, AskError::NoServers) {
                    tracing::debug!(target: "dns", %error, name = %asking.query.queries[0].name, "not forwarded");
                }
                refusal(&asking.asked, limit)
            }
        }
    }
}

/// Whether a question comes from somewhere else than the pod, as far as its addresses are known.
fn is_stranger(client: Option<&Workload>, from: IpAddr) -> bool {
    let from = from.to_canonical();
    client.is_some_and(|client| !from.is_loopback() && !client.addresses.contains(&from))
}

fn labels(asked: &Message, over: Transport, client: Option<&Workload>) -> DnsLabels {
    let protocol = if over == Transport::Udp { "udp" } else { "tcp" };
    DnsLabels::new(question::kind(asked), protocol, client)
}

/// After an error that may come again at once.
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
