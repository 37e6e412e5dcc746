//! Connections that are not read as HTTP: judged once, connected to an endpoint, relayed.
//!
//! Policies that ask about requests never let such a connection in, and keep it out where they refuse.
//! It is judged again whenever policy changes, and broken off when it would not come in any more.

mod worn;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use hbone::accept::Request;
use hbone::relay::{Meter, RelayEnd, Side, Tcp, relay};
use http::StatusCode;
use mesh::authz::{self, GuardReason};
use mesh::route::{Destination, stream, traffic::Pool};
use mesh::{Str, View};
use tokio::io::copy_bidirectional;
use tokio::time::Instant;

use crate::context::{Call, Core, dice};
use crate::live::Tracked;
use crate::outlier::Heard;
use crate::phase::route::cluster_key;
use crate::phase::{attributes, mirror, refusal};
use crate::report::{Flag, Flags, Outcome, Protocol, Security, details};
use crate::rules::{Missing, Prepared};
use crate::serve::own_baggage;
use crate::serve::rewound::Rewound;
use crate::target::Target;
use crate::upstream::choose::{Wish, choose};
use crate::upstream::cluster::{Cluster, ClusterKey, Hosts};
use crate::upstream::connect::{Raw, Told};
use crate::upstream::failure::{ConnectFailure, TryFailure};
use crate::upstream::hosts::Host;
use crate::upstream::origination::Io;
use crate::upstream::proxy_protocol::Ends;

/// Endpoints that are tried before a caller is told that nobody is there. Nothing was sent by then.
const ENDPOINTS_MAX: usize = 3;

