use super::*;
use crate::{
    external::dial::Dial,
    report::{Asked, Flag, Party, Shared},
};
use mesh::{
    Identity, ServiceKey, Workload,
    route::{
        telemetry::{TagValue, Telemetry, Tracing},
        text::Fraction,
    },
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1 as wire,
};
use std::{
    sync::Mutex,
    time::{Duration, SystemTime},
};
use tokio::{net::TcpListener, sync::Notify};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    headers
}

fn settings(sampling: u32) -> Settings {
    Settings::of(None, &Telemetry::default(), Fraction(sampling), |_| None)
}

struct NoCall;

impl Call for NoCall {
    fn call(
        &self,
        _: crate::external::call::Asking,
    ) -> futures_util::future::BoxFuture<'static, Result<http::Response<tonic::body::Body>, crate::external::CallFailed>>
    {
        Box::pin(async { Err(crate::external::CallFailed::Nobody("test".into())) })
    }
}

fn tracer(call: Arc<dyn Call>) -> Tracer {
    let own = Own { name: "waypoint".into(), namespace: "shop".into(), pod: "wp-1".into(), ..Own::default() };
    Tracer::new(own, call, Handle::current())
}

const CHANCE: Chance = Chance { trace: 0xabc, span: 0x77, throw: 500_000 };

/// What the backend gets for a request with these headers: the headers that traces are made of.
fn passed_on(sampling: u32, given: &[(&str, &str)]) -> (Vec<(String, String)>, bool) {
    let mut headers = headers(given);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let span = tracer(Arc::new(NoCall)).begin(&mut headers, &settings(sampling), CHANCE);
    let mut all: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    all.sort();
    (all, span.sampled)
}

