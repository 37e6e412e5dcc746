//! What is sent to a pod: admit, connect, relay.
//!
//! A call comes through a tunnel ([`tunnels`]), without one ([`plaintext`]), or from a pod of the
//! same node. All three go through [`enter`], so there is one place where policy is asked.

pub mod connect;
pub mod plaintext;
pub mod plan;
pub mod proxy_protocol;
pub mod tunnels;

pub use connect::Failure;
pub use plan::Reject;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::FutureExt as _;
use hbone::head::{Authority, BaggageText, TraceParent};
use hbone::relay::{Meter, RelayEnd, Tcp, Wire, relay};
use mesh::authz::Verdict;
use mesh::{Identity, Str, View, Workload};
use plan::{Asked, Plan};
use tokio::net::TcpStream;

use crate::connection::{Connection, Direction, End, Party};
use crate::live::{Breaker, Judged, Tracked};
use crate::node::{LocalPod, Node};
use crate::report::Open;

/// Somebody calls a pod.
#[derive(Clone, Debug)]
pub struct Call {
    /// What is asked for.
    pub authority: Authority,
    /// It came through a tunnel, or as if through one.
    pub through_tunnel: bool,
    /// The service that the caller says it meant.
    pub hint: Option<Str>,
    /// Who calls, as its certificate proved.
    pub source: Option<Identity>,
    /// The caller's address.
    pub from: SocketAddr,
    /// The pod's address that the connection came to.
    pub reached: SocketAddr,
    /// What the caller says about itself.
    pub said: Option<BaggageText>,
    /// The caller is behind a gateway, so that its address is not its own.
    pub from_other_network: bool,
    /// The caller's span.
    pub trace: Option<TraceParent>,
}

/// A call that came in, and reached the application.
#[derive(Debug)]
pub struct Entered {
    /// The application.
    pub upstream: TcpStream,
    /// The pod that is called, as the view knows it.
    pub workload: Arc<Workload>,
    connection: Connection,
    judged: Judged,
    pod: Arc<LocalPod>,
}

/// A call that did not.
#[derive(Debug)]
pub struct TurnedAway {
    /// What is known of it.
    pub connection: Connection,
    /// Why.
    pub why: Why,
}

/// Why a call did not reach the application.
#[derive(Clone, Debug)]
pub enum Why {
    /// It may not.
    Refused(Arc<Reject>),
    /// It may, but the application cannot be reached.
    NotServed(Arc<Failure>),
}

impl Why {
    /// For the report.
    pub fn told(&self) -> End {
        match self {
            Self::Refused(reject) => End::Refused(reject.clone()),
            Self::NotServed(failure) => End::NotServed(failure.clone()),
        }
    }
}

/// Decides about a call, and connects it to the application, unless who asked is `gone` before.
pub async fn enter(
    call: Call,
    pod: &Arc<LocalPod>,
    node: &Node,
    gone: impl Future<Output = ()>,
) -> Result<Entered, Box<TurnedAway>> {
    let own = node.workload_of(&pod.pod).await;
    let view = node.view.now();
    let mut connection = described(&call, own.as_ref(), pod, &view, node);
    let Some(own) = own else {
        return Err(turned_away(connection, Why::Refused(Arc::new(Reject::UnknownDestination))));
    };
    let decision = plan::admit(&Asked {
        view: &view,
        network: &node.settings.network,
        own: &own,
        reached: call.reached.ip(),
        through_tunnel: call.through_tunnel,
        authority: &call.authority,
        hint: call.hint.as_deref(),
        source: call.source.as_ref(),
        source_ip: call.from.ip(),
        tunnel_to_localhost: node.settings.tunnel_to_localhost,
    });
    connection.service = decision.service;
    if let Some(verdict) = &decision.verdict {
        log_verdict(verdict, &connection, node);
    }
    let plan = match decision.plan {
        Ok(plan) => plan,
        Err(reject) => return Err(turned_away(connection, Why::Refused(Arc::new(reject)))),
    };
    // Cut short when the caller gives up; what is lost is a socket.
    let opened = tokio::select! {
        biased;
        opened = connect::open(&plan, &call, pod) => opened,
        () = gone => Err(Failure::Gone),
    };
    let upstream = match opened {
        Ok(upstream) => upstream,
        Err(failure) => return Err(turned_away(connection, Why::NotServed(Arc::new(failure)))),
    };
    let judged = judged(&call, &plan, &own, &view);
    Ok(Entered { upstream, workload: own, connection, judged, pod: pod.clone() })
}

