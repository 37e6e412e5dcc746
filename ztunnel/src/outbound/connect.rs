//! Reaches what a plan says.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hbone::head::{Authority, BaggageText, ConnectHead, Forwarded, TraceParent};
use hbone::open::BeginError;
use hbone::pool::{Dial, OpenError, PoolKey};
use hbone::stream::Tunnel;
use mesh::{Identity, Service, Workload};
use pki::Peer;
use pki::cache::{CertificateCache, CertificateError};
use pki::tls::{ClientStream, HandshakeError};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::inbound::{self, Call, Entered, Why};
use crate::limits::{CERTIFICATE_DEADLINE, CONNECT_DEADLINE, TLS_CONNECT_DEADLINE};
use crate::net::sockets::{self, Sockets};
use crate::node::{self, ConnectError, Node};
use crate::outbound::plan::{HBONE_PORT, Plan};
use crate::pods::seats::Seat;

/// What was reached.
pub struct Reached {
    /// The other end of the relay.
    pub far: Far,
    /// Who is there, where that was proved.
    pub peer: Option<Identity>,
    /// What it says about itself.
    pub said: Option<BaggageText>,
}

/// The other end of a relay.
pub enum Far {
    /// A tunnel.
    Tunnel(Tunnel),
    /// A plain connection.
    Plain(TcpStream),
    /// The application of another pod of this node, whose own end of the connection this is.
    SameNode(Box<Entered>),
}

/// For whom something is to be reached.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The pod that connects, and its tunnels.
    pub seat: &'a Seat,
    /// As the view knows it.
    pub workload: &'a Arc<Workload>,
    /// The address of its application.
    pub client: SocketAddr,
    /// The service it addressed.
    pub service: Option<&'a Service>,
    /// The workload it is sent to.
    pub destination: Option<&'a Workload>,
    /// The span that both ends log.
    pub trace: TraceParent,
    /// Its end of the connection: when it breaks that off there is nobody left to reach anything for.
    pub stream: &'a TcpStream,
}

/// Reaches what `plan` says, unless the application gives up before. A name must have been resolved.
pub async fn open(plan: &Plan, caller: &Caller<'_>, node: &Node) -> Result<Reached, Failure> {
    // What a cut loses is a socket, or a wait for the pool, whose dial goes on for others.
    tokio::select! {
        biased;
        reached = reach(plan, caller, node) => reached,
        () = sockets::hung_up(caller.stream) => Err(Failure::Gone),
    }
}

async fn reach(plan: &Plan, caller: &Caller<'_>, node: &Node) -> Result<Reached, Failure> {
    match plan {
        Plan::Tunnel { to, authority, expected } => tunnel(*to, authority, expected, caller, node).await,
        Plan::SameNode { address, identity } => same_node(*address, identity, caller, node).await,
        Plan::Plain { to } => {
            let far = caller.seat.pod.connect_from(caller.client.ip(), *to).await?;
            Ok(Reached { far: Far::Plain(far), peer: None, said: None })
        }
        Plan::ResolveFirst { hostname, .. } => {
            Err(Failure::Resolve { name: hostname.clone(), source: io::ErrorKind::Unsupported.into() })
        }
    }
}

async fn tunnel(
    to: SocketAddr,
    authority: &Authority,
    expected: &[Identity],
    caller: &Caller<'_>,
    node: &Node,
) -> Result<Reached, Failure> {
    // A pooled connection outlives the certificate that it began with; the right to open tunnels does not.
    node.certificate(&caller.seat.pod.identity).await?;
    let key = PoolKey {
        source: caller.seat.pod.identity.clone(),
        expected: expected.into(),
        destination: to,
        source_ip: caller.client.ip(),
    };
    let head = ConnectHead {
        authority: authority.clone(),
        baggage: caller.seat.pod.baggage(caller.workload),
        forwarded: Some(Forwarded {
            client: Some(caller.client),
            host: caller.service.map(|service| service.hostname.clone()),
        }),
        traceparent: Some(caller.trace),
        forwarded_network: None,
    };
    let opened = match caller.seat.pool.open(&key, &head).await {
        // A proxy that is being replaced: nothing of the application is gone anywhere yet, and
        // another one listens.
        Err(error) if hung_up(&error) => caller.seat.pool.open(&key, &head).await?,
        opened => opened?,
    };
    let peer = Some(opened.peer.identity().clone());
    Ok(Reached { far: Far::Tunnel(opened.tunnel), peer, said: Some(opened.baggage) })
}

