//! Any rules there can be, drawn from bytes: when the bytes end, everything is first or empty, so
//! fewer bytes are simpler rules.

use ipnet::IpNet;
use mesh::{
    ServiceKey, Str,
    policy::{Clause, Match, PathPattern, RequestMatch, Rule, ServiceAccountMatch, StringMatch, Values},
    route::{
        Backend, Destination, Fault, GatewayRules, Guards, HttpRoute, HttpRule, RateLimit, ServiceRules, StreamRoute,
        Subset, Telemetry, Traffic,
        guard::{
            Authentication, AuthorizerProtocol, BodyShown, ExternalAuthorizer, GuardAction, GuardPolicy, Issuer, Keys,
        },
        http::{
            Action, Cors, DirectResponse, Filters, HeaderEdit, HttpMatch, Mirror, PathRewrite, Precedence, Redirect,
            Retry, RetryOn, Rewrite, Session, SessionCarrier, Timeouts,
        },
        limit::{AbortStatus, LimitKey, LimitScope},
        telemetry::{AccessLog, MetricOverride, TagValue, Tracing},
        text::{FieldMatch, Fraction, PathMatch, TextMatch},
        traffic::{
            AdaptiveConcurrency, Balance, HashAlgorithm, HashKey, HttpVersion, Locality, Outlier, Pool, ProxyProtocol,
            RetryBudget, TlsOrigination, TlsRoots, Warmup,
        },
    },
};
use std::{net::IpAddr, time::Duration};

/// The parts of rules that are drawn from bytes of their own, so that the first do not take all.
pub(super) const PARTS: usize = 10;

pub(super) fn service(parts: Vec<Vec<u8>>) -> ServiceRules {
    let mut parts = parts.into_iter().map(|bytes| Draw(bytes.into_iter()));
    let mut next = || parts.next().unwrap_or_else(|| Draw(Vec::new().into_iter()));
    ServiceRules {
        service: next().service(),
        http: next().list(Draw::route),
        tls: next().list(Draw::stream),
        tcp: next().list(Draw::stream),
        guards: next().guards(),
        limits: next().list(Draw::limit),
        faults: next().list(Draw::fault),
        traffic: next().list(Draw::traffic),
        subsets: next().list(|d| Subset {
            name: d.name(),
            members: d.list(Draw::text),
            traffic: d.list(Draw::traffic),
        }),
        telemetry: next().telemetry(),
    }
}

pub(super) fn gateway(parts: Vec<Vec<u8>>) -> GatewayRules {
    let rules = service(parts);
    GatewayRules {
        namespace: rules.service.namespace,
        name: rules.service.hostname,
        guards: rules.guards,
        limits: rules.limits,
        faults: rules.faults,
        telemetry: rules.telemetry,
        forward_client_identity: !rules.http.is_empty(),
    }
}

struct Draw(std::vec::IntoIter<u8>);

