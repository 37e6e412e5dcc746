//! How a destination is reached.

use super::{
    super::{DecodeError, known},
    value::{
        self, Read, all, duration, durations, name, number, optional, percent, read_duration, read_durations, required,
        some, strs, text, texts, unless_empty, within,
    },
};
use mesh::route::traffic::{
    AdaptiveConcurrency, Balance, HashAlgorithm, HashKey, HttpVersion, Locality, Outlier, Pool, ProxyProtocol,
    RetryBudget, TlsOrigination, TlsRoots, Traffic, Warmup,
};
use proto::waypoint as wire;

pub(super) fn encode(traffic: &Traffic) -> wire::Traffic {
    wire::Traffic {
        port: traffic.port.map(u32::from),
        name: text(&traffic.name),
        balance: (traffic.balance != Balance::default()).then(|| balance(&traffic.balance)),
        locality: traffic.locality.as_ref().map(locality),
        warmup: traffic
            .warmup
            .map(|warmup| wire::Warmup { duration: Some(duration(warmup.duration)), minimum_ppm: warmup.minimum.0 }),
        pool: unless_empty(pool(traffic.pool)),
        outlier: traffic.outlier.as_ref().map(outlier),
        tls: traffic.tls.as_ref().map(tls),
        retry_budget: traffic
            .retry_budget
            .map(|budget| wire::RetryBudget { share_ppm: budget.share.0, at_least: budget.at_least }),
        adaptive: traffic
            .adaptive
            .map(|adaptive| wire::AdaptiveConcurrency { minimum: adaptive.minimum, maximum: adaptive.maximum }),
        proxy_protocol: match traffic.proxy_protocol {
            None => wire::ProxyProtocol::Unspecified,
            Some(ProxyProtocol::V1) => wire::ProxyProtocol::V1,
            Some(ProxyProtocol::V2) => wire::ProxyProtocol::V2,
        }
        .into(),
    }
}

pub(super) fn read(traffic: wire::Traffic) -> Read<Traffic> {
    let place = traffic.name.clone();
    let read = || {
        Ok(Traffic {
            port: some(traffic.port, |port| value::read_port("port", port))?,
            name: traffic.name.into(),
            balance: some(traffic.balance, read_balance)?.unwrap_or_default(),
            locality: some(traffic.locality, read_locality)?,
            warmup: some(traffic.warmup, |warmup| {
                let minimum = value::share("warmup.minimum_ppm", warmup.minimum_ppm)?;
                Ok(Warmup { duration: read_duration("warmup.duration", warmup.duration)?, minimum })
            })?,
            pool: read_pool(traffic.pool.unwrap_or_default())?,
            outlier: some(traffic.outlier, read_outlier)?,
            tls: some(traffic.tls, read_tls)?,
            retry_budget: some(traffic.retry_budget, |budget| {
                let share = value::share("retry_budget.share_ppm", budget.share_ppm)?;
                Ok(RetryBudget { share, at_least: budget.at_least })
            })?,
            adaptive: traffic
                .adaptive
                .map(|adaptive| AdaptiveConcurrency { minimum: adaptive.minimum, maximum: adaptive.maximum }),
            proxy_protocol: match known("proxy_protocol", traffic.proxy_protocol)? {
                wire::ProxyProtocol::Unspecified => None,
                wire::ProxyProtocol::V1 => Some(ProxyProtocol::V1),
                wire::ProxyProtocol::V2 => Some(ProxyProtocol::V2),
            },
        })
    };
    within("traffic", &place, read())
}

fn balance(balance: &Balance) -> wire::Balance {
    use wire::balance::{Kind, Simple};
    let kind = match balance {
        Balance::LeastRequest => Kind::Simple(Simple::LeastRequest.into()),
        Balance::RoundRobin => Kind::Simple(Simple::RoundRobin.into()),
        Balance::Random => Kind::Simple(Simple::Random.into()),
        Balance::Passthrough => Kind::Simple(Simple::Passthrough.into()),
        Balance::Consistent { key, algorithm } => Kind::Consistent(consistent(key, *algorithm)),
    };
    wire::Balance { kind: Some(kind) }
}