#[test]
fn a_trace_goes_on_in_the_form_it_came_in() {
    let parent = format!("00-{TRACE}-{SPAN}-01");
    let ours = format!("00-{TRACE}-0000000000000077-01");
    let short = &TRACE[16..];
    for (given, passed) in [
        (vec![], vec![("traceparent", "00-00000000000000000000000000000abc-0000000000000077-01".to_owned())]),
        (
            vec![("traceparent", &*parent), ("tracestate", "a=b")],
            vec![("traceparent", ours.clone()), ("tracestate", "a=b".into())],
        ),
        (
            vec![("b3", &*format!("{TRACE}-{SPAN}-1"))],
            vec![("b3", format!("{TRACE}-0000000000000077-1-{SPAN}")), ("traceparent", ours.clone())],
        ),
        (
            vec![("x-b3-traceid", short), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1"), ("x-b3-flags", "1")],
            vec![
                ("traceparent", format!("00-0000000000000000{short}-0000000000000077-01")),
                ("x-b3-parentspanid", SPAN.into()),
                ("x-b3-sampled", "1".into()),
                ("x-b3-spanid", "0000000000000077".into()),
                ("x-b3-traceid", short.into()),
            ],
        ),
        (vec![("traceparent", &*parent), ("b3", "0")], vec![("b3", "0".into()), ("traceparent", ours)]),
    ] {
        let passed: Vec<_> = passed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(passed_on(1_000_000, &given).0, passed, "{given:?}");
    }
}

#[test]
fn ids_that_break_the_rules_begin_a_new_trace() {
    for bad in [
        "",
        "x",
        "00",
        &format!("00-{TRACE}-{SPAN}"),
        &format!("00-{TRACE}-{SPAN}-01-more"),
        &format!("ff-{TRACE}-{SPAN}-01"),
        &format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        &format!("00-{}-{SPAN}-01", "0".repeat(32)),
        &format!("00-{TRACE}-{}-01", "0".repeat(16)),
        &format!("00-{TRACE}-{SPAN}-1"),
        &format!("00-{}é-{SPAN}-01", &TRACE[..30]),
    ] {
        let given: HeaderMap =
            [(context_name(), HeaderValue::from_bytes(bad.as_bytes()).unwrap())].into_iter().collect();
        assert_eq!(Context::of(&given), None, "{bad:?}");
        let (passed, _) = passed_on(0, &[("tracestate", "a=b"), ("traceparent", "00-bad")]);
        assert_eq!(passed.len(), 1, "a state without a parent belongs to nothing");
    }
    assert!(Context::of(&headers(&[("traceparent", &format!("cc-{TRACE}-{SPAN}-01-later"))])).is_some());
    let twice = format!("00-{TRACE}-{SPAN}-01");
    assert_eq!(Context::of(&headers(&[("traceparent", &twice), ("traceparent", &twice)])), None);
    for bad in [format!("{TRACE}-{SPAN}x-1"), "d".into(), format!("{}-{SPAN}", &TRACE[..20]), "1".into()] {
        assert_eq!(Context::of(&headers(&[("b3", &bad)])), None, "{bad}");
    }
}

fn context_name() -> HeaderName {
    HeaderName::from_static("traceparent")
}

#[test]
fn the_callers_word_counts_and_else_chance() {
    let with = |flags: &str| format!("00-{TRACE}-{SPAN}-{flags}");
    for (sampling, given, sampled) in [
        (500_001, vec![], true),
        (500_000, vec![], false),
        (0, vec![("traceparent", with("01"))], true),
        (1_000_000, vec![("traceparent", with("00"))], false),
        (1_000_000, vec![("b3", "0".to_owned())], false),
        (0, vec![("b3", "d".into())], true),
        (0, vec![("b3", format!("{TRACE}-{SPAN}-d"))], true),
        (1_000_000, vec![("b3", format!("{TRACE}-{SPAN}"))], true),
        (1_000_000, vec![("x-b3-sampled", "0".into())], false),
    ] {
        let given: Vec<_> = given.iter().map(|(name, value)| (*name, &**value)).collect();
        let (passed, seen) = passed_on(sampling, &given);
        assert_eq!(seen, sampled, "{given:?} at {sampling}");
        let parent = &passed.iter().find(|(name, _)| name == "traceparent").unwrap().1;
        assert_eq!(parent.ends_with("-01"), sampled, "the backend is told");
    }
}

#[test]
fn a_request_keeps_its_id_or_gets_one() {
    for (given, kept) in [
        (vec![("x-request-id", "abc")], Some("abc")),
        (vec![], None),
        (vec![("x-request-id", "")], None),
        (vec![("x-request-id", "a"), ("x-request-id", "b")], None),
        (vec![("x-request-id", &*"x".repeat(129))], None),
    ] {
        let mut headers = headers(&given);
        let id = request_id(&mut headers, u128::MAX);
        assert_eq!(&*id, kept.unwrap_or("ffffffff-ffff-4fff-bfff-ffffffffffff"));
        assert_eq!(headers.get_all("x-request-id").iter().collect::<Vec<_>>(), [&*id]);
    }
    assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
}

#[test]
fn a_service_says_what_is_traced_over_the_waypoint() {
    let tracing = |sampling: Option<u32>, collector: bool, disabled, tags: Vec<(&str, TagValue)>| Telemetry {
        tracing: Some(Tracing {
            disabled,
            sampling: sampling.map(Fraction),
            collector: collector.then(destination),
            tags: tags.into_iter().map(|(name, value)| (name.into(), value)).collect(),
        }),
        ..Telemetry::default()
    };
    let literal = |text: &str| TagValue::Literal(text.into());
    let gateway = tracing(
        Some(7),
        true,
        false,
        vec![
            ("a", literal("gateway")),
            ("e", TagValue::Environment("ZONE".into(), None)),
            ("n", TagValue::Environment("NO".into(), None)),
        ],
    );
    let service = tracing(None, false, false, vec![("a", literal("service"))]);
    let of = |service: Option<&Telemetry>, gateway: &Telemetry| {
        Settings::of(service, gateway, Fraction(1), |name| (name == "ZONE").then(|| "z1".to_owned()))
    };
    let both = of(Some(&service), &gateway);
    assert_eq!((both.sampling, both.collector.is_some()), (Fraction(7), true));
    let outcome = outcome();
    assert_eq!(both.tags(&outcome).collect::<Vec<_>>(), [("a", "service"), ("e", "z1")]);
    assert!(of(Some(&tracing(None, false, true, vec![])), &gateway).collector.is_none());
    assert_eq!(of(None, &Telemetry::default()).sampling, Fraction(1));
}

fn destination() -> Destination {
    let service = ServiceKey { namespace: "otel".into(), hostname: "collector.otel.svc.cluster.local".into() };
    Destination::Service { service, port: 4317, subset: None }
}

fn outcome() -> Outcome {
    let mut client = Workload::named("1");
    client.workload_name = "client".into();
    let identity: Identity = "spiffe://cluster.local/ns/shop/sa/client".parse().unwrap();
    let service = Shared::new(Asked { host: "web.shop".into(), name: "web".into(), namespace: "shop".into() });
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(3);
    let mut outcome = Outcome::new(started, Party::of(Some(&client), Some(&identity)), service);
    (outcome.path, outcome.authority, outcome.status) = ("/cart?x=1".into(), "web".into(), 503);
    outcome.duration = Duration::from_millis(5);
    outcome.flags = Flag::NoHealthyUpstream.into();
    outcome.details = crate::report::details::NO_HEALTHY_UPSTREAM.into();
    outcome.headers.insert("x-user", "u".parse().unwrap());
    outcome
}

/// Keeps what it gets, and answers what it was told to.
#[derive(Clone, Default)]
struct Collector {
    got: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    answers: Arc<Mutex<Vec<Result<i64, tonic::Status>>>>,
    arrived: Arc<Notify>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        let answer = self.answers.lock().unwrap().pop().unwrap_or(Ok(0));
        self.got.lock().unwrap().push(request.into_inner());
        self.arrived.notify_one();
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans: answer?, error_message: String::new() });
        Ok(tonic::Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

impl Collector {
    async fn served(&self) -> Arc<dyn Call> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = futures_util::stream::unfold(listener, |listener| async {
            Some((listener.accept().await.map(|(stream, _)| stream), listener))
        });
        let serve = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .serve_with_incoming(incoming);
        chassis::task::spawn("test-server", async move { drop(serve.await) }).detach();
        Arc::new(Dial(address))
    }

    /// Waits until so many messages came; all of them.
    async fn messages(&self, count: usize) -> Vec<ExportTraceServiceRequest> {
        let came = async {
            while self.got.lock().unwrap().len() < count {
                self.arrived.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), came).await.expect("spans arrive");
        self.got.lock().unwrap().clone()
    }
}

