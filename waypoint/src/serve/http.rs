//! HTTP/1 and HTTP/2 on a tunnel.
//!
//! hyper reads and writes the messages; what it lets through and we do not is in [`super::form`]. A
//! connection ends in order when the process drains, or, while there are other replicas that should get
//! their share, when it is old or has asked for enough.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Stream;
use super::lent;
use crate::context::{self, Call, Core};
use crate::limits::{
    CONNECTION_AGE_MAX, CONNECTION_GOODBYE, HEAD_BYTES_MAX, HEAD_DEADLINE, HTTP2_PING, LAST_REQUEST,
    REQUEST_CONNECTION_WINDOW_BYTES, REQUEST_STREAMS_MAX, REQUEST_WINDOW_BYTES, SEND_BUFFER_BYTES, SHARE_AGE,
    SHARE_REQUESTS,
};
use crate::pipeline;

/// HTTP/1.
///
/// It has one way to say that a connection ends: in an answer. A connection that closes without
/// meets the request that its caller is just sending, and the caller takes that for a failure. So
/// a goodbye waits for the next answer, for a while.
pub async fn one(tunnel: impl Stream, call: Arc<Call>, core: Arc<Core>) {
    let leaving = Arc::new(AtomicBool::new(false));
    let share = Arc::new(Share::default());
    let goodbye = goodbye(core.clone(), share.clone());
    let patience = LAST_REQUEST.min(core.waypoint.settings.grace / 2);
    let from = call.from;
    let told = leaving.clone();
    let service = service_fn(move |request| {
        share.count();
        let (call, core, told) = (call.clone(), core.clone(), told.clone());
        let connect = request.method() == Method::CONNECT;
        Box::pin(async move {
            let mut response = pipeline::serve_request(request, &call, &core).await;
            if told.load(Ordering::Relaxed) && !(connect && response.status().is_success()) {
                say_goodbye(response.status(), response.headers_mut());
            }
            Ok::<_, Infallible>(response)
        })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(tunnel), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let waited = async {
        goodbye.await;
        leaving.store(true, Ordering::Relaxed);
        sleep(patience).await;
    };
    // Waiting loses nothing: the connection goes on below.
    let end = tokio::select! {
        end = connection.as_mut() => Some(end),
        () = waited => None,
    };
    let end = match end {
        Some(end) => end,
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(CONNECTION_GOODBYE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = end {
        tracing::debug!(%from, %error, "a caller's HTTP/1 connection broke");
    }
}

/// Has an answer say that the connection ends after it. One that gives the connection away does not.
fn say_goodbye(status: StatusCode, headers: &mut HeaderMap) {
    if status != StatusCode::SWITCHING_PROTOCOLS {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// HTTP/2.
pub async fn two(tunnel: impl Stream, call: Arc<Call>, core: Arc<Core>) {
    let (tunnel, returned) = lent::lend(tunnel);
    let share = Arc::new(Share::default());
    let goodbye = goodbye(core.clone(), share.clone());
    let from = call.from;
    let service = service_fn(move |request| {
        share.count();
        let (call, core) = (call.clone(), core.clone());
        Box::pin(async move { Ok::<_, Infallible>(pipeline::serve_request(request, &call, &core).await) })
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(REQUEST_STREAMS_MAX)
        .initial_stream_window_size(REQUEST_WINDOW_BYTES)
        .initial_connection_window_size(REQUEST_CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(HTTP2_PING.0)
        .keep_alive_timeout(HTTP2_PING.1)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(tunnel), service);
    let mut connection = Box::pin(connection);
    let end = tokio::select! {
        end = connection.as_mut() => Some(end),
        () = goodbye => None,
    };
    let end = match end {
        Some(end) => end,
        None => {
            connection.as_mut().graceful_shutdown();
            timeout(CONNECTION_GOODBYE, connection.as_mut()).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = end {
        tracing::debug!(%from, %error, "a caller's HTTP/2 connection broke");
        drop(connection);
        if let Ok(tunnel) = returned.await {
            super::close(tunnel).await;
        }
    }
}

/// What one connection has asked of this replica.
#[derive(Default)]
struct Share {
    requests: AtomicU32,
    full: Notify,
}

impl Share {
    fn count(&self) {
        if self.requests.fetch_add(1, Ordering::Relaxed) + 1 == SHARE_REQUESTS {
            self.full.notify_one();
        }
    }

    /// Resolves when the share is full; the next one begins then.
    async fn full(&self) {
        self.full.notified().await;
        self.requests.store(0, Ordering::Relaxed);
    }
}

/// Resolves when a connection is to be ended in order.
async fn goodbye(core: Arc<Core>, share: Arc<Share>) {
    let waypoint = core.waypoint.clone();
    drop(core);
    let old = async {
        loop {
            sleep(context::spread(CONNECTION_AGE_MAX.0, CONNECTION_AGE_MAX.1)).await;
            if waypoint.has_siblings() {
                return;
            }
        }
    };
    let had_its_share = async {
        let grown_up = Instant::now() + SHARE_AGE;
        loop {
            share.full().await;
            sleep_until(grown_up).await;
            if waypoint.has_siblings() {
                return;
            }
        }
    };
    tokio::select! {
        () = old => {}
        () = had_its_share => {}
        () = waypoint.draining.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_that_the_connection_ends_unless_it_gives_it_away() {
        for (status, said) in [(200, Some("close")), (404, Some("close")), (101, None)] {
            let mut headers = HeaderMap::new();
            say_goodbye(StatusCode::from_u16(status).unwrap(), &mut headers);
            assert_eq!(headers.get(CONNECTION).map(|value| value.to_str().unwrap()), said, "{status}");
        }
    }

    #[tokio::test]
    async fn a_share_is_full_after_so_many_requests_and_again_after_as_many() {
        let share = Share::default();
        let is_full = async || futures_util::poll!(pin!(share.full())).is_ready();
        for round in 0..2 {
            (1..SHARE_REQUESTS).for_each(|_| share.count());
            assert!(!is_full().await, "round {round}");
            share.count();
            assert!(is_full().await, "round {round}");
        }
    }
}
