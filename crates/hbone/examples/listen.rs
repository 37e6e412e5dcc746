//! A listener for tunnels without TLS, for whoever wants to see how it takes HTTP/2:
//!
//! ```text
//! cargo run -p hbone --example listen -- 127.0.0.1:15008
//! h2spec -h 127.0.0.1 -p 15008
//! ```
//!
//! What it is sent through a tunnel it sends back; what asks for none is told so (400). With `h2` as a
//! second argument the library speaks instead of our own engine.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "an example")]

use hbone::{
    accept::{self, Drain},
    limits::{Engine, Limits},
};
use http::StatusCode;
use std::time::Duration;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

async fn serve(stream: TcpStream, limits: Limits) {
    let drain = Drain { start: CancellationToken::new(), deadline: Duration::ZERO };
    let Ok(mut connection) = accept::serve(stream, &limits, drain).await else { return };
    while let Some(request) = connection.next().await {
        if request.head().is_err() {
            request.refuse(StatusCode::BAD_REQUEST);
            continue;
        }
        let Ok(tunnel) = request.accept(None) else { continue };
        tokio::spawn(async move {
            let (mut read, mut write) = tokio::io::split(tunnel);
            if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                let _ = write.shutdown().await;
            }
        });
    }
    println!("{:?}", connection.end());
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().expect("usage: listen <address>:<port> [h2]");
    let engine = if arguments.next().as_deref() == Some("h2") { Engine::H2 } else { Engine::Own };
    let limits = Limits { engine, ..Limits::default() };
    let listener = TcpListener::bind(&address).await.unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        tokio::spawn(serve(stream, limits.clone()));
    }
}