fn read_balance(balance: wire::Balance) -> Read<Balance> {
    use wire::balance::{Kind, Simple};
    Ok(match required("balance", balance.kind)? {
        Kind::Simple(simple) => match known("balance.simple", simple)? {
            Simple::Unspecified => return Err(DecodeError::Missing("balance.simple")),
            Simple::LeastRequest => Balance::LeastRequest,
            Simple::RoundRobin => Balance::RoundRobin,
            Simple::Random => Balance::Random,
            Simple::Passthrough => Balance::Passthrough,
        },
        Kind::Consistent(hash) => read_consistent(hash)?,
    })
}

fn consistent(key: &HashKey, algorithm: HashAlgorithm) -> wire::ConsistentHash {
    use wire::consistent_hash::{Algorithm, Key};
    wire::ConsistentHash {
        key: Some(match key {
            HashKey::Header(name) => Key::Header(text(name)),
            HashKey::Cookie { name, path, ttl } => {
                Key::Cookie(wire::HashCookie { name: text(name), path: optional(path), ttl: durations(*ttl) })
            }
            HashKey::SourceIp => Key::SourceIp(()),
            HashKey::Query(name) => Key::Query(text(name)),
        }),
        algorithm: Some(match algorithm {
            HashAlgorithm::Ring { points_min } => Algorithm::RingPointsMin(points_min),
            HashAlgorithm::Maglev { entries } => Algorithm::MaglevEntries(entries),
        }),
    }
}

fn read_consistent(hash: wire::ConsistentHash) -> Read<Balance> {
    use wire::consistent_hash::{Algorithm, Key};
    let key = match required("consistent.key", hash.key)? {
        Key::Header(header) => HashKey::Header(name("consistent.header", header)?),
        Key::Cookie(cookie) => HashKey::Cookie {
            name: name("consistent.cookie", cookie.name)?,
            path: cookie.path.map(Into::into),
            ttl: read_durations("consistent.cookie.ttl", cookie.ttl)?,
        },
        Key::SourceIp(()) => HashKey::SourceIp,
        Key::Query(query) => HashKey::Query(name("consistent.query", query)?),
    };
    let algorithm = match required("consistent.algorithm", hash.algorithm)? {
        Algorithm::RingPointsMin(points_min) => HashAlgorithm::Ring { points_min },
        Algorithm::MaglevEntries(entries) => HashAlgorithm::Maglev { entries },
    };
    Ok(Balance::Consistent { key, algorithm })
}

fn locality(locality: &Locality) -> wire::Locality {
    use wire::{locality::Kind, locality_distribute as distribute};
    let share = |(to, percent): &_| distribute::Share { to: text(to), percent: *percent };
    let kind = match locality {
        Locality::Off => Kind::Off(()),
        Locality::Failover(regions) => Kind::Failover(wire::LocalityFailover {
            regions: regions
                .iter()
                .map(|(from, to)| wire::locality_failover::Region { from: text(from), to: text(to) })
                .collect(),
        }),
        Locality::Priority(labels) => Kind::Priority(wire::LocalityPriority { labels: texts(labels) }),
        Locality::Distribute(sources) => Kind::Distribute(wire::LocalityDistribute {
            sources: sources
                .iter()
                .map(|(from, shares)| distribute::Source {
                    from: text(from),
                    shares: shares.iter().map(share).collect(),
                })
                .collect(),
        }),
    };
    wire::Locality { kind: Some(kind) }
}

fn read_locality(locality: wire::Locality) -> Read<Locality> {
    use wire::locality::Kind;
    Ok(match required("locality", locality.kind)? {
        Kind::Off(()) => Locality::Off,
        Kind::Failover(failover) => Locality::Failover(
            failover.regions.into_iter().map(|region| (region.from.into(), region.to.into())).collect(),
        ),
        Kind::Priority(priority) => Locality::Priority(strs(priority.labels)),
        Kind::Distribute(distribute) => {
            let source = |source: wire::locality_distribute::Source| {
                let shares = source.shares.into_iter().map(|share| (share.to.into(), share.percent));
                (source.from.into(), shares.collect())
            };
            Locality::Distribute(distribute.sources.into_iter().map(source).collect())
        }
    })
}

