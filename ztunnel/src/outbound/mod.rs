//! What a pod sends: decide, connect, relay.

pub mod connect;
pub mod plan;
pub mod socks5;

pub use connect::Failure;
pub use plan::Reject;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;

use connect::{Caller, Far};
use futures_util::FutureExt as _;
use futures_util::future::{OptionFuture, lazy};
use hbone::head::{Authority, TraceParent};
use hbone::relay::{RelayEnd, Side, Tcp, relay};
use mesh::{Str, Workload};
use plan::{Asked, Decision, Dice, HBONE_PORT, Plan};
use socks5::Reply;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connection::{Connection, Direction, End, Party};
use crate::limits::{SOCKS5_DEADLINE, WAYPOINT_REPLICAS_TRIED_MAX};
use crate::live::{Breaker, Tracked};
use crate::net::sockets;
use crate::node::{LocalPod, Node};
use crate::pods::seats::Seat;
use crate::report::Open;

/// One captured connection, from accept to log line.
///
/// Ten thousand idle connections are ten thousand of these. An `async` block keeps what it is given beside
/// what it makes of that; futures that follow each other by `flatten` and `then` take one place.
pub fn serve(
    stream: TcpStream,
    client: SocketAddr,
    seat: Arc<Seat>,
    node: Arc<Node>,
) -> impl Future<Output = ()> + Send {
    let begun = move |_: &mut Context<'_>| {
        let target = sockets::original_destination(&stream).ok();
        OptionFuture::from(target.map(|target| carry_on(Near::redirected(stream), client, target, seat, node)))
    };
    lazy(begun).flatten().map(drop)
}

/// An application's end of a connection that is not there yet, and how it is told of the outcome.
struct Near {
    stream: TcpStream,
    asks: Asks,
}

/// How an application came to us.
enum Asks {
    /// It does not know that it did: an end of TCP is an end of TCP.
    Unaware,
    /// It waits for an answer.
    BySocks5,
}

impl Near {
    fn redirected(stream: TcpStream) -> Self {
        Self { stream, asks: Asks::Unaware }
    }

    fn asking(stream: TcpStream) -> Self {
        Self { stream, asks: Asks::BySocks5 }
    }

    /// It is connected.
    async fn connected(mut self) -> std::io::Result<TcpStream> {
        if let Asks::BySocks5 = self.asks {
            let answered = timeout(SOCKS5_DEADLINE, socks5::answer(&mut self.stream, Reply::Succeeded)).await;
            answered.map_err(|_late| std::io::ErrorKind::TimedOut)??;
        }
        Ok(self.stream)
    }

    /// It is not.
    async fn turned_away(mut self, end: &End) {
        match self.asks {
            Asks::Unaware => sockets::reset(self.stream),
            Asks::BySocks5 => {
                // Whoever is gone does not hear it.
                let _ = timeout(SOCKS5_DEADLINE, socks5::answer(&mut self.stream, socks5::reply_to(end))).await;
            }
        }
    }
}

/// Connects an application to where it wanted to go, to the log line.
fn carry_on(
    near: Near,
    client: SocketAddr,
    target: SocketAddr,
    seat: Arc<Seat>,
    node: Arc<Node>,
) -> impl Future<Output = ()> + Send {
    // Connecting wants eleven kilobytes. In a box they are gone when it is done.
    let connecting = Box::pin(connect(near, client, target, seat, node.clone()));
    let connected = move |reached: Option<(Relayed, Far)>| {
        OptionFuture::from(reached.map(|(relayed, far)| relayed.carry(far, &node)))
    };
    connecting.then(connected).map(drop)
}

