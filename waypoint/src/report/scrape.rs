//! Series → what Prometheus reads, with Istio's labels in Istio's order.

use super::{
    series::{AllSeries, BUCKETS, Key, Seen, Series},
    shape::{Changed, Metric},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder, NoLabelSet},
    metrics::{MetricType, counter::ConstCounter},
};
use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// The labels of one series of one metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Labels<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            EncodeLabel::encode(&(*name, value.as_ref()), encoder.encode_label())?;
        }
        Ok(())
    }
}

/// The labels of a metric of a series; none: it is not kept.
fn labels(key: &Key, metric: Metric) -> Option<Labels<'_>> {
    let (source, destination, service) = (&key.source, &key.destination, &key.service);
    let mut labels: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(32);
    let mut put = |name, value| labels.push((name, value));
    put("reporter", "waypoint".into());
    put("source_workload", source.workload.as_ref().into());
    put("source_canonical_service", source.canonical_service.as_ref().into());
    put("source_canonical_revision", source.canonical_revision.as_ref().into());
    put("source_workload_namespace", source.namespace.as_ref().into());
    put("source_principal", source.principal.as_ref().into());
    put("source_app", source.canonical_service.as_ref().into());
    put("source_version", source.canonical_revision.as_ref().into());
    put("source_cluster", source.cluster.as_ref().into());
    put("destination_workload", destination.workload.as_ref().into());
    put("destination_workload_namespace", destination.namespace.as_ref().into());
    put("destination_principal", destination.principal.as_ref().into());
    put("destination_app", destination.canonical_service.as_ref().into());
    put("destination_version", destination.canonical_revision.as_ref().into());
    put("destination_service", service.host.as_ref().into());
    put("destination_canonical_service", destination.canonical_service.as_ref().into());
    put("destination_canonical_revision", destination.canonical_revision.as_ref().into());
    put("destination_service_name", service.name.as_ref().into());
    put("destination_service_namespace", service.namespace.as_ref().into());
    put("destination_cluster", destination.cluster.as_ref().into());
    put("request_protocol", key.protocol.into());
    if let Some((status, grpc)) = key.code {
        put("response_code", status.to_string().into());
        put("grpc_response_status", grpc.map_or_else(String::new, |status| status.to_string()).into());
    }
    put("response_flags", key.flags.to_string().into());
    put("connection_security_policy", key.security.label().into());
    let Some(Changed { rows, values }) = &key.shape else { return Some(Labels(labels)) };
    let row = &rows[metric as usize];
    if row.disabled {
        return None;
    }
    for (name, value) in &row.labels {
        labels.retain(|(label, _)| *label != &**name);
        labels.extend(value.map(|at| (&**name, Cow::Borrowed(&*values[at]))));
    }
    Some(Labels(labels))
}

impl Collector for AllSeries {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let series = self.now();
        for metric in Metric::ALL {
            let kind = |key: &Key| key.code.is_none() == (metric as u8 >= Metric::TcpOpened as u8);
            let of_kind = series.iter().filter(|(key, _)| kind(key));
            match total(metric) {
                Total::Counter(read) => counter(&mut encoder, metric, of_kind, read)?,
                Total::Histogram(read) => histogram(&mut encoder, metric, of_kind, read)?,
            }
        }
        Ok(())
    }
}

/// How a metric is read from a series.
enum Total {
    Counter(fn(&Series) -> u64),
    Histogram(fn(&Series, &mut Seen)),
}

fn total(metric: Metric) -> Total {
    match metric {
        Metric::Requests => Total::Counter(|series| series.requests.load(Relaxed)),
        Metric::Duration => Total::Histogram(|series, seen| series.duration.add_to(seen)),
        Metric::RequestBytes => Total::Histogram(|series, seen| series.request_bytes.add_to(seen)),
        Metric::ResponseBytes => Total::Histogram(|series, seen| series.response_bytes.add_to(seen)),
        Metric::RequestMessages => Total::Counter(|series| series.request_messages.load(Relaxed)),
        Metric::ResponseMessages => Total::Counter(|series| series.response_messages.load(Relaxed)),
        Metric::TcpOpened => Total::Counter(|series| series.opened.load(Relaxed)),
        Metric::TcpClosed => Total::Counter(|series| series.closed.load(Relaxed)),
        Metric::TcpReceived => Total::Counter(|series| series.received.load(Relaxed)),
        Metric::TcpSent => Total::Counter(|series| series.sent.load(Relaxed)),
    }
}

type Each<'a> = &'a (Key, Arc<Series>);

/// Series that became the same when labels were taken away are one: the format allows no label set twice.
fn merged<'a, T: Default>(
    series: impl Iterator<Item = Each<'a>>,
    metric: Metric,
    mut add: impl FnMut(&Series, &mut T),
) -> HashMap<Labels<'a>, T> {
    let mut all: HashMap<Labels<'a>, T> = HashMap::new();
    for (key, series) in series {
        if let Some(labels) = labels(key, metric) {
            add(series, all.entry(labels).or_default());
        }
    }
    all
}

fn counter<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    metric: Metric,
    series: impl Iterator<Item = Each<'a>>,
    read: fn(&Series) -> u64,
) -> fmt::Result {
    let mut all = merged(series, metric, |series, sum: &mut u64| *sum += read(series));
    let grpc_only = matches!(metric, Metric::RequestMessages | Metric::ResponseMessages);
    all.retain(|_, sum| !grpc_only || *sum > 0);
    if all.is_empty() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(metric.family(), metric.help(), None, MetricType::Counter)?;
    for (labels, sum) in &all {
        ConstCounter::new(*sum).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

fn histogram<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    metric: Metric,
    series: impl Iterator<Item = Each<'a>>,
    read: fn(&Series, &mut Seen),
) -> fmt::Result {
    let all = merged(series, metric, |series, seen: &mut Seen| read(series, seen));
    if all.is_empty() {
        return Ok(());
    }
    let mut family = encoder.encode_descriptor(metric.family(), metric.help(), None, MetricType::Histogram)?;
    for (labels, seen) in &all {
        let uppers = BUCKETS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = uppers.zip(seen.counts).collect();
        let count = seen.counts.iter().sum();
        family.encode_family(labels)?.encode_histogram::<NoLabelSet>(seen.sum, count, &buckets, None)?;
    }
    Ok(())
}
