use super::*;
use std::{fs::File, os::fd::AsFd};

fn descriptor() -> OwnedFd {
    File::open("/dev/null").expect("there is a /dev/null").into()
}

fn pod() -> Pod {
    Pod { uid: "u-1".into(), name: "web-1".into(), namespace: "shop".into(), service_account: "web".into() }
}

#[test]
fn a_request_reads_as_it_was_written() {
    let netns = descriptor();
    for request in [
        Request::Add(pod(), netns.as_fd()),
        Request::Keep("u-1".into()),
        Request::Del("u-1".into(), None),
        Request::Del("u-1".into(), Some(Duration::from_secs(600))),
        Request::SnapshotSent,
    ] {
        let (bytes, sent) = encode_request(&request).expect("it fits");
        let got = decode_request(&bytes, sent.iter().map(|_| descriptor()).collect()).expect("it decodes");
        let alike = match (&request, &got) {
            (Request::Add(a, _), Request::Add(b, _)) => a == b,
            (Request::Keep(a), Request::Keep(b)) => a == b,
            (Request::Del(a, b), Request::Del(c, d)) => (a, b) == (c, d),
            (Request::SnapshotSent, Request::SnapshotSent) => true,
            _ => false,
        };
        assert!(alike, "{request:?} became {got:?}");
    }
}

#[test]
fn the_bytes_are_those_of_istio() {
    assert_eq!(encode_hello(), [0x08, 1]);
    assert_eq!(encode_ack(Ok(())), [0x0a, 0]);
    let (bytes, _) = encode_request(&Request::Del("u".into(), None)).expect("it fits");
    assert_eq!(bytes, [0x12, 3, 0x12, 1, b'u'], "the uid of a delete has number 2");
    let (bytes, _) = encode_request(&Request::Keep("u".into())).expect("it fits");
    assert_eq!(bytes, [0x2a, 3, 0x0a, 1, b'u'], "keep has number 5");
    let (bytes, _) = encode_request(&Request::SnapshotSent).expect("it fits");
    assert_eq!(bytes, [0x1a, 0]);
}

#[test]
fn a_wrong_message_is_told_apart() {
    let (add, _) = encode_request(&Request::Add(pod(), descriptor().as_fd())).expect("it fits");
    let bare = zds::AddWorkload { uid: "u".into(), workload_info: None };
    let bare = zds::WorkloadRequest { payload: Some(zds::workload_request::Payload::Add(bare)) }.encode_to_vec();
    for (bytes, descriptors, expected) in [
        (&add[..], 0, "a ZDS add came with 0 descriptors, expected 1"),
        (&add[..], 2, "a ZDS add came with 2 descriptors, expected 1"),
        (&bare[..], 1, "a ZDS add for uid \"u\" does not say which pod that is"),
        (&[0x1a, 0], 1, "a ZDS snapshot end came with 1 descriptors, expected 0"),
        (&[0x2a, 0], 0, "a ZDS message has an empty uid"),
        (&[], 0, "a ZDS message has no payload that is known here"),
        (&[0xff, 0xff], 0, "a ZDS message does not decode"),
    ] {
        let error = decode_request(bytes, (0..descriptors).map(|_| descriptor()).collect()).expect_err(expected);
        assert!(error.to_string().starts_with(expected), "{error} is not {expected}");
    }
    assert!(matches!(decode_hello(&[0x08, 2], &[]), Err(MessageError::Version(2))));
    assert!(matches!(decode_hello(&[], &[]), Err(MessageError::Version(0))));
}

#[test]
fn an_error_that_is_too_long_is_cut_between_characters() {
    let text = "ä".repeat(2000);
    let bytes = encode_ack(Err(&text));
    assert!(bytes.len() <= MESSAGE_BYTES_MAX);
    let told = decode_ack(&bytes, &[]).expect("it decodes").expect_err("it is an error");
    assert!(told.len() > 900 && text.starts_with(&told));
}

#[test]
fn a_pod_whose_names_do_not_fit_is_refused_by_the_sender() {
    let netns = descriptor();
    let pod = Pod { name: "n".repeat(2000).as_str().into(), ..pod() };
    assert!(matches!(encode_request(&Request::Add(pod, netns.as_fd())), Err(MessageError::TooLong(_))));
}
