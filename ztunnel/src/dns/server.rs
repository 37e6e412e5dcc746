//! Talks with the pod, over UDP and TCP.
//!
//! What the mesh knows is answered where it is read; only questions for others become tasks.

use super::{
    Zone,
    answer::{Answer, Family, answer, is_of_cluster},
    forward::{AskError, Reach, Transport, ask, read_framed, write_framed},
    limits,
};
use crate::report::{DnsLabels, DnsMetrics};
use chassis::task;
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME},
    },
};
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
}

impl Asking {
    fn refusal(&self) -> Vec<u8> {
        bytes_of(&respond(&self.asked, ResponseCode::ServFail), limit(&self.asked, self.over))
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
        let Ok(asked) = Message::from_vec(bytes) else { return Step::Ignore };
        if asked.metadata.message_type != MessageType::Query {
            return Step::Ignore;
        }
        let say = |message: &Message| Step::Say(bytes_of(message, limit(&asked, over)));
        if asked.metadata.op_code != OpCode::Query {
            return say(&respond(&asked, ResponseCode::NotImp));
        }
        let [question] = &asked.queries[..] else { return say(&respond(&asked, ResponseCode::FormErr)) };
        let protocol = if over == Transport::Udp { "udp" } else { "tcp" };
        let labels = DnsLabels::new(kind(question.query_type), protocol, client.as_deref());
        self.proxy.metrics.asked(&labels);
        let family = match (question.query_class, question.query_type) {
            (DNSClass::IN, RecordType::A) => Some(Family::V4),
            (DNSClass::IN, RecordType::AAAA) => Some(Family::V6),
            _ => None,
        };
        let name = question.name.to_ascii();
        let said = match family {
            Some(family) => answer(&view, client.as_deref(), &self.proxy.zone, &name, family),
            None if client.is_none() => Answer::UnknownClient,
            None => Answer::Forward,
        };
        match said {
            Answer::Known { canonical, addresses } => say(&known(&asked, question, canonical, addresses)),
            Answer::UnknownClient => say(&respond(&asked, ResponseCode::ServFail)),
            // With nobody else to ask, the mesh's own domain has no other names.
            Answer::Forward if self.proxy.servers.is_empty() && is_of_cluster(&name, &self.proxy.zone) => {
                let mut message = respond(&asked, ResponseCode::NXDomain);
                message.metadata.authoritative = true;
                say(&message)
            }
            Answer::Forward => {
                let query = forwarded(&asked, question);
                Step::Ask(Box::new(Asking { query, asked, labels, over }))
            }
        }
    }

    /// Asks others; always says something.
    async fn ask(&self, asking: &Asking) -> Vec<u8> {
        let limit = limit(&asking.asked, asking.over);
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
                let mut message = respond(&asking.asked, reply.header.metadata.response_code);
                message.metadata.truncation = true;
                bytes_of(&message, limit)
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

/// The question as it is asked of others: nothing of the pod's message goes along but what it asks for.
fn forwarded(asked: &Message, question: &Query) -> Message {
    let mut query = Message::query();
    query.metadata.recursion_desired = asked.metadata.recursion_desired;
    query.metadata.checking_disabled = asked.metadata.checking_disabled;
    query.metadata.authentic_data = asked.metadata.authentic_data;
    query.add_query(question.clone());
    if let Some(theirs) = &asked.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(datagram_limit(asked) as u16).set_dnssec_ok(theirs.flags().dnssec_ok);
        query.set_edns(edns);
    }
    query
}

/// An answer without records.
fn respond(asked: &Message, code: ResponseCode) -> Message {
    let mut message = Message::response(asked.metadata.id, asked.metadata.op_code);
    message.metadata.recursion_desired = asked.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.add_queries(asked.queries.iter().take(1).cloned());
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(limits::DATAGRAM_BYTES_MAX as u16);
        message.set_edns(edns);
    }
    message
}

fn known(asked: &Message, question: &Query, canonical: Option<String>, mut addresses: Vec<IpAddr>) -> Message {
    let mut message = respond(asked, ResponseCode::NoError);
    message.metadata.authoritative = true;
    let alias = canonical.and_then(|name| Name::from_ascii(format!("{name}.")).ok());
    let owner = alias.as_ref().unwrap_or(&question.name);
    if let Some(alias) = &alias {
        let record = RData::CNAME(CNAME(alias.clone()));
        message.add_answer(Record::from_rdata(question.name.clone(), limits::TTL_SECONDS, record));
    }
    shuffle(&mut addresses, rand::random());
    message.add_answers(addresses.into_iter().map(|address| {
        let data = match address {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        };
        Record::from_rdata(owner.clone(), limits::TTL_SECONDS, data)
    }));
    message
}

/// Another order, so that clients which take the first address share the work. `dice` is the only chance in it.
fn shuffle<T>(items: &mut [T], dice: u64) {
    let mut state = dice;
    for end in (1..items.len()).rev() {
        // A step of a linear congruential generator (Knuth's MMIX): good enough to share work.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(end, (state >> 33) as usize % (end + 1));
    }
}

/// What fits into a datagram to the one who asked.
fn datagram_limit(asked: &Message) -> usize {
    let told = asked.edns.as_ref().map_or(512, |edns| edns.max_payload().into());
    told.clamp(512, limits::DATAGRAM_BYTES_MAX)
}

/// What fits into an answer.
fn limit(asked: &Message, over: Transport) -> usize {
    match over {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => datagram_limit(asked),
    }
}

/// The bytes of an answer; one that would be too large says so and nothing else.
fn bytes_of(message: &Message, limit: usize) -> Vec<u8> {
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= limit => bytes,
        _ => message.truncate().to_vec().unwrap_or_default(),
    }
}

/// The label of a type: a peer may ask for any of 65,536.
const fn kind(kind: RecordType) -> &'static str {
    match kind {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::ANY => "ANY",
        RecordType::CNAME => "CNAME",
        RecordType::HTTPS => "HTTPS",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::PTR => "PTR",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::SVCB => "SVCB",
        RecordType::TXT => "TXT",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;
