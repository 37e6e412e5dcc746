//! What a peer may not do, and what it gets for it.

use super::{super::code::Code, *};
use crate::engine::frame::{Head, PREFACE, flag, kind, put_headers, put_ping, put_reset, put_window_update};
use http::StatusCode;

/// What one end has said: its GOAWAY, and its resets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    go_away: Option<Code>,
    resets: Vec<(u32, Code)>,
}

fn read(mut bytes: &[u8]) -> Said {
    let mut said = Said::default();
    while let Some((head, rest)) = bytes.split_first_chunk() {
        let head = Head::read(head);
        let (payload, rest) = rest.split_at(head.length);
        bytes = rest;
        let number = |at: usize| payload[at..].first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match head.kind {
            kind::GOAWAY => said.go_away = number(4).map(Code),
            kind::RST_STREAM => said.resets.extend(number(0).map(|code| (head.stream, Code(code)))),
            _ => {}
        }
    }
    said
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Head::new(kind, flags, stream, payload.len()).write(&mut bytes);
    bytes.extend(payload);
    bytes
}

/// Method CONNECT and authority 10.0.0.1:80 as literals.
const CONNECT: &[u8] = b"\x02\x07CONNECT\x01\x0b10.0.0.1:80";

fn headers(stream: u32, end: bool, block: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_headers(stream, end, block, 1 << 14, &mut bytes);
    bytes
}

fn open(stream: u32) -> Vec<u8> {
    headers(stream, false, CONNECT)
}

fn data(stream: u32, end: bool, payload: &[u8]) -> Vec<u8> {
    frame(kind::DATA, if end { flag::END_STREAM } else { 0 }, stream, payload)
}

fn window(stream: u32, bytes: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_window_update(stream, bytes, &mut out);
    out
}

fn reset(stream: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_reset(stream, Code::CANCEL, &mut out);
    out
}

/// A server that has been greeted.
fn server() -> End {
    let mut server = End::new(config(Role::Server));
    server.hear(PREFACE);
    server.hear(&frame(kind::SETTINGS, 0, 0, b""));
    server.hear(&frame(kind::SETTINGS, flag::ACK, 0, b""));
    server.say(usize::MAX);
    server
}

/// What a server says to this; said at once, and byte by byte.
fn answer(bytes: &[u8]) -> Said {
    let mut at_once = server();
    at_once.hear(bytes);
    let said = read(&at_once.say(usize::MAX));
    let mut bit_by_bit = server();
    bytes.iter().for_each(|byte| bit_by_bit.hear(&[*byte]));
    assert_eq!(read(&bit_by_bit.say(usize::MAX)), said, "it matters how the bytes are cut");
    said
}

