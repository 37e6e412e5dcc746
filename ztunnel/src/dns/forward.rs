//! Asks other name servers, in turn, until one answers or the time is over.
//!
//! Each question goes out with a random id from a socket of its own at a random port, and only an
//! answer to exactly this question from exactly this server is taken.

use super::limits;
use hickory_proto::{
    op::{Header, Message, MessageType, OpCode, Query, ResponseCode},
    serialize::binary::{BinDecodable, BinDecoder},
};
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How other name servers are reached: with the sockets of a pod.
pub trait Reach: Send + Sync + 'static {
    /// A datagram socket at a port of the kernel's choice.
    fn datagrams_to(&self, server: SocketAddr) -> io::Result<UdpSocket>;
    /// A connection.
    fn connect(&self, server: SocketAddr) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

impl Reach for crate::net::sockets::Sockets {
    fn datagrams_to(&self, server: SocketAddr) -> io::Result<UdpSocket> {
        Self::datagrams_to(self, server)
    }

    async fn connect(&self, server: SocketAddr) -> io::Result<TcpStream> {
        Self::connect(self, server).await
    }
}

/// The name servers that a `resolv.conf` names, in order, three at most as every resolver does.
/// Loopback addresses are left out: in a pod's namespace they mean the pod.
pub fn name_servers(resolv_conf: &str) -> Vec<SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        // A zone (`fe80::1%eth0`) names a link of this namespace, and means nothing in another.
        (words.next()? == "nameserver").then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    lines.filter(|ip| !ip.is_loopback()).take(limits::SERVERS_MAX).map(|ip| SocketAddr::new(ip, 53)).collect()
}

/// Over what to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Nobody to ask.
    #[error("no name server is configured: the node's resolv.conf names none that a pod can reach")]
    NoServers,
    /// Not in time.
    #[error("no name server answered within {} s", limits::DEADLINE.as_secs())]
    TimedOut,
    /// The question cannot be written.
    #[error("the question cannot be sent on")]
    Unwritable,
    /// None could be reached.
    #[error("no name server could be reached: {0}")]
    Unreachable(#[source] io::Error),
}

/// An answer as it came, its header and question checked.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) bytes: Vec<u8>,
    pub(super) header: Header,
}

/// Asks `servers` in turn. Takes [`limits::DEADLINE`] at most.
pub(super) async fn ask(
    reach: &impl Reach,
    servers: &[SocketAddr],
    query: &Message,
    over: Transport,
) -> Result<Reply, AskError> {
    match timeout(limits::DEADLINE, in_turn(reach, servers, query, over)).await {
        Ok(result) => result,
        Err(_) => Err(AskError::TimedOut),
    }
}

async fn in_turn(
    reach: &impl Reach,
    servers: &[SocketAddr],
    query: &Message,
    over: Transport,
) -> Result<Reply, AskError> {
    let (mut unwilling, mut error) = (None, AskError::NoServers);
    for _round in 0..limits::ROUNDS {
        for server in servers {
            let mut query = query.clone();
            query.metadata.id = rand::random();
            let bytes = query.to_vec().map_err(|_| AskError::Unwritable)?;
            let one = async {
                match over {
                    Transport::Udp => over_udp(reach, *server, &query, &bytes).await,
                    Transport::Tcp => over_tcp(reach, *server, &query, &bytes).await,
                }
            };
            match timeout(limits::ATTEMPT_TIMEOUT, one).await {
                Ok(Ok(reply)) => match reply.header.metadata.response_code {
                    // Another server may know more.
                    ResponseCode::ServFail | ResponseCode::Refused => unwilling = Some(reply),
                    _ => return Ok(reply),
                },
                Ok(Err(cause)) => error = AskError::Unreachable(cause),
                Err(_) => error = AskError::TimedOut,
            }
        }
        if let Some(reply) = unwilling {
            return Ok(reply);
        }
    }
    Err(error)
}

async fn over_udp(reach: &impl Reach, server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Reply> {
    let socket = reach.datagrams_to(server)?;
    // From here on the kernel lets only this server's datagrams in.
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; limits::DATAGRAM_BYTES_MAX + 1];
    // Somebody who guesses ports gets a few guesses at the id, not thousands.
    for _guess in 0..limits::WRONG_ANSWERS_MAX {
        let length = socket.recv(&mut buffer).await?;
        if let Some(mut header) = answers(query, &buffer[..length]) {
            // Larger than we take: as good as cut off.
            header.metadata.truncation |= length > limits::DATAGRAM_BYTES_MAX;
            buffer.truncate(length);
            return Ok(Reply { bytes: buffer, header });
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "too many answers to other questions"))
}

async fn over_tcp(reach: &impl Reach, server: SocketAddr, query: &Message, bytes: &[u8]) -> io::Result<Reply> {
    let mut stream = reach.connect(server).await?;
    write_framed(&mut stream, bytes).await?;
    let bytes = read_framed(&mut stream).await?;
    let header = answers(query, &bytes);
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "an answer to another question");
    Ok(Reply { header: header.ok_or_else(wrong)?, bytes })
}

/// Reads a message with its length in front.
pub(super) async fn read_framed(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Writes a message with its length in front, in one piece.
pub(super) async fn write_framed(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = Vec::with_capacity(bytes.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await
}

/// The header of `bytes`, if they answer `query`. The records behind it are not looked at.
fn answers(query: &Message, bytes: &[u8]) -> Option<Header> {
    let mut decoder = BinDecoder::new(bytes);
    let header = Header::read(&mut decoder).ok()?;
    let metadata = header.metadata;
    let fits = metadata.message_type == MessageType::Response
        && metadata.id == query.metadata.id
        && metadata.op_code == OpCode::Query
        && header.counts.queries == 1;
    let asked = query.queries.first()?;
    let answered = fits.then(|| Query::read(&mut decoder).ok())??;
    let same = answered.query_type == asked.query_type
        && answered.query_class == asked.query_class
        && answered.name.to_lowercase() == asked.name.to_lowercase();
    same.then_some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{Name, RecordType};

    #[test]
    fn name_servers_are_those_a_pod_can_reach() {
        let text = "# a comment\nsearch example.com\nnameserver 127.0.0.53\nnameserver 10.0.0.53 # first\n\
                    nameserver ::1\nnameserver fe80::1%eth0\nnameserver 2001:db8::53\nnameserver nonsense\nnameserver\n\
                    nameserver 10.0.0.54\nnameserver 10.0.0.55\n";
        let servers: Vec<String> = name_servers(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.53:53", "[2001:db8::53]:53", "10.0.0.54:53"]);
    }

    fn query(name: &str, id: u16) -> Message {
        let mut query = Message::query();
        query.metadata.id = id;
        query.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
        query
    }

    #[test]
    fn only_an_answer_to_this_question_is_taken() {
        let asked = query("Example.com.", 7);
        let right = || query("example.COM.", 7).into_response();
        assert!(answers(&asked, &right().to_vec().expect("bytes")).is_some());
        let mut wrong =
            vec![query("example.com.", 8).into_response(), query("example.org.", 7).into_response(), asked.clone()];
        let mut other_type = right();
        other_type.queries[0].query_type = RecordType::AAAA;
        wrong.push(other_type);
        let mut none = right();
        none.queries.clear();
        wrong.push(none);
        for message in wrong {
            assert!(answers(&asked, &message.to_vec().expect("bytes")).is_none(), "{message:?}");
        }
        assert!(answers(&asked, &[]).is_none());
    }
}
