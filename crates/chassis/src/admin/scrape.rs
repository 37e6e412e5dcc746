//! What Prometheus is answered: in which of the two text forms, and whether packed.

use super::{Request, Response, respond};
use crate::metrics::Exposition;
use flate2::{Compression, write::GzEncoder};
use http::{StatusCode, header};
use std::io::Write;

/// The metrics, in the form and the packing that the request asks for.
pub(super) fn answer(exposition: &Exposition, request: &Request) -> Response {
    let (kind, written) = if asks(request, header::ACCEPT, "application/openmetrics-text") {
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", exposition.open_metrics())
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", exposition.prometheus_text())
    };
    // Labels repeat from line to line: what goes over the wire is a small part.
    let packed = asks(request, header::ACCEPT_ENCODING, "gzip").then(|| gzip(written.as_bytes()));
    let mut response = match packed {
        Some(Ok(packed)) => {
            let mut response = respond(StatusCode::OK, kind, packed);
            response.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
            response
        }
        Some(Err(_)) | None => respond(StatusCode::OK, kind, written),
    };
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("accept, accept-encoding"));
    response
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes)?;
    packed.finish()
}

/// Whether a header names `wanted` among what is accepted.
fn asks(request: &Request, header: header::HeaderName, wanted: &str) -> bool {
    let values = request.headers().get_all(header).into_iter().filter_map(|value| value.to_str().ok());
    values.into_iter().any(|value| names(value, wanted))
}

/// Whether one of the alternatives of an Accept header is `wanted`, and not ruled out by `q=0`.
fn names(accept: &str, wanted: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case(wanted))
            && !parts.any(|part| part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use prometheus_client::registry::Registry;

    #[test]
    fn open_metrics_is_for_those_who_ask() {
        for (accept, expected) in [
            ("application/openmetrics-text; version=1.0.0,text/plain;q=0.5", true),
            ("text/plain, Application/OpenMetrics-Text", true),
            ("text/plain;version=0.0.4", false),
            ("application/openmetrics-text;q=0, */*", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(names(accept, "application/openmetrics-text"), expected, "{accept}");
        }
    }

    #[test]
    fn metrics_are_packed_for_those_who_ask() {
        let mut registry = Registry::default();
        let counter = prometheus_client::metrics::counter::Counter::<u64>::default();
        registry.register("seen", "Things seen", counter);
        let exposition = Exposition::new(registry);
        let ask = |accepted: &str| {
            let request = http::Request::get("/metrics").header("accept-encoding", accepted).body(Bytes::new());
            answer(&exposition, &request.unwrap())
        };
        for (accepted, packed) in [("gzip", true), ("br, gzip;q=0.5", true), ("gzip;q=0", false), ("identity", false)] {
            let response = ask(accepted);
            assert_eq!(response.headers().contains_key("content-encoding"), packed, "{accepted}");
            let mut text = String::new();
            let read = match packed {
                true => {
                    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&response.body()[..]), &mut text)
                }
                false => std::io::Read::read_to_string(&mut &response.body()[..], &mut text),
            };
            read.unwrap();
            assert!(text.contains("seen_total 0"), "{accepted}: {text}");
        }
    }
}
