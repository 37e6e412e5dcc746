//! What plays an API server: lists, watches, patches, over plain HTTP in a namespace.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use ztunnel::net::netns::Netns;

#[derive(Default)]
struct State {
    version: u64,
    /// Path of the collection and name → object.
    objects: BTreeMap<(String, String), Value>,
    /// Collection, kind of event, object, version.
    events: Vec<(String, &'static str, Value, u64)>,
    /// What is known to `get` and not told to who watches.
    withheld: BTreeMap<(String, String), Value>,
    /// Paths of single objects that were asked for.
    asked: Vec<String>,
    closed: bool,
}

#[derive(Clone)]
pub(crate) struct ApiServer {
    state: Arc<(Mutex<State>, Condvar)>,
    pub(crate) url: String,
}

pub(crate) const PODS: &str = "/api/v1/pods";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const DAEMON_SETS: &str = "/apis/apps/v1/daemonsets";

impl ApiServer {
    /// Serves in a namespace until the process ends.
    pub(crate) fn start(netns: &Netns) -> Self {
        let listener = netns.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = Self { state: Arc::default(), url };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serving.clone();
                std::thread::spawn(move || while server.answer(&stream).is_some() {});
            }
        });
        server
    }

    /// Puts an object, and tells who watches.
    pub(crate) fn put(&self, collection: &str, mut object: Value) {
        let (mut state, version) = self.next();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        state.withheld.remove(&key(collection, &object));
        let before = state.objects.insert(key(collection, &object), object.clone());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        state.events.push((collection.to_owned(), kind, object, version));
        self.state.1.notify_all();
    }

    /// Has `get` give an object that nobody who watches is told of yet.
    pub(crate) fn withhold(&self, collection: &str, object: Value) {
        self.state.0.lock().unwrap().withheld.insert(key(collection, &object), object);
    }

    /// Answers nobody any more.
    pub(crate) fn close(&self) {
        self.state.0.lock().unwrap().closed = true;
        self.state.1.notify_all();
    }

    /// An annotation of a pod.
    pub(crate) fn annotation(&self, pod: &str, key: &str) -> Option<String> {
        let state = self.state.0.lock().unwrap();
        let pod = state.objects.get(&(PODS.to_owned(), pod.to_owned()))?;
        Some(pod["metadata"]["annotations"].get(key)?.as_str()?.to_owned())
    }

    /// Whether somebody asked for this object.
    pub(crate) fn was_asked(&self, path: &str) -> bool {
        self.state.0.lock().unwrap().asked.iter().any(|asked| asked == path)
    }

    fn next(&self) -> (std::sync::MutexGuard<'_, State>, u64) {
        let mut state = self.state.0.lock().unwrap();
        state.version += 1;
        let version = state.version;
        (state, version)
    }

    /// Answers one request; `None` when the connection is to end.
    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        reader.read_line(&mut first).ok().filter(|count| *count > 0)?;
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line == "\r\n" {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if self.state.0.lock().unwrap().closed {
            return None;
        }
        let mut words = first.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if query.contains("watch=true") {
            let from = query.split("resourceVersion=").nth(1)?.split('&').next()?.parse().ok()?;
            return self.watch(stream, path, from);
        }
        let (status, answer) = match method {
            "GET" => self.get(path),
            "PATCH" => self.patch(path, &serde_json::from_slice(&body).ok()?),
            _ => (405, json!({"kind": "Status", "code": 405})),
        };
        let text = answer.to_string();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
        .ok()
    }

    fn get(&self, path: &str) -> (u16, Value) {
        let mut state = self.state.0.lock().unwrap();
        if [PODS, NAMESPACES].contains(&path) {
            let of_path = state.objects.iter().filter(|((collection, _), _)| collection == path);
            let items: Vec<&Value> = of_path.map(|(_, object)| object).collect();
            return (200, json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items}));
        }
        state.asked.push(path.to_owned());
        let key = place(path);
        match state.withheld.get(&key).or_else(|| state.objects.get(&key)) {
            Some(object) => (200, object.clone()),
            None => (404, json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "there is none"})),
        }
    }

    fn patch(&self, path: &str, patch: &Value) -> (u16, Value) {
        let (collection, name) = place(path.trim_end_matches("/status"));
        let found = self.state.0.lock().unwrap().objects.get(&(collection.clone(), name)).cloned();
        let Some(mut object) = found else { return (404, json!({"kind": "Status", "code": 404})) };
        if let Some(uid) = patch.pointer("/metadata/uid").filter(|uid| **uid != object["metadata"]["uid"]) {
            return (
                409,
                json!({"kind": "Status", "code": 409, "reason": "Conflict", "message": format!("not {uid}")}),
            );
        }
        for (key, value) in patch["metadata"]["annotations"].as_object().into_iter().flatten() {
            if value.is_null() {
                object["metadata"]["annotations"].as_object_mut().map(|all| all.remove(key));
            } else {
                object["metadata"]["annotations"][key] = value.clone();
            }
        }
        self.put(&collection, object.clone());
        (200, object)
    }

    fn watch(&self, mut stream: &TcpStream, path: &str, mut from: u64) -> Option<()> {
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            .ok()?;
        let mut state = self.state.0.lock().unwrap();
        loop {
            if state.closed {
                return None;
            }
            let news: Vec<String> = state
                .events
                .iter()
                .filter(|(collection, _, _, version)| collection == path && *version > from)
                .map(|(_, kind, object, _)| json!({"type": kind, "object": object}).to_string() + "\n")
                .collect();
            from = state.version;
            drop(state);
            for line in news {
                write!(stream, "{:x}\r\n{line}\r\n", line.len()).ok()?;
            }
            stream.flush().ok()?;
            state = self.state.0.lock().unwrap();
            if state.version == from && !state.closed {
                state = self.state.1.wait_timeout(state, Duration::from_secs(60)).unwrap().0;
            }
        }
    }
}

fn key(collection: &str, object: &Value) -> (String, String) {
    (collection.to_owned(), object["metadata"]["name"].as_str().unwrap().to_owned())
}

/// The collection of all namespaces and the name, of an object's path.
fn place(path: &str) -> (String, String) {
    let (collection, name) = path.rsplit_once('/').unwrap();
    let collection = match collection.split_once("/namespaces/") {
        Some((api, rest)) => format!("{api}/{}", rest.split_once('/').map_or("", |(_, plural)| plural)),
        None => collection.to_owned(),
    };
    (collection, name.to_owned())
}