fn recorded(tags: Vec<(Str, TagValue)>) -> Settings {
    let tracing = Tracing { collector: Some(destination()), tags, ..Tracing::default() };
    let telemetry = Telemetry { tracing: Some(tracing), ..Telemetry::default() };
    Settings::of(None, &telemetry, Fraction::ALL, |_| None)
}

fn attribute(span: &wire::Span, key: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone()?.value);
    match found {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        _ => String::new(),
    }
}

#[tokio::test]
async fn a_collector_gets_spans_with_istios_attributes() {
    let collector = Collector::default();
    let tracer = tracer(collector.served().await);
    let settings = recorded(vec![("user".into(), TagValue::Header("x-user".into(), None))]);
    let mut headers = headers(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01"))]);
    let begun = tracer.begin(&mut headers, &settings, CHANCE);
    tracer.end(&begun, &outcome(), &settings);
    tracer.end(&Span { sampled: false, ..begun }, &outcome(), &settings);
    let got = collector.messages(1).await.remove(0);
    let resource = &got.resource_spans[0];
    let name = resource.resource.clone().unwrap().attributes.remove(0);
    assert_eq!(
        (&*name.key, format!("{:?}", name.value)),
        ("service.name", format!("{:?}", text_value("waypoint.shop")))
    );
    let spans = &resource.scope_spans[0].spans;
    assert_eq!(spans.len(), 1, "what is not sampled is not sent");
    let span = &spans[0];
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!((hex(&span.trace_id), hex(&span.span_id)), (TRACE.into(), "0000000000000077".into()));
    assert_eq!((hex(&span.parent_span_id), &*span.name, span.kind), (SPAN.into(), "web.shop/*", 2));
    assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (3_000_000_000, 3_005_000_000));
    assert_eq!(span.status.clone().unwrap().message, "no_healthy_upstream");
    for (key, value) in [
        ("http.status_code", "503"),
        ("http.response.status_code", "503"),
        ("response_flags", "UH"),
        ("url.path", "/cart"),
        ("url.query", "x=1"),
        ("istio.namespace", "shop"),
        ("istio.source_workload", "client"),
        ("istio.source_namespace", "shop"),
        ("istio.destination_workload", "unknown"),
        ("error.type", "503"),
        ("user", "u"),
    ] {
        assert_eq!(attribute(span, key), value, "{key}");
    }
    assert_eq!(tracer.dropped(), 0);
}

