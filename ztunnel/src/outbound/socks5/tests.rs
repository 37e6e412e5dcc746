use super::*;
use futures_util::FutureExt;
use std::time::Duration;

/// What becomes of these bytes, and what is answered to them.
fn ask(said: &[u8]) -> (Result<Target, String>, Vec<u8>) {
    let mut answered = Vec::new();
    let mut stream = tokio::io::join(said, &mut answered);
    let asked = asked(&mut stream).now_or_never().expect("nothing is waited for");
    (asked.map_err(|error| error.to_string()), answered)
}

fn request(kind: u8, rest: &[u8]) -> Vec<u8> {
    [&[5, 1, 0, 5, 1, 0, kind][..], rest].concat()
}

#[test]
fn addresses_and_names_are_asked_for() {
    let name = |name: &str| [&[name.len() as u8][..], name.as_bytes(), &[0, 80]].concat();
    let six = [&[0xfd; 16][..], &[1, 187]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 0, 0, 1, 0, 80]].concat();
    for (said, expected) in [
        (request(1, &[10, 0, 0, 1, 0, 80]), Target::Address("10.0.0.1:80".parse().expect("an address"))),
        (request(4, &six), Target::Address("[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:443".parse().expect("one"))),
        (request(4, &mapped), Target::Address("10.0.0.1:80".parse().expect("an address"))),
        (request(3, &name("web.shop")), Target::Name("web.shop".into(), 80)),
        (request(3, &name("10.0.0.1")), Target::Address("10.0.0.1:80".parse().expect("an address"))),
        (request(3, &name("fd00::1")), Target::Address("[fd00::1]:80".parse().expect("an address"))),
    ] {
        assert_eq!(ask(&said), (Ok(expected), vec![5, 0]), "{said:?}");
    }
    // Of several ways to prove oneself none is taken, also when it is not the first.
    assert!(ask(&[&[5, 3, 2, 1, 0, 5, 1, 0, 1][..], &[10, 0, 0, 1, 0, 80]].concat()).0.is_ok());
}

#[test]
fn what_cannot_be_served_is_answered_as_such() {
    let refused = |reply: Reply| [&[5, 0, 5, reply as u8, 0, 1][..], &[0; 6]].concat();
    for (said, error, answered) in [
        (vec![4, 1, 0, 80], "version 4", vec![]),
        (vec![5, 1, 2], "without authentication", vec![5, 0xff]),
        (vec![5, 0], "without authentication", vec![5, 0xff]),
        (vec![5, 1, 0, 4, 1, 0, 1], "version 4", vec![5, 0]),
        (vec![5, 1, 0, 5, 3, 0, 1], "command 3", refused(Reply::NoSuchCommand)),
        (request(9, &[]), "kind 9", refused(Reply::NoSuchAddress)),
        (request(3, &[0, 0, 80]), "no hostname", refused(Reply::HostUnreachable)),
        (request(3, b"\x03a b\x00\x50"), "no hostname", refused(Reply::HostUnreachable)),
        (vec![5], "broke off", vec![]),
        (request(1, &[10, 0]), "broke off", vec![5, 0]),
    ] {
        let (asked, seen) = ask(&said);
        let text = asked.expect_err("it cannot be served");
        assert!(text.contains(error), "{said:?}: {text}");
        assert_eq!(seen, answered, "{said:?}");
    }
}

#[test]
fn a_failure_is_told_as_closely_as_the_protocol_can() {
    let unreachable = |failure| End::Unreachable(failure);
    let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
    for (end, expected) in [
        (unreachable(Failure::Connect(refused())), Reply::Refused),
        (unreachable(Failure::Connect(io::ErrorKind::NetworkUnreachable.into())), Reply::HostUnreachable),
        (unreachable(Failure::ConnectDeadline(Duration::from_secs(1))), Reply::HostUnreachable),
        (unreachable(Failure::NotServed(Arc::new(inbound::Failure::Connect(refused())))), Reply::Refused),
        (
            unreachable(Failure::Tunnel(hbone::pool::OpenError::Refused(http::StatusCode::UNAUTHORIZED))),
            Reply::NotAllowed,
        ),
        (
            unreachable(Failure::Tunnel(hbone::pool::OpenError::Refused(http::StatusCode::SERVICE_UNAVAILABLE))),
            Reply::Refused,
        ),
        (End::Rejected(super::super::Reject::UnknownSource), Reply::NotAllowed),
        (unreachable(Failure::Gone), Reply::Failed),
    ] {
        assert_eq!(reply_to(&end), expected, "{end:?}");
    }
}

#[test]
fn others_see_the_address_of_the_pod_and_not_its_loopback() {
    let mut pod = Workload::named("a");
    pod.addresses = vec!["10.0.0.1".parse().expect("an address"), "fd00::1".parse().expect("an address")];
    let from = SocketAddr::from(([127, 0, 0, 1], 4000));
    for (target, expected) in [("10.0.0.9:80", "10.0.0.1:4000"), ("[fd00::9]:80", "[fd00::1]:4000")] {
        let target = target.parse().expect("an address");
        assert_eq!(own_address(Some(&pod), from, target).to_string(), expected);
    }
    assert_eq!(own_address(None, from, from), from);
}