#[test]
fn what_breaks_the_connection() {
    let connection = |code| Said { go_away: Some(code), ..Said::default() };
    for (bytes, code, why) in [
        (data(0, false, b"x"), Code::PROTOCOL_ERROR, "DATA of no stream"),
        (data(1, false, b"x"), Code::PROTOCOL_ERROR, "DATA of a stream that was never opened"),
        (data(2, false, b"x"), Code::PROTOCOL_ERROR, "DATA of a stream of ours"),
        (open(2), Code::PROTOCOL_ERROR, "a stream with an even number"),
        (headers(0, false, CONNECT), Code::PROTOCOL_ERROR, "HEADERS of no stream"),
        ([open(5), open(3)].concat(), Code::PROTOCOL_ERROR, "a number less than the last"),
        (reset(1), Code::PROTOCOL_ERROR, "a reset of a stream that was never opened"),
        (window(1, 1), Code::PROTOCOL_ERROR, "a window of a stream that was never opened"),
        (window(0, 0), Code::PROTOCOL_ERROR, "a window of nothing"),
        (window(0, 0x7fff_ffff), Code::FLOW_CONTROL_ERROR, "a window beyond all"),
        (frame(kind::RST_STREAM, 0, 1, b"123"), Code::FRAME_SIZE_ERROR, "a short reset"),
        (frame(kind::PING, 0, 0, b"1234567"), Code::FRAME_SIZE_ERROR, "a short ping"),
        (frame(kind::PING, 0, 1, b"12345678"), Code::PROTOCOL_ERROR, "a ping of a stream"),
        (frame(kind::GOAWAY, 0, 0, b"1234567"), Code::FRAME_SIZE_ERROR, "a short GOAWAY"),
        (frame(kind::WINDOW_UPDATE, 0, 0, b"12345"), Code::FRAME_SIZE_ERROR, "a long window"),
        (frame(kind::SETTINGS, 0, 0, b"12345"), Code::FRAME_SIZE_ERROR, "a short SETTINGS"),
        (frame(kind::SETTINGS, flag::ACK, 0, b"123456"), Code::FRAME_SIZE_ERROR, "an acknowledgement that says more"),
        (frame(kind::SETTINGS, flag::ACK, 0, b""), Code::PROTOCOL_ERROR, "an acknowledgement of nothing"),
        (frame(kind::SETTINGS, 0, 1, b""), Code::PROTOCOL_ERROR, "SETTINGS of a stream"),
        (frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, b"1234"), Code::PROTOCOL_ERROR, "a stream that is pushed"),
        (frame(kind::CONTINUATION, 0, 1, b""), Code::PROTOCOL_ERROR, "an end without a block"),
        (
            [frame(kind::HEADERS, 0, 1, CONNECT), frame(kind::PING, 0, 0, b"12345678")].concat(),
            Code::PROTOCOL_ERROR,
            "a block that is interrupted",
        ),
        (
            [frame(kind::HEADERS, 0, 1, CONNECT), frame(kind::CONTINUATION, 4, 3, b"")].concat(),
            Code::PROTOCOL_ERROR,
            "a block that goes on elsewhere",
        ),
        (
            [frame(kind::HEADERS, 0, 1, CONNECT), frame(kind::CONTINUATION, 0, 1, b"").repeat(17)].concat(),
            Code::ENHANCE_YOUR_CALM,
            "a block of many parts",
        ),
        (frame(kind::HEADERS, 4 | 8, 1, &[255, 1]), Code::PROTOCOL_ERROR, "more padding than head"),
        (frame(kind::DATA, 8, 1, &[5, 0, 0, 0, 0]), Code::PROTOCOL_ERROR, "more padding than payload"),
        (headers(1, false, &[0x80]), Code::COMPRESSION_ERROR, "a block that is none"),
        (vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], Code::FRAME_SIZE_ERROR, "a frame beyond what we take"),
    ] {
        assert_eq!(answer(&bytes), connection(code), "{why}");
    }
}

#[test]
fn what_breaks_a_stream() {
    for (bytes, code, why) in [
        ([open(1), window(1, 0)].concat(), Code::PROTOCOL_ERROR, "a window of nothing"),
        ([open(1), window(1, 0x7fff_ffff)].concat(), Code::FLOW_CONTROL_ERROR, "a window beyond all"),
        ([open(1), open(1)].concat(), Code::PROTOCOL_ERROR, "a second head"),
        ([open(1), data(1, true, b"x"), data(1, false, b"x")].concat(), Code::STREAM_CLOSED, "DATA after the end"),
        ([open(1), data(1, true, b"x"), open(1)].concat(), Code::STREAM_CLOSED, "a head after the end"),
        (headers(1, false, b"\x02\x07CONNECT\x00\x01A\x01b"), Code::PROTOCOL_ERROR, "a name in upper case"),
        (headers(1, false, b"\x82"), Code::PROTOCOL_ERROR, "a request without a path"),
        (frame(kind::PRIORITY, 0, 1, b"1234"), Code::FRAME_SIZE_ERROR, "a short priority"),
        (frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 1, 0]), Code::PROTOCOL_ERROR, "a stream that depends on itself"),
        (
            frame(kind::HEADERS, 4 | 0x20, 1, &[&[0, 0, 0, 1, 0], CONNECT].concat()),
            Code::PROTOCOL_ERROR,
            "a new stream that depends on itself",
        ),
        (
            // GET / with a body of 2, of which 1 comes.
            [headers(1, false, b"\x82\x84\x86\x0f\x0d\x012"), data(1, true, b"x")].concat(),
            Code::PROTOCOL_ERROR,
            "a body that is shorter than it says",
        ),
    ] {
        let said = answer(&bytes);
        assert_eq!(said, Said { go_away: None, resets: vec![(1, code)] }, "{why}");
    }
}

