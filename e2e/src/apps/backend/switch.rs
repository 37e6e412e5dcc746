//! Connections that a backend gives away: WebSocket in either version of HTTP, and CONNECT. What comes is sent
//! back; a CONNECT for `localhost` is a tunnel to a port of its own.

use anyhow::Result;
use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderValue, Method, Request, StatusCode, Version, header, response};
use hyper::{body::Incoming, ext::Protocol, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Whether a request asks for the connection.
pub(super) fn is_asked_for(request: &Request<Incoming>) -> bool {
    request.method() == Method::CONNECT || request.uri().path() == "/ws"
}

/// Agrees, and goes on by itself once the answer is sent.
pub(super) fn agree(mut request: Request<Incoming>) -> response::Builder {
    let upgrade = hyper::upgrade::on(&mut request);
    let port = request
        .uri()
        .authority()
        .filter(|authority| authority.host() == "localhost")
        .and_then(|authority| authority.port_u16());
    let is_tunnel = request.method() == Method::CONNECT && request.extensions().get::<Protocol>().is_none();
    crate::apps::go_on(async move { drop(carry(upgrade, port.filter(|_| is_tunnel)).await) });
    let answer = response::Builder::new();
    if is_tunnel || request.version() == Version::HTTP_2 {
        return answer.status(StatusCode::OK);
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let answer = answer.status(StatusCode::SWITCHING_PROTOCOLS).header(header::SEC_WEBSOCKET_ACCEPT, accept(key));
    answer.header(header::CONNECTION, "upgrade").header(header::UPGRADE, "websocket")
}

async fn carry(upgrade: OnUpgrade, port: Option<u16>) -> Result<()> {
    let mut upgraded = TokioIo::new(upgrade.await?);
    if let Some(port) = port {
        let mut far = TcpStream::connect(("127.0.0.1", port)).await?;
        tokio::io::copy_bidirectional(&mut upgraded, &mut far).await?;
        return Ok(());
    }
    let (mut read, mut write) = tokio::io::split(upgraded);
    tokio::io::copy(&mut read, &mut write).await?;
    Ok(())
}

/// What RFC 6455 wants to be answered to a key.
pub(crate) fn accept(key: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(context.finish())
}
