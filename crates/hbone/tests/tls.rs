//! The whole of it over TCP and mutual TLS, with the certificates of a mesh.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "tests")]

mod support;

use hbone::{
    accept::{self, Drain},
    head::Baggage,
    pool::{Dial, OpenError, Pool, PoolKey},
    relay::Tcp,
};
use mesh::Identity;
use pki::{
    certificate::WorkloadCertificate,
    tls::{self, HandshakeError},
    verify::Peer,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use support::*;
use testkit::certs::FakeCa;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A pod's tunnel listener; connects every tunnel to `app` and answers with baggage.
async fn inbound(certificate: Arc<WorkloadCertificate>, app: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let config = tls::server_config(&certificate);
            tokio::spawn(async move {
                let Ok((stream, peer)) = tls::accept(stream, config).await else { return };
                let drain = Drain { start: CancellationToken::new(), deadline: Duration::ZERO };
                let mut connection = accept::serve(stream, &limits(), drain).await.unwrap();
                while let Some(request) = connection.next().await {
                    let source = peer.identity().service_account().clone();
                    tokio::spawn(async move {
                        let upstream = TcpStream::connect(app).await.unwrap();
                        let baggage = Baggage { service: Some(source), ..Baggage::default() };
                        let tunnel = request.accept(Some(&(&baggage).into())).unwrap();
                        relaying(tunnel, Tcp::from(upstream)).end.await.unwrap();
                    });
                }
            });
        }
    });
    address
}

struct Outbound {
    certificate: Arc<WorkloadCertificate>,
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("no connection")]
    Tcp(#[from] std::io::Error),
    #[error("no proof")]
    Tls(#[from] HandshakeError),
}

impl Dial for Outbound {
    type Io = tls::ClientStream<TcpStream>;
    type Peer = Arc<Peer>;
    type Error = DialError;

    async fn dial(&self, key: &PoolKey) -> Result<(Self::Io, Self::Peer), DialError> {
        let stream = TcpStream::connect(key.destination).await?;
        stream.set_nodelay(true)?;
        let (stream, peer) = tls::connect(stream, tls::client_config(&self.certificate, &key.expected)).await?;
        Ok((stream, Arc::new(peer)))
    }
}

fn key(source: &WorkloadCertificate, expected: &Identity, destination: SocketAddr) -> PoolKey {
    PoolKey {
        source: source.identity().clone(),
        expected: Arc::new([expected.clone()]),
        destination,
        source_ip: "127.0.0.1".parse().unwrap(),
    }
}

#[tokio::test]
async fn an_application_reaches_another_through_mutual_tls() {
    const TOTAL: usize = 32 << 20;
    let ca = FakeCa::new();
    let (ours, theirs) = (ca.certificate("shop", "client"), ca.certificate("shop", "web"));
    let app = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let destination = inbound(theirs.clone(), app.local_addr().unwrap()).await;
    let pool = Pool::new(Outbound { certificate: ours.clone() }, limits());

    let key = key(&ours, theirs.identity(), destination);
    let opened = soon(pool.open(&key, &head())).await.unwrap();
    assert_eq!(opened.peer.identity(), theirs.identity());
    assert_eq!(opened.baggage.read().service.as_deref(), Some("client"), "the other end knows who asks");

    let (mut client, captured) = tcp().await;
    let _outbound = relaying(Tcp::from(captured), opened.tunnel);
    let (mut server, _) = soon(app.accept()).await.unwrap();
    let question =
        async { tokio::join!(send_pattern(&mut client, TOTAL, 1 << 20), expect_pattern(&mut server, TOTAL)) };
    tokio::time::timeout(PATIENCE * 3, question).await.unwrap();
    let answer = async { tokio::join!(send_pattern(&mut server, TOTAL, 10_000), expect_pattern(&mut client, TOTAL)) };
    tokio::time::timeout(PATIENCE * 3, answer).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_is_somebody_else_gets_no_tunnel() {
    let ca = FakeCa::new();
    let (ours, theirs) = (ca.certificate("shop", "client"), ca.certificate("shop", "web"));
    let destination = inbound(theirs, "127.0.0.1:9".parse().unwrap()).await;
    let pool = Pool::new(Outbound { certificate: ours.clone() }, limits());
    let wrong = key(&ours, &Identity::new("cluster.local", "shop", "bank").unwrap(), destination);
    let refused = soon(pool.open(&wrong, &head())).await;
    assert!(matches!(refused.as_ref().map(|_| ()), Err(OpenError::Dial(_))), "{refused:?}");
}

#[tokio::test]
async fn a_peer_of_another_mesh_gets_no_tunnel() {
    let theirs = FakeCa::new().certificate("shop", "web");
    let stranger = FakeCa::new();
    let ours = stranger.certificate("shop", "client");
    let destination = inbound(theirs.clone(), "127.0.0.1:9".parse().unwrap()).await;
    let pool = Pool::new(Outbound { certificate: ours.clone() }, limits());
    let refused = soon(pool.open(&key(&ours, theirs.identity(), destination), &head())).await;
    // Our own check of the peer fails first, as neither knows the other's root.
    assert!(matches!(refused.as_ref().map(|_| ()), Err(OpenError::Dial(_))), "{refused:?}");
    assert_eq!(pool.connections(), 0);
}
