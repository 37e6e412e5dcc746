//! Values that come back, and values that are none of ours.

use super::*;
use crate::route::asking::Asking;
use std::time::Duration;

const UID: &str = "Kubernetes//Pod/shop/web-1";

fn session(carrier: SessionCarrier, life: Option<u64>) -> Session {
    let absolute_timeout = life.map(Duration::from_secs);
    Session { name: "sid".into(), carrier, absolute_timeout, idle_timeout: None }
}

#[test]
fn a_value_comes_back_as_the_uid() {
    assert_eq!(decode(&encode(UID)).as_deref(), Some(UID));
    for value in ["", "*", "a", "====", "gIA", &encode(""), &"QUJD".repeat(1000)] {
        assert_eq!(decode(value), None, "{value:?}");
    }
}

const NOW: u64 = 1_000_000;

#[test]
fn a_request_is_asked_for_what_its_response_was_given() {
    let (value, timed) = (encode(UID), encode(&format!("{NOW}@{UID}")));
    for (session, begun) in [
        (session(SessionCarrier::Header, None), ("sid", value.clone())),
        (session(SessionCarrier::Header, Some(9)), ("sid", timed.clone())),
        (session(SessionCarrier::SessionCookie, Some(9)), ("set-cookie", format!("sid={timed}; Path=/; HttpOnly"))),
        (
            session(SessionCarrier::PermanentCookie, Some(9)),
            ("set-cookie", format!("sid={timed}; Path=/; Max-Age=9; HttpOnly")),
        ),
        (session(SessionCarrier::PermanentCookie, None), ("set-cookie", format!("sid={value}; Path=/; HttpOnly"))),
    ] {
        assert_eq!(session.begun(UID, NOW), begun);
        let value = if session.absolute_timeout.is_some() { &timed } else { &value };
        let asked = match session.carrier {
            SessionCarrier::Header => format!("GET / sid:{value}"),
            _ => format!("GET / cookie:a=b;sid={value}"),
        };
        assert_eq!(session.asked(&Asking::of(&asked).head(), NOW).as_deref(), Some(UID), "{asked}");
        assert_eq!(session.asked(&Asking::of("GET / cookie:sid=* sid:*").head(), NOW), None);
        assert_eq!(session.asked(&Asking::of("GET /").head(), NOW), None);
    }
}

#[test]
fn a_session_ends_at_its_time_whoever_carries_it() {
    for carrier in [SessionCarrier::Header, SessionCarrier::SessionCookie, SessionCarrier::PermanentCookie] {
        let session = session(carrier, Some(9));
        let asked = |text: &str, now: u64| {
            let value = encode(text);
            let asking = Asking::of(&format!("GET / sid:{value} cookie:sid={value}"));
            session.asked(&asking.head(), now).is_some()
        };
        let good = format!("{NOW}@{UID}");
        for (text, now, alive) in [
            (&*good, NOW, true),
            (&*good, NOW + 8, true),
            (&*good, NOW + 9, false),
            (&*good, NOW - CLOCK_SKEW, true),
            (&*good, NOW - CLOCK_SKEW - 1, false),
            (UID, NOW, false),
            ("soon@x", NOW, false),
        ] {
            assert_eq!(asked(text, now), alive, "{carrier:?} {text} {now}");
        }
    }
}
