//! Callers who do not read what they asked for, and others beside them.

use std::time::Duration;

use bytes::Bytes;
use hbone::limits::Limits;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::endpoint;
use crate::world::{World, request};

/// Callers that stop to read.
const STALLED: usize = 64;
/// A body as long as all that the connection to the endpoint's node grants to begin with.
const BODY: Bytes = Bytes::from_static(&[0; 16 << 20]);

#[tokio::test]
async fn stalled_readers_do_not_stop_another_caller() {
    let mesh = "pod server ns=shop sa=server ip=127.77.1.20\n\
                service web ns=shop vip=10.1.0.1 80->8080 pods=server waypoint=wp\n";
    let world = World::new(mesh).await;
    endpoint::tunnelled("127.77.1.20", world.ca.certificate("shop", "server"), BODY).await;
    // Little is granted by those who stall, so that nearly all of it waits in the waypoint.
    let little = Limits { stream_window_bytes: 65_535, connection_window_bytes: 65_535, ..Limits::default() };
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        let mut tunnel = world.tunnel_within(0, "10.1.0.1:80", &little).await.unwrap();
        tunnel.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
        let mut begun = [0; 12];
        timeout(Duration::from_secs(20), tunnel.read_exact(&mut begun)).await.expect("an answer begins").unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200");
        stalled.push(tunnel);
    }
    let mut sender = world.http1().await;
    for _ in 0..2 {
        let answer = timeout(Duration::from_secs(20), async {
            let response = sender.send_request(request("GET", "/", "")).await.unwrap();
            assert_eq!(response.status(), 200);
            response.into_body().collect().await.unwrap().to_bytes()
        });
        assert_eq!(answer.await.expect("the stalled readers stop another caller").len(), BODY.len());
    }
    drop(stalled);
}
