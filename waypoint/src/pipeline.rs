//! A request, from its head to its last byte: the phases, in order.
//!
//! The order is Istio's where it can be seen, but that authorizers are asked after tokens and policies and
//! not before: a request that is refused anyway is nobody's business. Tokens come before policies (a policy
//! may ask for claims), policies before routes (what may not pass is not told whether there is a route), and rate limits
//! of everything before those of the rule. Each phase gives way to the next, or answers.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use mesh::route::compile::Hit;
use mesh::route::http::Destination;
use mesh::route::traffic::Balance;
use tokio::time::Instant;

use crate::answer::{Answer, Reply, Teller, grpc_status};
use crate::body::{Coming, Passage, Source};
use crate::context::{Call, Core, dice, unix_seconds};
use crate::phase::again::{self, Body};
use crate::phase::attempt::{self, Errand, Forwarded};
use crate::phase::back::Back;
use crate::phase::head::Sent;
use crate::phase::{Exchange, admit, ask, fault, limited, mirror, refusal, route, token, upgrade};
use crate::report::{Flag, Flags, ORIGINAL_PATH, Outcome, Protocol, Security, details};
use crate::rules::Prepared;
use crate::serve::form::{self, BadForm, Wanted};
use crate::serve::switch::Switch;
use crate::target::Target;
use crate::trace::{self, Chance};
use crate::upstream::cluster::{Cluster, ClusterKey, Hosts};
use crate::upstream::failure::TryFailure;

/// What GRPCRoute wants for a backend that is not there; 500 would mean UNKNOWN.
const GRPC_UNAVAILABLE: u8 = 14;
/// How long the endpoint took to begin its answer, in milliseconds.
const SERVICE_TIME: HeaderName = HeaderName::from_static("x-envoy-upstream-service-time");
/// The identity of the caller, for the endpoint.
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Serves one request of a tunnel.
pub async fn serve_request(request: Request<Incoming>, call: &Arc<Call>, core: &Arc<Core>) -> Response<Answer> {
    let (mut parts, body) = request.into_parts();
    let view = core.waypoint.view.now();
    let rules = core.waypoint.rules.of(&view, call.target.service().map(|service| service.key()).as_ref());
    let passage = Arc::new(Passage::default());
    let outcome = beginning(&parts, call);
    let teller = Box::new(Teller::new(outcome, core.clone(), rules.clone(), passage.clone(), Instant::now()));
    let caller = Caller::of(&parts);
    let grpc = form::is_grpc(&parts.headers) && caller.method != Method::CONNECT;
    let (wanted, upgrade) = match read(&mut parts, call) {
        Ok(read) => read,
        Err(bad) => {
            caller.decline(parts.extensions.remove());
            return own(bad_form(&bad), Back::default(), teller, grpc, &caller);
        }
    };
    let mut exchange = Exchange {
        core: core.clone(),
        call: call.clone(),
        view,
        rules: rules.clone(),
        wanted,
        headers: parts.headers,
        version: parts.version,
        grpc,
        upgrade,
        claims: None,
        passage,
        back: Back::default(),
        teller,
    };
    let id = trace::request_id(&mut exchange.headers, rand::random());
    let span = core.waypoint.tracer.begin(&mut exchange.headers, &rules.tracing, Chance::throw());
    exchange.teller.outcome().request_id = id;
    exchange.teller.span(span);
    let result = phases(&mut exchange, &rules, body).await;
    let Exchange { back, teller, upgrade, .. } = exchange;
    match result {
        Err(reply) => {
            caller.decline(upgrade.map(|(_, near)| near));
            own(reply, back, teller, grpc, &caller)
        }
        Ok(forwarded) => passed_on(*forwarded, back, teller, upgrade, core, &caller),
    }
}

/// What an answer depends on: how it was asked for.
struct Caller {
    /// As it came, so that an extended CONNECT is one.
    method: Method,
    version: Version,
}

impl Caller {
    fn of(parts: &Parts) -> Self {
        Self { method: parts.method.clone(), version: parts.version }
    }

    /// Of HTTP/1 the connection itself was asked for.
    fn decline(&self, near: Option<hyper::upgrade::OnUpgrade>) {
        if let Some(near) = near.filter(|_| self.version <= Version::HTTP_11) {
            upgrade::decline(near);
        }
    }

