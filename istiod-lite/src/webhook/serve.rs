//! HTTPS on 15017, for the API server. Every wait and every body has a bound.

use super::review;
use crate::limits;
use chassis::{
    admin::{Response, json, text},
    drain::Signal,
    task,
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// Serves until the drain is over: an API server that relies on us asks to the end.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, mut drain: Signal) {
    let mut tls = (*tls).clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let places = Arc::new(Semaphore::new(limits::WEBHOOK_CONNECTIONS_MAX));
    loop {
        // Cancelling either arm loses nothing: accept leaves the connection in the queue.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.over() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of the webhook");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (acceptor, mut drain) = (acceptor.clone(), drain.clone());
        task::spawn("webhook connection", async move {
            tokio::select! {
                () = converse(stream, acceptor) => {}
                () = drain.over() => {}
            }
            drop(place);
        })
        .detach();
    }
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn converse(stream: TcpStream, acceptor: TlsAcceptor) {
    let stream = match timeout(limits::HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "the handshake of a webhook connection failed"),
        Err(_) => return tracing::debug!("the handshake of a webhook connection took too long"),
    };
    let service = service_fn(|request| async move { Ok::<_, Infallible>(answer(request).await.map(Full::new)) });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::WEBHOOK_IDLE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "webhook connection ended");
    }
}

async fn answer(request: Request<Incoming>) -> Response {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/ready") => text(StatusCode::OK, "ready\n"),
        (&Method::POST, "/validate") => validate(request).await,
        (_, "/ready" | "/validate") => text(StatusCode::METHOD_NOT_ALLOWED, "GET /ready or POST /validate\n"),
        _ => text(StatusCode::NOT_FOUND, "GET /ready or POST /validate\n"),
    }
}

async fn validate(request: Request<Incoming>) -> Response {
    let kind =
        request.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body should be application/json\n");
    }
    let body = Limited::new(request.into_body(), limits::WEBHOOK_BODY_BYTES_MAX).collect();
    match timeout(limits::WEBHOOK_BODY_TIMEOUT, body).await {
        Ok(Ok(body)) => match review::answer(&body.to_bytes()) {
            Ok(answer) => json(StatusCode::OK, &answer),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        },
        Ok(Err(_)) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or broke off\n"),
        Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
    }
}

#[cfg(test)]
mod tests;
