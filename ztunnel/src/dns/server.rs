//! Talks with the pod, over UDP and TCP.
//!
//! What the mesh knows is answered where it is read; only questions for others become tasks.

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
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

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
        listeners: Vec<TcpListener>,
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
    /// Places for questions to others.
    waiting: Arc<Semaphore>,
}

/// What is to be done about a message.
enum Step {
    /// Nothing: it is none of ours, or no question.
    Ignore,
    /// Say this.
    Say(Vec<u8>),
    /// Ask others this.
    Ask(Box<Asking>),
}

struct Asking {
    asked: Message,
    query: Message,
    labels: DnsLabels,
    over: Transport,
    limit: usize,
}

impl Asking {
    fn refusal(&self) -> Vec<u8> {
        question::bytes_of(&question::respond(&self.asked, ResponseCode::ServFail), self.limit)
    }
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
                Step::Ask(asking) => {
                    let Ok(place) = self.waiting.clone().try_acquire_owned() else {
                        let _undeliverable = socket.send_to(&asking.refusal(), from).await;
                        continue;
                    };
                    let (served, socket) = (self.clone(), socket.clone());
                    task::spawn("dns question", async move {
                        let told = served.ask(&asking);
                        if let Some(bytes) = served.stop.run_until_cancelled(told).await {
                            let _undeliverable = socket.send_to(&bytes, from).await;
                        }
                        drop(place);
                    })
                    .detach();
                }
            }
        }
    }

    async fn over_tcp(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
        loop {
            let Ok((stream, from)) = listener.accept().await else {
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
                Step::Ask(asking) => match self.waiting.try_acquire() {
                    Ok(_place) => self.ask(&asking).await,
                    Err(_) => asking.refusal(),
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
        if let Some(client) = &client
            && !from.to_canonical().is_loopback()
            && !client.addresses.contains(&from.to_canonical())
        {
            return Step::Ignore;
        }
        let Some(asked) = question::read(bytes) else { return Step::Ignore };
        let protocol = if over == Transport::Udp { "udp" } else { "tcp" };
        let labels = DnsLabels::new(question::kind(&asked), protocol, client.as_deref());
        self.proxy.metrics.asked(&labels);
        let mesh = Mesh {
            view: &view,
            client: client.as_deref(),
            zone: &self.proxy.zone,
            others: !self.proxy.servers.is_empty(),
        };
        let limit = question::limit(&asked, over == Transport::Tcp);
        match question::answer(&mesh, &asked, rand::random()) {
            Said::Answer(message) => Step::Say(question::bytes_of(&message, limit)),
            Said::Forward(query) => Step::Ask(Box::new(Asking { asked, query, labels, over, limit })),
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
                asking.refusal()
            }
        }
    }
}

/// After an error that may come again at once.
const PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