    /// What came of a CONNECT that nobody has agreed to: success would mean that somebody has. What its caller has
    /// sent behind it must not be taken for requests.
    fn no_agreement(&self, status: &mut StatusCode, headers: &mut HeaderMap) {
        if self.method != Method::CONNECT {
            return;
        }
        if status.is_success() || *status == StatusCode::SWITCHING_PROTOCOLS {
            *status = StatusCode::BAD_GATEWAY;
        }
        if self.version <= Version::HTTP_11 {
            headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// The phases of a request, in order.
async fn phases(exchange: &mut Exchange, rules: &Prepared, body: Incoming) -> Result<Box<Forwarded>, Reply> {
    if let Some(missing) = rules.missing {
        return Err(refusal::no_rules(missing, exchange.version));
    }
    token::authenticate(exchange, rules).await?;
    let verdict = admit::judge(exchange, rules);
    if !verdict.allowed {
        return Err(admit::refused(&verdict.reason));
    }
    let body = ask::everybody(exchange, &verdict.ask, body).await?;
    limited::of_all(exchange, rules).await?;
    let hit = route::select(exchange, rules)?;
    if let Some(hit) = &hit {
        limited::of_rule(exchange, hit).await?;
        exchange.teller.outcome().route = hit.name().clone();
        exchange.back.edits.push(hit.rule.filters.response_headers.clone());
        if let Some(answer) = route::own_answer(exchange, hit) {
            return Err(answer);
        }
    }
    fault::befall(exchange, rules, hit.as_ref()).await?;
    let (errand, body) = prepare(exchange, hit.as_ref(), body)?;
    let session = errand.session.clone();
    let forwarded = attempt::forward(exchange, errand, body).await?;
    begin_session(exchange, hit.as_ref(), session.as_deref(), &forwarded);
    Ok(Box::new(forwarded))
}

/// What the report knows of a request when it has just come.
fn beginning(parts: &Parts, call: &Call) -> Outcome {
    let mut outcome = Outcome::new(SystemTime::now(), call.source.clone(), call.asked.clone());
    outcome.protocol = Protocol::of(parts.version);
    outcome.method = parts.method.clone();
    outcome.path = parts.uri.path_and_query().map_or("/", |target| target.as_str()).into();
    outcome.headers = parts.headers.clone();
    outcome.grpc = form::is_grpc(&parts.headers);
    outcome.downstream_remote = Some(call.from);
    outcome.downstream_local = call.target.address();
    outcome.security = Security::MutualTls;
    outcome.authority = parts
        .headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| parts.uri.authority().map(|authority| authority.as_str()))
        .unwrap_or_default()
        .into();
    let head: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    outcome.request_head_bytes = (head + outcome.path.len()) as u64;
    outcome
}

type Upgrade = (Switch, hyper::upgrade::OnUpgrade);
type Read = (Wanted, Option<Upgrade>);

/// Reads what is asked for, and leaves of the headers what may go on.
fn read(parts: &mut Parts, call: &Call) -> Result<Read, BadForm> {
    let connect = Switch::of_connect(parts)?;
    let default_host = call.target.service().map_or("", |service| &service.hostname);
    let wanted = Wanted::of(parts, default_host)?;
    let websocket = form::strip_hop_by_hop(&mut parts.headers) && parts.version == Version::HTTP_11;
    let switch = connect.or_else(|| websocket.then_some(Switch::WebSocket));
    parts.headers.remove(http::header::HOST);
    form::sanitise(&mut parts.headers, call.from);
    let upgrade = switch.and_then(|switch| Some((switch, parts.extensions.remove::<hyper::upgrade::OnUpgrade>()?)));
    match upgrade {
        None if connect.is_some() => Err(BadForm::Connect),
        upgrade => Ok((wanted, upgrade)),
    }
}

fn bad_form(bad: &BadForm) -> Reply {
    let text = bad.to_string();
    Reply::new(bad.status(), Flag::DownstreamProtocolError.into(), format!("bad_request{{{}}}", text.replace(' ', "_")))
        .saying(text)
}

/// Everything that is known before the first try.
fn prepare<'r>(exchange: &mut Exchange, hit: Option<&Hit<'r>>, body: Coming) -> Result<(Errand<'r>, Body), Reply> {
    let (cluster, hosts) = destination(exchange, hit)?;
    let sent = Sent { tls: hosts.origination.is_some(), ..sent(exchange, hit) };
    let key = match &hosts.traffic.balance {
        Balance::Consistent { key, .. } => Some(key),
        _ => None,
    };
    let head = exchange.head_with(&sent.headers);
    let hash = key.and_then(|key| key.of(&head));
    let session =
        hit.and_then(|hit| hit.rule.session.as_ref()).and_then(|session| session.asked(&head, unix_seconds()));
    let hash = match (key, hash) {
        (Some(key), None) => {
            let value = format!("{:016x}", dice());
            key.cookie_made(&value).map(|cookie| {
                exchange.back.add("set-cookie", &cookie);
                mesh::route::hash::of(&value)
            })
        }
        (_, hash) => hash,
    };
    let empty = again::is_empty(&body);
    let copies = hit.map(|hit| mirror::send(exchange, hit, &sent, empty)).unwrap_or_default();
    let source = Source::new(body, exchange.passage.clone(), copies);
    let again = exchange.upgrade.is_none();
    Ok((Errand { cluster, hosts, sent, rule: hit.map(|hit| hit.rule), session, hash }, Body::of(source, empty, again)))
}

/// Where it goes: to a backend of its rule by lot, or where it was sent.
fn destination(exchange: &mut Exchange, hit: Option<&Hit<'_>>) -> Result<(Arc<Cluster>, Arc<Hosts>), Reply> {
    let waypoint = exchange.core.waypoint.clone();
    let place = waypoint.place(&exchange.view);
    let key = match (&exchange.call.target, hit) {
        (Target::Workload { workload, address }, _) => {
            let found = waypoint.clusters.of_workload(workload, *address);
            return found.ok_or_else(|| refusal::reply(&TryFailure::NoEndpoint));
        }
        (Target::Service { service, port, .. }, None) => {
            ClusterKey { service: service.key(), port: *port, subset: None }
        }
        (Target::Service { .. }, Some(hit)) => {
            hit.rule.filters.request_headers.apply(&mut exchange.headers);
            let backend = hit.backend(dice());
            if let Some(backend) = backend {
                backend.request_headers.apply(&mut exchange.headers);
                // On the way back those of the backend come before those of the rule.
                exchange.back.edits.insert(0, backend.response_headers.clone());
            }
            let destination = backend.map(|backend| &backend.destination);
            destination.and_then(route::cluster_key).ok_or_else(|| no_backend(destination))?
        }
    };
    waypoint.clusters.of(&key, &place).ok_or_else(|| {
        let flags = Flag::NoCluster.into();
        Reply::new(StatusCode::SERVICE_UNAVAILABLE, flags, details::CLUSTER_NOT_FOUND).saying("no such destination")
    })
}

fn no_backend(destination: Option<&Destination>) -> Reply {
    let reply = Reply::new(StatusCode::INTERNAL_SERVER_ERROR, Flag::NoCluster.into(), details::CLUSTER_NOT_FOUND);
    let reply = Reply { grpc: Some(GRPC_UNAVAILABLE), ..reply };
    match destination {
        Some(Destination::Invalid { reason }) => Reply { failure: Some(reason.to_string().into()), ..reply },
        _ => reply,
    }
}

/// What its endpoint is asked.
fn sent(exchange: &mut Exchange, hit: Option<&Hit<'_>>) -> Sent {
    let rewritten = hit.map(|hit| hit.rewritten(&exchange.head())).unwrap_or_default();
    let (authority, path) = (rewritten.authority.map(str::to_owned), rewritten.path);
    if path.is_some()
        && let Ok(original) = HeaderValue::try_from(exchange.wanted.path_and_query())
    {
        exchange.headers.insert(ORIGINAL_PATH, original);
    }
    let waypoint = &exchange.core.waypoint;
    let forward = waypoint.settings.forward_client_identity || exchange.rules.gateway.rules().forward_client_identity;
    if forward {
        let text = format!("By={};URI={}", waypoint.settings.own.identity, exchange.call.caller);
        if let Ok(value) = HeaderValue::try_from(text) {
            exchange.headers.insert(CLIENT_CERT, value);
        }
    }
    let upgrade = exchange.upgrade.as_ref().map(|(switch, _)| *switch);
    if let Some(switch) = upgrade {
        switch.complete(exchange.version, &mut exchange.headers, rand::random());
    }
    Sent {
        method: exchange.wanted.method.clone(),
        authority: authority.map_or_else(|| exchange.wanted.authority.clone(), |host| exchange.wanted.with_port(&host)),
        path: path.unwrap_or_else(|| exchange.wanted.path.clone()),
        query: exchange.wanted.query.clone(),
        headers: std::mem::take(&mut exchange.headers),
        upgrade,
        tls: false,
    }
}

/// A caller whose session has no endpoint, or another one, is told the one that answered.
fn begin_session(exchange: &mut Exchange, hit: Option<&Hit<'_>>, asked: Option<&str>, forwarded: &Forwarded) {
    let Some(session) = hit.and_then(|hit| hit.rule.session.as_ref()) else { return };
    let uid = &*forwarded.host.uid;
    if asked != Some(uid) {
        let (name, value) = session.begun(uid, unix_seconds());
        exchange.back.add(name, &value);
    }
}

/// An answer of our own.
fn own(reply: Reply, back: Back, mut teller: Box<Teller>, grpc: bool, caller: &Caller) -> Response<Answer> {
    let outcome = teller.outcome();
    add_flags(outcome, reply.flags);
    outcome.details = reply.details.clone();
    outcome.upstream_failure = reply.failure.clone();
    let (response, grpc_status) = reply.into_response(grpc);
    let (mut parts, body) = response.into_parts();
    back.apply(&mut parts.headers);
    caller.no_agreement(&mut parts.status, &mut parts.headers);
    outcome.status = parts.status.as_u16();
    outcome.grpc_status = grpc_status;
    let answer = Answer::whole(body, teller);
    let answer = if caller.method == Method::HEAD { answer.without_body() } else { answer };
    Response::from_parts(parts, answer)
}

fn add_flags(outcome: &mut Outcome, flags: Flags) {
    for flag in Flag::ALL.into_iter().filter(|flag| flags.has(*flag)) {
        outcome.flags.add(flag);
    }
}

/// The answer of an endpoint.
fn passed_on(
    forwarded: Forwarded,
    back: Back,
    mut teller: Box<Teller>,
    upgrade: Option<Upgrade>,
    core: &Core,
    caller: &Caller,
) -> Response<Answer> {
    let (mut parts, received) = forwarded.response.into_parts();
    form::strip_hop_by_hop(&mut parts.headers);
    let outcome = teller.outcome();
    if let Some(time) = outcome.upstream_time {
        parts.headers.insert(SERVICE_TIME, HeaderValue::from(time.as_millis() as u64));
    }
    back.apply(&mut parts.headers);
    let (spoken, asked) = (parts.version, forwarded.key.as_ref());
    let mut agreed = None;
    match (forwarded.upgraded, upgrade) {
        (Some(far), Some((switch, near)))
            if switch.tell(caller.version, spoken, asked, &mut parts.status, &mut parts.headers) =>
        {
            agreed = Some((near, far));
        }
        (_, upgrade) => caller.decline(upgrade.map(|(_, near)| near)),
    }
    outcome.details = details::VIA_UPSTREAM.into();
    if agreed.is_none() {
        let before = parts.status;
        caller.no_agreement(&mut parts.status, &mut parts.headers);
        if before != parts.status {
            outcome.flags.add(Flag::UpstreamProtocolError);
            outcome.details = details::PROTOCOL_ERROR.into();
        }
    }
    outcome.status = parts.status.as_u16();
    outcome.grpc_status = grpc_status(&parts.headers);
    let head: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    outcome.response_head_bytes = head as u64;
    teller.hold(forwarded.held);
    parts.version = Version::HTTP_11;
    if let Some((near, far)) = agreed {
        upgrade::relay(near, far, teller, core);
        return Response::from_parts(parts, Answer::nothing());
    }
    teller.limit(forwarded.idle, forwarded.until);
    let answer = Answer::received(received, teller);
    let answer = if caller.method == Method::HEAD { answer.without_body() } else { answer };
    Response::from_parts(parts, answer)
}
