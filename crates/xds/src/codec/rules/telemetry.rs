//! What is told of requests.

use super::value::{self, Read, all, name, optional, required, some, text};
use mesh::route::telemetry::{AccessLog, MetricOverride, TagValue, Telemetry, Tracing};
use proto::waypoint as wire;

pub(super) fn encode(telemetry: &Telemetry) -> wire::Telemetry {
    wire::Telemetry {
        access_log: telemetry
            .access_log
            .as_ref()
            .map(|log| wire::AccessLog { disabled: log.disabled, filter: optional(&log.filter) }),
        metrics: telemetry.metrics.iter().map(metric).collect(),
        tracing: telemetry.tracing.as_ref().map(tracing),
    }
}

pub(super) fn read(telemetry: wire::Telemetry) -> Read<Telemetry> {
    Ok(Telemetry {
        access_log: telemetry
            .access_log
            .map(|log| AccessLog { disabled: log.disabled, filter: log.filter.map(Into::into) }),
        metrics: all(telemetry.metrics, read_metric)?,
        tracing: some(telemetry.tracing, read_tracing)?,
    })
}

fn metric(metric: &MetricOverride) -> wire::MetricOverride {
    let tag = |(name, value): &_| wire::MetricTag { name: text(name), value: optional(value) };
    wire::MetricOverride {
        metric: optional(&metric.metric),
        disabled: metric.disabled,
        tags: metric.tags.iter().map(tag).collect(),
    }
}

fn read_metric(metric: wire::MetricOverride) -> Read<MetricOverride> {
    Ok(MetricOverride {
        metric: metric.metric.map(Into::into),
        disabled: metric.disabled,
        tags: all(metric.tags, |tag| Ok((name("metrics.tags", tag.name)?, tag.value.map(Into::into))))?,
    })
}

fn tracing(tracing: &Tracing) -> wire::Tracing {
    use wire::trace_tag::Value;
    let named = |name: &_, default: &_| wire::NamedValue { name: text(name), default: optional(default) };
    let tag = |(name, value): &(_, TagValue)| wire::TraceTag {
        name: text(name),
        value: Some(match value {
            TagValue::Literal(literal) => Value::Literal(text(literal)),
            TagValue::Header(header, default) => Value::Header(named(header, default)),
            TagValue::Environment(variable, default) => Value::Environment(named(variable, default)),
        }),
    };
    wire::Tracing {
        disabled: tracing.disabled,
        sampling_ppm: tracing.sampling.map(|share| share.0),
        collector: tracing.collector.as_ref().map(value::destination),
        tags: tracing.tags.iter().map(tag).collect(),
    }
}

fn read_tracing(tracing: wire::Tracing) -> Read<Tracing> {
    use wire::trace_tag::Value;
    let field = "tracing.tags";
    Ok(Tracing {
        disabled: tracing.disabled,
        sampling: some(tracing.sampling_ppm, |share| value::share("tracing.sampling_ppm", share))?,
        collector: some(tracing.collector, |collector| value::read_destination(Some(collector)))?,
        tags: all(tracing.tags, |tag| {
            let value = match required(field, tag.value)? {
                Value::Literal(literal) => TagValue::Literal(literal.into()),
                Value::Header(header) => TagValue::Header(name(field, header.name)?, header.default.map(Into::into)),
                Value::Environment(of) => TagValue::Environment(name(field, of.name)?, of.default.map(Into::into)),
            };
            Ok((name(field, tag.name)?, value))
        })?,
    })
}
