use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::Duration;

use super::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A proxy that takes every pod, and remembers which it has.
#[derive(Debug, Default)]
struct Proxy {
    pods: BTreeSet<String>,
    named: BTreeSet<String>,
    snapshot_done: bool,
    heard: Vec<String>,
}

type Seen = Arc<Mutex<Proxy>>;

/// Connects a proxy to `proxies`. It ends when the returned task is dropped.
fn connect(proxies: &Proxies, refuse: Option<&'static str>) -> (Seen, task::Task<()>) {
    let (ours, theirs) = Seqpacket::pair().unwrap();
    proxies.admit(ours);
    let seen = Seen::default();
    let task = task::spawn("fake proxy", proxy(theirs, seen.clone(), refuse));
    (seen, task)
}

async fn proxy(connection: Seqpacket, seen: Seen, refuse: Option<&'static str>) {
    connection.send(&protocol::encode_hello(), None).await.unwrap();
    while let Ok(Some(message)) = connection.receive(MESSAGE_BYTES_MAX).await {
        let request = protocol::decode_request(&message.bytes, message.descriptors).unwrap();
        let result = refuse.filter(|_| matches!(request, Request::Add(..))).map_or(Ok(()), Err);
        seen.lock().unwrap().hear(request);
        if connection.send(&protocol::encode_ack(result), None).await.is_err() {
            return;
        }
    }
}

impl Proxy {
    fn hear(&mut self, request: Request) {
        self.heard.push(match &request {
            Request::Add(pod, _) => format!("add {}", pod.uid),
            Request::Keep(uid) => format!("keep {uid}"),
            Request::Del(uid, _) => format!("del {uid}"),
            Request::SnapshotSent => "snapshot".to_owned(),
        });
        match request {
            Request::Add(pod, netns) => {
                assert!(Netns::from_fd(netns).is_ok(), "an add carries a network namespace");
                self.pods.insert(pod.uid.to_string());
                self.named.insert(pod.uid.to_string());
            }
            Request::Keep(uid) => drop(self.named.insert(uid.to_string())),
            Request::Del(uid, _) => {
                self.pods.remove(&*uid);
                self.named.remove(&*uid);
            }
            Request::SnapshotSent => {
                assert!(!self.snapshot_done, "one snapshot a connection");
                self.snapshot_done = true;
                let named = self.named.clone();
                self.pods.retain(|uid| named.contains(uid));
            }
        }
    }
}

fn pod(uid: &str) -> Pod {
    Pod { uid: uid.into(), name: uid.into(), namespace: "shop".into(), service_account: "default".into() }
}

fn netns() -> Arc<Netns> {
    Arc::new(Netns::current().unwrap())
}

/// Waits until `seen` is so; it has to be within two seconds.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while !so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn heard(seen: &Seen) -> Vec<String> {
    seen.lock().unwrap().heard.clone()
}

#[tokio::test]
async fn without_a_proxy_a_pod_is_not_taken_but_the_next_proxy_hears_of_it() {
    let proxies = Proxies::default();
    assert_eq!(proxies.propose(pod("a"), netns()).await, Err(ProposeError::NotConnected));
    proxies.keep("b");
    let (seen, _proxy) = connect(&proxies, None);
    until("snapshot", || heard(&seen) == ["add a", "keep b", "snapshot"]).await;
    assert_eq!(proxies.propose(pod("a"), netns()).await, Ok(()), "and it may be proposed again");
}

#[tokio::test]
async fn a_pod_is_added_at_the_newest_proxy_and_deleted_at_all() {
    let proxies = Proxies::default();
    let (old, _old) = connect(&proxies, None);
    until("old", || heard(&old) == ["snapshot"]).await;
    let (new, new_task) = connect(&proxies, None);
    until("new", || heard(&new) == ["snapshot"]).await;
    proxies.propose(pod("a"), netns()).await.unwrap();
    proxies.withdraw("a", None).await.unwrap();
    assert_eq!(heard(&old), ["snapshot", "del a"]);
    assert_eq!(heard(&new), ["snapshot", "add a", "del a"]);
    drop(new_task);
    until("one left", || proxies.connected().borrow().1 == 1).await;
    proxies.propose(pod("b"), netns()).await.unwrap();
    assert_eq!(heard(&old), ["snapshot", "del a", "add b"]);
}

