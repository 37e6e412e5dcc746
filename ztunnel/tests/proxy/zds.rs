//! The pods that the agent tells of, over a real socket.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use chassis::run::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use ztunnel::limits::POD_LEAVES;
use ztunnel::net::seqpacket::SeqpacketListener;
use ztunnel::pods::client::Client;
use ztunnel::pods::protocol::Request;
use ztunnel::pods::session::AgentEnd;
use ztunnel::report::NodeMetrics;

use crate::mesh_of_pods::{CLIENT, MeshOfPods, NEAR, NEAR_VIP, is_turned_away, netns, pod, says_back, until};
use crate::{Case, tell};

pub(crate) const CASES: &[Case] = &[
    ("pods are served from their add to their delete, across agents", from_add_to_delete),
    ("what is open in a pod that leaves goes on for as long as the agent says", goes_on),
    ("a pod that the next snapshot does not name is stopped", pruned),
    ("a pod that cannot be served is answered with an error, and the process is not ready", failing),
    ("an agent that breaks the protocol ends the process", broken),
];

struct Agent {
    listener: SeqpacketListener,
    process: Process,
    _directory: tempfile::TempDir,
}

fn start(mesh: &MeshOfPods) -> Agent {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ztunnel.sock");
    let listener = SeqpacketListener::bind(Path::new(&path)).expect("listening");
    let process = Process::detached();
    let proxy = &mesh.nodes[0];
    let workers = proxy.workers.handles().to_vec();
    let client = Client::new(proxy.opener.clone(), workers, path, process.ready.clone(), NodeMetrics::default());
    process.vital("pods", client.run(process.clone()));
    Agent { listener, process, _directory: directory }
}

impl Agent {
    async fn session(&self) -> AgentEnd {
        AgentEnd::accept(self.listener.accept().await.expect("a proxy")).await.expect("greeted")
    }

    async fn until_ready(&self, ready: bool) {
        let what = || format!("pending: {:?}", self.process.ready.pending());
        until(&what, || self.process.ready.is_ready() == ready).await;
    }
}

async fn add(agent: &mut AgentEnd, mesh: &MeshOfPods, number: usize, name: &str) -> Result<(), String> {
    let netns = netns(mesh, number);
    agent.ask(&Request::Add(pod(name), netns.as_fd())).await.expect("answered")
}

async fn ask(agent: &mut AgentEnd, request: Request<std::os::fd::BorrowedFd<'_>>) {
    assert_eq!(agent.ask(&request).await.expect("answered"), Ok(()));
}

fn from_add_to_delete() {
    tell(async {
        let mesh = MeshOfPods::without_listeners("", |_| {});
        let app = mesh.listen(NEAR, 8080);
        let agent = start(&mesh);
        let mut session = agent.session().await;
        assert!(!agent.process.ready.is_ready());
        for (number, name) in [(CLIENT, "client"), (NEAR, "near"), (CLIENT, "client")] {
            assert_eq!(add(&mut session, &mesh, number, name).await, Ok(()));
        }
        ask(&mut session, Request::SnapshotSent).await;
        agent.until_ready(true).await;
        let stream = mesh.connect(CLIENT, NEAR_VIP).await.expect("connected");
        says_back(stream, &app).await;

        drop(session);
        agent.until_ready(false).await;
        let stream = mesh.connect(CLIENT, NEAR_VIP).await.expect("connected while no agent is there");
        says_back(stream, &app).await;
        let mut session = agent.session().await;
        ask(&mut session, Request::Keep("client".into())).await;
        ask(&mut session, Request::Keep("near".into())).await;
        ask(&mut session, Request::SnapshotSent).await;
        agent.until_ready(true).await;

        ask(&mut session, Request::Del("client".into(), None)).await;
        ask(&mut session, Request::Del("never".into(), None)).await;
        let node = &mesh.nodes[0].opener.node;
        until(&|| "it is still served".into(), || node.pods.all().len() == 1).await;
        assert!(is_turned_away(&mesh, CLIENT, NEAR_VIP).await, "without a proxy nothing goes around it");
    });
}

fn goes_on() {
    // The proxy's own time would be five seconds.
    for (patience, ends) in [(POD_LEAVES * 2, false), (POD_LEAVES / 5, true)] {
        tell(async {
            let mesh = MeshOfPods::without_listeners("", |_| {});
            let app = mesh.listen(NEAR, 8080);
            let agent = start(&mesh);
            let mut session = agent.session().await;
            for (number, name) in [(CLIENT, "client"), (NEAR, "near")] {
                assert_eq!(add(&mut session, &mesh, number, name).await, Ok(()));
            }
            ask(&mut session, Request::SnapshotSent).await;
            let mut kept = mesh.connect(CLIENT, NEAR_VIP).await.expect("connected");
            let (mut accepted, _) = app.accept().await.expect("accepted");
            ask(&mut session, Request::Del("client".into(), Some(patience))).await;
            let left = Instant::now();
            let mut word = [0; 5];
            let ended = loop {
                let heard = tokio::join!(kept.write_all(b"still"), accepted.read_exact(&mut word));
                if heard.0.is_err() || heard.1.is_err() || left.elapsed() > POD_LEAVES {
                    break left.elapsed() < POD_LEAVES;
                }
                assert_eq!(&word, b"still");
            };
            assert_eq!(ended, ends, "{patience:?}");
        });
    }
}

fn pruned() {
    tell(async {
        let mesh = MeshOfPods::without_listeners("", |_| {});
        let agent = start(&mesh);
        let mut session = agent.session().await;
        for (number, name) in [(CLIENT, "client"), (NEAR, "near")] {
            assert_eq!(add(&mut session, &mesh, number, name).await, Ok(()));
        }
        ask(&mut session, Request::SnapshotSent).await;
        drop(session);
        let mut session = agent.session().await;
        ask(&mut session, Request::Keep("near".into())).await;
        ask(&mut session, Request::SnapshotSent).await;
        let names: Vec<_> = mesh.nodes[0].opener.node.pods.all().iter().map(|pod| pod.pod.name.clone()).collect();
        assert_eq!(names, ["near".into()]);
    });
}

fn failing() {
    tell(async {
        let mesh = MeshOfPods::without_listeners("", |_| {});
        let taken = mesh.listen(CLIENT, 15001);
        let agent = start(&mesh);
        let mut session = agent.session().await;
        let error = add(&mut session, &mesh, CLIENT, "client").await.expect_err("the port is taken");
        assert!(error.starts_with("failure to start proxy: cannot listen on port 15001"), "{error}");
        ask(&mut session, Request::SnapshotSent).await;
        assert!(!agent.process.ready.is_ready());
        drop(taken);
        // Named again it is tried at once, and not only after five seconds.
        assert_eq!(add(&mut session, &mesh, CLIENT, "client").await, Ok(()));
        agent.until_ready(true).await;
    });
}

fn broken() {
    tell(async {
        let mesh = MeshOfPods::without_listeners("", |_| {});
        let agent = start(&mesh);
        let mut session = agent.session().await;
        ask(&mut session, Request::SnapshotSent).await;
        let _hung_up = session.ask(&Request::SnapshotSent).await.expect_err("no answer to a second one");
        let what = || "the process goes on".into();
        until(&what, || agent.process.has_failed()).await;
    });
}
