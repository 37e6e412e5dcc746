//! Plays a Kubernetes API server at the wire: lists in pages, watches, writes with conflicts, discovery
//! and definitions of kinds, and whatever trouble a test asks for.
//!
//! It knows no schema: an object is what was sent. What it keeps of the rules of Kubernetes is what a
//! client can trip over: versions that only grow, watches from a version, and versions that are too old.

mod answer;
mod roles;
mod state;

use answer::serve;
use roles::Granted;
use serde_json::{Value, json};
use state::{DEFINITIONS, Shared};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, task::JoinHandle};

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

    /// From now on the caller may do what roles grant and nothing else: the rules of one, and the namespace
    /// that it is in; none for a ClusterRole that is bound to the whole cluster. Watches that are open go on.
    pub fn grant(&self, namespace: Option<&str>, rules: &[Value]) {
        let granted = Granted { namespace: namespace.map(str::to_owned), rules: rules.to_vec() };
        self.shared.lock().granted.get_or_insert_default().push(granted);
    }

    /// Takes every role away again. Watches that are open go on.
    pub fn grant_nothing(&self) {
        self.shared.lock().granted = Some(Vec::new());
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

/// Waits until `holds`, and panics with `what` if that takes too long.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
