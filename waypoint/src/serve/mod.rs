//! One tunnel: told apart by what is spoken on it, and served so.
//!
//! [`sniff`] (what is spoken, by the first bytes) · [`rewound`] (those bytes, read again) · [`http`]
//! (HTTP/1 and 2 on a tunnel) · [`lent`] (a tunnel that comes back) · [`form`] (what a request must look like before
//! anybody judges it) · [`switch`] (WebSocket and CONNECT).

pub mod form;
pub mod http;
pub mod lent;
pub mod rewound;
pub mod sniff;
pub mod switch;

use std::sync::Arc;

use hbone::accept::Request;
use hbone::head::BaggageText;
use mesh::service::AppProtocol;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::context::{Call, Core};
use crate::{limits, tcp};
use sniff::Spoken;

/// What HTTP is served on: a tunnel, but for whoever measures what is behind it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// Answers a CONNECT and serves what comes through it.
pub async fn tunnel(request: Request, call: Arc<Call>, core: Arc<Core>) {
    // Where nothing is read before it is sent on, the endpoint is reached before the caller is told
    // that it is: a caller must be able to see that nobody is there.
    if call.target.protocol() == AppProtocol::Tcp {
        return tcp::before_answer(request, call, core).await;
    }
    let baggage = own_baggage(&core);
    let Ok(tunnel) = request.accept(baggage.as_ref()) else {
        return tracing::debug!(from = %call.from, "the caller gave up before it was answered");
    };
    let (spoken, tunnel) = match rewound::look(tunnel).await {
        Ok(looked) => looked,
        Err(error) => return tracing::debug!(from = %call.from, %error, "the caller broke off"),
    };
    match (call.target.protocol(), spoken) {
        (AppProtocol::Tls, Spoken::Tls(name)) | (AppProtocol::Unknown, Spoken::Tls(name)) => {
            tcp::after_answer(tunnel, name, call, core).await;
        }
        (AppProtocol::Tls | AppProtocol::Tcp, _) | (AppProtocol::Unknown, Spoken::Other) => {
            tcp::after_answer(tunnel, None, call, core).await;
        }
        (_, Spoken::Http2) => http::two(tunnel, call, core).await,
        // What is no HTTP on a port of HTTP/2 is a bad preface (RFC 9113 §3.4).
        (AppProtocol::Http2 | AppProtocol::Grpc, Spoken::Other) => close(tunnel).await,
        // On one of HTTP/1 it gets the 400 of an HTTP server.
        (_, Spoken::Http1 | Spoken::Other | Spoken::Tls(_)) => http::one(tunnel, call, core).await,
    }
}

/// Ends a connection in order: a caller that is only reset cannot tell us from a network that fails.
pub async fn close(mut tunnel: impl Stream) {
    if tunnel.shutdown().await.is_ok() {
        let mut rest = tunnel.take(limits::SNIFF_BYTES_MAX as u64);
        let _end = tokio::time::timeout(limits::GOODBYE, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
    }
}

/// What callers are told of us.
pub fn own_baggage(core: &Core) -> Option<BaggageText> {
    let view = core.waypoint.view.now();
    core.waypoint.own_workload(&view).map(|workload| BaggageText::from(&**workload))
}
