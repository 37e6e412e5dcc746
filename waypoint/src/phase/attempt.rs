//! Sends a request on: chooses an endpoint, tries, and tries again where that is safe and wanted.
//!
//! Whether another try is safe is decided in [`mesh::route::retry`]; what a failure means in
//! [`super::refusal`]. Here is the order of things, and the clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderValue, Response};
use hyper::upgrade::OnUpgrade;
use mesh::route::http::{HttpRule, Timeouts};
use mesh::route::retry::{self, Next, Tries, TryOutcome, Why};
use mesh::route::traffic::HttpVersion;
use mesh::{Str, View};
use tokio::time::{Instant, sleep};

use super::again::Body;
use super::busy::{Busy, Entered, Held};
use super::head::{Sent, version};
use super::patience::{after_whole, idle, nonzero, quiet};
use super::{Exchange, refusal};
use crate::adaptive::Ended;
use crate::answer::{Reply, grpc_status};
use crate::body::Outgoing;
use crate::budget::Permit;
use crate::context::{Waypoint, dice, throw};
use crate::outlier::Heard;
use crate::report::{Flag, details};
use crate::serve::switch;
use crate::upstream::choose::{Wish, choose};
use crate::upstream::cluster::{Cluster, Hosts};
use crate::upstream::connect::Told;
use crate::upstream::failure::TryFailure;
use crate::upstream::hosts::Host;
use crate::upstream::http::{Received, Way};
use crate::upstream::proxy_protocol::Ends;

/// Where a request goes, and how it is to be sent.
pub struct Errand<'a> {
    /// The destination.
    pub cluster: Arc<Cluster>,
    /// Its endpoints.
    pub hosts: Arc<Hosts>,
    /// What its endpoint is asked.
    pub sent: Sent,
    /// The rule that sends it, if one does.
    pub rule: Option<&'a HttpRule>,
    /// The endpoint of its session.
    pub session: Option<String>,
    /// Its key, where the same key goes to the same endpoint.
    pub hash: Option<u64>,
}

/// A response of an endpoint, and what it holds until its end.
pub struct Forwarded {
    /// The response.
    pub response: Response<Received>,
    /// Who answered.
    pub host: Arc<Host>,
    /// Places in limits.
    pub held: Held,
    /// How long it may be idle.
    pub idle: Option<Duration>,
    /// When it must be over.
    pub until: Option<Instant>,
    /// The connection, where the endpoint agreed to what it is to become.
    pub upgraded: Option<OnUpgrade>,
    /// What the endpoint was given to agree to.
    pub key: Option<HeaderValue>,
}

/// Sends it on.
pub async fn forward(exchange: &mut Exchange, errand: Errand<'_>, body: Body) -> Result<Forwarded, Reply> {
    let (cluster, hosts) = (&errand.cluster, &errand.hosts);
    exchange.teller.outcome().cluster = cluster.name.clone();
    let full = || refusal::reply(&TryFailure::Overflow("requests"));
    let place = cluster.breakers.request(&hosts.most).ok_or_else(full)?;
    let mut entered =
        Entered::of(cluster, hosts).ok_or_else(|| Reply { details: details::CONCURRENCY.into(), ..full() })?;
    let mut tries = Trying {
        exchange,
        errand: &errand,
        body,
        timeouts: errand.rule.map(|rule| rule.timeouts).unwrap_or_default(),
        avoid: Vec::new(),
        made: 0,
    };
    let result = tries.run().await;
    match result {
        Ok((response, host, busy, began)) => {
            entered.ended = ended_with(response.status().as_u16(), began.elapsed());
            let held = Held { _place: place, _busy: busy, _entered: entered };
            let until = tries.until(began);
            Ok(tries.forwarded(response, host, held, until))
        }
        Err((failure, exhausted)) => {
            if matches!(failure, TryFailure::PerTry(_) | TryFailure::Timeout(_) | TryFailure::RefusedStream) {
                entered.ended = Ended::Overloaded;
            }
            let mut reply = refusal::reply(&failure);
            if exhausted {
                reply.flags.add(Flag::RetryLimitExceeded);
            }
            Err(reply)
        }
    }
}

/// The tries of one request.
struct Trying<'a, 'e> {
    exchange: &'a mut Exchange,
    errand: &'a Errand<'e>,
    body: Body,
    timeouts: Timeouts,
    avoid: Vec<Str>,
    made: u32,
}