fn text_value(text: &str) -> Option<opentelemetry_proto::tonic::common::v1::AnyValue> {
    Some(opentelemetry_proto::tonic::common::v1::AnyValue { value: Some(Value::StringValue(text.into())) })
}

#[tokio::test]
async fn a_batch_is_sent_again_and_what_is_rejected_is_counted() {
    let collector = Collector::default();
    // Answered from the end: once it has no time, then it takes all but two.
    *collector.answers.lock().unwrap() = vec![Ok(2), Err(tonic::Status::unavailable("busy"))];
    let tracer = tracer(collector.served().await);
    let settings = recorded(vec![]);
    let begun = tracer.begin(&mut HeaderMap::new(), &settings, CHANCE);
    (0..5).for_each(|_| tracer.end(&begun, &outcome(), &settings));
    let got = collector.messages(2).await;
    assert_eq!(got[0], got[1]);
    assert_eq!(got[0].resource_spans[0].scope_spans[0].spans.len(), 5);
    let counted = async {
        while tracer.dropped() != 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), counted).await.expect("two are counted");
}

#[tokio::test(start_paused = true)]
async fn spans_that_nobody_takes_are_dropped_and_counted() {
    let tracer = tracer(Arc::new(NoCall));
    let settings = recorded(vec![]);
    let begun = tracer.begin(&mut HeaderMap::new(), &settings, CHANCE);
    let many = export::SPANS_QUEUED_MAX + 10;
    (0..many).for_each(|_| tracer.end(&begun, &outcome(), &settings));
    assert_eq!(tracer.dropped(), 10, "no more than the queue holds");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(tracer.dropped(), many as u64);
    let mut registry = chassis::metrics::Registry::default();
    registry.register_collector(Box::new(tracer.clone()));
    let text = chassis::metrics::Exposition::new(registry).prometheus_text();
    assert!(text.contains(&format!("\nwaypoint_spans_dropped_total {many}\n")), "{text}");
}

#[tokio::test]
async fn there_are_so_many_collectors_and_no_more() {
    let tracer = tracer(Arc::new(NoCall));
    for n in 0..10 {
        let service = ServiceKey { namespace: "otel".into(), hostname: format!("c{n}").into() };
        let collector = Some(Destination::Service { service, port: 4317, subset: None });
        let tracing = Some(Tracing { collector, ..Tracing::default() });
        let settings = Settings::of(None, &Telemetry { tracing, ..Telemetry::default() }, Fraction::ALL, |_| None);
        let begun = tracer.begin(&mut HeaderMap::new(), &settings, CHANCE);
        tracer.end(&begun, &outcome(), &settings);
    }
    assert_eq!(tracer.dropped(), 2);
}

proptest::proptest! {
    #[test]
    fn no_header_is_a_trouble(name in "traceparent|b3|x-b3-traceid", text in "[ -~]{0,80}", like in "[0-9a-f]{0,33}-[0-9a-f]{0,17}-[0-9d]{0,3}-?[0-9a-f]{0,17}") {
        for text in [&text, &like, &format!("00-{like}")] {
            let given = headers(&[(&name, text), ("x-b3-spanid", SPAN)]);
            if let Some(context) = Context::of(&given) {
                let mut passed = given.clone();
                context.child(7, true).write(Some(&context), &mut passed);
                let read = Context::of(&passed).expect("what we write can be read");
                proptest::prop_assert_eq!((read.trace, read.span, read.sampled), (context.trace, 7, Some(true)));
            }
        }
    }
}
