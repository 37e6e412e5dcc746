use super::*;
use crate::net::seqpacket::SeqpacketListener;
use crate::pods::protocol::Pod;
use std::{fs::File, os::fd::AsFd};

fn pod() -> Pod {
    Pod { uid: "u-1".into(), name: "web-1".into(), namespace: "shop".into(), service_account: "web".into() }
}

#[tokio::test]
async fn an_added_pod_comes_with_its_namespace_and_is_answered() {
    let (ours, theirs) = Seqpacket::pair().expect("a pair");
    let proxy = async {
        let mut end = ProxyEnd::greet(ours).await.expect("greeted");
        let Request::Add(got, netns) = end.next().await.expect("a request") else { panic!("not an add") };
        assert_eq!(got, pod());
        assert!(crate::net::netns::Netns::from_fd(netns).is_ok(), "it is not a network namespace");
        end.answer(Err("no room")).await.expect("answered");
        assert!(matches!(end.next().await.expect("a request"), Request::SnapshotSent));
        end.answer(Ok(())).await.expect("answered");
    };
    let agent = async {
        let netns = File::open("/proc/self/ns/net").expect("our own namespace");
        let mut end = AgentEnd::accept(theirs).await.expect("the greeting");
        assert_eq!(end.ask(&Request::Add(pod(), netns.as_fd())).await.expect("an answer"), Err("no room".into()));
        assert_eq!(end.ask(&Request::SnapshotSent).await.expect("an answer"), Ok(()));
        assert!(matches!(end.ended().await, SessionError::Closed));
    };
    tokio::join!(proxy, agent);
}

#[tokio::test]
async fn sessions_go_through_a_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ztunnel.sock");
    let listener = SeqpacketListener::bind(&path).expect("bound");
    let (agent, proxy) = tokio::join!(
        async { AgentEnd::accept(listener.accept().await.expect("accepted")).await },
        ProxyEnd::connect(&path)
    );
    agent.expect("greeted");
    proxy.expect("connected");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_greet_is_given_up() {
    let (_ours, theirs) = Seqpacket::pair().expect("a pair");
    assert!(matches!(AgentEnd::accept(theirs).await, Err(SessionError::Silent)));
}

#[tokio::test]
async fn a_message_longer_than_the_buffer_is_an_error() {
    let (ours, theirs) = Seqpacket::pair().expect("a pair");
    theirs.send(&[0; MESSAGE_BYTES_MAX + 1], None).await.expect("sent");
    let mut end = ProxyEnd::greet(ours).await.expect("greeted");
    assert!(matches!(end.next().await, Err(SessionError::Socket(_))));
}