type Tried = (Response<Received>, Arc<Host>, Busy, Instant);

impl Trying<'_, '_> {
    /// Tries until there is an answer for the caller; with a failure, whether that was the last try of several.
    async fn run(&mut self) -> Result<Tried, (TryFailure, bool)> {
        let total = nonzero(self.timeouts.request);
        let passage = self.exchange.passage.clone();
        let late = after_whole(&passage, total);
        let mut late = std::pin::pin!(late);
        let mut retrying: Option<Permit> = None;
        loop {
            self.made += 1;
            let sent = AtomicBool::new(false);
            let host = self.choose().ok_or((TryFailure::NoEndpoint, false))?;
            // What the deadline drops is the try, whose stream is reset by that.
            let tried = tokio::select! {
                tried = self.once(&host, &sent) => tried,
                () = &mut late => Err(TryFailure::Timeout(total.unwrap_or_default())),
            };
            drop(retrying.take());
            let tried = tried.map_err(|failure| self.blamed(failure));
            self.tell_of(&host, &tried);
            let Some(outcome) = outcome(&tried, sent.load(Relaxed)) else {
                return tried.map_err(|failure| (failure, false));
            };
            let (next, permit) = self.next(outcome);
            match next {
                Next::Again { wait } => {
                    tracing::debug!(endpoint = &*host.uid, ?outcome, made = self.made, "the request is tried again");
                    drop(tried);
                    retrying = permit;
                    self.avoid.push(host.uid.clone());
                    tokio::select! {
                        () = sleep(wait) => {}
                        () = &mut late => return Err((TryFailure::Timeout(total.unwrap_or_default()), false)),
                    }
                }
                Next::Done(why) => {
                    let exhausted = why == Why::Attempts && self.made > 1;
                    if exhausted && tried.is_ok() {
                        self.exchange.teller.outcome().flags.add(Flag::RetryLimitExceeded);
                    }
                    return tried.map_err(|failure| (failure, exhausted));
                }
            }
        }
    }

    fn choose(&self) -> Option<Arc<Host>> {
        let Errand { cluster, hosts, session, hash, .. } = self.errand;
        let wish = Wish {
            hash: *hash,
            session: session.as_deref(),
            avoid: &self.avoid,
            turn: cluster.turn.fetch_add(1, Relaxed),
            ejected: cluster.ejected(),
            now: self.exchange.core.waypoint.clusters.now(),
        };
        choose(hosts, &wish, &mut dice).cloned()
    }

    /// One try: to the head of a response.
    async fn once(&mut self, host: &Arc<Host>, sent: &AtomicBool) -> Result<Tried, TryFailure> {
        let Errand { cluster, hosts, sent: wanted, rule, .. } = self.errand;
        let pool = &hosts.traffic.pool;
        let Exchange { version: caller, grpc, upgrade, passage, core, call, view, .. } = &*self.exchange;
        let upgrade = upgrade.as_ref().map(|(switch, _)| *switch);
        let mut version = version(pool, hosts.protocol, *caller, *grpc, upgrade);
        if upgrade.is_some() && !matches!(self.body, Body::Nothing) {
            // Of HTTP/2 none of these has a body.
            version = HttpVersion::Http1;
        }
        let malformed = |error: super::head::NoTarget| TryFailure::Malformed(error.to_string().into());
        let busy = Busy::with(&host.load);
        let server_name = mesh::route::head::split_port(&wanted.authority).0;
        let ends = Some(Ends::of(call));
        let told = || told(&core.waypoint, view, hosts);
        let way = |version| Way { cluster, hosts, host, version, server_name, ends, told: &told, throw: dice(), sent };
        let per_try = rule.and_then(|rule| rule.retry.as_ref()).and_then(|retry| nonzero(retry.per_try_timeout));
        let backend = nonzero(self.timeouts.backend_request);
        let limit = per_try.into_iter().chain(backend).min();
        let idle = idle(&self.timeouts);
        let began = Instant::now();
        let first = wanted.request(version, self.body.next()).map_err(malformed)?;
        let answered = async {
            match core.upstream.send(&way(version), first).await {
                // Whoever speaks HTTP/2 and knows no WebSocket there may know it in HTTP/1.1.
                Err(TryFailure::NoWebSocket) => {
                    let again = wanted.request(HttpVersion::Http1, Outgoing::Empty).map_err(malformed)?;
                    core.upstream.send(&way(HttpVersion::Http1), again).await
                }
                answered => answered,
            }
        };
        // A time-out drops the try, whose stream is reset by that.
        let response = tokio::select! {
            response = answered => response?,
            () = after_whole(passage, limit) => return Err(TryFailure::PerTry(limit.unwrap_or_default())),
            () = quiet(passage, idle) => return Err(TryFailure::Idle(idle.unwrap_or_default())),
        };
        Ok((response, host.clone(), busy, began))
    }

