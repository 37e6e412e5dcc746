//! Real gRPC and HTTP servers on loopback, asked through a way that dials them.

use super::{
    authorization::{Denied, Subject, Verdict, ask},
    call::{Asking, Call, CallFailed},
    dial::Dial,
    rate_limit::{self, Said},
    shown::{CannotShow, Part, show},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use mesh::{
    Identity, ServiceKey,
    route::{
        Destination, RateLimit,
        guard::{AuthorizerProtocol, BodyShown, ExternalAuthorizer},
        head::Head,
        limit::{LimitKey, LimitScope},
    },
};
use proto::{
    envoy::{
        config::core::v3::{HeaderValue, HeaderValueOption, QueryParameter},
        service::{
            auth::v3::{
                CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
                authorization_server::{Authorization, AuthorizationServer},
                check_response::HttpResponse,
            },
            ratelimit::v3::{
                RateLimitRequest, RateLimitResponse,
                rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
            },
        },
        r#type::v3::HttpStatus,
    },
    google::rpc::Status,
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::net::TcpListener;
use tonic::body::Body;

/// Says what it was told to say, and keeps what it was asked.
#[derive(Clone, Default)]
struct Fake<Q, A>(Arc<Mutex<(Option<A>, Vec<Q>)>>);

impl<Q, A: Clone> Fake<Q, A> {
    fn say(&self, answer: A) {
        self.0.lock().unwrap().0 = Some(answer);
    }
    fn heard(&self, question: Q) -> Option<A> {
        let mut state = self.0.lock().unwrap();
        state.1.push(question);
        state.0.clone()
    }
    fn last(&self) -> Q {
        self.0.lock().unwrap().1.pop().expect("it was asked")
    }
}

type Authorizer = Fake<CheckRequest, CheckResponse>;
type Limiter = Fake<RateLimitRequest, RateLimitResponse>;

#[tonic::async_trait]
impl Authorization for Authorizer {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        self.heard(request.into_inner()).map(tonic::Response::new).ok_or_else(|| tonic::Status::unavailable("silent"))
    }
}

#[tonic::async_trait]
impl RateLimitService for Limiter {
    async fn should_rate_limit(
        &self,
        request: tonic::Request<RateLimitRequest>,
    ) -> Result<tonic::Response<RateLimitResponse>, tonic::Status> {
        self.heard(request.into_inner()).map(tonic::Response::new).ok_or_else(|| tonic::Status::unavailable("silent"))
    }
}

/// Serves until the test ends.
async fn served(authorizer: Authorizer, limiter: Limiter) -> Arc<dyn Call> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = tonic::transport::Server::builder()
        .add_service(AuthorizationServer::new(authorizer))
        .add_service(RateLimitServiceServer::new(limiter));
    let incoming = futures_util::stream::unfold(listener, |listener| async {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    let serve = router.serve_with_incoming(incoming);
    chassis::task::spawn("test-server", async move { drop(serve.await) }).detach();
    Arc::new(Dial(address))
}

fn destination() -> Destination {
    let service = ServiceKey { namespace: "auth".into(), hostname: "authz.auth.svc.cluster.local".into() };
    Destination::Service { service, port: 9000, subset: None }
}

fn authorizer(protocol: AuthorizerProtocol) -> ExternalAuthorizer {
    ExternalAuthorizer {
        name: "judge".into(),
        destination: destination(),
        protocol,
        timeout: Duration::from_secs(5),
        fail_open: false,
        status_on_error: 403,
        body: None,
    }
}

fn head() -> http::request::Parts {
    let request = Request::post("/cart?a=b&token=x")
        .header("host", "web.shop")
        .header("x-request-id", "7")
        .header("x-team", "a")
        .header("x-team", "b")
        .header("content-length", "5");
    request.body(()).unwrap().into_parts().0
}

/// What becomes of the request of [`head`].
async fn judged(call: &Arc<dyn Call>, authorizer: &ExternalAuthorizer, body: Option<&Part>) -> Verdict {
    let caller: Identity = "spiffe://cluster.local/ns/shop/sa/client".parse().unwrap();
    let head = head();
    let subject = Subject {
        head: &head,
        authority: "web.shop",
        scheme: "http",
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(9),
        source: "10.0.0.1:4000".parse().unwrap(),
        source_identity: Some(&caller),
        destination: "10.96.0.20:80".parse().unwrap(),
        own_identity: None,
        server_name: Some("web"),
        body,
    };
    ask(call, authorizer, &subject).await
}

fn option(key: &str, value: &str, append: Option<bool>, action: i32) -> HeaderValueOption {
    let header = Some(HeaderValue { key: key.into(), value: value.into(), raw_value: vec![] });
    HeaderValueOption { header, append, append_action: action, keep_empty_value: false }
}

fn status(code: i32) -> Option<Status> {
    Some(Status { code, ..Status::default() })
}

#[tokio::test]
async fn an_authorizer_is_told_of_the_request_and_who_sends_it() {
    let fake = Authorizer::default();
    let call = served(fake.clone(), Limiter::default()).await;
    fake.say(CheckResponse { status: status(0), http_response: None });
    let part = Part { bytes: Bytes::from_static(b"hello"), cut: true };
    assert!(matches!(judged(&call, &authorizer(AuthorizerProtocol::Grpc), Some(&part)).await, Verdict::Pass(_)));
    let told = fake.last().attributes.unwrap();
    let (source, request) = (told.source.unwrap(), told.request.unwrap());
    assert_eq!(source.principal, "spiffe://cluster.local/ns/shop/sa/client");
    assert!(format!("{:?}", source.address).contains("10.0.0.1"));
    assert_eq!(told.tls_session.unwrap().sni, "web");
    assert_eq!(request.time.unwrap().seconds, 9);
    let http = request.http.unwrap();
    assert_eq!((&*http.method, &*http.path, &*http.host, &*http.id), ("POST", "/cart?a=b&token=x", "web.shop", "7"));
    assert_eq!((&*http.body, http.size, &*http.protocol), ("hello", 5, "HTTP/1.1"));
    assert_eq!((&*http.headers["x-team"], &*http.headers[":path"]), ("a,b", "/cart?a=b&token=x"));
    assert_eq!(http.headers["x-envoy-auth-partial-body"], "true");
}

#[tokio::test]
async fn what_passes_is_changed_as_the_authorizer_says() {
    let fake = Authorizer::default();
    let call = served(fake.clone(), Limiter::default()).await;
    let ok = OkHttpResponse {
        headers: vec![
            option("x-team", "c", Some(true), 0),
            option("x-user", "u", None, 0),
            option("x-request-id", "8", None, 1),
            option("x-missing", "m", None, 3),
            option("content-length", "0", None, 2),
            option("host", "evil", None, 2),
            option(":path", "/evil", None, 2),
            option("bad name", "x", None, 2),
            option("x-empty", "", None, 2),
        ],
        headers_to_remove: vec!["authorization".into(), "host".into(), "content-length".into()],
        response_headers_to_add: vec![option("set-cookie", "a=b", Some(true), 0)],
        query_parameters_to_set: vec![QueryParameter { key: "q".into(), value: "x&y".into() }],
        query_parameters_to_remove: vec!["token".into()],
    };
    fake.say(CheckResponse { status: status(0), http_response: Some(HttpResponse::OkResponse(ok)) });
    let Verdict::Pass(changes) = judged(&call, &authorizer(AuthorizerProtocol::Grpc), None).await else {
        panic!("it passes")
    };
    let mut head = head();
    head.headers.insert("authorization", "secret".parse().unwrap());
    changes.request(&mut head);
    assert_eq!(head.uri, "/cart?a=b&q=x%26y");
    let teams: Vec<_> = head.headers.get_all("x-team").iter().collect();
    assert_eq!(teams, ["a", "b", "c"]);
    for (name, value) in [("x-user", "u"), ("x-request-id", "7"), ("host", "web.shop"), ("content-length", "5")] {
        assert_eq!(head.headers[name], value);
    }
    for name in ["authorization", "x-missing", "x-empty"] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
    let mut response = HeaderMap::new();
    changes.response(&mut response);
    assert_eq!(response["set-cookie"], "a=b");
}

#[tokio::test]
async fn what_is_refused_is_answered_as_the_authorizer_says() {
    let fake = Authorizer::default();
    let call = served(fake.clone(), Limiter::default()).await;
    let says = |code: i32, body: &str| {
        let headers = vec![option("location", "/login", None, 0)];
        let status = Some(HttpStatus { code });
        Some(HttpResponse::DeniedResponse(DeniedHttpResponse { status, headers, body: body.into() }))
    };
    for (status, said, expected, body) in [
        (status(7), says(302, "go"), 302, "go"),
        (status(7), says(0, ""), 403, ""),
        (status(16), says(9999, "x"), 403, "x"),
        (status(7), None, 403, ""),
        (None, None, 403, ""),
        (None, Some(HttpResponse::OkResponse(OkHttpResponse::default())), 403, ""),
        (status(5), Some(HttpResponse::OkResponse(OkHttpResponse::default())), 403, ""),
    ] {
        fake.say(CheckResponse { status, http_response: said.clone() });
        let Verdict::Refuse(denied) = judged(&call, &authorizer(AuthorizerProtocol::Grpc), None).await else {
            panic!("{said:?} lets pass")
        };
        assert_eq!((denied.status.as_u16(), &denied.body[..]), (expected, body.as_bytes()), "{said:?}");
        assert_eq!(denied.details, "ext_authz_denied");
        assert_eq!(denied.headers.contains_key("location"), matches!(said, Some(HttpResponse::DeniedResponse(_))));
    }
}

#[tokio::test]
async fn an_authorizer_that_does_not_answer_refuses_unless_the_policy_says_otherwise() {
    let silent = served(Authorizer::default(), Limiter::default()).await;
    let nobody: Arc<dyn Call> = Arc::new(Dial("127.0.0.1:1".parse().unwrap()));
    let http = http_protocol();
    for call in [&silent, &nobody] {
        for protocol in [AuthorizerProtocol::Grpc, http.clone()] {
            let closed = ExternalAuthorizer { status_on_error: 503, ..authorizer(protocol.clone()) };
            let Verdict::Refuse(Denied { status, details, .. }) = judged(call, &closed, None).await else {
                // The gRPC server answers HTTP/1 with an error, too.
                panic!("{protocol:?} lets pass")
            };
            assert_eq!((status.as_u16(), details), (503, "ext_authz_error"), "{protocol:?}");
            let open = ExternalAuthorizer { fail_open: true, ..closed };
            assert!(matches!(judged(call, &open, None).await, Verdict::Pass(changes) if changes.failed_open));
        }
    }
}

/// A way on which nothing ever comes back.
struct Never;

impl Call for Never {
    fn call(&self, _: Asking) -> BoxFuture<'static, Result<Response<Body>, CallFailed>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test(start_paused = true)]
async fn no_authorizer_is_waited_for_longer_than_its_time() {
    let never: Arc<dyn Call> = Arc::new(Never);
    for protocol in [AuthorizerProtocol::Grpc, http_protocol()] {
        let before = tokio::time::Instant::now();
        assert!(matches!(judged(&never, &authorizer(protocol), None).await, Verdict::Refuse(_)));
        assert_eq!(before.elapsed().as_secs(), 5);
    }
}

fn http_protocol() -> AuthorizerProtocol {
    AuthorizerProtocol::Http {
        path_prefix: "/check".into(),
        include_headers: vec!["x-te*".into()],
        add_headers: vec![("x-from".into(), "mesh".into())],
        to_backend: vec!["x-user".into()],
        to_caller_on_allow: vec!["set-cookie".into()],
        to_caller_on_deny: vec!["x-why".into()],
    }
}

/// Answers every request with `status` and `headers`, and keeps their heads and bodies.
async fn http_server(
    status: u16,
    headers: &'static [(&'static str, &'static str)],
) -> (Arc<dyn Call>, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let call: Arc<dyn Call> = Arc::new(Dial(listener.local_addr().unwrap()));
    let kept = seen.clone();
    let serve = async move {
        while let Ok((stream, _)) = listener.accept().await {
            let kept = kept.clone();
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let kept = kept.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    kept.lock().unwrap().push(format!("{} {} {:?} {body:?}", head.method, head.uri, head.headers));
                    let response =
                        headers.iter().fold(Response::builder().status(status), |r, (n, v)| r.header(*n, *v));
                    Ok::<_, hyper::Error>(response.body(Full::new(Bytes::from_static(b"why"))).unwrap())
                }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            chassis::task::spawn("test-connection", async move { drop(connection.await) }).detach();
        }
    };
    chassis::task::spawn("test-server", serve).detach();
    (call, seen)
}

/// Keeps the URI that it is asked with.
#[derive(Default)]
struct Keep(Mutex<Option<http::Uri>>);

impl Call for Keep {
    fn call(&self, asking: Asking) -> BoxFuture<'static, Result<Response<Body>, CallFailed>> {
        *self.0.lock().unwrap() = Some(asking.request.uri().clone());
        Box::pin(async { Ok(Response::new(Body::empty())) })
    }
}

#[tokio::test]
async fn an_http_authorizer_sees_the_host_that_was_asked_for() {
    let keep = Arc::new(Keep::default());
    let call: Arc<dyn Call> = keep.clone();
    judged(&call, &authorizer(http_protocol()), None).await;
    assert_eq!(keep.0.lock().unwrap().clone().unwrap(), "http://web.shop/check/cart?a=b&token=x");
}

const ANSWER: &[(&str, &str)] =
    &[("x-user", "u"), ("set-cookie", "a"), ("set-cookie", "b"), ("x-why", "w"), ("location", "/l"), ("x-secret", "s")];

#[tokio::test]
async fn an_http_authorizer_sees_what_it_may_and_lets_pass_with_200() {
    let (call, seen) = http_server(200, ANSWER).await;
    let part = Part { bytes: Bytes::from_static(b"hello"), cut: false };
    let Verdict::Pass(changes) = judged(&call, &authorizer(http_protocol()), Some(&part)).await else {
        panic!("it passes")
    };
    let mut head = head();
    head.headers.insert("x-user", "root".parse().unwrap());
    changes.request(&mut head);
    assert_eq!(head.headers["x-user"], "u");
    assert!(!head.headers.contains_key("x-secret") && !head.headers.contains_key("set-cookie"));
    let mut response = HeaderMap::new();
    changes.response(&mut response);
    assert_eq!(response.get_all("set-cookie").iter().count(), 2);
    let seen = seen.lock().unwrap().pop().unwrap();
    assert!(seen.starts_with("POST /check/cart?a=b&token=x ") && seen.ends_with("b\"hello\""), "{seen}");
    for header in ["\"host\": \"web.shop\"", "\"content-length\": \"5\"", "\"x-from\": \"mesh\"", "\"x-team\": \"b\""] {
        assert!(seen.contains(header), "{header} in {seen}");
    }
    assert!(!seen.contains("x-request-id"), "{seen}");
}

#[tokio::test]
async fn an_http_authorizer_refuses_with_any_other_status() {
    for (status, expected) in [(201, 201), (302, 302), (401, 401), (403, 403)] {
        let (call, _) = http_server(status, ANSWER).await;
        let Verdict::Refuse(denied) = judged(&call, &authorizer(http_protocol()), None).await else {
            panic!("{status} lets pass")
        };
        assert_eq!((denied.status.as_u16(), &denied.body[..]), (expected, &b"why"[..]));
        assert!(denied.headers["x-why"] == "w" && denied.headers["location"] == "/l");
        assert!(!denied.headers.contains_key("x-secret") && !denied.headers.contains_key("set-cookie"));
    }
}

#[tokio::test]
async fn a_body_is_shown_in_part_and_passes_on_whole() {
    let body = || {
        let chunks =
            ["ab", "cd", "ef"].map(|chunk| Ok::<_, std::io::Error>(http_body::Frame::data(Bytes::from(chunk))));
        http_body_util::StreamBody::new(futures_util::stream::iter(chunks))
    };
    for (bytes_max, allow_partial, shown) in [
        (6, false, Some(("abcdef", false))),
        (5, true, Some(("abcde", true))),
        (3, true, Some(("abc", true))),
        (0, true, Some(("", true))),
        (5, false, None),
    ] {
        match (show(body(), BodyShown { bytes_max, allow_partial }).await, shown) {
            (Ok((part, held)), Some((text, cut))) => {
                assert_eq!((&part.bytes[..], part.cut), (text.as_bytes(), cut));
                assert_eq!(held.collect().await.unwrap().to_bytes(), "abcdef");
            }
            (Err(CannotShow::TooLarge), None) => {}
            (other, _) => panic!("{bytes_max}: {:?}", other.map(|(part, _)| part)),
        }
    }
    assert_eq!(Denied::too_large().response().status(), StatusCode::PAYLOAD_TOO_LARGE);
}

fn limit(per: u64) -> RateLimit {
    RateLimit {
        name: "TrafficPolicy/shop/web/0".into(),
        matches: vec![],
        keys: vec![LimitKey::Header("x-team".into()), LimitKey::CallerNamespace, LimitKey::Header("none".into())],
        requests: 5,
        per: Duration::from_secs(per),
        burst: 5,
        scope: LimitScope::Replica,
    }
}

#[tokio::test]
async fn a_rate_limit_service_is_asked_by_the_keys_of_the_limit() {
    let fake = Limiter::default();
    let call = served(Authorizer::default(), fake.clone()).await;
    let (parts, caller) = (head(), "spiffe://cluster.local/ns/shop/sa/client".parse::<Identity>().unwrap());
    let address = "10.0.0.1".parse().unwrap();
    let head = Head {
        method: "POST",
        scheme: "http",
        authority: "web.shop",
        path: "/cart",
        query: None,
        headers: &parts.headers,
        port: 80,
        caller: Some(&caller),
        caller_address: address,
        remote_address: address,
        claims: None,
    };
    let ask = async |per| {
        let descriptor = rate_limit::descriptor(&limit(per), &head);
        rate_limit::ask(&call, &destination(), "shop", Duration::from_secs(5), descriptor).await
    };
    let header = |key: &str| vec![HeaderValue { key: key.into(), value: "v".into(), raw_value: vec![] }];
    fake.say(RateLimitResponse {
        overall_code: 2,
        response_headers_to_add: header("x-limit"),
        request_headers_to_add: header("content-length"),
        raw_body: b"slow down".to_vec(),
        ..RateLimitResponse::default()
    });
    let said = ask(60).await.unwrap();
    assert!(said.over && said.request_headers.is_empty() && said.response_headers["x-limit"] == "v");
    assert_eq!(said.body, "slow down");
    let asked = fake.last();
    assert_eq!(asked.domain, "shop");
    let entries: Vec<_> = asked.descriptors[0].entries.iter().map(|entry| (&*entry.key, &*entry.value)).collect();
    assert_eq!(
        entries,
        [("generic_key", "TrafficPolicy/shop/web/0"), ("x-team", "a,b"), ("source_namespace", "shop"), ("none", "-")]
    );
    let sent = asked.descriptors[0].limit.unwrap();
    assert_eq!((sent.requests_per_unit, sent.unit), (5, 2));
    fake.say(RateLimitResponse { overall_code: 1, ..RateLimitResponse::default() });
    assert_eq!(ask(7).await, Ok(Said::default()));
    assert_eq!(fake.last().descriptors[0].limit, None, "no unit is seven seconds");
    fake.say(RateLimitResponse::default());
    assert!(matches!(ask(60).await, Err(CallFailed::Unreadable(_))));
}
