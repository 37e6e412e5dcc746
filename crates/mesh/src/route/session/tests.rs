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

#[test]
fn a_request_is_asked_for_what_its_response_was_given() {
    let value = encode(UID);
    for (session, begun) in [
        (session(SessionCarrier::Header, Some(9)), ("sid", value.clone())),
        (session(SessionCarrier::SessionCookie, Some(9)), ("set-cookie", format!("sid={value}; Path=/; HttpOnly"))),
        (
            session(SessionCarrier::PermanentCookie, Some(9)),
            ("set-cookie", format!("sid={value}; Path=/; Max-Age=9; HttpOnly")),
        ),
        (session(SessionCarrier::PermanentCookie, None), ("set-cookie", format!("sid={value}; Path=/; HttpOnly"))),
    ] {
        assert_eq!(session.begun(UID), begun);
        let asked = match session.carrier {
            SessionCarrier::Header => format!("GET / sid:{value}"),
            _ => format!("GET / cookie:a=b;sid={value}"),
        };
        assert_eq!(session.asked(&Asking::of(&asked).head()).as_deref(), Some(UID), "{asked}");
        assert_eq!(session.asked(&Asking::of("GET / cookie:sid=* sid:*").head()), None);
        assert_eq!(session.asked(&Asking::of("GET /").head()), None);
    }
}