#[tokio::test]
async fn what_a_proxy_says_against_a_pod_is_passed_on() {
    let proxies = Proxies::default();
    let (_seen, _proxy) = connect(&proxies, Some("no sockets left"));
    until("connected", || proxies.connected().borrow().1 == 1).await;
    let refused = ProposeError::Refused("no sockets left".to_owned());
    assert_eq!(proxies.propose(pod("a"), netns()).await, Err(refused));
    assert_eq!(proxies.withdraw("a", None).await, Ok(()), "the connection goes on");
    let long = Pod { name: "n".repeat(2000).as_str().into(), ..pod("a") };
    assert!(matches!(proxies.propose(long, netns()).await, Err(ProposeError::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_answer_is_dropped_and_who_waits_is_told() {
    let proxies = Proxies::default();
    let (ours, theirs) = Seqpacket::pair().unwrap();
    proxies.admit(ours);
    theirs.send(&protocol::encode_hello(), None).await.unwrap();
    while proxies.connected().borrow().1 == 0 {
        tokio::task::yield_now().await;
    }
    let before = Instant::now();
    assert_eq!(proxies.propose(pod("a"), netns()).await, Err(ProposeError::Lost));
    assert!(before.elapsed() <= ZDS_DEADLINE * 2, "{:?}", before.elapsed());
    assert_eq!(proxies.connected().borrow().1, 0);
}

#[tokio::test]
async fn a_proxy_that_breaks_the_protocol_is_dropped() {
    for first in [b"nonsense".to_vec(), protocol::encode_ack(Ok(()))] {
        let proxies = Proxies::default();
        let (ours, theirs) = Seqpacket::pair().unwrap();
        proxies.admit(ours);
        theirs.send(&first, None).await.unwrap();
        assert!(theirs.receive(MESSAGE_BYTES_MAX).await.unwrap().is_none(), "{first:?}");
    }
    let proxies = Proxies::default();
    let (ours, theirs) = Seqpacket::pair().unwrap();
    proxies.admit(ours);
    theirs.send(&protocol::encode_hello(), None).await.unwrap();
    theirs.receive(MESSAGE_BYTES_MAX).await.unwrap();
    theirs.send(&protocol::encode_ack(Ok(())), None).await.unwrap();
    until("connected", || proxies.connected().borrow().1 == 1).await;
    theirs.send(b"more", None).await.unwrap();
    until("dropped", || proxies.connected().borrow().1 == 0).await;
}

#[tokio::test]
async fn there_is_room_for_a_few_proxies_only() {
    let proxies = Proxies::default();
    let mut tasks = Vec::new();
    for _ in 0..ZDS_CONNECTIONS_MAX {
        tasks.push(connect(&proxies, None));
    }
    until("all", || proxies.connected().borrow().1 == ZDS_CONNECTIONS_MAX).await;
    let (ours, theirs) = Seqpacket::pair().unwrap();
    proxies.admit(ours);
    assert!(theirs.receive(MESSAGE_BYTES_MAX).await.unwrap().is_none());
}

/// Pods come and go, proxies come, go and come again, in any order: in the end the newest proxy
/// has exactly the pods that there are, and nothing hangs.
#[tokio::test]
async fn the_newest_proxy_has_the_pods_there_are_whatever_happened_before() {
    for seed in 0..40 {
        let mut dice = StdRng::seed_from_u64(seed);
        let proxies = Proxies::default();
        let shared = netns();
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        let mut connected: Vec<(Seen, task::Task<()>)> = Vec::new();
        for _ in 0..50 {
            let uid = format!("pod-{}", dice.random_range(0..6));
            match dice.random_range(0..10) {
                0..4 => {
                    wanted.insert(uid.clone());
                    let (proxies, netns) = (proxies.clone(), shared.clone());
                    let propose = async move { proxies.propose(pod(&uid), netns).await };
                    if dice.random() {
                        let _ = propose.await;
                    } else {
                        // Registered on the first poll, answered some time.
                        task::spawn("propose", propose).detach();
                        tokio::task::yield_now().await;
                    }
                }
                4..7 => {
                    wanted.remove(&uid);
                    proxies.withdraw(&uid, None).await.unwrap();
                }
                7 if !connected.is_empty() => drop(connected.remove(dice.random_range(0..connected.len()))),
                _ if connected.len() < 3 => connected.push(connect(&proxies, None)),
                _ => {}
            }
        }
        drop(connected);
        until("all gone", || proxies.connected().borrow().1 == 0).await;
        let (seen, _proxy) = connect(&proxies, None);
        until("snapshot", || seen.lock().unwrap().snapshot_done).await;
        assert_eq!(seen.lock().unwrap().pods, wanted, "seed {seed}");
    }
}

#[tokio::test]
async fn the_socket_takes_the_place_of_an_older_one_and_is_ours_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/ztunnel.sock");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, "left over").unwrap();
    let proxies = Proxies::default();
    let serving = proxies.clone();
    let at = path.clone();
    let _server = task::spawn("serve", async move { serving.serve(&at).await });
    let is_ours_alone = || {
        std::fs::metadata(&path)
            .is_ok_and(|found| found.file_type().is_socket() && found.permissions().mode() & 0o777 == 0o600)
    };
    until("listening", is_ours_alone).await;
    let connection = Seqpacket::connect(&path).unwrap();
    let proxy = task::spawn("fake proxy", proxy(connection, Seen::default(), None));
    until("connected", || proxies.connected().borrow().1 == 1).await;
    drop(proxy);
}