/// Whether the peer took the connection and then broke it off without a word.
fn hung_up(error: &OpenError<DialError>) -> bool {
    match error {
        OpenError::Dial(error) => matches!(&**error, DialError::Tls(HandshakeError::Io(_))),
        OpenError::Begin(error) => matches!(&**error, BeginError::Protocol(_)),
        _ => false,
    }
}

/// Both ends are ours, so both ends' duties are done here: each pod must hold a certificate that is
/// valid now, and the destination decides by who calls, as if a tunnel had proved it. Nothing less
/// would do, and nothing is known better: the source's namespace is where this connection came from.
async fn same_node(
    address: SocketAddr,
    identity: &Identity,
    caller: &Caller<'_>,
    node: &Node,
) -> Result<Reached, Failure> {
    let pod = caller.destination.and_then(|workload| node.without_tunnel(workload)).ok_or(Failure::PodGone)?;
    node.certificate(&caller.seat.pod.identity).await?;
    node.certificate(identity).await?;
    let call = Call {
        authority: Authority::address(address.ip(), address.port()),
        through_tunnel: true,
        hint: caller.service.map(|service| service.hostname.clone()),
        source: Some(caller.seat.pod.identity.clone()),
        from: caller.client,
        reached: SocketAddr::new(address.ip(), HBONE_PORT),
        said: None,
        from_other_network: false,
        trace: Some(caller.trace),
    };
    match inbound::enter(call, &pod, node, sockets::hung_up(caller.stream)).await {
        Ok(entered) => Ok(Reached { far: Far::SameNode(Box::new(entered)), peer: Some(identity.clone()), said: None }),
        Err(away) => {
            node.reporter.failed(&away.connection, &away.why.told());
            Err(match away.why {
                Why::Refused(reject) => Failure::Refused(reject),
                Why::NotServed(failure) => Failure::NotServed(failure),
            })
        }
    }
}

/// Dials the connections of one pod's tunnels.
#[derive(Clone, Debug)]
pub struct TunnelDial {
    /// Makes the sockets.
    pub sockets: Sockets,
    /// Has the certificates.
    pub certificates: CertificateCache,
}

impl Dial for TunnelDial {
    type Io = ClientStream<TcpStream>;
    type Peer = Peer;
    type Error = DialError;

    async fn dial(&self, key: &PoolKey) -> Result<(Self::Io, Peer), DialError> {
        let certificate = timeout(CERTIFICATE_DEADLINE, self.certificates.fetch(&key.source))
            .await
            .unwrap_or(Err(CertificateError::TimedOut))?;
        let source: IpAddr = key.source_ip;
        let tcp = node::connect_from(&self.sockets, source, key.destination).await?;
        let handshake = pki::tls::connect(tcp, pki::tls::client_config(&certificate, &key.expected));
        match timeout(TLS_CONNECT_DEADLINE, handshake).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(DialError::TlsDeadline(TLS_CONNECT_DEADLINE)),
        }
    }
}