/// Whether the answer goes out before or after the rest of the request comes must not matter to who is told what.
#[test]
fn what_breaks_a_request_that_was_answered_already() {
    // GET / with a body of 2.
    let get = || headers(1, false, b"\x82\x84\x86\x0f\x0d\x012");
    for (bytes, resets, why) in [
        (data(1, true, b"xx"), vec![], "its end"),
        (reset(1), vec![], "a reset"),
        (data(1, true, b"x"), vec![(1, Code::PROTOCOL_ERROR)], "a body that is shorter than it says"),
        (data(1, false, b"xxx"), vec![(1, Code::PROTOCOL_ERROR)], "a body that is longer than it says"),
        (get(), vec![(1, Code::PROTOCOL_ERROR)], "a second head"),
        (window(1, 0x7fff_ffff), vec![(1, Code::FLOW_CONTROL_ERROR)], "a window beyond all"),
    ] {
        let mut server = server();
        server.hear(&get());
        let asked = server.core.next_asked().expect("a request");
        server.core.answer(asked.stream, StatusCode::BAD_REQUEST, None, true).expect("a stream");
        server.core.release(asked.stream);
        assert_eq!(read(&server.say(usize::MAX)), Said::default());
        server.hear(&bytes);
        assert_eq!(read(&server.say(usize::MAX)), Said { go_away: None, resets }, "{why}");
        assert_eq!((server.core.active, server.core.held), (0, 0), "{why}");
    }
}

#[test]
fn what_is_to_be_ignored() {
    for (bytes, why) in [
        (frame(99, 0xff, 1, &[7; 1000]), "an unknown frame"),
        (frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 3, 0]), "a priority"),
        ([open(1), reset(1), window(1, 1), reset(1)].concat(), "what crosses a reset"),
        (frame(kind::PING, flag::ACK, 0, b"12345678"), "an answer that nobody asked for"),
        ([open(1), headers(1, true, b"\x00\x01a\x01b")].concat(), "trailers"),
        (frame(kind::SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4]), "unknown settings"),
    ] {
        assert_eq!(answer(&bytes), Said::default(), "{why}");
    }
}

#[test]
fn a_stream_beyond_the_limit_is_refused_and_may_come_again() {
    let bytes: Vec<u8> = (0..10).flat_map(|n| open(2 * n + 1)).collect();
    let refused = [(17, Code::REFUSED_STREAM), (19, Code::REFUSED_STREAM)].to_vec();
    assert_eq!(answer(&bytes), Said { go_away: None, resets: refused });
}

#[test]
fn data_beyond_a_window_breaks_what_it_is_the_window_of() {
    let small = Config { grant: Grant { connection: 100_000, stream: 1000 }, ..config(Role::Server) };
    let greet = |more: &[u8]| {
        let mut server = End::new(small);
        server.hear(&[PREFACE, &frame(kind::SETTINGS, 0, 0, b"")].concat());
        server.hear(&frame(kind::SETTINGS, flag::ACK, 0, b""));
        server.hear(more);
        read(&server.say(usize::MAX))
    };
    let said = greet(&[open(1), data(1, false, &[0; 1000])].concat());
    assert_eq!(said, Said::default());
    let said = greet(&[open(1), data(1, false, &[0; 1001])].concat());
    assert_eq!(said, Said { go_away: None, resets: vec![(1, Code::FLOW_CONTROL_ERROR)] });
    let said = greet(&[open(1), data(1, false, &[0; 100_001])].concat());
    assert_eq!(said, Said { go_away: Some(Code::FLOW_CONTROL_ERROR), resets: vec![] });
    // Before it knows of smaller windows, the peer may use those of the protocol.
    let mut early = End::new(small);
    early.hear(&[PREFACE, &frame(kind::SETTINGS, 0, 0, b""), &open(1), &data(1, false, &[0; 65_535])].concat());
    assert_eq!(read(&early.say(usize::MAX)), Said::default());
}

