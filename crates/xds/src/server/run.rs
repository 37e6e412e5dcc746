//! The gRPC service: one stream a session, moved along by what the proxy asks and by what the
//! catalog logs. What to send is decided in [`super::state`].
//!
//! A stream is a future that is only polled when the connection has room: a proxy that reads
//! slowly is asked for nothing, holds nothing, and finds the latest of everything when it reads on.

use super::{
    audience::Scope,
    body::Answer,
    catalog::{Catalog, Head},
    pace::Pace,
    requests::Requests,
    state::{Event, Outgoing, Pending, Session},
};
use crate::{
    Kind, Node, limits,
    wire::{self, Request, Response},
};
use bytes::Bytes;
use futures_util::{FutureExt, Stream, stream};
use http::header;
use http_body::Body;
use std::{
    collections::VecDeque,
    fmt::Display,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tonic::{Status, metadata::MetadataMap};

/// Who may open a stream; the program decides.
pub trait Admission: Send + Sync + 'static {
    /// Somebody who has authenticated.
    type Caller: Send + Sync + 'static;

    /// Authenticates the caller by the metadata of the stream, before any message is read.
    fn authenticate(&self, metadata: &MetadataMap) -> impl Future<Output = Result<Self::Caller, Status>> + Send;

    /// Compares what the caller says of itself with who it is; what it may see comes back.
    fn admit(&self, caller: &Self::Caller, node: &Node) -> Result<Scope, Status>;
}

/// What is counted and shown.
pub trait Report: Send + Sync + 'static {
    /// A session began.
    fn opened(&self, session: u64, node: &Node) {
        let _ = (session, node);
    }

    /// A session was sent a response. `waited`: since its oldest change came in; `None` for an answer.
    fn sent(&self, session: u64, kind: Kind, response: &Response, waited: Option<Duration>) {
        let _ = (session, kind, response, waited);
    }

    /// A session asked or answered.
    fn heard(&self, session: u64, event: &Event) {
        let _ = (session, event);
    }

    /// A session ended.
    fn closed(&self, session: u64) {
        let _ = session;
    }
}

/// Counts nothing.
impl Report for () {}

/// The gRPC service of delta ADS.
#[derive(Debug)]
pub struct Discovery<A> {
    shared: Arc<Shared<A>>,
}

impl<A> Clone for Discovery<A> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<A> {
    catalog: Catalog,
    admission: A,
    report: Arc<dyn Report>,
}

impl<A> std::fmt::Debug for Shared<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl<A: Admission> Discovery<A> {
    /// A service that tells of `catalog` whoever `admission` lets in.
    pub fn new(catalog: Catalog, admission: A, report: Arc<dyn Report>) -> Self {
        Self { shared: Arc::new(Shared { catalog, admission, report }) }
    }

    /// Answers a call: at once where it is refused, else with a body that goes on until either side ends it.
    pub async fn call<B>(
        &self,
        request: http::Request<B>,
    ) -> http::Response<impl Body<Data = Bytes, Error = Status> + Send + Unpin + use<A, B>>
    where
        B: Body<Data = Bytes, Error: Display> + Send + Unpin + 'static,
    {
        if request.uri().path() != wire::METHOD {
            return Status::unimplemented("only DeltaAggregatedResources is served").into_http();
        }
        match self.shared.open(request).await {
            Ok(flow) => {
                let mut response = http::Response::new(Answer::new(Box::pin(flow.into_stream())));
                response.headers_mut().insert(header::CONTENT_TYPE, tonic::metadata::GRPC_CONTENT_TYPE);
                response
            }
            Err(status) => {
                tracing::warn!(code = ?status.code(), reason = status.message(), "refused a stream");
                status.into_http()
            }
        }
    }
}

