//! HTTP requests at a waypoint: their targets, their heads and their tokens, and the first bytes of a
//! connection; and what users write of requests.

use crate::text;
use http::{HeaderMap, Request, request::Parts};
use mesh::route::{
    expression::{Expression, Facts, Field, Value},
    guard::{Authentication, Issuer, Keys},
    head::Head,
    http::{Session, SessionCarrier},
    normal::{self, PathNormalization},
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock},
    time::SystemTime,
};
use tokio::runtime::Runtime;
use waypoint::{
    authn::{Authenticator, KeyStore, fetch::Direct},
    serve::{form, sniff},
    trace::context::Context,
};

/// A target has one normal form, and what policies compare is never on its way somewhere else.
pub(crate) fn target(input: &[u8]) {
    use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None};
    let text = text(input);
    for (method, how) in [("GET", None), ("GET", Base), ("OPTIONS", MergeSlashes), ("GET", DecodeAndMergeSlashes)] {
        let Ok(target) = normal::target(method, text, how) else { continue };
        assert!(target.query.is_none_or(|query| text.ends_with(query)), "a query was changed");
        if how == None || target.path == "*" {
            continue;
        }
        assert_eq!(normal::path(&target.path, how).as_deref(), Ok(&*target.path), "a path has two normal forms");
        let mut elements = target.path.split('/').skip(1);
        assert!(target.path.starts_with('/') && elements.all(|element| element != "." && element != ".."));
        assert!(how == Base || !target.path.contains("//"));
    }
    if let Ok(host) = normal::authority(text) {
        assert_eq!(normal::authority(&host).as_deref(), Ok(&*host), "a host has two normal forms");
    }
}

