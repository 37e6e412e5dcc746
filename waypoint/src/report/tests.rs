use super::*;
use chassis::metrics::Exposition;
use mesh::{
    Identity, Service, Workload,
    route::telemetry::{AccessLog, MetricOverride, Telemetry},
};
use std::{
    io::Write,
    sync::Mutex,
    time::{Duration, SystemTime},
};

fn source() -> Party {
    let mut workload = Workload::named("1");
    workload.workload_name = "client".into();
    workload.canonical_name = "client".into();
    workload.namespace = "elsewhere".into();
    Party::of(Some(&workload), Some(&"spiffe://cluster.local/ns/shop/sa/client".parse::<Identity>().unwrap()))
}

fn destination() -> Party {
    let mut workload = Workload::named("2");
    workload.workload_name = "web-v1".into();
    workload.canonical_name = "web".into();
    workload.canonical_revision = "v1".into();
    workload.namespace = "shop".into();
    Party::of(Some(&workload), Some(&"spiffe://cluster.local/ns/shop/sa/web".parse::<Identity>().unwrap()))
}

fn outcome() -> Outcome {
    let service = Service::named("shop", "web.shop.svc.cluster.local");
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    let mut outcome = Outcome::new(started, source(), Shared::service(&service));
    outcome.destination = destination();
    outcome.path = "/cart?x=1".into();
    outcome.authority = "web.shop".into();
    outcome.request_id = "abc".into();
    outcome.headers.insert("user-agent", "curl/8 \"quoted\"".parse().unwrap());
    outcome.status = 200;
    outcome.details = details::VIA_UPSTREAM.into();
    outcome.duration = Duration::from_millis(7);
    outcome.upstream_time = Some(Duration::from_millis(6));
    outcome.received_bytes = 3;
    outcome.sent_bytes = 2600;
    outcome.upstream = Some("10.0.0.2:8080".parse().unwrap());
    outcome.downstream_remote = Some("10.0.0.1:40000".parse().unwrap());
    outcome.downstream_local = Some("10.96.0.20:80".parse().unwrap());
    outcome.cluster = "inbound-vip|80|http|web.shop.svc.cluster.local;".into();
    outcome.route = "HTTPRoute/shop/web/0".into();
    outcome.security = Security::MutualTls;
    outcome
}

fn scraped(act: impl FnOnce(&Reporter)) -> String {
    let mut registry = Registry::default();
    let reporter = Reporter::new(&mut registry, None);
    act(&reporter);
    Exposition::new(registry).prometheus_text()
}