/// Why what a plan says could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// TCP.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// TCP, in time.
    #[error("cannot connect within {} s", .0.as_secs())]
    ConnectDeadline(Duration),
    /// The name of the endpoint gives no address.
    #[error("cannot resolve {name}: {source}")]
    Resolve {
        /// The name.
        name: mesh::Str,
        /// Why.
        source: io::Error,
    },
    /// We have no certificate of the pod that sends.
    #[error("no certificate for the pod that sends: {0}")]
    Certificate(#[from] CertificateError),
    /// The tunnel: its TCP, its TLS, its CONNECT.
    #[error("no tunnel: {}", chain(.0))]
    Tunnel(#[from] OpenError<DialError>),
    /// The destination is on this node, and its end of the connection said no.
    #[error("refused at the destination: {0}")]
    Refused(Arc<inbound::Reject>),
    /// The destination is on this node, and its application cannot be reached.
    #[error("not served at the destination: {0}")]
    NotServed(Arc<inbound::Failure>),
    /// The destination was on this node when the way to it was decided.
    #[error("the pod that is called has just left")]
    PodGone,
    /// The application broke off before it was connected.
    #[error("the application gave up before it was connected")]
    Gone,
}

/// Why no TLS connection could be made for a tunnel.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// TCP.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// TCP, in time.
    #[error("cannot connect within {} s", .0.as_secs())]
    ConnectDeadline(Duration),
    /// TLS.
    #[error("TLS failed: {0}")]
    Tls(#[from] HandshakeError),
    /// TLS, in time.
    #[error("no TLS within {} s", .0.as_secs())]
    TlsDeadline(Duration),
    /// We have no certificate of the pod that sends.
    #[error("no certificate for the pod that sends: {0}")]
    Certificate(#[from] CertificateError),
}

impl Failure {
    /// Whether another replica of what could not be reached is worth a try: this one gave no answer.
    /// One that answered, or is not who it should be, has decided.
    pub fn may_go_better_elsewhere(&self) -> bool {
        let Self::Tunnel(error) = self else { return false };
        match error {
            OpenError::Dial(error) => match &**error {
                DialError::Connect(_) | DialError::ConnectDeadline(_) | DialError::TlsDeadline(_) => true,
                DialError::Tls(error) => matches!(error, HandshakeError::Io(_)),
                DialError::Certificate(_) => false,
            },
            OpenError::DialDeadline(_) | OpenError::Begin(_) | OpenError::Full => true,
            OpenError::Broken(_) | OpenError::AnswerDeadline(_) => true,
            OpenError::Refused(_) => false,
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Failed(error) => Self::Connect(error),
            ConnectError::Deadline => Self::ConnectDeadline(CONNECT_DEADLINE),
        }
    }
}

impl From<ConnectError> for DialError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Failed(error) => Self::Connect(error),
            ConnectError::Deadline => Self::ConnectDeadline(CONNECT_DEADLINE),
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn only_where_nobody_answered_another_replica_may_do_better() {
        let dial = |error| Failure::Tunnel(OpenError::Dial(Arc::new(error)));
        let broken = || io::Error::from(io::ErrorKind::ConnectionReset);
        for (failure, expected) in [
            (dial(DialError::Connect(broken())), true),
            (dial(DialError::ConnectDeadline(CONNECT_DEADLINE)), true),
            (dial(DialError::TlsDeadline(TLS_CONNECT_DEADLINE)), true),
            (dial(DialError::Tls(HandshakeError::Io(broken()))), true),
            (dial(DialError::Tls(HandshakeError::NoCertificate)), false),
            (dial(DialError::Certificate(CertificateError::TimedOut)), false),
            (Failure::Tunnel(OpenError::Full), true),
            (Failure::Tunnel(OpenError::Broken(broken())), true),
            (Failure::Tunnel(OpenError::Refused(StatusCode::FORBIDDEN)), false),
            (Failure::Tunnel(OpenError::Refused(StatusCode::SERVICE_UNAVAILABLE)), false),
            (Failure::PodGone, false),
            (Failure::Gone, false),
        ] {
            assert_eq!(failure.may_go_better_elsewhere(), expected, "{failure}");
        }
    }
}
