//! What an operator sees of connections: lines and counts.

use super::*;
use crate::{
    connection::{Direction, Party},
    inbound, outbound,
};
use chassis::{metrics::Exposition, telemetry};
use hbone::{
    head::Authority,
    relay::{RelayEnd, Side},
};
use mesh::{View, fixture};
use std::{io, net::SocketAddr};

const SHOP: &str = "
pod client ns=shop sa=client ip=10.0.0.1 node=n1 region=r1 zone=z1
pod server-1 ns=shop sa=server ip=10.0.0.2 node=n2
service web ns=shop vip=10.1.0.1 80->8080 pods=server-1
";

fn party(view: &View, address: &str, proven: bool) -> Party {
    let address: SocketAddr = address.parse().expect("an address");
    let workload = view.workload_by_address("", address.ip()).cloned();
    let identity = workload.as_ref().filter(|_| proven).map(|workload| workload.identity().expect("an identity"));
    Party { address, workload, said: None, identity }
}

fn connection(direction: Direction, proven: bool) -> Connection {
    let view = fixture::view(SHOP);
    Connection {
        direction,
        source: party(&view, "10.0.0.1:33000", proven),
        destination: party(&view, if proven { "10.0.0.2:15008" } else { "10.0.0.2:8080" }, proven),
        authority: proven.then(|| Authority::parse("10.0.0.2:8080").expect("an authority")),
        service: view.service_by_hostname("web.shop.svc.cluster.local", "shop").cloned(),
        trace: None,
    }
}

fn closed() -> End {
    End::Relayed(RelayEnd::Closed { first: Side::Upstream })
}

fn broken() -> End {
    End::Relayed(RelayEnd::Broken { by: Side::Upstream, error: io::ErrorKind::ConnectionReset.into() })
}

