//! Rate limits and faults.

use super::{
    super::{DecodeError, known},
    http,
    value::{self, Read, all, name, number, required, some, text},
};
use mesh::route::limit::{AbortStatus, Fault, LimitKey, LimitScope, RateLimit};
use proto::waypoint as wire;

pub(super) fn encode(limit: &RateLimit) -> wire::RateLimit {
    use wire::rate_limit::Scope;
    wire::RateLimit {
        name: text(&limit.name),
        matches: limit.matches.iter().map(http::matched).collect(),
        keys: limit.keys.iter().map(key).collect(),
        requests: limit.requests,
        per: Some(value::duration(limit.per)),
        burst: limit.burst,
        scope: Some(match &limit.scope {
            LimitScope::Replica => Scope::Replica(()),
            LimitScope::Shared => Scope::Shared(()),
            LimitScope::Service { destination, domain, timeout, fail_open } => Scope::Service(wire::RateLimitService {
                destination: Some(value::destination(destination)),
                domain: text(domain),
                timeout: Some(value::duration(*timeout)),
                fail_open: *fail_open,
            }),
        }),
    }
}

pub(super) fn read(limit: wire::RateLimit) -> Read<RateLimit> {
    use wire::rate_limit::Scope;
    let place = limit.name.clone();
    let read = || {
        Ok(RateLimit {
            name: limit.name.into(),
            matches: all(limit.matches, http::read_match)?,
            keys: all(limit.keys, read_key)?,
            requests: limit.requests,
            per: value::read_duration("per", limit.per)?,
            burst: limit.burst,
            scope: match required("scope", limit.scope)? {
                Scope::Replica(()) => LimitScope::Replica,
                Scope::Shared(()) => LimitScope::Shared,
                Scope::Service(service) => LimitScope::Service {
                    destination: value::read_destination(service.destination)?,
                    domain: service.domain.into(),
                    timeout: value::read_duration("service.timeout", service.timeout)?,
                    fail_open: service.fail_open,
                },
            },
        })
    };
    value::within("limit", &place, read())
}

fn key(key: &LimitKey) -> wire::LimitKey {
    use wire::limit_key::{Attribute, Key};
    let key = match key {
        LimitKey::Header(name) => Key::Header(text(name)),
        LimitKey::Path => Key::Attribute(Attribute::Path.into()),
        LimitKey::Method => Key::Attribute(Attribute::Method.into()),
        LimitKey::Host => Key::Attribute(Attribute::Host.into()),
        LimitKey::CallerIdentity => Key::Attribute(Attribute::CallerIdentity.into()),
        LimitKey::CallerNamespace => Key::Attribute(Attribute::CallerNamespace.into()),
        LimitKey::CallerAddress => Key::Attribute(Attribute::CallerAddress.into()),
        LimitKey::Claim(path) => Key::Claim(wire::ClaimPath { names: value::texts(path) }),
    };
    wire::LimitKey { key: Some(key) }
}

fn read_key(key: wire::LimitKey) -> Read<LimitKey> {
    use wire::limit_key::{Attribute, Key};
    Ok(match required("keys", key.key)? {
        Key::Header(header) => LimitKey::Header(name("keys.header", header)?),
        Key::Claim(path) => LimitKey::Claim(value::path("keys.claim", path.names)?),
        Key::Attribute(attribute) => match known("keys.attribute", attribute)? {
            Attribute::Unspecified => return Err(DecodeError::Missing("keys.attribute")),
            Attribute::Path => LimitKey::Path,
            Attribute::Method => LimitKey::Method,
            Attribute::Host => LimitKey::Host,
            Attribute::CallerIdentity => LimitKey::CallerIdentity,
            Attribute::CallerNamespace => LimitKey::CallerNamespace,
            Attribute::CallerAddress => LimitKey::CallerAddress,
        },
    })
}

pub(super) fn fault(fault: &Fault) -> wire::Fault {
    use wire::abort::Status;
    wire::Fault {
        matches: fault.matches.iter().map(http::matched).collect(),
        delay: fault
            .delay
            .map(|(duration, share)| wire::Delay { duration: Some(value::duration(duration)), share_ppm: share.0 }),
        abort: fault.abort.map(|(status, share)| wire::Abort {
            status: Some(match status {
                AbortStatus::Http(status) => Status::Http(status.into()),
                AbortStatus::Grpc(status) => Status::Grpc(status.into()),
            }),
            share_ppm: share.0,
        }),
    }
}

pub(super) fn read_fault(fault: wire::Fault) -> Read<Fault> {
    use wire::abort::Status;
    Ok(Fault {
        matches: all(fault.matches, http::read_match)?,
        delay: some(fault.delay, |delay| {
            let duration = value::read_duration("delay.duration", delay.duration)?;
            Ok((duration, value::share("delay.share_ppm", delay.share_ppm)?))
        })?,
        abort: some(fault.abort, |abort| {
            let status = match required("abort.status", abort.status)? {
                Status::Http(status) => AbortStatus::Http(value::status("abort.http", status)?),
                Status::Grpc(status) => AbortStatus::Grpc(number("abort.grpc", status)?),
            };
            Ok((status, value::share("abort.share_ppm", abort.share_ppm)?))
        })?,
    })
}
