//! How a destination is reached: choice of endpoint, connections, ejection, TLS.

use super::text::Fraction;
use crate::Str;
use std::time::Duration;

/// How a service, or a port or subset of it, is reached.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// The port of the service it is for; none: those that have no entry of their own.
    pub port: Option<u16>,
    /// Who decided, for logs: `DestinationRule/namespace/name`, ….
    pub name: Str,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// How localities are preferred; none: as the service says.
    pub locality: Option<Locality>,
    /// How long a new endpoint takes to get its full share.
    pub warmup: Option<Warmup>,
    /// Connections and requests.
    pub pool: Pool,
    /// When an endpoint is taken out.
    pub outlier: Option<Outlier>,
    /// TLS of our own to the endpoint, inside whatever carries it.
    pub tls: Option<TlsOrigination>,
    /// How many of the requests in flight may be further tries.
    pub retry_budget: Option<RetryBudget>,
    /// How many requests are let through at a time is found from their latency.
    pub adaptive: Option<AdaptiveConcurrency>,
    /// Each connection begins with a PROXY protocol header.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// A named part of a service's endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    /// Its name.
    pub name: Str,
    /// The workloads in it, by uid, sorted.
    pub members: Vec<Str>,
    /// How it is reached, instead of what the service says; empty: as the service.
    pub traffic: Vec<Traffic>,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// The better of two at random, by requests in flight and recent latency (P2C over EWMA).
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// At random.
    Random,
    /// The address that the caller dialled.
    Passthrough,
    /// The same one for the same key.
    Consistent {
        /// The key.
        key: HashKey,
        /// How keys are spread over endpoints.
        algorithm: HashAlgorithm,
    },
}

/// What requests are told apart by when each goes to its own endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// A header, by name in lower case.
    Header(Str),
    /// A cookie. One is made if the request has none and a life is set.
    Cookie {
        /// Its name.
        name: Str,
        /// Its path.
        path: Option<Str>,
        /// Its life; none: it is never made; zero: until the browser closes.
        ttl: Option<Duration>,
    },
    /// The caller's address.
    SourceIp,
    /// A query parameter.
    Query(Str),
}

/// How keys are spread over endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// A ring of at least so many points.
    Ring {
        /// Points.
        points_min: u32,
    },
    /// Maglev, with a table of this size (a prime).
    Maglev {
        /// Entries.
        entries: u32,
    },
}

/// How localities are preferred. A locality is `region`, `region/zone` or `region/zone/subzone`;
/// `*` stands for any part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Locality {
    /// All are alike.
    Off,
    /// Nearest first, and with these regions in place of an empty one: (from, to).
    Failover(Vec<(Str, Str)>),
    /// Nearest first, by the labels that agree: `key` or `key=value`.
    Priority(Vec<Str>),
    /// Shares: (from, [(to, percent)]).
    Distribute(Vec<(Str, Vec<(Str, u32)>)>),
}

/// How a new endpoint gets its full share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warmup {
    /// How long it takes.
    pub duration: Duration,
    /// Its share at first, of what it will be.
    pub minimum: Fraction,
}

/// Connections and requests; none: [`crate::limits`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Most connections to the whole destination (HTTP/1 and TCP).
    pub connections_max: Option<u32>,
    /// Most requests that wait for a connection.
    pub pending_max: Option<u32>,
    /// Most requests in flight.
    pub requests_max: Option<u32>,
    /// A connection is left after so many requests.
    pub requests_per_connection: Option<u32>,
    /// Most further tries in flight.
    pub retries_max: Option<u32>,
    /// Most requests at a time on one HTTP/2 connection.
    pub streams_max: Option<u32>,
    /// How long a connection may take to come about.
    pub connect_timeout: Option<Duration>,
    /// How long a connection without requests is kept.
    pub idle_timeout: Option<Duration>,
    /// How old a connection may get.
    pub age_max: Option<Duration>,
    /// Which HTTP is spoken; none: as the caller did where the port does not say.
    pub http: Option<HttpVersion>,
    /// HTTP is spoken as the caller did, whatever the port says.
    pub as_caller: bool,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// When an endpoint is taken out, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// So many 5xx (or `error_codes`) one after the other; 0: never.
    pub consecutive_errors: u32,
    /// So many 502, 503, 504 one after the other; 0: never.
    pub consecutive_gateway_errors: u32,
    /// So many connections that failed one after the other, counted apart; 0: they are 5xx.
    pub consecutive_local_failures: u32,
    /// What is an error; empty: 5xx.
    pub error_codes: Vec<u16>,
    /// How often ejected endpoints are looked at.
    pub interval: Duration,
    /// How long the first time; each further time so much longer.
    pub base_ejection: Duration,
    /// How long at most.
    pub max_ejection: Duration,
    /// Most endpoints that are out at a time, in percent; at least one may always be.
    pub max_ejected_percent: u8,
    /// Below this share of healthy endpoints ejection is not heeded, in percent.
    pub min_healthy_percent: u8,
}

/// TLS of our own to the endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOrigination {
    /// Name in the handshake; none: the host of the request.
    pub server_name: Option<Str>,
    /// Names of which the certificate must have one; empty: the name in the handshake.
    pub subject_alt_names: Vec<Str>,
    /// Whom to believe.
    pub roots: TlsRoots,
    /// What we show: (certificate chain, key) as PEM.
    pub client: Option<(Str, Str)>,
}

/// Whom to believe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TlsRoots {
    /// The certificate authorities of the system.
    #[default]
    System,
    /// These, as PEM.
    Pem(Str),
    /// Nobody is checked (`insecureSkipVerify`).
    Anybody,
    /// There are none that can be used: no connection comes about.
    Missing {
        /// Why, for the log.
        reason: Str,
    },
}

/// How many of the requests in flight may be further tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Share of the requests in flight.
    pub share: Fraction,
    /// So many are always allowed.
    pub at_least: u32,
}

/// How many requests are let through at a time is found from their latency (gradient).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveConcurrency {
    /// Fewest.
    pub minimum: u32,
    /// Most.
    pub maximum: u32,
}

/// A PROXY protocol header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}