/// Opens, moves 7 bytes there and 9 back, and ends.
fn line(connection: Connection, end: &End) -> String {
    telemetry::capture(telemetry::Format::Plain, || {
        let open = Reporter::default().opened(connection);
        open.meter().sent.store(7, Relaxed);
        open.meter().received.store(9, Relaxed);
        open.finish(end);
    })
    .lines()
    .filter(|line| !line.starts_with("debug"))
    .collect()
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_is_told_with_both_identities() {
    assert_eq!(
        line(connection(Direction::Outbound, true), &closed()),
        "info\taccess\tconnection complete\tsrc.addr=10.0.0.1:33000 src.workload=\"client\" src.namespace=\"shop\" \
         src.identity=\"spiffe://cluster.local/ns/shop/sa/client\" src.cluster=\"Kubernetes\" dst.addr=10.0.0.2:15008 \
         dst.hbone_addr=10.0.0.2:8080 dst.service=\"web.shop.svc.cluster.local\" dst.workload=\"server-1\" \
         dst.namespace=\"shop\" dst.identity=\"spiffe://cluster.local/ns/shop/sa/server\" dst.cluster=\"Kubernetes\" \
         direction=\"outbound\" bytes_sent=7 bytes_recv=9 duration=\"0ms\""
    );
}

#[tokio::test(start_paused = true)]
async fn bytes_are_told_from_where_the_local_workload_stands() {
    let text = line(connection(Direction::Inbound, true), &closed());
    assert!(text.contains("direction=\"inbound\" bytes_sent=9 bytes_recv=7 duration="), "{text}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_left_out() {
    let mut plain = connection(Direction::Inbound, false);
    plain.source = Party::unknown("[2001:db8::1]:5000".parse().expect("an address"));
    plain.service = None;
    assert_eq!(
        line(plain, &broken()),
        "error\taccess\tconnection complete\tsrc.addr=[2001:db8::1]:5000 dst.addr=10.0.0.2:8080 \
         dst.workload=\"server-1\" dst.namespace=\"shop\" dst.cluster=\"Kubernetes\" direction=\"inbound\" \
         bytes_sent=9 bytes_recv=7 duration=\"0ms\" error=\"connection broken by the destination: connection reset\""
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_turned_away_early_is_told_briefly() {
    let text = telemetry::capture(telemetry::Format::Plain, || {
        let end = End::Rejected(outbound::Reject::UnknownSource);
        Reporter::default().failed(&connection(Direction::Outbound, false), &end);
    });
    assert_eq!(
        text,
        "warn\taccess\tconnection failed\tsrc.addr=10.0.0.1:33000 dst.addr=10.0.0.2:8080 direction=\"outbound\" \
         error=\"the pod that sends is not known to the control plane\"\n"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_finished_is_told_all_the_same() {
    let text = telemetry::capture(telemetry::Format::Plain, || {
        drop(Reporter::default().opened(connection(Direction::Outbound, true)));
    });
    assert!(text.contains("error=\"connection dropped by the proxy\""), "{text}");
}

fn scrape(reporter: &Reporter) -> Vec<String> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(reporter.0.traffic.clone()));
    Exposition::new(registry).prometheus_text().lines().map(str::to_owned).collect()
}

fn value(lines: &[String], beginning: &str) -> Option<u64> {
    let line = lines.iter().find(|line| line.starts_with(beginning))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn labels_have_istios_names_and_order() {
    let reporter = Reporter::default();
    reporter.opened(connection(Direction::Outbound, true)).finish(&closed());
    let expected = "istio_tcp_connections_opened_total{reporter=\"source\",source_workload=\"client\",\
        source_canonical_service=\"client\",source_canonical_revision=\"latest\",source_workload_namespace=\"shop\",\
        source_principal=\"spiffe://cluster.local/ns/shop/sa/client\",source_app=\"client\",source_version=\"latest\",\
        source_cluster=\"Kubernetes\",destination_service=\"web.shop.svc.cluster.local\",\
        destination_service_namespace=\"shop\",destination_service_name=\"web\",destination_workload=\"server-1\",\
        destination_canonical_service=\"server-1\",destination_canonical_revision=\"latest\",\
        destination_workload_namespace=\"shop\",\
        destination_principal=\"spiffe://cluster.local/ns/shop/sa/server\",destination_app=\"server-1\",\
        destination_version=\"latest\",destination_cluster=\"Kubernetes\",request_protocol=\"tcp\",response_flags=\"-\",\
        connection_security_policy=\"mutual_tls\",source_region=\"r1\",source_zone=\"z1\",\
        destination_region=\"unknown\",destination_zone=\"unknown\"} 1";
    let lines = scrape(&reporter);
    let found = lines.iter().find(|line| line.starts_with("istio_tcp_connections_opened_total{")).expect("a series");
    assert_eq!(found, expected);
}

#[tokio::test(start_paused = true)]
async fn bytes_of_open_connections_are_counted_before_they_end() {
    let reporter = Reporter::default();
    let open = reporter.opened(connection(Direction::Inbound, true));
    for (sent, received) in [(10, 1), (10, 1), (25, 3)] {
        open.meter().sent.store(sent, Relaxed);
        open.meter().received.store(received, Relaxed);
        let lines = scrape(&reporter);
        assert_eq!(value(&lines, "istio_tcp_received_bytes_total{"), Some(sent));
        assert_eq!(value(&lines, "istio_tcp_sent_bytes_total{"), Some(received));
        assert_eq!(value(&lines, "istio_tcp_sockets_open{reporter=\"destination\"}"), Some(1));
        assert_eq!(value(&lines, "istio_tcp_connections_closed_total{"), Some(0));
    }
    open.meter().sent.store(26, Relaxed);
    open.finish(&closed());
    let lines = scrape(&reporter);
    assert_eq!(value(&lines, "istio_tcp_received_bytes_total{"), Some(26));
    assert_eq!(value(&lines, "istio_tcp_sockets_open{reporter=\"destination\"}"), Some(0));
    assert_eq!(value(&lines, "istio_tcp_connections_closed_total{"), Some(1));
    assert!(!lines.iter().any(|line| line.contains("connections_failed")));
}

#[tokio::test(start_paused = true)]
async fn failures_are_counted_under_their_flag() {
    let reporter = Reporter::default();
    let refused = outbound::Failure::Connect(io::ErrorKind::ConnectionRefused.into());
    reporter.failed(&connection(Direction::Outbound, false), &End::Unreachable(refused));
    reporter.failed(&connection(Direction::Inbound, false), &End::Refused(inbound::Reject::UnknownDestination.into()));
    let lines = scrape(&reporter);
    let failed: Vec<&String> =
        lines.iter().filter(|line| line.starts_with("istio_tcp_connections_failed_total{")).collect();
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|line| line.contains("response_flags=\"CONNECT\"") && line.ends_with(" 1")));
    let opened: u64 = lines
        .iter()
        .filter(|line| line.starts_with("istio_tcp_connections_opened_total{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum();
    assert_eq!(opened, 1, "only the one whose ends were known counts as opened");
}

#[tokio::test(start_paused = true)]
async fn a_million_peers_do_not_fill_the_memory() {
    let reporter = Reporter::default();
    let mut one = connection(Direction::Inbound, true);
    for n in 0..30_000 {
        one.source.identity =
            Some(mesh::Identity::new("cluster.local", "attack", &format!("a{n}")).expect("an identity"));
        reporter.failed(&one, &closed());
    }
    let lines = scrape(&reporter);
    let series = lines.iter().filter(|line| line.starts_with("istio_tcp_connections_opened_total{")).count();
    assert!(series <= 10_001, "{series} series");
    assert!(lines.iter().any(|line| line.contains("source_workload=\"overflow\"") && line.ends_with(" 20000")));
}

#[tokio::test]
async fn every_metric_has_its_name() {
    let mut registry = Registry::default();
    let reporter = Reporter::new(&mut registry);
    let (dns, node) = (DnsMetrics::new(&mut registry), NodeMetrics::new(&mut registry));
    let one = connection(Direction::Outbound, true);
    let client = one.source.workload.clone().expect("a workload");
    reporter.resolved(&client, "db.example.com");
    reporter.opened(one).finish(&broken());
    let labels = DnsLabels::new("A", "udp", Some(&client));
    dns.asked(&labels);
    dns.forwarded(&labels, std::time::Duration::from_millis(3), false);
    node.pods(2, 1);
    node.pod_started();
    xds::client::Report::message(&node, xds::Kind::Address, 100);
    xds::client::Report::terminated(&node, xds::client::Termination::Reconnect);
    let text = Exposition::new(registry).prometheus_text();
    for beginning in [
        "istio_tcp_connections_opened_total{reporter=\"source\",",
        "istio_tcp_connections_closed_total{reporter=\"source\",",
        "istio_tcp_connections_failed_total{reporter=\"source\",",
        "istio_tcp_received_bytes_total{reporter=\"source\",",
        "istio_tcp_sent_bytes_total{reporter=\"source\",",
        "istio_tcp_sockets_open{reporter=\"source\"} 0",
        "istio_on_demand_dns_total{source_workload=\"client\",",
        "istio_dns_requests_total{request_query_type=\"A\",request_protocol=\"udp\",source_canonical_service=\"client\",\
         source_canonical_revision=\"latest\"} 1",
        "istio_dns_upstream_requests_total{",
        "istio_dns_upstream_failures_total{",
        "istio_dns_upstream_request_duration_seconds_bucket{le=\"0.0005\",",
        "workload_manager_active_proxy_count 2",
        "workload_manager_pending_proxy_count 1",
        "workload_manager_proxies_started_total 1",
        "workload_manager_proxies_stopped_total 0",
        "istio_xds_message_total{url=\"type.googleapis.com/istio.workload.Address\"} 1",
        "istio_xds_message_bytes_total{url=\"type.googleapis.com/istio.workload.Address\"} 100",
        "istio_xds_connection_terminations_total{reason=\"Reconnect\"} 1",
    ] {
        assert!(text.lines().any(|line| line.starts_with(beginning)), "{beginning} is missing in\n{text}");
    }
}