/// Decides and connects. None where nothing came of it, of which all is told then.
async fn connect(
    near: Near,
    client: SocketAddr,
    target: SocketAddr,
    seat: Arc<Seat>,
    node: Arc<Node>,
) -> Option<(Relayed, Far)> {
    let (pod, node) = (&*seat.pod, &*node);
    let trace = TraceParent::new(rand::random(), rand::random());
    let Some(source) = node.workload_of(&pod.pod).await else {
        let (connection, end) = (described(client, None, target, None, trace), End::Rejected(Reject::UnknownSource));
        node.reporter.failed(&connection, &end);
        near.turned_away(&end).await;
        return None;
    };
    let mut tried = Tried::default();
    loop {
        let (decision, plan) = decide(&near.stream, target, &source, pod, node, &tried).await;
        let mut connection = described(client, Some(&source), target, Some((&decision, plan.as_ref().ok())), trace);
        let plan = match plan {
            Ok(plan) => plan,
            Err(end) => {
                let (connection, end) = tried.last.unwrap_or((connection, end));
                node.reporter.failed(&connection, &end);
                near.turned_away(&end).await;
                return None;
            }
        };
        let caller = Caller {
            seat: &seat,
            workload: &source,
            client,
            service: decision.service.as_deref(),
            destination: decision.destination.as_deref(),
            trace,
            stream: &near.stream,
        };
        match connect::open(&plan, &caller, node).await {
            Ok(reached) => {
                connection.source.identity = reached.peer.as_ref().map(|_| pod.identity.clone());
                connection.destination.identity = reached.peer;
                if connection.destination.workload.is_none() {
                    connection.destination.said = reached.said.map(|text| Box::new(text.read()));
                }
                return begin(near, reached.far, connection, &seat, node).await;
            }
            Err(failure) => match tried.next(&decision, &failure) {
                true => tried.last = Some((connection, End::Unreachable(failure))),
                false => {
                    let end = End::Unreachable(failure);
                    node.reporter.failed(&connection, &end);
                    near.turned_away(&end).await;
                    return None;
                }
            },
        }
    }
}

/// The replicas of a waypoint that one connection has tried. Nothing of the application is sent before
/// one of them has answered, so another can take its place.
struct Tried {
    /// The same for every replica: a connection stays with its share of a canary.
    waypoint: u64,
    uids: Vec<Str>,
    /// How the last one failed; it is told when there is no other.
    last: Option<(Connection, End)>,
}

impl Default for Tried {
    fn default() -> Self {
        Self { waypoint: rand::random(), uids: Vec::new(), last: None }
    }
}

impl Tried {
    /// Whether another replica is to be tried after this one failed.
    fn next(&mut self, decision: &Decision, failure: &Failure) -> bool {
        let Some(replica) = decision.destination.as_ref().filter(|_| decision.replica) else { return false };
        self.uids.push(replica.uid.clone());
        failure.may_go_better_elsewhere() && self.uids.len() < WAYPOINT_REPLICAS_TRIED_MAX
    }
}

/// Decides, and resolves the name of an endpoint that has no address.
async fn decide(
    stream: &TcpStream,
    target: SocketAddr,
    source: &Workload,
    pod: &LocalPod,
    node: &Node,
    tried: &Tried,
) -> (Decision, Result<Plan, End>) {
    let view = node.view.now();
    let is_here = |workload: &Workload| node.without_tunnel(workload).is_some();
    let asked = Asked {
        view: &view,
        network: &node.settings.network,
        source,
        target,
        dice: Dice { waypoint: tried.waypoint, endpoint: rand::random() },
        tried: &tried.uids,
        is_here: &is_here,
    };
    let decision = plan::plan(&asked);
    let (hostname, port) = match &decision.plan {
        Ok(Plan::ResolveFirst { hostname, port }) => (hostname.clone(), *port),
        other => {
            let plan = other.clone().map_err(End::Rejected);
            return (decision, plan);
        }
    };
    node.reporter.resolved(source, &hostname);
    let found = tokio::select! {
        biased;
        found = node.resolver.resolve(&pod.sockets, &hostname) => found,
        () = sockets::hung_up(stream) => return (decision, Err(End::Unreachable(Failure::Gone))),
    };
    let plan = match found.map(|addresses| choose(&addresses, target.is_ipv4())) {
        Ok(Some(address)) => plan::resolved(&asked, &decision, address, port).map_err(End::Rejected),
        Ok(None) => {
            let source = std::io::ErrorKind::NotFound.into();
            Err(End::Unreachable(Failure::Resolve { name: hostname, source }))
        }
        Err(source) => Err(End::Unreachable(Failure::Resolve { name: hostname, source })),
    };
    (decision, plan)
}

