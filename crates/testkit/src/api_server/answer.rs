//! How the played server answers: routing, lists, watches, writes and discovery.

use super::{
    Trouble,
    roles::Attributes,
    state::{Shared, State, merge, place},
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{collections::BTreeMap, convert::Infallible, io, sync::Arc};
use tokio::{net::TcpListener, task::JoinHandle};

type Body = UnsyncBoxBody<Bytes, io::Error>;

pub(super) fn serve(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    tokio::spawn(async move {
        // Connections end with the server.
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let shared = shared.clone();
            connections.spawn(async move {
                let service = service_fn(move |request| answer(shared.clone(), request));
                let _ended =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
            while connections.try_join_next().is_some() {}
        }
    })
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|collected| collected.to_bytes()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let asked = format!("{} {}", parts.method, parts.uri);
    let trouble = {
        let mut state = shared.lock();
        state.requests.push(asked.clone());
        let found = state.troubles.iter().position(|(what, _)| asked.contains(what));
        found.and_then(|at| state.troubles.remove(at)).map(|(_, trouble)| trouble)
    };
    match trouble {
        Some(Trouble::Status(status)) => return Ok(refuse(status, "Trouble")),
        Some(Trouble::Break) => return Err(io::ErrorKind::BrokenPipe.into()),
        Some(Trouble::InStream(status)) => {
            return Ok(whole(200, &json!({"type": "ERROR", "object": said(status, "Expired")})));
        }
        None => {}
    }
    let query = parts.uri.query().unwrap_or_default();
    let parameter = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| decode(value))
    };
    let path = parts.uri.path();
    if path == "/apis/authentication.k8s.io/v1/tokenreviews" {
        let token = body["spec"]["token"].as_str().unwrap_or_default();
        let status = shared.lock().tokens.get(token).cloned();
        return Ok(whole(201, &json!({"status": status.unwrap_or_else(|| json!({"error": "no such token"}))})));
    }
    let Some(target) = Target::of(path) else { return Ok(discover(&shared, path)) };
    if !shared.lock().serves(&target.kind) {
        return Ok(refuse(404, "NotFound"));
    }
    let fields = parameter("fieldSelector").unwrap_or_default();
    let attributes = Attributes::of(&parts.method, path, &target, parameter("watch").is_some(), &fields);
    if shared.lock().granted.as_ref().is_some_and(|granted| !granted.iter().any(|one| one.allows(&attributes))) {
        return Ok(refuse(403, "Forbidden"));
    }
    if parts.method == Method::GET && target.name.is_empty() {
        let labels = parameter("labelSelector").unwrap_or_default();
        let wanted = Wanted { namespace: target.namespace, labels, fields };
        if parameter("watch").is_some() {
            let from = parameter("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or_default();
            return Ok(watched(shared, target.kind, wanted, from));
        }
        let number = |name: &str| parameter(name).and_then(|text| text.parse().ok());
        return Ok(list(
            &shared,
            &target.kind,
            &wanted,
            number("limit").unwrap_or(usize::MAX),
            number("continue").unwrap_or(0),
        ));
    }
    Ok(shared.write(|state| act(state, &parts.method, &target, body)))
}

/// What a path names.
pub(super) struct Target {
    /// `/api/v1/pods`.
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Target {
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (prefix, rest) = match parts.split_first()? {
            (&"api", rest) if rest.len() > 1 => (format!("/api/{}", rest[0]), &rest[1..]),
            (&"apis", rest) if rest.len() > 2 => (format!("/apis/{}/{}", rest[0], rest[1]), &rest[2..]),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && *rest != ["status"] => (*namespace, rest),
            rest => ("", rest),
        };
        let name = rest.get(1).copied().unwrap_or_default().to_owned();
        Some(Self { kind: format!("{prefix}/{}", rest.first()?), namespace: namespace.to_owned(), name })
    }
}

/// Which objects are wanted.
#[derive(Clone)]
struct Wanted {
    namespace: String,
    /// `a=b`, or nothing.
    labels: String,
    /// `spec.nodeName=b`, or nothing.
    fields: String,
}

impl Wanted {
    fn has(&self, object: &Value) -> bool {
        let is = |selector: &str, base: &str| {
            let Some((path, want)) = selector.split_once('=') else { return true };
            let pointer = if base.is_empty() {
                format!("/{}", path.replace('.', "/"))
            } else {
                format!("{base}/{}", path.replace('/', "~1"))
            };
            object.pointer(&pointer).and_then(Value::as_str) == Some(want)
        };
        (self.namespace.is_empty() || place(object).0 == self.namespace)
            && is(&self.fields, "")
            && is(&self.labels, "/metadata/labels")
    }
}

fn list(shared: &Shared, kind: &str, wanted: &Wanted, limit: usize, from: usize) -> Response<Body> {
    let state = shared.lock();
    let all: Vec<&Value> =
        state.objects.get(kind).into_iter().flat_map(BTreeMap::values).filter(|o| wanted.has(o)).collect();
    let items: Vec<&Value> = all.iter().skip(from).take(limit).copied().collect();
    let next = from + items.len();
    // As the real one does when only metadata is asked for.
    let items = if items.is_empty() { Value::Null } else { json!(items) };
    let more = if next < all.len() { next.to_string() } else { String::new() };
    whole(200, &json!({"metadata": {"resourceVersion": state.version.to_string(), "continue": more}, "items": items}))
}

fn watched(shared: Arc<Shared>, kind: String, wanted: Wanted, from: u64) -> Response<Body> {
    let (oldest, cuts) = {
        let state = shared.lock();
        (state.oldest, state.cuts)
    };
    if from < oldest {
        return whole(200, &json!({"type": "ERROR", "object": said(410, "Expired")}));
    }
    let changed = shared.changed.subscribe();
    let lines = stream::unfold((shared, changed, from), move |(shared, mut changed, at)| {
        let (kind, wanted) = (kind.clone(), wanted.clone());
        async move {
            loop {
                changed.mark_unchanged();
                let next = {
                    let state = shared.lock();
                    if state.cuts != cuts {
                        return Some((Err(io::ErrorKind::ConnectionReset.into()), (shared.clone(), changed, at)));
                    }
                    let happened = |(version, path, _, object): &&(u64, String, &str, Value)| {
                        *version > at && *path == kind && wanted.has(object)
                    };
                    state.history.iter().find(happened).map(|(version, _, what, object)| {
                        (*version, json!({"type": what, "object": object}).to_string() + "\n")
                    })
                };
                if let Some((version, line)) = next {
                    return Some((Ok(Frame::data(Bytes::from(line))), (shared, changed, version)));
                }
                changed.changed().await.ok()?;
            }
        }
    });
    let body = BodyExt::boxed_unsync(StreamBody::new(lines.fuse()));
    Response::new(body)
}

fn act(state: &mut State, method: &Method, target: &Target, body: Value) -> Response<Body> {
    let place = match method {
        &Method::POST => place(&body),
        _ => (target.namespace.clone(), target.name.clone()),
    };
    let there = state.objects.get(&target.kind).and_then(|objects| objects.get(&place)).cloned();
    match (method.as_str(), there) {
        ("POST", Some(_)) => refuse(409, "AlreadyExists"),
        ("POST", None) => whole(201, &state.put(&target.kind, body)),
        ("PATCH", there) => {
            let mut object = there.unwrap_or_else(|| json!({"metadata": {"namespace": place.0, "name": place.1}}));
            merge(&mut object, body);
            whole(200, &state.put(&target.kind, object))
        }
        (_, None) => refuse(404, "NotFound"),
        ("GET", Some(object)) => whole(200, &object),
        ("PUT", Some(object)) => {
            let said = &body["metadata"]["resourceVersion"];
            if !said.is_null() && *said != object["metadata"]["resourceVersion"] {
                return refuse(409, "Conflict");
            }
            whole(200, &state.put(&target.kind, body))
        }
        ("DELETE", Some(object)) => {
            let uid = &body["preconditions"]["uid"];
            if !uid.is_null() && *uid != object["metadata"]["uid"] {
                return refuse(409, "Conflict");
            }
            state.remove(&target.kind, &place);
            whole(200, &json!({"kind": "Status", "status": "Success"}))
        }
        _ => refuse(405, "MethodNotAllowed"),
    }
}

fn discover(shared: &Shared, path: &str) -> Response<Body> {
    let state = shared.lock();
    let mut parts = path.trim_start_matches("/apis/").split('/');
    let versions = state.defined.get(parts.next().unwrap_or_default());
    match (versions, parts.next()) {
        (None, _) => refuse(404, "NotFound"),
        (Some(versions), None) => {
            let versions: Vec<_> = versions.keys().map(|version| json!({ "version": version })).collect();
            whole(200, &json!({ "versions": versions }))
        }
        (Some(versions), Some(version)) => {
            let kinds = versions.get(version).into_iter().flatten();
            let kinds: Vec<_> = kinds.map(|plural| json!({ "name": plural })).collect();
            whole(200, &json!({ "resources": kinds }))
        }
    }
}

fn said(status: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "reason": reason, "message": reason})
}

fn refuse(status: u16, reason: &str) -> Response<Body> {
    whole(status, &said(status, reason))
}

fn whole(status: u16, value: &Value) -> Response<Body> {
    let text = Bytes::from(value.to_string() + "\n");
    let body = http_body_util::Full::new(text).map_err(|never: Infallible| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status.try_into().expect("a test names a good status");
    response
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |digit: Option<u8>| digit.and_then(|d| (d as char).to_digit(16)).unwrap_or_default() as u8;
        bytes.push(if byte == b'%' { 16 * hex(rest.next()) + hex(rest.next()) } else { byte });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