pub(crate) fn target_seeds() -> Vec<Vec<u8>> {
    [
        "/a/./b/../c//d%2fe%2E%2e/?x=/../%00",
        "http://Web.Shop.:8080/a%5Cb\\c;p=1?q",
        "https://[fd00::1]:443",
        "/%2e%2e%2f..;/admin",
        "*",
        "web.shop:080",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

/// A filter of the access log is read or refused, and what is read has an answer.
pub(crate) fn expression(input: &[u8]) {
    if let Ok(filter) = Expression::parse(text(input)) {
        let once = filter.is_true(&Everything);
        assert_eq!(filter.is_true(&Everything), once);
        let _ = filter.is_true(&Nothing);
    }
}

pub(crate) fn expression_seeds() -> Vec<Vec<u8>> {
    [
        "response.code >= 400 && !(request.url_path.startsWith('/healthz') || request.method in ['HEAD', \"OPTIONS\"])",
        "has(request.headers['x-a']) && request.headers[\"x-a\"] == 'it\\'s\\n' || connection.mtls == true",
        "source.namespace != 'shop' && destination.workload.contains('web') && request.duration < 1.5e3",
        "request.path.matches('^/a(b|c)*[0-9]{2,3}$')",
        "!!!((((response.flags == 'UH'))))",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

/// A request of which everything is known.
struct Everything;

impl Facts for Everything {
    fn field(&self, field: &Field) -> Value<'_> {
        match field {
            Field::Code | Field::Duration | Field::RequestSize | Field::ResponseSize => Value::Number(404.0),
            Field::Mtls => Value::Truth(true),
            _ => Value::Text("/abc12".into()),
        }
    }
}

/// One of which nothing is known.
struct Nothing;

impl Facts for Nothing {
    fn field(&self, _: &Field) -> Value<'_> {
        Value::Nothing
    }
}

/// What was judged by the first bytes stays so whatever follows: a peer that sends byte by byte is
/// the same peer.
pub(crate) fn first_bytes(input: &[u8]) {
    let whole = sniff::judge(input);
    // A record's header, the handshake's, the lengths within: what is decided is decided here.
    for end in (0..input.len().min(128)).chain([input.len() / 2]) {
        let early = sniff::judge(&input[..end]);
        assert!(early.is_none() || early == whole, "{early:?} of {end} bytes, {whole:?} of all");
    }
}

pub(crate) fn first_bytes_seeds() -> Vec<Vec<u8>> {
    let hello = |record: usize| {
        let name = b"\0\0\0\x0e\0\x0c\0\0\x09a.example";
        let after = [&b"\0\x02\x13\x01\x01\0"[..], &(name.len() as u16 + 7).to_be_bytes()].concat();
        let body = [&b"\x03\x03"[..], &[7; 32], b"\0", &after, b"\0\x2b\0\x03\x02\x03\x04", name].concat();
        let message = [&[1, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
        let records = message.chunks(record);
        records.flat_map(|part| [b"\x16\x03\x01", &(part.len() as u16).to_be_bytes()[..], part].concat()).collect()
    };
    vec![
        hello(16 << 10),
        hello(9),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"PROPFIND / HTTP/1.1\r\n".to_vec(),
        b"SSH-2.0-".to_vec(),
    ]
}

/// The first line is the target, each further one a header, as in the target of tunnels.
fn parts(input: &[u8]) -> Option<Parts> {
    let mut lines = input.split(|byte| *byte == b'\n');
    let mut request = Request::builder().uri(lines.next()?);
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        request = request.header(&line[..at], &line[at + 1..]);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// A head that is read has one form, and nothing goes on that a caller must not say.
pub(crate) fn head(input: &[u8]) {
    let Some(mut parts) = parts(input) else { return };
    let wanted = form::Wanted::of(&parts, "web.shop");
    let _ = (form::strip_hop_by_hop(&mut parts.headers), form::is_grpc(&parts.headers));
    form::sanitise(&mut parts.headers, FROM);
    let ours = ["connection", "transfer-encoding", "x-forwarded-client-cert", "x-envoy-peer-metadata"];
    assert!(ours.iter().all(|name| !parts.headers.contains_key(*name)));
    if let Some(context) = Context::of(&parts.headers) {
        let mut again = HeaderMap::new();
        context.write(Some(&context), &mut again);
        let read = Context::of(&again).expect("what we write we can read");
        assert_eq!((read.trace, read.span), (context.trace, context.span));
    }
    let Ok(wanted) = wanted else { return };
    let again = Request::builder().uri(wanted.path_and_query()).header("host", &wanted.authority).body(());
    let again = form::Wanted::of(&again.expect("what is sent on is a request").into_parts().0, "");
    assert_eq!(again.map(|again| (again.path, again.query)), Ok((wanted.path.clone(), wanted.query.clone())));
    for (name, carrier) in [("s", SessionCarrier::SessionCookie), ("x-s", SessionCarrier::Header)] {
        for absolute_timeout in [None, Some(std::time::Duration::from_secs(9))] {
            let session = Session { name: name.into(), carrier, absolute_timeout, idle_timeout: None };
            let _ = session.asked(&asked(&wanted, &parts.headers), 1_000_000);
        }
    }
}

const FROM: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn asked<'a>(wanted: &'a form::Wanted, headers: &'a HeaderMap) -> Head<'a> {
    Head {
        method: "GET",
        scheme: "http",
        authority: &wanted.authority,
        path: &wanted.path,
        query: wanted.query.as_deref(),
        headers,
        port: 80,
        caller: None,
        caller_address: FROM.ip(),
        remote_address: FROM.ip(),
        claims: None,
    }
}

pub(crate) fn head_seeds() -> Vec<Vec<u8>> {
    [
        "/a?b=c\nhost:web.shop:80\nte:trailers\nconnection:x-a, upgrade\nx-a:1\nupgrade:websocket\n\
         traceparent:00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\ntracestate:a=b",
        "http://web.shop/\nhost:web.shop\nb3:80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-d\ncookie:s=d2ViLTE; a=\"b\"",
        "/\nhost:web\nx-b3-traceid:463ac35c9f6413ad\nx-b3-spanid:a2fb4a1d1a96d312\nx-b3-flags:1\nx-s:d2ViLTE",
        "/\nhost:web\nx-envoy-a:1\nx-forwarded-for:10.0.0.1\nexpect:100-continue\ncontent-type:application/grpc+proto",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

/// Whatever stands where tokens may stand: without a signature of the issuer nobody has claims, and
/// nobody writes the headers himself by which a backend knows them.
pub(crate) fn request_token(input: &[u8]) {
    let Some(mut parts) = parts(input) else { return };
    let judged = JUDGE.runtime.block_on(JUDGE.authenticator.authenticate(&mut parts, SystemTime::now()));
    assert!(!matches!(judged, Ok(Some(_))), "a token that nobody signed");
    assert!(!parts.headers.contains_key("x-claims") && !parts.headers.contains_key("x-sub"));
}

pub(crate) fn request_token_seeds() -> Vec<Vec<u8>> {
    // {"alg":"EdDSA","kid":"a"} and {"iss":"https://issuer","sub":"a","aud":["b"],"exp":1e10}
    let (header, claims) = (
        "eyJhbGciOiJFZERTQSIsImtpZCI6ImEifQ",
        "eyJpc3MiOiJodHRwczovL2lzc3VlciIsInN1YiI6ImEiLCJhdWQiOlsiYiJdLCJleHAiOjFlMTB9",
    );
    let token = format!("{header}.{claims}.{}", "A".repeat(86));
    vec![
        format!("/\nauthorization:Bearer {token}\nx-claims:me\nx-sub:me").into_bytes(),
        format!("/a?b=1&access_token={token}&c=%41").into_bytes(),
        format!("/\ncookie:a=1; token=\"{token}\"; b=2").into_bytes(),
        // {"alg":"none"}
        format!("/\nauthorization:bearer eyJhbGciOiJub25lIn0.{claims}.").into_bytes(),
    ]
}

/// The keys of an issuer, as its server sends them.
pub(crate) fn keys(input: &[u8]) {
    let _ = Authenticator::new([&rule(text(input))], &JUDGE.store);
}

pub(crate) fn keys_seeds() -> Vec<Vec<u8>> {
    let other = r#"{"keys":[{"kty":"EC","crv":"P-256","use":"sig","kid":"b","alg":"ES256",
        "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"},
        {"kty":"RSA","n":"sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1Wl","e":"AQAB"},
        {"kty":"oct","k":"AAAA"},{"kty":"new"}]}"#;
    vec![KEYS.as_bytes().to_vec(), other.as_bytes().to_vec()]
}

/// The public key of RFC 8037 A.2.
const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

fn rule(keys: &str) -> Authentication {
    let issuer = Issuer {
        issuer: "https://issuer".into(),
        audiences: vec!["b".into()],
        keys: Keys::Inline(keys.into()),
        from_headers: vec![("authorization".into(), "Bearer ".into())],
        from_params: vec!["access_token".into()],
        from_cookies: vec!["token".into()],
        forward_token: false,
        payload_header: Some("x-claims".into()),
        claim_headers: vec![("x-sub".into(), vec!["sub".into()])],
    };
    Authentication { name: "shop/tokens".into(), issuers: vec![issuer] }
}

/// Who judges tokens.
struct Judge {
    runtime: Runtime,
    store: KeyStore,
    authenticator: Authenticator,
}

static JUDGE: LazyLock<Judge> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime needs no more than memory");
    let direct = Direct::new().expect("a client of this target");
    let store = KeyStore::new(Arc::new(direct), runtime.handle().clone());
    let authenticator = Authenticator::new([&rule(KEYS)], &store);
    Judge { runtime, store, authenticator }
});