/// One of the addresses, of the family that was dialled if there is any.
fn choose(addresses: &[std::net::IpAddr], ipv4: bool) -> Option<std::net::IpAddr> {
    let alike: Vec<_> = addresses.iter().filter(|address| address.is_ipv4() == ipv4).collect();
    let among = if alike.is_empty() { addresses.iter().collect() } else { alike };
    let dice: usize = rand::random::<u32>() as usize;
    among.get(dice % among.len().max(1)).map(|address| **address)
}

fn described(
    client: SocketAddr,
    source: Option<&Arc<Workload>>,
    target: SocketAddr,
    decided: Option<(&Decision, Option<&Plan>)>,
    trace: TraceParent,
) -> Connection {
    let (address, authority) = match decided.and_then(|(_, plan)| plan) {
        Some(Plan::Tunnel { to, authority, .. }) => (*to, Some(authority.clone())),
        Some(Plan::SameNode { address, .. }) => {
            // As through the tunnel that it would have been.
            (SocketAddr::new(address.ip(), HBONE_PORT), Some(Authority::Address(*address)))
        }
        Some(Plan::Plain { to }) => (*to, None),
        Some(Plan::ResolveFirst { .. }) | None => (target, None),
    };
    let decision = decided.map(|(decision, _)| decision);
    Connection {
        direction: Direction::Outbound,
        source: Party { workload: source.cloned(), ..Party::unknown(client) },
        destination: Party {
            workload: decision.and_then(|decision| decision.destination.clone()),
            ..Party::unknown(address)
        },
        authority,
        service: decision.and_then(|decision| decision.service.clone()),
        trace: Some(trace),
    }
}

/// Both ends are there: from here on the connection is open.
async fn begin(near: Near, far: Far, connection: Connection, seat: &Arc<Seat>, node: &Node) -> Option<(Relayed, Far)> {
    let breaker = Breaker::default();
    let held = (seat.pod.track(&node.live, None, &breaker), seat.clone());
    let open = node.reporter.opened(connection);
    match near.connected().await {
        Ok(stream) => Some((Relayed { near: Tcp::from(stream), open, breaker, held }, far)),
        Err(error) => {
            if let Far::SameNode(entered) = far {
                entered.abandoned(node);
            }
            open.finish(&End::Relayed(RelayEnd::Broken { by: Side::Downstream, error }));
            None
        }
    }
}

/// A connection whose bytes move: what is kept of it for as long as it is open.
struct Relayed {
    near: Tcp,
    open: Open,
    breaker: Breaker,
    /// What says that it is open, and its place on a worker.
    held: (Tracked, Arc<Seat>),
}

impl Relayed {
    /// Moves the bytes and tells of the end.
    fn carry(self, far: Far, node: &Node) -> impl Future<Output = ()> + Send + use<> {
        let Self { near, open, breaker, held } = self;
        let (meter, broken) = (open.meter().clone(), breaker.broken());
        // All but a tunnel in a box, so that a tunnel does not take the place of the largest.
        let moving = match far {
            Far::Tunnel(tunnel) => relay(near, tunnel, meter, broken).left_future(),
            Far::Plain(far) => relay(near, Tcp::from(far), meter, broken).boxed().right_future(),
            Far::SameNode(entered) => {
                let (upstream, inside) = entered.open(node, &breaker, meter.clone());
                let told = |end: &RelayEnd| inside.finish_like(end);
                relay(near, Tcp::from(upstream), meter, broken).inspect(told).boxed().right_future()
            }
        };
        moving.map(move |end| {
            open.finish(&End::of(end, &breaker));
            drop(held);
        })
    }
}

#[cfg(test)]
mod tests;
