//! Plays a Kubernetes API server at the wire: lists in pages, watches, writes with conflicts, discovery
//! and definitions of kinds, and whatever trouble a test asks for.
//!
//! It knows no schema: an object is what was sent. What it keeps of the rules of Kubernetes is what a
//! client can trip over: versions that only grow, watches from a version, and versions that are too old.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{Method, Request, Response, body::Frame, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A server on a port of loopback. It ends when it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinHandle<()>>,
}

/// What the server does instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Answers with this status.
    Status(u16),
    /// Closes the connection without an answer.
    Break,
    /// For a watch: begins it, and then says this status in it.
    InStream(u16),
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Changes with every write, and with every cut.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    /// Path of the kind (`/api/v1/pods`) → namespace and name → object.
    objects: BTreeMap<String, BTreeMap<(String, String), Value>>,
    /// Kinds that come with a definition, and are there: group → version → plural.
    defined: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// What happened: version, path of the kind, type, object.
    history: Vec<(u64, String, &'static str, Value)>,
    /// Watches from before this version are refused.
    oldest: u64,
    /// Watches that began before this many cuts are broken.
    cuts: u64,
    troubles: VecDeque<(String, Trouble)>,
    requests: Vec<String>,
    tokens: BTreeMap<String, Value>,
}

impl ApiServer {
    /// Begins to serve, with nothing in it.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let serving = Some(serve(listener, shared.clone()));
        Self { address, shared, serving }
    }

    /// What a client is to be told.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends every connection and listens no more.
    pub async fn stop(&mut self) {
        self.cut();
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ended = serving.await;
        }
    }

    /// Listens again, with everything that was there.
    pub async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is still ours");
        self.serving = Some(serve(listener, self.shared.clone()));
    }

    /// Puts an object there, new or changed, below the path of its kind: `/api/v1/pods`.
    pub fn put(&self, kind: &str, object: Value) -> Value {
        self.shared.write(|state| state.put(kind, object))
    }

    /// Takes an object away.
    pub fn remove(&self, kind: &str, namespace: &str, name: &str) {
        self.shared.write(|state| state.remove(kind, &(namespace.to_owned(), name.to_owned())));
    }

    /// An object, if it is there.
    pub fn object(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        self.shared.lock().objects.get(kind)?.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Every object of a kind.
    pub fn objects(&self, kind: &str) -> Vec<Value> {
        self.shared.lock().objects.get(kind).map(|all| all.values().cloned().collect()).unwrap_or_default()
    }

    /// Adds the definition of a kind, which is served from now on.
    pub fn define(&self, group: &str, versions: &[&str], plural: &str) {
        let definition = json!({"metadata": {"name": format!("{plural}.{group}")}});
        self.shared.write(|state| {
            for version in versions {
                let kinds = state.defined.entry(group.to_owned()).or_default().entry((*version).to_owned());
                kinds.or_default().push(plural.to_owned());
            }
            state.put(DEFINITIONS, definition);
        });
    }

    /// Removes the definition of a kind, and with it its objects.
    pub fn undefine(&self, group: &str, plural: &str) {
        self.hide(group, plural);
        self.shared.write(|state| {
            let path = format!("/apis/{group}/");
            let kinds: Vec<_> = state
                .objects
                .keys()
                .filter(|kind| kind.starts_with(&path) && kind.ends_with(plural))
                .cloned()
                .collect();
            for kind in kinds {
                state.objects.remove(&kind);
            }
            state.remove(DEFINITIONS, &(String::new(), format!("{plural}.{group}")));
        });
    }

    /// Does not serve a kind, though its definition is there: a server that has just begun.
    pub fn hide(&self, group: &str, plural: &str) {
        self.shared.write(|state| {
            for kinds in state.defined.get_mut(group).into_iter().flat_map(|versions| versions.values_mut()) {
                kinds.retain(|kind| kind != plural);
            }
        });
        self.cut();
    }

    /// The next request whose `METHOD path?query` contains `what` gets this instead of an answer.
    pub fn trouble(&self, what: &str, trouble: Trouble) {
        self.shared.lock().troubles.push_back((what.to_owned(), trouble));
    }

    /// Breaks every watch.
    pub fn cut(&self) {
        self.shared.write(|state| state.cuts += 1);
    }

    /// Forgets what happened: every watch from before now is too old.
    pub fn compact(&self) {
        let mut state = self.shared.lock();
        state.oldest = state.version;
        state.history.clear();
    }

    /// This token belongs to a user; `status` is what a TokenReview says.
    pub fn token(&self, token: &str, status: Value) {
        self.shared.lock().tokens.insert(token.to_owned(), status);
    }

    /// Requests so far, as `METHOD path?query`, that contain `what`.
    pub fn requests(&self, what: &str) -> usize {
        self.shared.lock().requests.iter().filter(|request| request.contains(what)).count()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let done = act(&mut self.lock());
        self.changed.send_modify(|changes| *changes += 1);
        done
    }
}

impl State {
    fn put(&mut self, kind: &str, mut object: Value) -> Value {
        self.version += 1;
        let place = place(&object);
        let objects = self.objects.entry(kind.to_owned()).or_default();
        let before = objects.get(&place);
        let uid = before.map_or_else(|| json!(format!("uid-{}", self.version)), |old| old["metadata"]["uid"].clone());
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = uid;
        }
        let happened = if before.is_some() { "MODIFIED" } else { "ADDED" };
        objects.insert(place, object.clone());
        self.history.push((self.version, kind.to_owned(), happened, object.clone()));
        object
    }

    fn remove(&mut self, kind: &str, place: &(String, String)) {
        let Some(mut object) = self.objects.get_mut(kind).and_then(|objects| objects.remove(place)) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.history.push((self.version, kind.to_owned(), "DELETED", object));
    }

    /// Whether a kind is served. Groups that nobody defined are served whole.
    fn serves(&self, kind: &str) -> bool {
        let mut parts = kind.split('/').skip(2);
        let (Some(group), Some(version), Some(plural)) = (parts.next(), parts.next(), parts.next()) else {
            return true;
        };
        if BUILT_IN.contains(&group) {
            return true;
        }
        let kinds = self.defined.get(group).and_then(|versions| versions.get(version));
        kinds.is_some_and(|kinds| kinds.iter().any(|one| one == plural))
    }
}

/// Groups that every server has.
const BUILT_IN: &[&str] = &[
    "apps",
    "policy",
    "autoscaling",
    "discovery.k8s.io",
    "coordination.k8s.io",
    "apiextensions.k8s.io",
    "authentication.k8s.io",
    "admissionregistration.k8s.io",
];

fn serve(listener: TcpListener, shared: Arc<Shared>) -> JoinHandle<()> {
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
    if parts.method == Method::GET && target.name.is_empty() {
        let labels = parameter("labelSelector").unwrap_or_default();
        let wanted =
            Wanted { namespace: target.namespace, labels, fields: parameter("fieldSelector").unwrap_or_default() };
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
struct Target {
    /// `/api/v1/pods`.
    kind: String,
    namespace: String,
    name: String,
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

fn place(object: &Value) -> (String, String) {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    (text("/metadata/namespace"), text("/metadata/name"))
}

fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                if value.is_null() {
                    base.remove(&key);
                } else {
                    merge(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, over) => *base = over,
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

/// Waits until `holds`, and panics with `what` if that takes too long.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
