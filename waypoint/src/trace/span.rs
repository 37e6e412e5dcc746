//! One request as a span of OpenTelemetry, with the attributes of Istio's proxies and those of
//! OpenTelemetry's conventions for HTTP. Pure.

use super::{Own, Span, settings::Settings};
use crate::report::{Outcome, Party, Protocol};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{self as wire, span::SpanKind, status::StatusCode},
};
use std::time::{Duration, SystemTime};

/// The longest text of a caller in a span.
const TEXT_BYTES_MAX: usize = 2 * 1024;

/// The span of a request.
pub(super) fn span(own: &Own, begun: &Span, outcome: &Outcome, settings: &Settings) -> wire::Span {
    let start = nanos(outcome.started);
    let took = u64::try_from(outcome.duration.as_nanos()).unwrap_or(u64::MAX);
    let failed = failed(outcome);
    wire::Span {
        trace_id: begun.context.trace.to_be_bytes().to_vec(),
        span_id: begun.context.span.to_be_bytes().to_vec(),
        parent_span_id: begun.parent.map(|parent| parent.span.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: 1,
        // Istio's operation name: what was asked for, without anything that grows without bound.
        name: format!("{}/*", outcome.service.host),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(took),
        attributes: attributes(own, outcome, settings),
        status: failed.then(|| wire::Status { message: outcome.details.to_string(), code: StatusCode::Error.into() }),
        ..wire::Span::default()
    }
}

fn nanos(time: SystemTime) -> u64 {
    let since: Duration = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether the server is at fault, as the conventions count it: 5xx, no response, or such a status of gRPC.
fn failed(outcome: &Outcome) -> bool {
    match outcome.grpc_status {
        Some(status) if outcome.grpc => matches!(status, 2 | 4 | 12 | 13 | 14 | 15),
        _ => outcome.status == 0 || outcome.status >= 500,
    }
}

fn attributes(own: &Own, o: &Outcome, settings: &Settings) -> Vec<KeyValue> {
    let mut all = Vec::with_capacity(48);
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            all.push(text(key, value));
        }
    };
    // As Istio's proxies have always named them.
    put("component", "proxy");
    put("node_id", &own.node_id());
    put("guid:x-request-id", &o.request_id);
    put("http.method", o.method.as_str());
    put("http.url", &format!("http://{}{}", o.authority, o.path));
    put("http.protocol", o.protocol.label());
    put("http.status_code", &o.status.to_string());
    put("user_agent", o.header("user-agent").unwrap_or_default());
    put("request_size", &o.received_bytes.to_string());
    put("response_size", &o.sent_bytes.to_string());
    put("response_flags", &o.flags.to_string());
    put("downstream_cluster", o.header("x-envoy-downstream-service-cluster").unwrap_or("-"));
    put("upstream_cluster", &o.cluster);
    put("upstream_cluster.name", &o.cluster);
    put("upstream_address", &o.upstream.map_or_else(String::new, |address| address.to_string()));
    put("peer.address", &o.downstream_remote.map_or_else(String::new, |address| address.ip().to_string()));
    put("istio.canonical_service", &own.name);
    put("istio.canonical_revision", "latest");
    put("istio.mesh_id", &own.mesh_id);
    put("istio.namespace", &own.namespace);
    put("istio.cluster_id", &own.cluster);
    party(&mut put, "source", &o.source);
    party(&mut put, "destination", &o.destination);
    // As OpenTelemetry names them.
    put("http.request.method", o.method.as_str());
    put("url.scheme", "http");
    let (path, query) = o.path.split_once('?').unwrap_or((&o.path, ""));
    put("url.path", path);
    put("url.query", query);
    put("server.address", &o.authority);
    put("client.address", &o.downstream_remote.map_or_else(String::new, |address| address.ip().to_string()));
    put("user_agent.original", o.header("user-agent").unwrap_or_default());
    put("http.route", &o.route);
    put(
        "network.protocol.version",
        match o.protocol {
            Protocol::Http10 => "1.0",
            Protocol::Http11 => "1.1",
            Protocol::Http2 => "2",
            Protocol::Tcp => "",
        },
    );
    if failed(o) {
        put("error.type", &o.status.to_string());
        put("error", "true");
    }
    settings.tags(o).for_each(|(key, value)| put(key, value));
    if let Some(status) = o.grpc_status.filter(|_| o.grpc) {
        put("grpc.status_code", &status.to_string());
        all.push(number("rpc.grpc.status_code", status.into()));
    }
    all.push(number("http.response.status_code", o.status.into()));
    all
}

fn party(put: &mut impl FnMut(&str, &str), end: &str, party: &Party) {
    for (name, value) in [
        ("workload", &party.workload),
        ("namespace", &party.namespace),
        ("cluster_id", &party.cluster),
        ("canonical_service", &party.canonical_service),
        ("canonical_revision", &party.canonical_revision),
        ("app", &party.canonical_service),
        ("app_version", &party.canonical_revision),
        ("instance_name", &party.instance),
        ("principal", &party.principal),
    ] {
        put(&format!("istio.{end}_{name}"), value);
    }
    put(&format!("istio.{end}_workload_type"), party.workload_type);
}

fn text(key: &str, value: &str) -> KeyValue {
    let value = value[..value.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
    pair(key, Value::StringValue(value))
}

fn number(key: &str, value: i64) -> KeyValue {
    pair(key, Value::IntValue(value))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// Who the spans are of: this waypoint.
pub(super) fn resource(own: &Own) -> Resource {
    let service = format!("{}.{}", own.name, own.namespace);
    let attributes = [
        ("service.name", service.as_str()),
        ("service.namespace", &own.namespace),
        ("service.instance.id", &own.pod),
        ("k8s.pod.name", &own.pod),
        ("k8s.namespace.name", &own.namespace),
        ("k8s.cluster.name", &own.cluster),
    ];
    let attributes = attributes.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| text(key, value));
    Resource { attributes: attributes.collect(), ..Resource::default() }
}
