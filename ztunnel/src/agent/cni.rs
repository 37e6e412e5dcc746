//! New pods are announced before they start: `POST /cmdadd` on a UNIX socket, as the CNI plugin
//! does. The answer is 200 when the pod may start: its rules are in and the proxy has taken it,
//! or it does not belong into the mesh. Everything else is an error, and the pod does not start.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use chassis::task;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::facts::{Labels, PodName};
use super::limits::{
    CNI_ANSWER_DEADLINE, CNI_BODY_BYTES_MAX, CNI_CONNECTIONS_MAX, CNI_DOUBT_INTERVAL, CNI_REQUEST_DEADLINE,
};
use super::place::{self, Place};
use super::pod::Standing;
use super::report::Report;
use super::socket;
use super::source::Witness;

/// A pod that is about to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Which.
    pub pod: PodName,
    /// Its namespace.
    pub netns: PathBuf,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Which incarnation of the name, if that is said.
    pub uid: Option<String>,
}

/// What is known of an announced pod.
#[derive(Debug)]
pub enum Known {
    /// It does not belong into the mesh. If its namespace could change that, with its labels.
    Outside(Option<Labels>),
    /// It is being taken in, with this uid and namespace.
    Taken {
        /// Which incarnation.
        uid: String,
        /// Its namespace.
        netns: Place,
        /// How it stands.
        standing: watch::Receiver<Standing>,
    },
}

/// An announcement on its way to the reader of facts, which answers when it knows the pod.
#[derive(Debug)]
pub struct Announcement {
    /// What is announced.
    pub announced: Announced,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Known>,
}

/// The request as the plugin writes it. Field names are those of Go structures.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CmdAdd {
    netns: PathBuf,
    pod_name: String,
    pod_namespace: String,
    #[serde(rename = "IPs", default)]
    ips: Vec<IpConfig>,
    /// Not of Istio's plugin, but of ours.
    #[serde(rename = "PodUID", default)]
    pod_uid: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IpConfig {
    address: IpAddress,
}

#[derive(Debug, Deserialize)]
struct IpAddress {
    #[serde(rename = "IP")]
    ip: IpAddr,
}

/// Reads a request.
pub fn parse(body: &[u8]) -> Result<Announced, String> {
    let add: CmdAdd = serde_json::from_slice(body).map_err(|error| format!("not a request to add a pod: {error}"))?;
    if add.pod_name.is_empty() || add.pod_namespace.is_empty() || add.netns.as_os_str().is_empty() {
        return Err("a request to add a pod without its name, namespace or network namespace".to_owned());
    }
    let mut addresses: Vec<IpAddr> = add.ips.into_iter().map(|ip| ip.address.ip).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let uid = (!add.pod_uid.is_empty()).then_some(add.pod_uid);
    Ok(Announced {
        pod: PodName { namespace: add.pod_namespace, name: add.pod_name },
        netns: add.netns,
        addresses,
        uid,
    })
}

/// What answering takes.
#[derive(Debug, Clone)]
pub struct Desk {
    /// Where announcements go.
    pub announcements: mpsc::Sender<Announcement>,
    /// Who is asked again before a pod starts outside of the mesh.
    pub witness: Witness,
    /// Where the host's directories are mounted, if paths are the host's.
    pub mounts: Option<PathBuf>,
    /// What is counted.
    pub report: Report,
}

/// Answers announcements at a path until dropped.
pub async fn serve(path: &Path, desk: Desk) -> io::Result<()> {
    let listener = socket::listen(path, |path| UnixListener::bind(path))?;
    let places = Arc::new(Semaphore::new(CNI_CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an announcement of a pod");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            }
        };
        let desk = desk.clone();
        let conversation = async move {
            let _place = place;
            if let Err(reason) = converse(stream, desk).await {
                tracing::debug!(reason, "an announcement of a pod broke off");
            }
        };
        task::spawn("cni connection", conversation).detach();
    }
}