/// A call whose bytes move. It ends with [`Inside::finish`].
#[derive(Debug)]
pub struct Inside {
    open: Open,
    breaker: Breaker,
    _tracked: Tracked,
}

impl Entered {
    /// From here on it is open: told of, and broken off when policy comes to forbid it. Its bytes
    /// are counted by `meter`, which may be that of the caller's end.
    pub fn open(self, node: &Node, breaker: &Breaker, meter: Arc<Meter>) -> (TcpStream, Inside) {
        let tracked = self.pod.track(&node.live, Some(self.judged), breaker);
        tracked.judge_again(&node.view.now());
        let open = node.reporter.opened_with(self.connection, meter);
        (self.upstream, Inside { open, breaker: breaker.clone(), _tracked: tracked })
    }

    /// The caller was gone before it could be told.
    pub fn abandoned(self, node: &Node) {
        node.reporter.failed(&self.connection, &End::NotServed(Arc::new(Failure::Gone)));
    }
}

impl Inside {
    /// Moves its bytes and tells of the end.
    pub fn carry<W: Wire>(self, caller: W, upstream: TcpStream) -> impl Future<Output = ()> + Send {
        let moving = relay(caller, Tcp::from(upstream), self.open.meter().clone(), self.breaker.broken());
        moving.map(|end| self.finish(end))
    }

    /// It ended.
    fn finish(self, end: RelayEnd) {
        self.open.finish(&End::of(end, &self.breaker));
    }

    /// It ended with the relay that also carried the caller's end of it.
    pub fn finish_like(self, end: &RelayEnd) {
        let end = match end {
            RelayEnd::Closed { first } => RelayEnd::Closed { first: *first },
            RelayEnd::Cancelled => RelayEnd::Cancelled,
            RelayEnd::Broken { by, error } => {
                RelayEnd::Broken { by: *by, error: std::io::Error::new(error.kind(), error.to_string()) }
            }
        };
        self.finish(end);
    }
}

fn turned_away(connection: Connection, why: Why) -> Box<TurnedAway> {
    Box::new(TurnedAway { connection, why })
}

fn judged(call: &Call, plan: &Plan, own: &Workload, view: &View) -> Judged {
    Judged {
        workload: own.uid.clone(),
        source: call.source.clone(),
        source_ip: call.from.ip(),
        destination: plan.judged,
        policy_version: view.policy_version(),
    }
}

fn described(call: &Call, own: Option<&Arc<Workload>>, pod: &LocalPod, view: &View, node: &Node) -> Connection {
    let known = match call.from_other_network {
        true => None,
        false => view.workload_by_address(&node.settings.network, call.from.ip()).cloned(),
    };
    Connection {
        direction: Direction::Inbound,
        source: Party {
            address: call.from,
            said: call.said.as_ref().filter(|_| known.is_none()).map(|text| Box::new(text.read())),
            workload: known,
            identity: call.source.clone(),
        },
        destination: Party {
            address: call.reached,
            workload: own.cloned(),
            said: None,
            // Its certificate is the pod's.
            identity: call.source.as_ref().and(own).map(|_| pod.identity.clone()),
        },
        authority: call.through_tunnel.then(|| call.authority.clone()),
        service: None,
        trace: call.trace,
    }
}

/// What policy said: for an operator who asks why, and for policies on trial.
fn log_verdict(verdict: &Verdict, connection: &Connection, node: &Node) {
    let source = &connection.source;
    let (from, to) = (source.address, connection.destination.address);
    let identity = source.identity.as_ref().map(ToString::to_string).unwrap_or_default();
    for missing in &verdict.missing {
        tracing::warn!(%from, %to, policy = &**missing, "a workload names a policy that is not known");
    }
    for policy in &verdict.dry_run {
        tracing::info!(%from, %to, identity, policy = policy.key(), action = ?policy.action, "a dry-run policy would have hit");
    }
    if node.settings.log_policy {
        tracing::info!(%from, %to, identity, allowed = verdict.allowed, reason = ?verdict.reason, "policy was asked");
    } else {
        tracing::debug!(%from, %to, identity, allowed = verdict.allowed, reason = ?verdict.reason, "policy was asked");
    }
}