fn pool(pool: Pool) -> wire::Pool {
    wire::Pool {
        connections_max: pool.connections_max,
        pending_max: pool.pending_max,
        requests_max: pool.requests_max,
        requests_per_connection: pool.requests_per_connection,
        retries_max: pool.retries_max,
        streams_max: pool.streams_max,
        connect_timeout: durations(pool.connect_timeout),
        idle_timeout: durations(pool.idle_timeout),
        age_max: durations(pool.age_max),
        http: match pool.http {
            None => wire::HttpVersion::Unspecified,
            Some(HttpVersion::Http1) => wire::HttpVersion::Http1,
            Some(HttpVersion::Http2) => wire::HttpVersion::Http2,
        }
        .into(),
        as_caller: pool.as_caller,
    }
}

fn read_pool(pool: wire::Pool) -> Read<Pool> {
    Ok(Pool {
        connections_max: pool.connections_max,
        pending_max: pool.pending_max,
        requests_max: pool.requests_max,
        requests_per_connection: pool.requests_per_connection,
        retries_max: pool.retries_max,
        streams_max: pool.streams_max,
        connect_timeout: read_durations("pool.connect_timeout", pool.connect_timeout)?,
        idle_timeout: read_durations("pool.idle_timeout", pool.idle_timeout)?,
        age_max: read_durations("pool.age_max", pool.age_max)?,
        http: match known("pool.http", pool.http)? {
            wire::HttpVersion::Unspecified => None,
            wire::HttpVersion::Http1 => Some(HttpVersion::Http1),
            wire::HttpVersion::Http2 => Some(HttpVersion::Http2),
        },
        as_caller: pool.as_caller,
    })
}

fn outlier(outlier: &Outlier) -> wire::Outlier {
    wire::Outlier {
        consecutive_errors: outlier.consecutive_errors,
        consecutive_gateway_errors: outlier.consecutive_gateway_errors,
        consecutive_local_failures: outlier.consecutive_local_failures,
        error_codes: value::ports(&outlier.error_codes),
        interval: Some(duration(outlier.interval)),
        base_ejection: Some(duration(outlier.base_ejection)),
        max_ejection: Some(duration(outlier.max_ejection)),
        max_ejected_percent: outlier.max_ejected_percent.into(),
        min_healthy_percent: outlier.min_healthy_percent.into(),
    }
}

fn read_outlier(outlier: wire::Outlier) -> Read<Outlier> {
    Ok(Outlier {
        consecutive_errors: outlier.consecutive_errors,
        consecutive_gateway_errors: outlier.consecutive_gateway_errors,
        consecutive_local_failures: outlier.consecutive_local_failures,
        error_codes: all(outlier.error_codes, |code| number("outlier.error_codes", code))?,
        interval: read_duration("outlier.interval", outlier.interval)?,
        base_ejection: read_duration("outlier.base_ejection", outlier.base_ejection)?,
        max_ejection: read_duration("outlier.max_ejection", outlier.max_ejection)?,
        max_ejected_percent: percent("outlier.max_ejected_percent", outlier.max_ejected_percent)?,
        min_healthy_percent: percent("outlier.min_healthy_percent", outlier.min_healthy_percent)?,
    })
}

fn tls(tls: &TlsOrigination) -> wire::TlsOrigination {
    use wire::tls_origination::Roots;
    wire::TlsOrigination {
        server_name: optional(&tls.server_name),
        subject_alt_names: texts(&tls.subject_alt_names),
        roots: Some(match &tls.roots {
            TlsRoots::System => Roots::System(()),
            TlsRoots::Pem(pem) => Roots::Pem(text(pem)),
            TlsRoots::Anybody => Roots::Anybody(()),
            TlsRoots::Missing { reason } => Roots::Missing(text(reason)),
        }),
        client: tls.client.as_ref().map(|(chain, key)| wire::ClientCertificate { chain: text(chain), key: text(key) }),
    }
}

fn read_tls(tls: wire::TlsOrigination) -> Read<TlsOrigination> {
    use wire::tls_origination::Roots;
    Ok(TlsOrigination {
        server_name: tls.server_name.map(Into::into),
        subject_alt_names: strs(tls.subject_alt_names),
        roots: match required("tls.roots", tls.roots)? {
            Roots::System(()) => TlsRoots::System,
            Roots::Pem(pem) => TlsRoots::Pem(pem.into()),
            Roots::Anybody(()) => TlsRoots::Anybody,
            Roots::Missing(reason) => TlsRoots::Missing { reason: reason.into() },
        },
        client: tls.client.map(|client| (client.chain.into(), client.key.into())),
    })
}