async fn converse(stream: UnixStream, desk: Desk) -> Result<(), String> {
    let peer = stream.peer_cred().map_err(|error| error.to_string())?.uid();
    if peer != 0 && peer != nix::unistd::geteuid().as_raw() {
        return Err(format!("it comes from user {peer}"));
    }
    let service = service_fn(|request| async {
        let (status, text) = respond(request, &desk).await;
        desk.report.announced(status.as_u16());
        if status != StatusCode::OK {
            tracing::warn!(%status, reason = text, "a pod may not start yet");
        }
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(CNI_REQUEST_DEADLINE)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let deadline = CNI_REQUEST_DEADLINE * 2 + CNI_ANSWER_DEADLINE;
    match timeout(deadline, connection).await {
        Ok(ended) => ended.map_err(|error| error.to_string()),
        Err(_) => Err("it took too long".to_owned()),
    }
}

async fn respond(request: Request<Incoming>, desk: &Desk) -> (StatusCode, String) {
    if request.uri().path() != "/cmdadd" {
        return (StatusCode::NOT_FOUND, "there is only /cmdadd\n".to_owned());
    }
    if request.method() != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "there is only POST\n".to_owned());
    }
    let body = Limited::new(request.into_body(), CNI_BODY_BYTES_MAX).collect();
    let mut announced = match timeout(CNI_REQUEST_DEADLINE, body).await {
        Ok(Ok(body)) => match parse(&body.to_bytes()) {
            Ok(announced) => announced,
            Err(reason) => return (StatusCode::BAD_REQUEST, format!("{reason}\n")),
        },
        Ok(Err(error)) => return (StatusCode::BAD_REQUEST, format!("cannot read the request: {error}\n")),
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the request did not come in time\n".to_owned()),
    };
    let pod = announced.pod.clone();
    if let Some(mounts) = &desk.mounts {
        match place::seen_from(mounts, &announced.netns) {
            Ok(path) => announced.netns = path,
            Err(error) => return (StatusCode::BAD_REQUEST, format!("pod {pod}: {error}\n")),
        }
    }
    let (mut known, mut last) = (None, "the pod is not known here yet".to_owned());
    let outcome = timeout(CNI_ANSWER_DEADLINE, settle(&announced, desk, &mut known, &mut last)).await;
    match outcome {
        Ok(Ok(())) => (StatusCode::OK, String::new()),
        Ok(Err(reason)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("pod {pod}: {reason}\n")),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, format!("pod {pod}: {last}\n")),
    }
}

/// Waits until the pod is in, or known to be outside. `last` is what it waits for.
async fn settle(
    announced: &Announced,
    desk: &Desk,
    known: &mut Option<Known>,
    last: &mut String,
) -> Result<(), String> {
    const ENDING: &str = "the node agent is ending";
    let (uid, netns, standing) = loop {
        let (answer, answered) = oneshot::channel();
        let announcement = Announcement { announced: announced.clone(), answer };
        desk.announcements.send(announcement).await.map_err(|_| ENDING)?;
        match known.insert(answered.await.map_err(|_| ENDING)?) {
            Known::Taken { uid, netns, standing } => break (uid, netns, standing),
            Known::Outside(None) => return Ok(()),
            Known::Outside(Some(labels)) => {
                if desk.witness.confirms(&announced.pod.namespace, labels).await? {
                    return Ok(());
                }
                "its namespace came into the mesh just now".clone_into(last);
                sleep(CNI_DOUBT_INTERVAL).await;
            }
        }
    };
    loop {
        match &*standing.borrow_and_update() {
            Standing::In(member) if member.uid == *uid && member.netns == *netns => return Ok(()),
            // Its labels changed meanwhile, or an older incarnation of it is still on its way out.
            Standing::In(_) | Standing::Out | Standing::Leaving | Standing::Working => {
                "it is being taken into the mesh".clone_into(last)
            }
            Standing::Waiting(reason) => last.clone_from(reason),
        }
        standing.changed().await.map_err(|_| "the pod is gone".to_owned())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugins_request_is_understood() {
        let body = br#"{"Netns":"/var/run/netns/x","PodName":"web","PodNamespace":"shop","IPs":[
            {"Interface":null,"Address":{"IP":"10.0.0.7","Mask":"/////w=="},"Gateway":"10.0.0.1"},
            {"Interface":2,"Address":{"IP":"fd00::7","Mask":"/////////////////////w=="},"Gateway":"fd00::1"}]}"#;
        let announced = parse(body).unwrap();
        assert_eq!(announced.pod.to_string(), "shop/web");
        assert_eq!(announced.uid, None);
        assert_eq!(announced.netns.to_str(), Some("/var/run/netns/x"));
        assert_eq!(announced.addresses, ["10.0.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for body in [
            "",
            "null",
            "{}",
            r#"{"Netns":"","PodName":"web","PodNamespace":"shop","IPs":[]}"#,
            r#"{"Netns":"/n","PodName":"web","PodNamespace":"shop","IPs":[{"Address":{"IP":"ten"}}]}"#,
        ] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