    /// A request that its caller broke off is no failure of the endpoint's.
    fn blamed(&self, failure: TryFailure) -> TryFailure {
        match self.exchange.passage.failed() {
            true => TryFailure::Caller(failure.to_string().into()),
            false => failure,
        }
    }

    /// Notes what the endpoint came to.
    fn tell_of(&mut self, host: &Host, tried: &Result<Tried, TryFailure>) {
        let Errand { cluster, hosts, .. } = self.errand;
        let now = self.exchange.core.waypoint.clusters.now();
        let heard = match tried {
            Ok((response, _, _, began)) => {
                host.load.answered(began.elapsed(), now);
                Some(Heard::Status(response.status().as_u16()))
            }
            Err(failure) => refusal::heard(failure).inspect(|_| host.load.failed(now)),
        };
        if let Some(heard) = heard {
            cluster.heard(hosts, host, heard, now);
        }
        let outcome = self.exchange.teller.outcome();
        outcome.upstream = super::mirror::address(host);
        if let Some(party) = host.party() {
            outcome.destination = party;
        }
        if let Ok((_, _, _, began)) = tried {
            outcome.upstream_time = Some(began.elapsed());
        }
    }

    fn next(&self, outcome: TryOutcome) -> (Next, Option<Permit>) {
        let Errand { cluster, hosts, sent, rule, .. } = self.errand;
        let permit = cluster.breakers.retry(&hosts.most);
        let tries = Tries {
            method: sent.method.as_str(),
            policy: rule.and_then(|rule| rule.retry.as_ref()),
            replayable: self.body.replayable() && self.exchange.upgrade.is_none(),
            made: self.made,
            budget: permit.is_some(),
            throw: throw(),
        };
        (retry::next(outcome, &tries), permit)
    }

    /// When the response must be over: the times run from the end of the request, or of what went
    /// before the try. Of a request that is still coming when its answer begins, from now.
    fn until(&self, began: Instant) -> Option<Instant> {
        let whole = self.exchange.passage.ended_at().unwrap_or_else(Instant::now);
        let request = nonzero(self.timeouts.request).map(|time| whole + time);
        let backend = nonzero(self.timeouts.backend_request).map(|time| whole.max(began) + time);
        request.into_iter().chain(backend).min()
    }

    fn forwarded(
        &self,
        mut response: Response<Received>,
        host: Arc<Host>,
        held: Held,
        until: Option<Instant>,
    ) -> Forwarded {
        let (spoken, status) = (response.version(), response.status());
        let agreed = self.exchange.upgrade.as_ref().is_some_and(|(switch, _)| switch.agreed(spoken, status));
        let key = self.errand.sent.headers.get(switch::KEY).cloned();
        let upgraded = agreed.then(|| hyper::upgrade::on(&mut response));
        Forwarded { response, host, held, idle: idle(&self.timeouts), until, upgraded, key }
    }
}

fn outcome(tried: &Result<Tried, TryFailure>, sent: bool) -> Option<TryOutcome> {
    match tried {
        Ok((response, ..)) => {
            let grpc_status = grpc_status(response.headers()).and_then(|status| u8::try_from(status).ok());
            Some(TryOutcome::Response { status: response.status().as_u16(), grpc_status })
        }
        Err(failure) => refusal::outcome(failure, sent),
    }
}

fn ended_with(status: u16, latency: Duration) -> Ended {
    match status {
        429 | 503 => Ended::Overloaded,
        _ => Ended::Answered(latency),
    }
}

/// What the endpoint's node is told. A connection serves many callers, so it is told of none.
fn told(waypoint: &Waypoint, view: &View, hosts: &Hosts) -> Told {
    Told {
        own: waypoint.own_workload(view).cloned(),
        forwarded: Some(hbone::head::Forwarded { client: None, host: Some(hosts.service.hostname.clone()) }),
        trace: None,
    }
}
