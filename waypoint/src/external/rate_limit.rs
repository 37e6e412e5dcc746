//! A rate limit service (`envoy.service.ratelimit.v3`): what it is asked, and what it says.

use super::{
    call::{Call, CallFailed, Grpc, within},
    edit::headers_of,
};
use http::HeaderMap;
use mesh::route::{Destination, RateLimit, head::Head, limit::LimitKey};
use proto::envoy::{
    extensions::common::ratelimit::v3::{
        RateLimitDescriptor,
        rate_limit_descriptor::{Entry, RateLimitOverride},
    },
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse, rate_limit_response::Code,
        rate_limit_service_client::RateLimitServiceClient,
    },
    r#type::v3::RateLimitUnit,
};
use std::{sync::Arc, time::Duration};

/// The largest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a request is counted under.
#[derive(Clone, Debug, PartialEq)]
pub struct Descriptor(RateLimitDescriptor);

/// What a service says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// There were too many.
    pub over: bool,
    /// For the backend.
    pub request_headers: HeaderMap,
    /// For the caller.
    pub response_headers: HeaderMap,
    /// For the caller, if there were too many; "" if the service says nothing.
    pub body: String,
}

/// What a request is counted under by a limit: `generic_key` with the limit's name, then one entry a
/// key. What a request does not have is `-`, because entries may not be empty. A limit of a second,
/// minute, hour or day is sent along, so that the service needs to know none of its own.
pub fn descriptor(limit: &RateLimit, head: &Head<'_>) -> Descriptor {
    let entry = |key: String, value: String| Entry { key, value: if value.is_empty() { "-".into() } else { value } };
    let first = entry("generic_key".into(), limit.name.to_string());
    let parts = limit.keys.iter().map(|key| entry(name(key), key.of(head).unwrap_or_default().into_owned()));
    let unit = match limit.per.as_secs() {
        1 => Some(RateLimitUnit::Second),
        60 => Some(RateLimitUnit::Minute),
        3_600 => Some(RateLimitUnit::Hour),
        86_400 => Some(RateLimitUnit::Day),
        _ => None,
    };
    let unit = unit.filter(|_| limit.per.subsec_nanos() == 0);
    let limit = unit.map(|unit| RateLimitOverride { requests_per_unit: limit.requests, unit: unit.into() });
    Descriptor(RateLimitDescriptor { entries: std::iter::once(first).chain(parts).collect(), limit, hits_addend: None })
}

/// The name of an entry; Envoy's own where it has one.
fn name(key: &LimitKey) -> String {
    match key {
        LimitKey::Header(name) => name.to_string(),
        LimitKey::Path => "path".into(),
        LimitKey::Method => "method".into(),
        LimitKey::Host => "host".into(),
        LimitKey::CallerIdentity => "source_principal".into(),
        LimitKey::CallerNamespace => "source_namespace".into(),
        LimitKey::CallerAddress => "remote_address".into(),
        LimitKey::Claim(path) => format!("claim.{}", path.join(".")),
    }
}

/// Asks a service.
pub async fn ask(
    call: &Arc<dyn Call>,
    destination: &Destination,
    domain: &str,
    timeout: Duration,
    descriptor: Descriptor,
) -> Result<Said, CallFailed> {
    let way = Grpc::to(call.clone(), destination.clone());
    let origin = way.origin();
    let mut client = RateLimitServiceClient::with_origin(way, origin).max_decoding_message_size(ANSWER_BYTES_MAX);
    let request = RateLimitRequest { domain: domain.into(), descriptors: vec![descriptor.0], hits_addend: 0 };
    let answer = async {
        let answer = client.should_rate_limit(request).await;
        answer.map_err(|status| CallFailed::Unreachable(status.to_string()))
    };
    said(within(timeout, answer).await?.into_inner())
}

fn said(answer: RateLimitResponse) -> Result<Said, CallFailed> {
    let over = match answer.overall_code() {
        Code::Ok => false,
        Code::OverLimit => true,
        Code::Unknown => return Err(CallFailed::Unreadable("it says neither OK nor OVER_LIMIT".into())),
    };
    Ok(Said {
        over,
        request_headers: headers_of(&answer.request_headers_to_add),
        response_headers: headers_of(&answer.response_headers_to_add),
        body: String::from_utf8_lossy(&answer.raw_body).into_owned(),
    })
}