#[test]
fn padding_costs_no_credit() {
    let mut server = server();
    server.hear(&open(1));
    let padded = frame(kind::DATA, flag::PADDED, 1, &[&[255][..], b"x", &[0; 255]].concat());
    for _ in 0..70_000 {
        // 18 MB, of which 70 kB are for somebody.
        server.hear(&padded);
        server.say(usize::MAX);
    }
    assert!(server.core.lost().is_none());
    assert_eq!(server.core.held, 70_000);
}

#[test]
fn a_header_list_beyond_the_limit_is_answered_and_beyond_reason_not() {
    let field = |count: usize| {
        // One entry of 4,000 bytes, which is then named again and again.
        let entry = [b"\x40\x01a\x7f\xa1\x1e".as_slice(), &[b'x'; 4000]].concat();
        headers(1, true, &[CONNECT, &entry, &vec![0xbe; count]].concat())
    };
    assert_eq!(answer(&field(0)), Said::default());
    assert_eq!(answer(&field(10)), Said { go_away: None, resets: vec![(1, Code::NO_ERROR)] });
    assert_eq!(answer(&field(20)).go_away, Some(Code::ENHANCE_YOUR_CALM));
}

#[test]
fn what_the_peer_has_on_the_way_for_a_stream_that_we_reset_is_no_mistake() {
    let mut server = server();
    server.hear(&open(1));
    let asked = server.core.next_asked().expect("a request");
    server.core.answer(asked.stream, StatusCode::OK, None, false).expect("a stream");
    server.core.release(asked.stream);
    assert_eq!(read(&server.say(usize::MAX)).resets, [(1, Code::CANCEL)]);
    for _ in 0..5000 {
        server.hear(&data(1, false, &[0; 1000]));
    }
    server.hear(&[window(1, 7), headers(1, true, b"")].concat());
    assert_eq!(read(&server.say(usize::MAX)), Said::default());
}

#[test]
fn a_flood_is_cut_off_and_an_answered_ping_is_none() {
    let mut ping = Vec::new();
    put_ping(0, *b"pingpong", &mut ping);
    for (bytes, flood) in [
        (frame(kind::SETTINGS, 0, 0, b""), true),
        (data(1, false, b""), true),
        (frame(kind::DATA, flag::PADDED, 1, &[&[255][..], &[0; 255]].concat()), true),
        (ping, false),
        (data(1, false, b"x"), false),
    ] {
        let mut server = server();
        server.hear(&open(1));
        for _ in 0..2000 {
            server.hear(&bytes);
            server.say(usize::MAX);
        }
        assert_eq!(server.core.lost().is_some(), flood);
    }
}

#[test]
fn an_answer_that_is_none_resets_its_stream() {
    for (answer, expected) in [
        (headers(1, false, b"\x88"), None),
        (headers(1, true, b"\x8d"), None),
        (headers(1, false, b"\x08\x03103"), None),
        (headers(1, true, b"\x08\x03103"), Some(Code::PROTOCOL_ERROR)),
        (headers(1, false, b"\x82"), Some(Code::PROTOCOL_ERROR)),
        (headers(1, false, b""), Some(Code::PROTOCOL_ERROR)),
        (data(1, false, b"x"), Some(Code::PROTOCOL_ERROR)),
    ] {
        let mut client = End::new(config(Role::Client));
        client.hear(&frame(kind::SETTINGS, 0, 0, b""));
        let number = client.core.ask(&head()).expect("a stream");
        client.say(usize::MAX);
        client.hear(&answer);
        assert_eq!(read(&client.say(usize::MAX)).resets, Vec::from_iter(expected.map(|code| (number, code))));
    }
    for unasked in [headers(3, false, b"\x88"), headers(2, false, b"\x88"), data(3, false, b"x")] {
        let mut client = End::new(config(Role::Client));
        client.hear(&frame(kind::SETTINGS, 0, 0, b""));
        client.core.ask(&head()).expect("a stream");
        client.say(usize::MAX);
        client.hear(&unasked);
        assert_eq!(read(&client.say(usize::MAX)).go_away, Some(Code::PROTOCOL_ERROR));
    }
}
