use super::*;
use http_body_util::{BodyExt, Full, StreamBody};
use std::{convert::Infallible, sync::Arc};
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    sync::Semaphore,
};

/// Room in the pipe for whatever is not the point.
const PIPE_BYTES: usize = 1 << 20;

/// A connection whose calls are answered by `answer`, to its end.
async fn serve<F>(io: DuplexStream, answer: impl Fn(http::Request<Received>) -> F) -> Result<(), h2::Error>
where
    F: Future<Output = http::Response<Sent>> + Send + 'static,
{
    let mut connection = Connection::begin(io).await?;
    let begin =
        |request: http::Request<Received>, respond| -> Call { Box::pin(super::answer(answer(request), respond)) };
    poll_fn(|cx| connection.poll(cx, &begin)).await
}

/// What comes of a future while a connection is driven, which goes on.
async fn beside<T>(what: impl Future<Output = T>, connection: impl Future<Output = Result<(), h2::Error>>) -> T {
    tokio::select! {
        done = what => done,
        ended = connection => panic!("it ended: {ended:?}"),
    }
}

type Sent = http_body_util::combinators::UnsyncBoxBody<Bytes, Infallible>;

fn post(path: &str) -> http::Request<()> {
    http::Request::post(format!("http://plane{path}")).body(()).unwrap()
}

#[tokio::test]
async fn what_a_call_says_is_answered_with_all_its_frames() {
    let (near, far) = duplex(PIPE_BYTES);
    let echo = |request: http::Request<Received>| async move {
        let said = request.into_body().collect().await.unwrap().to_bytes();
        let frames = [
            Frame::data(said),
            Frame::trailers([("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect()),
        ];
        let frames = futures_util::stream::iter(frames.map(Ok));
        http::Response::new(StreamBody::new(frames).boxed_unsync())
    };
    let client = async {
        let (requests, connection) = h2::client::handshake(near).await.unwrap();
        let asking = async {
            for length in [0, 1, 3 << 20] {
                let (response, mut body) =
                    requests.clone().ready().await.unwrap().send_request(post("/echo"), false).unwrap();
                super::send(&mut body, vec![7; length].into()).await.unwrap();
                body.send_data(Bytes::new(), true).unwrap();
                let mut body = response.await.unwrap().into_body();
                let mut heard = 0;
                while let Some(bytes) = body.data().await {
                    let bytes = bytes.unwrap();
                    heard += bytes.len();
                    body.flow_control().release_capacity(bytes.len()).unwrap();
                }
                let trailers = body.trailers().await.unwrap().unwrap();
                assert_eq!((heard, &trailers["grpc-status"]), (length, &"0".parse::<http::HeaderValue>().unwrap()));
            }
        };
        beside(asking, connection).await
    };
    beside(client, serve(far, echo)).await
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_is_asked_for_no_more_than_there_is_room() {
    let (near, far) = duplex(PIPE_BYTES);
    let made = Arc::new(Semaphore::new(0));
    let counted = made.clone();
    let endless = move |_| {
        let counted = counted.clone();
        async move {
            let frames = futures_util::stream::repeat_with(move || {
                counted.add_permits(1);
                Ok(Frame::data(Bytes::from(vec![0; 64 << 10])))
            });
            http::Response::new(StreamBody::new(frames).boxed_unsync())
        }
    };
    let client = async {
        // A window of one frame, and then nothing is read.
        let mut builder = h2::client::Builder::new();
        let (requests, connection) = builder.initial_window_size(64 << 10).handshake::<_, Bytes>(near).await.unwrap();
        let asking = async {
            let (response, _body) =
                requests.clone().ready().await.unwrap().send_request(post("/endless"), true).unwrap();
            let mut body = response.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap().len().min(1), 1);
            // This time passes when nobody has anything to do any more.
            sleep(Duration::from_secs(1)).await;
            body
        };
        beside(asking, connection).await
    };
    let _body = beside(client, serve(far, endless)).await;
    let most = 2 + (limits::SEND_BUFFER_BYTES + (64 << 10)) / (64 << 10);
    assert!(made.available_permits() <= most, "{} frames were made", made.available_permits());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_say_that_it_lives_is_left() {
    let (mut near, far) = duplex(PIPE_BYTES);
    let nothing = |_| async { http::Response::new(Full::new(Bytes::new()).boxed_unsync()) };
    let client = async {
        use tokio::io::AsyncWriteExt;
        near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut heard = Vec::new();
        near.read_to_end(&mut heard).await.unwrap();
        heard
    };
    let began = Instant::now();
    let (heard, ended) = tokio::join!(client, serve(far, nothing));
    assert!(ended.is_ok(), "{ended:?}");
    assert!(heard.len() > 17, "it was asked");
    assert_eq!(began.elapsed(), limits::KEEPALIVE_INTERVAL + limits::KEEPALIVE_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_so_is_kept_and_goes_in_order() {
    let (near, far) = duplex(PIPE_BYTES);
    let nothing = |_| async { http::Response::new(Full::new(Bytes::new()).boxed_unsync()) };
    let client = async {
        let (requests, connection) = h2::client::handshake(near).await.unwrap();
        let lives = async {
            tokio::time::sleep(20 * limits::KEEPALIVE_INTERVAL).await;
            drop(requests);
        };
        let (ended, ()) = tokio::join!(connection, lives);
        ended.unwrap();
    };
    let began = Instant::now();
    let ((), ended) = tokio::join!(client, serve(far, nothing));
    assert!(ended.is_ok(), "{ended:?}");
    assert!(began.elapsed() >= 20 * limits::KEEPALIVE_INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_on_with_a_call_that_was_given_up() {
    let (near, far) = duplex(PIPE_BYTES);
    let under_way = Arc::new(Semaphore::new(0));
    let counted = under_way.clone();
    let never = move |_| {
        let alive = counted.clone();
        alive.add_permits(1);
        async move {
            let _gone = Gone(alive);
            std::future::pending().await
        }
    };
    let client = async {
        let (requests, connection) = h2::client::handshake(near).await.unwrap();
        let giving_up = async {
            for calls in 1..=3 * limits::STREAMS_PER_CONNECTION_MAX as usize {
                let mut requests = requests.clone().ready().await.unwrap();
                let (_response, mut body) = requests.send_request(post("/never"), false).unwrap();
                sleep(Duration::from_millis(1)).await;
                assert_eq!(under_way.available_permits(), 1, "call {calls}");
                body.send_reset(h2::Reason::CANCEL);
                sleep(Duration::from_millis(1)).await;
                assert_eq!(under_way.available_permits(), 0, "call {calls} was given up");
            }
        };
        beside(giving_up, connection).await
    };
    beside(client, serve(far, never)).await
}

/// Takes a permit away when it is dropped.
struct Gone(Arc<Semaphore>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.forget_permits(1);
    }
}
