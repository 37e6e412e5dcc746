//! HBONE: heads of CONNECTs, and whole connections of peers that say anything.

use crate::text;
use hbone::{
    accept::{self, Drain},
    head::{Authority, Baggage, ConnectHead, Forwarded, TraceParent},
    limits::{Engine, Limits},
    open,
};
use http::Request;
use std::{sync::LazyLock, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Runtime,
};
use tokio_util::sync::CancellationToken;

/// The first line is the target, each further one a header.
pub(crate) fn head(input: &[u8]) {
    let mut lines = input.split(|byte| *byte == b'\n');
    let target = lines.next().unwrap_or_default();
    if let Ok(authority) = Authority::parse(text(target)) {
        assert_eq!(Authority::parse(&authority.to_string()), Ok(authority));
    }
    let mut request = Request::builder().method("CONNECT").uri(target);
    for line in lines {
        let value = text(line);
        let _ = (Forwarded::parse(value), TraceParent::parse(value), Baggage::parse(value));
        let mut parts = line.splitn(2, |byte| *byte == b':');
        request = request.header(parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    }
    let Ok(request) = request.body(()) else { return };
    let Ok(head) = ConnectHead::parse(&request.into_parts().0) else { return };
    let (again, ()) = head.request().into_parts();
    assert_eq!(ConnectHead::parse(&again), Ok(head));
}

pub(crate) fn head_seeds() -> Vec<Vec<u8>> {
    [
        "10.0.0.1:8080\nbaggage:k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web\n\
         forwarded:for=\"10.0.0.1:4711\";host=web.shop.svc.cluster.local\n\
         traceparent:00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\nx-forwarded-network:west",
        "[fd00::1]:80\nbaggage:service.name=a%2Cb%20c;p=1,service.version=v1\nbaggage:cloud.region=eu",
        "web.shop.svc.cluster.local:80\nforwarded:for=\"[::ffff:10.0.0.1]:1\"",
        "[::ffff:10.0.0.1]:80",
        "user@010.0.0.1:080",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

/// Ours, and the one that may stand in for it.
const ENGINES: [Engine; 2] = [Engine::Own, Engine::H2];

/// What a stranger sends to a tunnel listener once TLS is up and HTTP/2 agreed. Nothing is answered in time, and
/// time passes by itself, so every deadline is met too.
pub(crate) fn server(input: &[u8]) {
    for engine in ENGINES {
        server_of(engine, input);
    }
}

fn server_of(engine: Engine, input: &[u8]) {
    let limits = Limits { engine, ..Limits::default() };
    within(async {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let drain = Drain { start: CancellationToken::new(), deadline: Duration::from_secs(1) };
        let serving = async {
            let Ok(mut connection) = accept::serve(far, &limits, drain).await else { return };
            let mut answer = 0;
            let mut tunnels = Vec::new();
            while let Some(request) = connection.next().await {
                answer += 1;
                match (request.head().is_ok(), answer % 3) {
                    (true, 0) => tunnels.extend(request.accept(None)),
                    (true, 1) => drop(request),
                    _ => request.refuse(http::StatusCode::BAD_REQUEST),
                }
            }
            assert!(connection.end().is_some());
        };
        let talking = async {
            let _ = near.write_all(PREFACE).await;
            let _ = near.write_all(input).await;
            let mut said = Vec::new();
            let _ = near.read_to_end(&mut said).await;
        };
        tokio::join!(serving, talking);
    });
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS, and its acknowledgement.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS_ACK: &[u8] = &[0, 0, 0, 4, 1, 0, 0, 0, 0];

/// The header block of a CONNECT to 10.0.0.1:80: method and authority as literals.
const CONNECT: &[u8] = b"\x02\x07CONNECT\x01\x0b10.0.0.1:80";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn server_seeds() -> Vec<Vec<u8>> {
    let reset = frame(3, 0, 1, &8_u32.to_be_bytes());
    let after_connect = |more: &[&[u8]]| {
        let mut seed = [SETTINGS, SETTINGS_ACK, &frame(1, 4, 1, CONNECT)].concat();
        more.iter().for_each(|more| seed.extend(*more));
        seed
    };
    vec![
        after_connect(&[&frame(0, 0, 1, b"hello"), &frame(0, 1, 1, b"")]),
        after_connect(&[&reset]),
        after_connect(&[&frame(8, 0, 1, &1_u32.to_be_bytes()), &frame(6, 0, 0, b"pingpong"), &reset]),
        after_connect(&[&frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]), &frame(7, 0, 0, &[0; 8])]),
        [SETTINGS, &frame(1, 0, 1, b"\x82\x86\x84"), &frame(9, 4, 1, b"\x41\x03web")].concat(),
    ]
}

/// What a server answers to us once TLS is up.
pub(crate) fn client(input: &[u8]) {
    for engine in ENGINES {
        client_of(engine, input);
    }
}

fn client_of(engine: Engine, input: &[u8]) {
    let limits = Limits { engine, ..Limits::default() };
    within(async {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let asking = async {
            let Ok((link, drive)) = open::begin(near, &limits).await else { return };
            let head = ConnectHead::to(Authority::parse("10.0.0.1:80").expect("an authority of this target"));
            let asked = async {
                let Ok((mut tunnel, _)) = link.tunnel(&head, Box::new(())).await else { return };
                let _ = tunnel.write_all(b"hello").await;
                let mut said = Vec::new();
                let _ = tunnel.read_to_end(&mut said).await;
            };
            tokio::select! {
                _ = drive => {}
                () = asked => {}
            }
        };
        let answering = async {
            // Frame by frame: an answer must not come before its question.
            let mut rest = input;
            while let [a, b, c, ..] = rest {
                let length = 9 + u32::from_be_bytes([0, *a, *b, *c]) as usize;
                let (frame, after) = rest.split_at(length.min(rest.len()));
                rest = after;
                let _ = far.write_all(frame).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let _ = far.write_all(rest).await;
            let mut said = Vec::new();
            let _ = far.read_to_end(&mut said).await;
        };
        tokio::join!(asking, answering);
    });
}

pub(crate) fn client_seeds() -> Vec<Vec<u8>> {
    // The client's first ping is the library's; an answer to it ends the handshake. Ours asks for none.
    let pong = frame(6, 1, 0, &[0x3b, 0x7c, 0xdb, 0x7a, 0x0b, 0x87, 0x16, 0xb4]);
    let ok = frame(1, 4, 1, b"\x88");
    let begun = |more: &[&[u8]]| {
        let mut seed = [SETTINGS, SETTINGS_ACK, &pong].concat();
        more.iter().for_each(|more| seed.extend(*more));
        seed
    };
    vec![
        begun(&[&ok, &frame(0, 1, 1, b"hello")]),
        begun(&[&ok, &frame(3, 0, 1, &8_u32.to_be_bytes())]),
        begun(&[&frame(1, 5, 1, b"\x8d")]),
        begun(&[&frame(7, 0, 0, &[0; 8])]),
        begun(&[&frame(4, 0, 0, &[0, 3, 0, 0, 0, 0]), &frame(5, 4, 1, &[0, 0, 0, 2])]),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
    ]
}

/// What is done to one connection of our engine: by its peer, and by those who use it.
pub(crate) fn engine(input: &[u8]) {
    hbone::trial(input);
}

pub(crate) fn engine_seeds() -> Vec<Vec<u8>> {
    // So many bytes of the peer's, in the trial's way of saying so.
    let come = |bytes: &[u8]| -> Vec<u8> {
        bytes.chunks(128).flat_map(|chunk| [&[chunk.len() as u8 - 1], chunk].concat()).collect()
    };
    let server = |acts: &[&[u8]]| [&[0], acts.concat().as_slice()].concat();
    let client = |acts: &[&[u8]]| [&[1], acts.concat().as_slice()].concat();
    let open = come(&[&frame(1, 4, 1, CONNECT)[..], &frame(1, 4, 3, CONNECT)].concat());
    let talk = come(&[&frame(0, 0, 1, &[7; 60])[..], &frame(0, 1, 3, b"bye")].concat());
    let windows = come(&frame(4, 0, 0, &[0, 4, 0, 0, 0, 9, 0, 5, 0, 0, 0x40, 0]));
    let answered = come(&[&frame(1, 4, 1, b"\x88")[..], &frame(0, 0, 1, b"hello")].concat());
    vec![
        server(&[&open, &talk, &[0x92, 0x82, 0x8a, 0x9d, 0x87, 0x95]]),
        server(&[&open, &[0x82, 0xdd], &windows, &[0xdd, 0x83], &come(&frame(6, 1, 0, b"farewell"))]),
        server(&[&come(SETTINGS_ACK), &open, &come(&frame(3, 0, 1, &8_u32.to_be_bytes())), &[0x82, 0x82, 0x80]]),
        client(&[&[0x81, 0x81], &answered, &[0x88, 0x8a, 0xdd, 0x86, 0x85]]),
        client(&[&[0x81], &come(&frame(7, 0, 0, &[0; 8])), &[0x81, 0x89, 0x85]]),
    ]
}

/// Runs a conversation in virtual time; a target that waits for ever never ends, and is found so.
fn within(conversation: impl Future<Output = ()>) {
    static RUNTIME: LazyLock<std::sync::Mutex<Runtime>> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        std::sync::Mutex::new(runtime.expect("a runtime needs no more than memory"))
    });
    let runtime = RUNTIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let end = Duration::from_secs(3600);
    runtime.block_on(async { tokio::time::timeout(end, conversation).await }).expect("a conversation that never ends");
}