/// Why a connection goes nowhere.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    NoRules(#[from] Missing),
    #[error("policy refuses it ({0})")]
    Policy(String),
    #[error("no route takes it, or it leads nowhere")]
    NoRoute,
    #[error(transparent)]
    Try(#[from] TryFailure),
    #[error(transparent)]
    TooMany(#[from] crate::live::TooMany),
}

/// A connection on a port that is known not to be HTTP: its endpoint is reached before the CONNECT is
/// answered.
pub async fn before_answer(mut request: Request, call: Arc<Call>, core: Arc<Core>) {
    let mut told = Telling::of(&call, &core, None);
    // Connecting is cut short when the caller gives up; what is lost is a connection.
    let begun = tokio::select! {
        begun = begin(&call, &core, None, &mut told) => begun,
        gone = request.cancelled() => {
            told.outcome.termination = Some(gone.to_string().into());
            return told.refused(Flag::DownstreamTermination.into());
        }
    };
    let begun = match begun {
        Ok(begun) => begun,
        Err(refused) => {
            request.refuse(status(&refused));
            return told.failed(&refused);
        }
    };
    match request.accept(own_baggage(&core).as_ref()) {
        Ok(tunnel) => run(tunnel.into(), begun, told, &core).await,
        Err(gone) => {
            told.outcome.termination = Some(gone.to_string().into());
            told.refused(Flag::DownstreamTermination.into());
        }
    }
}

/// A connection whose first bytes were read, perhaps the server name of TLS among them.
pub async fn after_answer(tunnel: Rewound, name: Option<Str>, call: Arc<Call>, core: Arc<Core>) {
    let mut told = Telling::of(&call, &core, name.clone());
    match begin(&call, &core, name, &mut told).await {
        Ok(begun) => run(tunnel, begun, told, &core).await,
        // The tunnel is dropped, which resets it.
        Err(refused) => told.failed(&refused),
    }
}

fn status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Policy(_) => StatusCode::UNAUTHORIZED,
        Refused::NoRules(_) | Refused::NoRoute | Refused::Try(_) | Refused::TooMany(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// A connection that came in, and its endpoint.
struct Begun {
    far: Io,
    tracked: Tracked,
    pool: Pool,
    _place: crate::budget::Permit,
}

async fn begin(call: &Arc<Call>, core: &Core, name: Option<Str>, told: &mut Telling) -> Result<Begun, Refused> {
    let waypoint = &core.waypoint;
    let view = waypoint.view.now();
    let rules = told.rules.clone();
    if let Some(missing) = rules.missing {
        return Err(missing.into());
    }
    judge(call, &rules, name.as_deref()).map_err(Refused::Policy)?;
    let tracked = waypoint.live.track(still_holds(call, core, name.clone()))?;
    tracked.judge_again(&waypoint.view.now());
    let (cluster, hosts) = destination(call, core, &view, &rules, name.as_deref())?;
    told.outcome.cluster = cluster.name.replace("|http", "|tcp").into();
    let place = cluster.breakers.connect(&hosts.most).ok_or(TryFailure::Overflow("connections"))?;
    let far = reach(core, call, (&cluster, &hosts), name.as_deref(), told).await?;
    Ok(Begun { far, tracked, pool: hosts.traffic.pool, _place: place })
}

/// Whether policies let it in, and if not, why.
fn judge(call: &Call, rules: &Prepared, name: Option<&str>) -> Result<(), String> {
    let (gateway, service) = (&rules.gateway.rules().guards, &rules.service.rules().guards);
    let verdict = authz::judge(gateway, service, &attributes(call, None, name));
    if let Some((policy, _)) = verdict.ask.first() {
        return Err(format!(
            "{}/{} wants somebody asked, which is done for requests only",
            policy.namespace, policy.name
        ));
    }
    match verdict.reason {
        _ if verdict.allowed => Ok(()),
        GuardReason::DeniedBy(policy) => Err(details::denied_by(&policy.namespace, &policy.name, 0)),
        _ => Err(details::DENIED_BY_NONE.into()),
    }
}

fn still_holds(call: &Arc<Call>, core: &Core, name: Option<Str>) -> impl Fn(&View) -> bool + Send + Sync + 'static {
    let (call, waypoint) = (call.clone(), core.waypoint.clone());
    move |view| {
        let rules = waypoint.rules.of(view, call.target.service().map(|service| service.key()).as_ref());
        rules.missing.is_none() && judge(&call, &rules, name.as_deref()).is_ok()
    }
}

fn destination(
    call: &Call,
    core: &Core,
    view: &View,
    rules: &Prepared,
    name: Option<&str>,
) -> Result<(Arc<Cluster>, Arc<Hosts>), Refused> {
    let clusters = &core.waypoint.clusters;
    let key = match &call.target {
        Target::Workload { workload, address } => {
            let found = clusters.of_workload(workload, *address);
            return found.ok_or(Refused::Try(TryFailure::NoEndpoint));
        }
        Target::Service { service, port, .. } => match routed(call, rules, *port, name)? {
            Some(destination) => cluster_key(&destination).ok_or(Refused::NoRoute)?,
            None => ClusterKey { service: service.key(), port: *port, subset: None },
        },
    };
    clusters.of(&key, &core.waypoint.place(view)).ok_or(Refused::NoRoute)
}

/// Where its route leads; none: there is no route for it.
fn routed(call: &Call, rules: &Prepared, port: u16, name: Option<&str>) -> Result<Option<Destination>, Refused> {
    let (caller, routes) = (call.caller.namespace(), rules.service.rules());
    let of_tls = name.and_then(|_| stream::select(&routes.tls, port, Some(caller), name));
    let taken = of_tls.or_else(|| stream::select(&routes.tcp, port, Some(caller), name));
    let for_port = |route: &mesh::route::StreamRoute| route.ports.is_empty() || route.ports.contains(&port);
    match taken {
        Some(route) => route.destination(dice()).cloned().map(Some).ok_or(Refused::NoRoute),
        // A name that no route of TLS has is nobody's.
        None if name.is_some() && routes.tls.iter().any(for_port) => Err(Refused::NoRoute),
        None => Ok(None),
    }
}

/// Connects to an endpoint, and to another one if that fails.
async fn reach(
    core: &Core,
    call: &Call,
    (cluster, hosts): (&Arc<Cluster>, &Arc<Hosts>),
    name: Option<&str>,
    told: &mut Telling,
) -> Result<Io, TryFailure> {
    let mut avoid: Vec<Str> = Vec::new();
    let mut failure = TryFailure::NoEndpoint;
    for _ in 0..ENDPOINTS_MAX {
        let now = core.waypoint.clusters.now();
        let turn = cluster.turn.fetch_add(1, Relaxed);
        let wish = Wish { avoid: &avoid, turn, ejected: cluster.ejected(), now, ..Wish::default() };
        let Some(host) = choose(hosts, &wish, &mut dice).filter(|host| !avoid.contains(&host.uid)) else { break };
        told.chose(host);
        let began = Instant::now();
        match connect(core, call, (hosts, host), name, &told.told).await {
            Ok(far) => {
                host.load.answered(began.elapsed(), now);
                cluster.heard(hosts, host, Heard::Status(200), now);
                return Ok(far);
            }
            Err(error) => {
                host.load.failed(now);
                cluster.heard(hosts, host, Heard::LocalFailure, now);
                failure = error.into();
                avoid.push(host.uid.clone());
            }
        }
    }
    Err(failure)
}

async fn connect(
    core: &Core,
    call: &Call,
    (hosts, host): (&Hosts, &Host),
    name: Option<&str>,
    told: &Told,
) -> Result<Io, ConnectFailure> {
    let raw = core.upstream.reach(hosts, host, Some(Ends::of(call)), told, dice()).await?;
    match &hosts.origination {
        None => Ok(Io::Raw(raw)),
        Some(origination) => origination.begin(raw, name.unwrap_or(&hosts.service.hostname), None).await,
    }
}

/// Moves its bytes until it ends, or is ended.
async fn run(near: Rewound, begun: Begun, mut told: Telling, core: &Core) {
    let meter = Arc::new(Meter::default());
    let open = core.waypoint.reporter.opened(&told.outcome, &told.rules.telling, meter.clone());
    let mut signal = core.waypoint.signal.clone();
    let broken = begun.tracked.broken();
    // The end of the drain, and of its time, drops both ends, which resets them.
    let end = tokio::select! {
        end = moved(near, begun.far, &meter, broken) => Ok(end),
        why = worn::out(&meter, &begun.pool) => Err(why),
        () = signal.over() => Err("the time to drain is over"),
    };
    match end {
        Ok(RelayEnd::Closed { .. }) => {}
        Ok(RelayEnd::Broken { by, error }) => told.broken(by, &error),
        Ok(RelayEnd::Cancelled) => {
            told.outcome.flags.add(Flag::LocalReset);
            told.outcome.termination = Some("connection closed due to policy change".into());
        }
        Err(why) => {
            told.outcome.flags.add(Flag::LocalReset);
            told.outcome.termination = Some(format!("connection closed because {why}").into());
        }
    }
    told.outcome.received_bytes = meter.sent.load(Relaxed);
    told.outcome.sent_bytes = meter.received.load(Relaxed);
    told.ended();
    core.waypoint.reporter.connection(&told.outcome, &told.rules.telling, Some(open));
}

async fn moved(mut near: Rewound, far: Io, meter: &Meter, broken: &tokio_util::sync::CancellationToken) -> RelayEnd {
    match far {
        Io::Raw(Raw::Tunnel(tunnel)) => relay(near, *tunnel, meter, pin!(broken.cancelled())).await,
        Io::Raw(Raw::Tcp(tcp)) => relay(near, Tcp::from(tcp), meter, pin!(broken.cancelled())).await,
        Io::Tls(mut tls) => {
            let mut counted = worn::Counted::of(&mut near, meter);
            tokio::select! {
                () = broken.cancelled() => RelayEnd::Cancelled,
                moved = copy_bidirectional(&mut counted, &mut *tls) => match moved {
                    Ok(_) => RelayEnd::Closed { first: Side::Downstream },
                    Err(error) => RelayEnd::Broken { by: Side::Upstream, error },
                },
            }
        }
    }
}

/// What is told of a connection.
struct Telling {
    outcome: Outcome,
    rules: Arc<Prepared>,
    told: Told,
    began: Instant,
    core: Arc<crate::context::Waypoint>,
}

impl Telling {
    fn of(call: &Call, core: &Core, name: Option<Str>) -> Self {
        let waypoint = core.waypoint.clone();
        let view = waypoint.view.now();
        let service = call.target.service();
        let rules = waypoint.rules.of(&view, service.map(|service| service.key()).as_ref());
        let mut outcome = Outcome::new(SystemTime::now(), call.source.clone(), call.asked.clone());
        outcome.protocol = Protocol::Tcp;
        outcome.downstream_remote = Some(call.from);
        outcome.downstream_local = call.target.address();
        outcome.security = Security::MutualTls;
        outcome.server_name = name;
        let told = Told {
            own: waypoint.own_workload(&view).cloned(),
            forwarded: Some(hbone::head::Forwarded {
                client: Some(call.from),
                host: service.map(|service| service.hostname.clone()),
            }),
            trace: call.trace,
        };
        Self { outcome, rules, told, began: Instant::now(), core: waypoint }
    }

    fn chose(&mut self, host: &Host) {
        self.outcome.upstream = mirror::address(host);
        if let Some(party) = host.party() {
            self.outcome.destination = party;
        }
    }

    fn broken(&mut self, by: Side, error: &io::Error) {
        self.outcome.flags.add(match by {
            Side::Downstream => Flag::DownstreamTermination,
            Side::Upstream => Flag::UpstreamConnectionTermination,
        });
        self.outcome.termination = Some(error.to_string().into());
    }

    fn failed(mut self, refused: &Refused) {
        let flags = match refused {
            Refused::Policy(why) => {
                self.outcome.details = why.clone().into();
                self.outcome.termination = Some(why.clone().into());
                Flags::NONE
            }
            Refused::NoRules(missing) => {
                self.outcome.details = details::NO_RULES.into();
                self.outcome.termination = Some(missing.to_string().into());
                Flag::NoCluster.into()
            }
            Refused::NoRoute => {
                self.outcome.details = details::ROUTE_NOT_FOUND.into();
                Flag::NoRoute.into()
            }
            Refused::Try(failure) => {
                let reply = refusal::reply(failure);
                self.outcome.details = reply.details;
                self.outcome.upstream_failure = reply.failure;
                reply.flags
            }
            Refused::TooMany(_) => Flag::Overload.into(),
        };
        let (from, to) = (self.outcome.downstream_remote, self.outcome.downstream_local);
        tracing::debug!(?from, ?to, %refused, "a connection goes nowhere");
        self.refused(flags);
    }

    fn refused(mut self, flags: Flags) {
        for flag in Flag::ALL.into_iter().filter(|flag| flags.has(*flag)) {
            self.outcome.flags.add(flag);
        }
        self.ended();
        self.core.reporter.connection(&self.outcome, &self.rules.telling, None);
    }

    fn ended(&mut self) {
        self.outcome.duration = self.began.elapsed();
    }
}