impl Draw {
    fn byte(&mut self) -> u8 {
        self.0.next().unwrap_or(0)
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()].clone()
    }

    fn text(&mut self) -> Str {
        self.one(&["", "a", "shop", "x-user", "/a/{*}", "größer", "*"]).into()
    }

    fn name(&mut self) -> Str {
        self.one(&["a", "shop", "web.shop.svc.cluster.local", "*.example.com"]).into()
    }

    fn list<T>(&mut self, mut of: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % 4).map(|_| of(self)).collect()
    }

    fn some<T>(&mut self, of: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| of(self))
    }

    fn names(&mut self) -> Vec<Str> {
        let mut names = vec![self.name()];
        names.extend(self.list(Self::name));
        names
    }

    fn pair(&mut self) -> (Str, Str) {
        (self.name(), self.text())
    }

    fn port(&mut self) -> u16 {
        self.one(&[1, 80, 8080, 65535])
    }

    fn status(&mut self) -> u16 {
        self.one(&[200, 301, 404, 599])
    }

    fn share(&mut self) -> Fraction {
        Fraction(self.number() % 1_000_001)
    }

    fn time(&mut self) -> Duration {
        let whole = self.one(&[0, 1, 30, 1 << 40]);
        Duration::new(whole, self.one(&[0, 1, 999_999_999]))
    }

    fn service(&mut self) -> ServiceKey {
        ServiceKey { namespace: self.name(), hostname: self.name() }
    }

    fn destination(&mut self) -> Destination {
        match self.flag() {
            false => Destination::Service { service: self.service(), port: self.port(), subset: self.some(Self::text) },
            true => Destination::Invalid { reason: self.text() },
        }
    }

    fn matched(&mut self) -> TextMatch {
        let text = self.text();
        self.one(&[
            TextMatch::Exact(text.clone()),
            TextMatch::Prefix(text.clone()),
            TextMatch::Suffix(text.clone()),
            TextMatch::Contains(text.clone()),
            TextMatch::Regex(text),
            TextMatch::Present,
        ])
    }

    fn field(&mut self) -> FieldMatch {
        FieldMatch { name: self.name(), value: self.matched(), ignore_case: self.flag() }
    }

    fn http_match(&mut self) -> HttpMatch {
        let path = self.text();
        let paths = [
            PathMatch::Exact(path.clone()),
            PathMatch::PathPrefix(path.clone()),
            PathMatch::Prefix(path.clone()),
            PathMatch::Regex(path),
        ];
        HttpMatch {
            path: self.some(|d| d.one(&paths)),
            path_ignore_case: self.flag(),
            method: self.some(Self::matched),
            headers: self.list(Self::field),
            without_headers: self.list(Self::field),
            query: self.list(Self::field),
            authority: self.some(Self::matched),
            scheme: self.some(Self::matched),
            ports: self.list(Self::port),
            caller_namespace: self.some(Self::text),
            claims: self.list(|d| (d.names(), d.matched())),
        }
    }

    fn route(&mut self) -> HttpRoute {
        HttpRoute {
            name: self.text(),
            created: self.some(Self::text),
            ports: self.list(Self::port),
            callers: self.some(Self::text),
            precedence: self.one(&[Precedence::Specific, Precedence::Listed]),
            rules: self.list(Self::rule),
        }
    }

    fn rule(&mut self) -> HttpRule {
        HttpRule {
            action: match self.byte() % 3 {
                0 => Action::Forward(self.list(Self::backend)),
                1 => Action::Redirect(Redirect {
                    scheme: self.some(Self::text),
                    host: self.some(Self::text),
                    port: self.some(Self::port),
                    path: self.some(Self::path_rewrite),
                    status: self.status(),
                }),
                _ => {
                    Action::Respond(DirectResponse { status: self.status(), body: self.some(|d| (d.text(), d.text())) })
                }
            },
            filters: self.some(Self::filters).unwrap_or_default(),
            timeouts: Timeouts {
                request: self.some(Self::time),
                backend_request: self.some(Self::time),
                idle: self.some(Self::time),
            },
            retry: self.some(Self::retry),
            session: self.some(|d| Session {
                name: d.name(),
                carrier: d.one(&[
                    SessionCarrier::SessionCookie,
                    SessionCarrier::PermanentCookie,
                    SessionCarrier::Header,
                ]),
                absolute_timeout: d.some(Self::time),
                idle_timeout: d.some(Self::time),
            }),
            name: self.text(),
            matches: self.list(Self::http_match),
            limits: self.list(Self::limit),
            faults: self.list(Self::fault),
        }
    }

    fn backend(&mut self) -> Backend {
        Backend {
            destination: self.destination(),
            weight: self.number(),
            request_headers: self.headers(),
            response_headers: self.headers(),
        }
    }

    fn headers(&mut self) -> HeaderEdit {
        HeaderEdit { set: self.list(Self::pair), add: self.list(Self::pair), remove: self.list(Self::name) }
    }

    fn path_rewrite(&mut self) -> PathRewrite {
        let (pattern, substitution) = (self.text(), self.text());
        self.one(&[
            PathRewrite::Full(pattern.clone()),
            PathRewrite::Prefix(pattern.clone()),
            PathRewrite::Regex { pattern, substitution },
        ])
    }

    fn filters(&mut self) -> Filters {
        Filters {
            request_headers: self.headers(),
            response_headers: self.headers(),
            rewrite: Rewrite { host: self.some(Self::text), path: self.some(Self::path_rewrite) },
            mirrors: self.list(|d| Mirror { destination: d.destination(), share: d.share() }),
            cors: self.some(|d| Cors {
                allow_origins: d.list(Self::matched),
                allow_methods: d.list(Self::text),
                allow_headers: d.list(Self::text),
                expose_headers: d.list(Self::text),
                allow_credentials: d.flag(),
                max_age: d.some(Self::time),
                forward_unmatched: d.flag(),
            }),
        }
    }

    fn retry(&mut self) -> Retry {
        Retry {
            attempts: self.number(),
            per_try_timeout: self.some(Self::time),
            backoff: self.some(Self::time),
            on: RetryOn {
                connect_failure: self.flag(),
                refused_stream: self.flag(),
                reset: self.flag(),
                server_error: self.flag(),
                gateway_error: self.flag(),
                conflict: self.flag(),
                status: self.list(Self::status),
                grpc_status: self.list(Self::byte),
            },
        }
    }

    fn stream(&mut self) -> StreamRoute {
        StreamRoute {
            name: self.text(),
            ports: self.list(Self::port),
            callers: self.some(Self::text),
            server_names: self.list(Self::text),
            backends: self.list(|d| (d.destination(), d.number())),
        }
    }

    fn limit(&mut self) -> RateLimit {
        RateLimit {
            keys: self.list(|d| {
                let (header, claim) = (d.name(), d.names());
                d.one(&[
                    LimitKey::Header(header),
                    LimitKey::Path,
                    LimitKey::Method,
                    LimitKey::Host,
                    LimitKey::CallerIdentity,
                    LimitKey::CallerNamespace,
                    LimitKey::CallerAddress,
                    LimitKey::Claim(claim),
                ])
            }),
            scope: match self.byte() % 3 {
                0 => LimitScope::Replica,
                1 => LimitScope::Shared,
                _ => LimitScope::Service {
                    destination: self.destination(),
                    domain: self.text(),
                    timeout: self.time(),
                    fail_open: self.flag(),
                },
            },
            name: self.text(),
            matches: self.list(Self::http_match),
            requests: self.number(),
            per: self.time(),
            burst: self.number(),
        }
    }

    fn fault(&mut self) -> Fault {
        Fault {
            delay: self.some(|d| (d.time(), d.share())),
            abort: self.some(|d| {
                let statuses = [AbortStatus::Http(d.status()), AbortStatus::Grpc(d.byte())];
                (d.one(&statuses), d.share())
            }),
            matches: self.list(Self::http_match),
        }
    }

    fn guards(&mut self) -> Guards {
        Guards {
            authentications: self.list(|d| Authentication { name: d.text(), issuers: d.list(Self::issuer) }),
            policies: self.list(|d| GuardPolicy {
                namespace: d.text(),
                name: d.name(),
                action: match d.byte() % 4 {
                    0 => GuardAction::Allow,
                    1 => GuardAction::Deny,
                    2 => GuardAction::Audit,
                    _ => GuardAction::Custom(Box::new(d.authorizer())),
                },
                dry_run: d.flag(),
                rules: d.list(|d| Rule { clauses: d.list(|d| Clause { matches: d.list(Self::policy_match) }) }),
            }),
        }
    }

    fn authorizer(&mut self) -> ExternalAuthorizer {
        ExternalAuthorizer {
            name: self.text(),
            destination: self.destination(),
            protocol: match self.flag() {
                false => AuthorizerProtocol::Grpc,
                true => AuthorizerProtocol::Http {
                    path_prefix: self.text(),
                    include_headers: self.list(Self::text),
                    add_headers: self.list(Self::pair),
                    to_backend: self.list(Self::text),
                    to_caller_on_allow: self.list(Self::text),
                    to_caller_on_deny: self.list(Self::text),
                },
            },
            timeout: self.time(),
            fail_open: self.flag(),
            status_on_error: self.status(),
            body: self.some(|d| BodyShown { bytes_max: d.number(), allow_partial: d.flag() }),
        }
    }

    fn issuer(&mut self) -> Issuer {
        let keys = [Keys::Inline(self.text()), Keys::Remote { uri: self.name(), timeout: self.time() }];
        Issuer {
            issuer: self.name(),
            audiences: self.list(Self::text),
            keys: self.one(&keys),
            from_headers: self.list(Self::pair),
            from_params: self.list(Self::text),
            from_cookies: self.list(Self::text),
            forward_token: self.flag(),
            payload_header: self.some(Self::text),
            claim_headers: self.list(|d| (d.name(), d.names())),
        }
    }

    fn values<T>(&mut self, mut of: impl FnMut(&mut Self) -> T) -> Values<T> {
        Values { any_of: self.list(&mut of), none_of: self.list(&mut of) }
    }

    fn string(&mut self) -> StringMatch {
        let text = self.text();
        self.one(&[
            StringMatch::Exact(text.clone()),
            StringMatch::Prefix(text.clone()),
            StringMatch::Suffix(text),
            StringMatch::Presence,
        ])
    }

    fn range(&mut self) -> IpNet {
        let address = IpAddr::from(self.number().to_be_bytes());
        IpNet::new(address, self.byte() % 33).expect("the length fits").trunc()
    }

    fn policy_match(&mut self) -> Match {
        Match {
            request: self.some(|d| Box::new(d.request())),
            namespaces: self.values(Self::string),
            principals: self.values(Self::string),
            service_accounts: self.values(|d| ServiceAccountMatch { namespace: d.text(), service_account: d.text() }),
            source_ips: self.values(Self::range),
            destination_ips: self.values(Self::range),
            destination_ports: self.values(Self::port),
        }
    }

    fn request(&mut self) -> RequestMatch {
        let pattern = |d: &mut Self| {
            let patterns = [PathPattern::Text(d.string()), PathPattern::Template(d.text())];
            d.one(&patterns)
        };
        RequestMatch {
            hosts: self.values(Self::string),
            methods: self.values(Self::string),
            paths: self.values(pattern),
            principals: self.values(Self::string),
            audiences: self.values(Self::string),
            presenters: self.values(Self::string),
            claims: self.list(|d| (d.names(), d.values(Self::string))),
            headers: self.list(|d| (d.name(), d.values(Self::string))),
            remote_ips: self.values(Self::range),
            server_names: self.values(Self::string),
        }
    }

    fn traffic(&mut self) -> Traffic {
        Traffic {
            port: self.some(Self::port),
            name: self.text(),
            balance: self.balance(),
            locality: self.some(|d| match d.byte() % 4 {
                0 => Locality::Off,
                1 => Locality::Failover(d.list(Self::pair)),
                2 => Locality::Priority(d.list(Self::text)),
                _ => Locality::Distribute(d.list(|d| (d.text(), d.list(|d| (d.text(), d.number()))))),
            }),
            warmup: self.some(|d| Warmup { duration: d.time(), minimum: d.share() }),
            pool: Pool {
                connections_max: self.some(Self::number),
                pending_max: self.some(Self::number),
                requests_max: self.some(Self::number),
                requests_per_connection: self.some(Self::number),
                retries_max: self.some(Self::number),
                streams_max: self.some(Self::number),
                connect_timeout: self.some(Self::time),
                idle_timeout: self.some(Self::time),
                age_max: self.some(Self::time),
                http: self.some(|d| d.one(&[HttpVersion::Http1, HttpVersion::Http2])),
                as_caller: self.flag(),
            },
            outlier: self.some(|d| Outlier {
                consecutive_errors: d.number(),
                consecutive_gateway_errors: d.number(),
                consecutive_local_failures: d.number(),
                error_codes: d.list(Self::status),
                interval: d.time(),
                base_ejection: d.time(),
                max_ejection: d.time(),
                max_ejected_percent: d.byte() % 101,
                min_healthy_percent: d.byte() % 101,
            }),
            tls: self.some(Self::tls),
            retry_budget: self.some(|d| RetryBudget { share: d.share(), at_least: d.number() }),
            adaptive: self.some(|d| AdaptiveConcurrency { minimum: d.number(), maximum: d.number() }),
            proxy_protocol: self.some(|d| d.one(&[ProxyProtocol::V1, ProxyProtocol::V2])),
        }
    }

    fn balance(&mut self) -> Balance {
        let cookie = HashKey::Cookie { name: self.name(), path: self.some(Self::text), ttl: self.some(Self::time) };
        let keys = [HashKey::SourceIp, HashKey::Header(self.name()), HashKey::Query(self.name()), cookie];
        let number = self.number();
        let algorithms = [HashAlgorithm::Ring { points_min: number }, HashAlgorithm::Maglev { entries: number }];
        let consistent = Balance::Consistent { key: self.one(&keys), algorithm: self.one(&algorithms) };
        self.one(&[Balance::LeastRequest, Balance::RoundRobin, Balance::Random, Balance::Passthrough, consistent])
    }

    fn tls(&mut self) -> TlsOrigination {
        let text = self.text();
        TlsOrigination {
            server_name: self.some(Self::text),
            subject_alt_names: self.list(Self::text),
            roots: self.one(&[
                TlsRoots::System,
                TlsRoots::Pem(text.clone()),
                TlsRoots::Anybody,
                TlsRoots::Missing { reason: text },
            ]),
            client: self.some(|d| (d.text(), d.text())),
        }
    }

    fn telemetry(&mut self) -> Telemetry {
        Telemetry {
            access_log: self.some(|d| AccessLog { disabled: d.flag(), filter: d.some(Self::text) }),
            metrics: self.list(|d| MetricOverride {
                metric: d.some(Self::text),
                disabled: d.flag(),
                tags: d.list(|d| (d.name(), d.some(Self::text))),
            }),
            tracing: self.some(|d| Tracing {
                disabled: d.flag(),
                sampling: d.some(Self::share),
                collector: d.some(Self::destination),
                tags: d.list(|d| {
                    let values = [
                        TagValue::Literal(d.text()),
                        TagValue::Header(d.name(), d.some(Self::text)),
                        TagValue::Environment(d.name(), d.some(Self::text)),
                    ];
                    (d.name(), d.one(&values))
                }),
            }),
        }
    }
}