/// The labels of a sample's first line, without its name and value.
fn labels_of<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name}{{")))
        .unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line[name.len() + 1..].split('}').next().unwrap().split("\",").collect()
}

#[test]
fn a_request_has_istios_labels_in_istios_order() {
    let text = scraped(|reporter| reporter.request(&outcome(), &Telling::plain(true)));
    let labels = labels_of(&text, "istio_requests_total").join("\",");
    assert_eq!(
        labels,
        "reporter=\"waypoint\",source_workload=\"client\",source_canonical_service=\"client\",\
         source_canonical_revision=\"latest\",source_workload_namespace=\"shop\",\
         source_principal=\"spiffe://cluster.local/ns/shop/sa/client\",source_app=\"client\",\
         source_version=\"latest\",source_cluster=\"Kubernetes\",destination_workload=\"web-v1\",\
         destination_workload_namespace=\"shop\",\
         destination_principal=\"spiffe://cluster.local/ns/shop/sa/web\",destination_app=\"web\",\
         destination_version=\"v1\",destination_service=\"web.shop.svc.cluster.local\",\
         destination_canonical_service=\"web\",destination_canonical_revision=\"v1\",\
         destination_service_name=\"web\",destination_service_namespace=\"shop\",\
         destination_cluster=\"Kubernetes\",request_protocol=\"http\",response_code=\"200\",\
         grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"mutual_tls\""
    );
    for sample in ["istio_request_bytes_count{", "istio_response_bytes_sum{"] {
        assert!(text.contains(sample), "{sample} in\n{text}");
    }
    let bucket = |upper: &str| {
        let of = |line: &&str| line.starts_with("istio_request_duration_milliseconds_bucket") && line.contains(upper);
        text.lines().find(of).and_then(|line| line.rsplit(' ').next()).unwrap_or("none").to_owned()
    };
    assert_eq!(
        (bucket("le=\"5.0\""), bucket("le=\"10.0\""), bucket("le=\"+Inf\"")),
        ("0".into(), "1".into(), "1".into())
    );
}

#[test]
fn grpc_tells_its_status_and_messages() {
    let mut outcome = outcome();
    (outcome.grpc, outcome.grpc_status, outcome.request_messages) = (true, Some(13), 4);
    let text = scraped(|reporter| reporter.request(&outcome, &Telling::plain(true)));
    assert!(text.contains("grpc_response_status=\"13\"") && text.contains("request_protocol=\"grpc\""));
    let line = text.lines().find(|line| line.starts_with("istio_request_messages_total{")).unwrap();
    assert!(line.ends_with(" 4"), "{line}");
    assert!(!text.contains("istio_response_messages_total{"), "none came");
}

#[test]
fn a_connection_is_counted_while_it_is_open() {
    let mut outcome = outcome();
    outcome.protocol = Protocol::Tcp;
    let mut registry = Registry::default();
    let reporter = Reporter::new(&mut registry, None);
    let exposition = Exposition::new(registry);
    let value = |name: &str| {
        let text = exposition.prometheus_text();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{"))).map(ToOwned::to_owned);
        line.and_then(|line| line.rsplit(' ').next().map(|n| n.parse::<u64>().unwrap())).unwrap_or_default()
    };
    let meter = Arc::<Meter>::default();
    let open = reporter.opened(&outcome, &Telling::plain(true), meter.clone());
    meter.sent.store(10, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(value("istio_tcp_received_bytes_total"), 10);
    meter.sent.store(15, std::sync::atomic::Ordering::Relaxed);
    meter.received.store(7, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(value("istio_tcp_connections_closed_total"), 0);
    reporter.connection(&outcome, &Telling::plain(true), Some(open));
    assert_eq!(value("istio_tcp_received_bytes_total"), 15);
    assert_eq!(value("istio_tcp_sent_bytes_total"), 7);
    assert_eq!((value("istio_tcp_connections_opened_total"), value("istio_tcp_connections_closed_total")), (1, 1));
    let text = exposition.prometheus_text();
    assert!(!text.contains("response_code=") && !text.contains("istio_requests_total"), "{text}");
}

#[test]
fn users_change_labels_and_series_that_became_the_same_are_one() {
    let change = |metric: Option<&str>, disabled, tags: Vec<(&str, Option<&str>)>| MetricOverride {
        metric: metric.map(Into::into),
        disabled,
        tags: tags.into_iter().map(|(name, value)| (name.into(), value.map(Into::into))).collect(),
    };
    let gateway = Telemetry {
        metrics: vec![
            change(None, false, vec![("source_principal", None), ("response_code", None)]),
            change(Some("istio_request_bytes"), true, vec![]),
            change(
                Some("istio_requests_total"),
                false,
                vec![
                    ("host", Some("request.host")),
                    ("mesh", Some("'one'")),
                    ("agent", Some("request.headers['x-a']")),
                ],
            ),
        ],
        ..Telemetry::default()
    };
    let (telling, complaints) = Telling::of(None, &gateway, true);
    assert!(complaints.is_empty());
    let text = scraped(|reporter| {
        for status in [200, 404] {
            let mut outcome = outcome();
            outcome.status = status;
            reporter.request(&outcome, &telling);
        }
    });
    let requests: Vec<_> = text.lines().filter(|line| line.starts_with("istio_requests_total{")).collect();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].ends_with("host=\"web.shop\",mesh=\"one\",agent=\"unknown\"} 2"), "{}", requests[0]);
    assert!(!text.contains("source_principal=") && !text.contains("istio_request_bytes_count"));
    assert!(text.contains("istio_response_bytes_count{"));
    let unreadable =
        Telemetry { metrics: vec![change(None, false, vec![("x", Some("1 + 1"))])], ..Telemetry::default() };
    assert_eq!(Telling::of(None, &unreadable, true).1.len(), 1);
}

#[test]
fn too_many_series_are_counted_together() {
    let text = scraped(|reporter| {
        for n in 0..5_000 {
            let mut outcome = outcome();
            let mut workload = Workload::named("x");
            workload.workload_name = n.to_string().into();
            outcome.source = Party::of(Some(&workload), None);
            reporter.request(&outcome, &Telling::plain(true));
        }
    });
    let lines = text.lines().filter(|line| line.starts_with("istio_requests_total{"));
    let total: u64 = lines.clone().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(total, 5_000);
    assert!(lines.clone().count() <= 2_002, "{}", lines.count());
    assert!(text.contains("source_workload=\"overflow\""));
}

#[test]
fn a_line_is_istios_default_text() {
    assert_eq!(
        Format::Text.line(&outcome()),
        "[2023-11-14T22:13:20.123Z] \"GET /cart?x=1 HTTP/1.1\" 200 - via_upstream - \"-\" 3 2600 7 6 \"-\" \
         \"curl/8 \\\"quoted\\\"\" \"abc\" \"web.shop\" \"10.0.0.2:8080\" \
         inbound-vip|80|http|web.shop.svc.cluster.local; - 10.96.0.20:80 10.0.0.1:40000 - HTTPRoute/shop/web/0\n"
    );
}

#[test]
fn a_line_of_a_connection_has_no_request() {
    let mut outcome = Outcome::new(SystemTime::UNIX_EPOCH, Party::unknown(), Shared::<Asked>::none());
    outcome.protocol = Protocol::Tcp;
    outcome.flags = Flags::from(Flag::UpstreamConnectionFailure).with(Flag::RetryLimitExceeded);
    outcome.upstream_failure = Some("connection refused".into());
    assert_eq!(
        Format::Text.line(&outcome),
        "[1970-01-01T00:00:00.000Z] \"- - -\" 0 UF,URX - - \"connection refused\" 0 0 0 - \"-\" \"-\" \"-\" \"-\" \
         \"-\" - - - - - -\n"
    );
}

#[test]
fn json_has_istios_keys_in_istios_order() {
    let line = Format::Json.line(&outcome());
    assert_eq!(
        line,
        "{\"start_time\":\"2023-11-14T22:13:20.123Z\",\"route_name\":\"HTTPRoute/shop/web/0\",\"method\":\"GET\",\
         \"path\":\"/cart?x=1\",\"protocol\":\"HTTP/1.1\",\"response_code\":200,\"response_flags\":\"-\",\
         \"response_code_details\":\"via_upstream\",\"connection_termination_details\":null,\"bytes_received\":3,\
         \"bytes_sent\":2600,\"duration\":7,\"upstream_service_time\":\"6\",\"x_forwarded_for\":null,\
         \"user_agent\":\"curl/8 \\\"quoted\\\"\",\"request_id\":\"abc\",\"authority\":\"web.shop\",\
         \"upstream_host\":\"10.0.0.2:8080\",\
         \"upstream_cluster\":\"inbound-vip|80|http|web.shop.svc.cluster.local;\",\"upstream_local_address\":null,\
         \"downstream_local_address\":\"10.96.0.20:80\",\"downstream_remote_address\":\"10.0.0.1:40000\",\
         \"requested_server_name\":null,\"upstream_transport_failure_reason\":null}\n"
    );
    serde_json::from_str::<serde_json::Value>(&line).expect("it is JSON");
}

#[test]
fn nobody_writes_lines_of_his_own() {
    let mut outcome = outcome();
    outcome.path = "/\"\u{7}\u{85}é\\".into();
    outcome.route = "a b".into();
    outcome.headers.insert("user-agent", "x".repeat(10_000).parse().unwrap());
    let (text, json) = (Format::Text.line(&outcome), Format::Json.line(&outcome));
    assert!(text.contains("/\\\"\\u0007\\u0085é\\\\ HTTP") && text.ends_with(" a_b\n"), "{text}");
    assert!(text.len() < 6_000 && text.matches('\n').count() == 1);
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["path"], "/\"\u{7}\u{85}é\\");
}

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_service_says_whether_its_lines_are_written() {
    let telemetry = |log: Option<AccessLog>| Telemetry { access_log: log, ..Telemetry::default() };
    let (on, off) = (AccessLog::default(), AccessLog { disabled: true, filter: None });
    for (service, gateway, default, written) in [
        (None, None, true, true),
        (None, None, false, false),
        (None, Some(on.clone()), false, true),
        (Some(off.clone()), Some(on.clone()), true, false),
        (Some(on), Some(off), false, true),
    ] {
        let page = Page::default();
        let log = Some((Writer::start(page.clone()).unwrap(), Format::Text));
        let reporter = Reporter::new(&mut Registry::default(), log);
        let (telling, _) = Telling::of(Some(&telemetry(service)), &telemetry(gateway), default);
        reporter.request(&outcome(), &telling);
        reporter.flush();
        assert_eq!(!page.0.lock().unwrap().is_empty(), written);
    }
}

#[test]
fn a_slow_reader_costs_lines_and_no_time() {
    struct Stuck(std::sync::mpsc::Receiver<()>);
    impl Write for Stuck {
        fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
            let _released = self.0.recv();
            Ok(text.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (release, stuck) = std::sync::mpsc::sync_channel(0);
    let writer = Writer::start(Stuck(stuck)).unwrap();
    let mut registry = Registry::default();
    let _reporter = Reporter::new(&mut registry, Some((writer.clone(), Format::Text)));
    for _ in 0..60_000 {
        writer.send("x".into());
    }
    assert!(writer.dropped() > 0);
    let text = Exposition::new(registry).prometheus_text();
    assert!(text.contains(&format!("\nwaypoint_access_log_lines_dropped_total {}\n", writer.dropped())), "{text}");
    drop(release);
}

#[test]
fn flags_print_in_envoys_order() {
    assert_eq!(Flags::NONE.to_string(), "-");
    let all = Flag::ALL.into_iter().rev().fold(Flags::NONE, Flags::with);
    assert_eq!(all.to_string(), "UH,UT,LR,UR,UF,UC,UO,NR,DI,FI,RL,UAEX,RLSE,DC,URX,SI,DPE,DT,UPE,NC,OM,DF");
}

#[test]
fn a_refusal_can_be_explained() {
    let mut outcome = outcome();
    outcome.flags = Flag::RateLimited.into();
    outcome.details = details::LOCAL_RATE_LIMITED.into();
    assert_eq!(decision::decision(&outcome).unwrap(), "RL;local_rate_limited;HTTPRoute/shop/web/0");
}

#[test]
fn a_filter_says_which_requests_get_a_line() {
    for (filter, written) in [
        ("response.code == 200", true),
        ("response.code >= 400 || request.duration > 6", true),
        ("request.headers['user-agent'].startsWith('curl') && connection.mtls", true),
        ("source.workload == 'client' && destination.namespace == 'shop' && response.flags == '-'", true),
        ("request.url_path == '/cart' && request.path.contains('x=1') && request.size == 3", true),
        ("has(response.grpc_status)", false),
        ("request.method == 'POST'", false),
        // Nothing that says too little may write too much, and what cannot be read hides nothing.
        ("response.code ==", true),
    ] {
        let log = Some(AccessLog { disabled: false, filter: Some(filter.into()) });
        let (telling, complaints) = Telling::of(None, &Telemetry { access_log: log, ..Telemetry::default() }, true);
        assert_eq!(telling.writes(&outcome()), written, "{filter}");
        assert_eq!(complaints.is_empty(), !filter.ends_with("=="));
    }
}

#[test]
fn messages_are_counted_however_they_are_cut() {
    let mut body = Vec::new();
    for length in [0usize, 1, 300, 0, 70_000] {
        body.push(0);
        body.extend((length as u32).to_be_bytes());
        body.resize(body.len() + length, 7);
    }
    for step in [1, 2, 3, 5, 7, 4096, body.len()] {
        let mut messages = messages::Messages::default();
        body.chunks(step).for_each(|chunk| messages.feed(chunk));
        assert_eq!(messages.count(), 5, "in steps of {step}");
    }
    let mut messages = messages::Messages::default();
    messages.feed(&[0xff; 4]);
    assert_eq!(messages.count(), 0, "a prefix that has not come");
}
