//! The cluster's name server: what CoreDNS is in Kubernetes. It answers for
//! the names of the cluster, from the lab's configuration directory. Other
//! names do not exist here: the lab has no way out of the machine, so an
//! address from outside would only make programs wait.

mod zone;

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use chassis::objects::Directory;
use chassis::task;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use self::zone::{Found, Zone};

/// How long an answer may be kept. Pods come and go while somebody watches.
const TTL_SECONDS: u32 = 5;
/// What a UDP answer may be long without the client saying more.
const UDP_BYTES: usize = 512;
/// The longest message there is.
const MESSAGE_BYTES_MAX: usize = 65_535;
/// How long a TCP client may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// The cluster's name server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClusterDns {
    /// The lab's configuration directory.
    #[arg(long, value_name = "DIR")]
    config_dir: PathBuf,
    /// The port to listen on.
    #[arg(long, default_value_t = 53)]
    port: u16,
}

pub(crate) async fn run(options: ClusterDns) -> anyhow::Result<ExitCode> {
    let zone = Arc::new(RwLock::new(Zone::default()));
    let mut directory = Directory::open(options.config_dir)?;
    take(&zone, directory.next().await);
    let udp = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, options.port)).await?;
    let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, options.port)).await?;
    println!("cluster-dns listens on port {}", options.port);
    let watched = zone.clone();
    let _watch = task::spawn("zone", async move {
        loop {
            take(&watched, directory.next().await);
        }
    });
    let over_tcp = zone.clone();
    let _tcp = task::spawn("dns over tcp", async move {
        loop {
            let Ok((stream, _)) = tcp.accept().await else { continue };
            task::spawn("dns client", serve_tcp(stream, over_tcp.clone())).detach();
        }
    });
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        let Ok((length, peer)) = udp.recv_from(&mut buffer).await else { continue };
        if let Some(reply) = reply(&zone, &buffer[..length], true) {
            let _ = udp.send_to(&reply, peer).await;
        }
    }
}

fn take(zone: &RwLock<Zone>, events: Vec<chassis::objects::ObjectEvent>) {
    zone.write().expect("no holder panics").apply(events);
}

async fn serve_tcp(mut stream: TcpStream, zone: Arc<RwLock<Zone>>) {
    while let Ok(Ok(length)) = tokio::time::timeout(IDLE, stream.read_u16()).await {
        let mut question = vec![0; usize::from(length)];
        if !matches!(tokio::time::timeout(IDLE, stream.read_exact(&mut question)).await, Ok(Ok(_))) {
            return;
        }
        let Some(reply) = reply(&zone, &question, false) else { return };
        let Ok(length) = u16::try_from(reply.len()) else { return };
        let whole = [&length.to_be_bytes()[..], &reply].concat();
        if !matches!(tokio::time::timeout(IDLE, stream.write_all(&whole)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// The reply to one message; `None` to what is no question.
fn reply(zone: &RwLock<Zone>, message: &[u8], udp: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(message).ok()?;
    if question.metadata.message_type != MessageType::Query {
        return None;
    }
    let answer = answer(&zone.read().expect("no holder panics"), &question);
    let bytes = answer.to_vec().ok()?;
    if udp && bytes.len() > usize::from(question.max_payload()).max(UDP_BYTES) {
        return answer.truncate().to_vec().ok();
    }
    Some(bytes)
}

/// Decides the answer. Pure.
fn answer(zone: &Zone, question: &Message) -> Message {
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    let [query] = question.queries.as_slice() else {
        answer.metadata.response_code = ResponseCode::FormErr;
        return answer;
    };
    answer.add_query(query.clone());
    if question.metadata.op_code != OpCode::Query || query.query_class() != DNSClass::IN {
        answer.metadata.response_code = ResponseCode::NotImp;
        return answer;
    }
    answer.metadata.authoritative = true;
    let name = query.name().to_ascii();
    match zone.find(&name) {
        Found::Records(records) => {
            let record = |data| Record::from_rdata(query.name().clone(), TTL_SECONDS, data);
            if let Some(alias) = records.alias.as_ref().and_then(|alias| Name::from_ascii(alias).ok()) {
                answer.add_answer(record(RData::CNAME(CNAME(alias))));
            }
            for address in &records.addresses {
                match (address, query.query_type()) {
                    (IpAddr::V4(address), RecordType::A) => drop(answer.add_answer(record(RData::A(A(*address))))),
                    (IpAddr::V6(address), RecordType::AAAA) => {
                        answer.add_answer(record(RData::AAAA(AAAA(*address))));
                    }
                    _ => {}
                }
            }
            if query.query_type() == RecordType::SRV {
                for (port, host) in &records.services {
                    if let Ok(host) = Name::from_ascii(host) {
                        answer.add_answer(record(RData::SRV(SRV::new(0, 100, *port, host))));
                    }
                }
            }
        }
        Found::Nothing | Found::Elsewhere => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer
}