impl<A: Admission> Shared<A> {
    /// Everything before the first answer. An error here is the status of the call.
    async fn open<B>(&self, request: http::Request<B>) -> Result<Flow<B>, Status>
    where
        B: Body<Data = Bytes, Error: Display> + Send + Unpin + 'static,
    {
        if !self.catalog.synced() {
            return Err(Status::unavailable("the control plane has not read its sources yet, try again"));
        }
        let (head, body) = request.into_parts();
        let caller = self.admission.authenticate(&MetadataMap::from_headers(head.headers)).await?;
        let mut requests = Requests::of(body);
        let first = match tokio::time::timeout(limits::FIRST_REQUEST_TIMEOUT, requests.next()).await {
            Ok(first) => first?.ok_or_else(|| Status::invalid_argument("the stream ended before its first request"))?,
            Err(_) => return Err(Status::deadline_exceeded("no request came on the stream")),
        };
        let node = match first.node.clone().map(Node::of_wire) {
            Some(node) if !node.id.is_empty() => node,
            _ => return Err(Status::invalid_argument("the first request has no node.id")),
        };
        let scope = self.admission.admit(&caller, &node)?;
        let id = rand::random();
        let open = Open::new(self.report.clone(), id, &node);
        tracing::info!(session = id, node = node.id, ?scope, "proxy connected");
        let mut flow = Flow {
            head: self.catalog.head(),
            catalog: self.catalog.clone(),
            requests,
            session: Session::new(id, scope),
            pace: Pace::new(),
            hold: None,
            outgoing: VecDeque::new(),
            open,
        };
        flow.take(first);
        Ok(flow)
    }
}

/// One stream.
struct Flow<B> {
    requests: Requests<B>,
    catalog: Catalog,
    head: watch::Receiver<Head>,
    session: Session,
    pace: Pace,
    /// Until then the rest of a client's first questions is waited for.
    hold: Option<Instant>,
    outgoing: VecDeque<Outgoing>,
    open: Open,
}

impl<B: Body<Data = Bytes, Error: Display> + Send + Unpin + 'static> Flow<B> {
    fn into_stream(self) -> impl Stream<Item = Result<Response, Status>> + Send {
        stream::unfold(Some(self), async |flow| {
            let mut flow = flow?;
            match flow.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(flow))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    /// The next response. Cancelling it loses nothing: what it awaits are queues and a clock.
    async fn next(&mut self) -> Result<Option<Response>, Status> {
        loop {
            if let Some(outgoing) = self.outgoing.pop_front() {
                return Ok(Some(self.send(outgoing)));
            }
            // What has arrived is taken in before anything is decided.
            while let Some(request) = self.requests.next().now_or_never() {
                match request? {
                    Some(request) => self.take(request),
                    None => return Ok(None),
                }
            }
            let head = *self.head.borrow_and_update();
            let due = match self.session.pending(head) {
                Pending::Nothing => None,
                Pending::Urgent => Some(self.hold.filter(|_| self.session.asked_half())),
                Pending::Changes => Some(self.pace.due()),
            };
            let now = Instant::now();
            match due {
                Some(due) if due.is_none_or(|due| due <= now) => {
                    self.outgoing = self
                        .session
                        .round(&self.catalog.contents())
                        .map_err(|behind| Status::aborted(behind.to_string()))?
                        .into();
                    self.pace.sent(now);
                    continue;
                }
                _ => {}
            }
            let due = due.flatten();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                request = self.requests.next() => match request? {
                    Some(request) => self.take(request),
                    None => return Ok(None),
                },
                changed = self.head.changed() => {
                    changed.map_err(|_| Status::unavailable("the control plane is going away, connect again"))?;
                }
                () = wait => {}
            }
        }
    }

    fn take(&mut self, request: Request) {
        let event = self.session.request(request);
        match &event {
            Event::Nacked(kind, reason) => {
                tracing::warn!(session = self.open.id, kind = kind.short(), reason, "proxy refused resources");
            }
            Event::Unserved(type_url) => {
                tracing::debug!(session = self.open.id, type_url, "asked for a kind not served")
            }
            Event::Asked(_) | Event::Acked(_) | Event::Stale(_) => {}
        }
        if self.session.asked_half() {
            self.hold.get_or_insert_with(|| Instant::now() + limits::HALF_GRACE);
        }
        self.open.report.heard(self.open.id, &event);
    }

    fn send(&self, outgoing: Outgoing) -> Response {
        let waited = outgoing.oldest.map(|oldest| oldest.elapsed());
        self.open.report.sent(self.open.id, outgoing.kind, &outgoing.response, waited);
        tracing::debug!(
            session = self.open.id,
            kind = outgoing.kind.short(),
            updates = outgoing.response.resources.len(),
            removed = outgoing.response.removed_resources.len(),
            "sent"
        );
        outgoing.response
    }
}

/// A session that is counted as open for as long as it lives.
struct Open {
    report: Arc<dyn Report>,
    id: u64,
}

impl Open {
    fn new(report: Arc<dyn Report>, id: u64, node: &Node) -> Self {
        report.opened(id, node);
        Self { report, id }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        tracing::info!(session = self.id, "proxy disconnected");
        self.report.closed(self.id);
    }
}
