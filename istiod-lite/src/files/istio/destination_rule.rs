//! DestinationRule: how a host is reached, as a whole, on single ports and in named parts.

use super::{balancing::balancing, exports, virtual_service::host};
use crate::{
    facts::{DestinationRule, Meta, NamedSubset, Reach, Sections},
    files::{
        field::Field,
        value::{duration, known, percent, some_duration, texts, unhonoured, whole_percent},
    },
};
use mesh::route::{
    text::Fraction,
    traffic::{HttpVersion, Outlier, Pool, ProxyProtocol, RetryBudget, TlsOrigination, TlsRoots},
};
use std::{collections::BTreeMap, time::Duration};

pub(super) fn destination_rule(object: &Field<'_>, meta: Meta) -> DestinationRule {
    let spec = object.at("spec");
    known(&spec, &["host", "trafficPolicy", "subsets", "exportTo", "workloadSelector"]);
    let only_some_callers = spec.at("workloadSelector").is_there();
    if only_some_callers {
        spec.at("workloadSelector").remark("waypoints cannot tell callers by label: the whole rule is not used");
    }
    if !spec.at("host").is_there() {
        spec.at("host").note("says nothing");
    }
    DestinationRule {
        host: host(&spec.at("host")).unwrap_or_default(),
        exports: exports(&spec.at("exportTo"), &meta.namespace),
        only_some_callers,
        reach: reach(&spec.at("trafficPolicy")),
        subsets: spec.at("subsets").list().iter().filter_map(subset).collect(),
        refused: Vec::new(),
        unheeded: Vec::new(),
        meta,
    }
}

fn subset(field: &Field<'_>) -> Option<NamedSubset> {
    known(field, &["name", "labels", "trafficPolicy"]);
    let name = field.at("name").text().filter(|name| !name.is_empty());
    if name.is_none() {
        field.at("name").note("says nothing");
    }
    Some(NamedSubset { name: name?, labels: field.at("labels").labels(), reach: reach(&field.at("trafficPolicy")) })
}

const SECTIONS: [&str; 7] =
    ["loadBalancer", "connectionPool", "outlierDetection", "tls", "tunnel", "proxyProtocol", "retryBudget"];

fn reach(field: &Field<'_>) -> Reach {
    let mut keys = SECTIONS.to_vec();
    keys.push("portLevelSettings");
    known(field, &keys);
    let mut ports = BTreeMap::new();
    for entry in field.at("portLevelSettings").list() {
        known(&entry, &["port", "loadBalancer", "connectionPool", "outlierDetection", "tls"]);
        known(&entry.at("port"), &["number"]);
        match entry.at("port").at("number").port() {
            Some(port) => drop(ports.insert(port, sections(&entry))),
            None => entry.at("port").note("has no number"),
        }
    }
    unhonoured(field, &["tunnel"]);
    Reach { all: sections(field), ports }
}

fn sections(field: &Field<'_>) -> Sections {
    Sections {
        balancing: balancing(&field.at("loadBalancer")),
        pool: pool(&field.at("connectionPool")),
        outlier: outlier(&field.at("outlierDetection")),
        tls: tls(&field.at("tls")),
        proxy_protocol: proxy_protocol(&field.at("proxyProtocol")),
        retry_budget: retry_budget(&field.at("retryBudget")),
        adaptive: None,
    }
}

fn pool(field: &Field<'_>) -> Option<Pool> {
    if !field.is_there() {
        return None;
    }
    known(field, &["tcp", "http"]);
    let (tcp, http) = (field.at("tcp"), field.at("http"));
    known(&tcp, &["maxConnections", "connectTimeout", "tcpKeepalive", "maxConnectionDuration", "idleTimeout"]);
    known(
        &http,
        &[
            "http1MaxPendingRequests",
            "http2MaxRequests",
            "maxRequestsPerConnection",
            "maxRetries",
            "idleTimeout",
            "h2UpgradePolicy",
            "useClientProtocol",
            "maxConcurrentStreams",
            "http2KeepAlive",
        ],
    );
    unhonoured(&tcp, &["tcpKeepalive"]);
    unhonoured(&http, &["http2KeepAlive"]);
    let upgrade =
        [("DEFAULT", None), ("DO_NOT_UPGRADE", Some(HttpVersion::Http1)), ("UPGRADE", Some(HttpVersion::Http2))];
    let as_caller = http.at("useClientProtocol").flag() == Some(true);
    let version = http.at("h2UpgradePolicy").one_of(&upgrade).flatten();
    Some(Pool {
        connections_max: tcp.at("maxConnections").number(),
        pending_max: http.at("http1MaxPendingRequests").number(),
        requests_max: http.at("http2MaxRequests").number(),
        requests_per_connection: http.at("maxRequestsPerConnection").number().filter(|most| *most > 0),
        retries_max: http.at("maxRetries").number(),
        streams_max: http.at("maxConcurrentStreams").number().filter(|most| *most > 0),
        connect_timeout: some_duration(&tcp.at("connectTimeout")),
        idle_timeout: duration(&http.at("idleTimeout")).or_else(|| duration(&tcp.at("idleTimeout"))),
        age_max: some_duration(&tcp.at("maxConnectionDuration")),
        http: version.filter(|_| !as_caller),
        as_caller,
    })
}

/// When an endpoint is taken out, with the numbers that Istio and Envoy take when nobody says.
fn outlier(field: &Field<'_>) -> Option<Outlier> {
    if !field.is_there() {
        return None;
    }
    known(
        field,
        &[
            "consecutiveErrors",
            "splitExternalLocalOriginErrors",
            "consecutiveLocalOriginFailures",
            "consecutiveGatewayErrors",
            "consecutive5xxErrors",
            "interval",
            "baseEjectionTime",
            "maxEjectionPercent",
            "minHealthPercent",
            "outlierDetectionHttpErrorCodes",
        ],
    );
    let split = field.at("splitExternalLocalOriginErrors").flag().unwrap_or(false);
    let local = field.at("consecutiveLocalOriginFailures").number();
    if local.is_some() && !split {
        field.at("consecutiveLocalOriginFailures").remark("counts only with splitExternalLocalOriginErrors: true");
    }
    // The old name of the count of gateway errors.
    let gateway = field.at("consecutiveGatewayErrors").number().or_else(|| field.at("consecutiveErrors").number());
    let five = field.at("consecutive5xxErrors").number();
    let codes = field.at("outlierDetectionHttpErrorCodes").list();
    Some(Outlier {
        consecutive_errors: five.unwrap_or(5),
        consecutive_gateway_errors: gateway.unwrap_or(0),
        consecutive_local_failures: if split { local.unwrap_or(5) } else { 0 },
        error_codes: codes.iter().filter_map(error_code).collect(),
        interval: some_duration(&field.at("interval")).unwrap_or(Duration::from_secs(10)),
        base_ejection: some_duration(&field.at("baseEjectionTime")).unwrap_or(Duration::from_secs(30)),
        max_ejection: Duration::from_secs(300),
        max_ejected_percent: whole_percent(&field.at("maxEjectionPercent")).unwrap_or(10),
        min_healthy_percent: whole_percent(&field.at("minHealthPercent")).unwrap_or(0),
    })
}

fn error_code(field: &Field<'_>) -> Option<u16> {
    let number = field.number()?;
    let status = u16::try_from(number).ok().filter(|status| (100..600).contains(status));
    if status.is_none() {
        field.note("is not a status from 100 to 599");
    }
    status
}

#[derive(Clone, Copy, PartialEq)]
enum TlsMode {
    Disable,
    Simple,
    Mutual,
    Mesh,
}

fn tls(field: &Field<'_>) -> Option<Option<TlsOrigination>> {
    if !field.is_there() {
        return None;
    }
    known(
        field,
        &[
            "mode",
            "clientCertificate",
            "privateKey",
            "caCertificates",
            "credentialName",
            "subjectAltNames",
            "sni",
            "insecureSkipVerify",
            "caCrl",
        ],
    );
    let modes = [
        ("DISABLE", TlsMode::Disable),
        ("SIMPLE", TlsMode::Simple),
        ("MUTUAL", TlsMode::Mutual),
        ("ISTIO_MUTUAL", TlsMode::Mesh),
    ];
    let mode = field.at("mode").one_of(&modes).unwrap_or(TlsMode::Disable);
    if mode == TlsMode::Mesh {
        field.at("mode").remark("connections inside the mesh are mutually authenticated in any case");
    }
    if matches!(mode, TlsMode::Disable | TlsMode::Mesh) {
        return Some(None);
    }
    Some(Some(TlsOrigination {
        server_name: field.at("sni").text().filter(|name| !name.is_empty()),
        subject_alt_names: texts(&field.at("subjectAltNames")),
        roots: roots(field, mode),
        client: None,
    }))
}

/// Whom to believe. What a waypoint does not have (files beside it, secrets) leaves no connection
/// rather than one that is not checked.
fn roots(field: &Field<'_>, mode: TlsMode) -> TlsRoots {
    let mut missing = None;
    let wanted: &[&str] = match mode {
        TlsMode::Mutual => &["credentialName", "clientCertificate", "privateKey", "caCrl"],
        _ => &["credentialName", "caCrl"],
    };
    for key in wanted {
        if field.at(key).text().is_some_and(|text| !text.is_empty()) {
            field.at(key).remark("is not honoured by waypoints: no connection comes about");
            missing = Some(*key);
        }
    }
    if mode == TlsMode::Mutual && missing.is_none() {
        field.note("has mode MUTUAL and names no certificate of ours");
        missing = Some("clientCertificate");
    }
    let file = field.at("caCertificates").text().filter(|text| !text.is_empty());
    if file.as_deref().is_some_and(|file| file != "system") {
        field.at("caCertificates").remark("names a file, and waypoints have none: no connection comes about");
        missing = Some("caCertificates");
    }
    match missing {
        Some(key) => TlsRoots::Missing { reason: format!("tls.{key} of the DestinationRule is not honoured").into() },
        None if field.at("insecureSkipVerify").flag() == Some(true) => TlsRoots::Anybody,
        None => TlsRoots::System,
    }
}

fn proxy_protocol(field: &Field<'_>) -> Option<ProxyProtocol> {
    if !field.is_there() {
        return None;
    }
    known(field, &["version"]);
    let versions = [("V1", ProxyProtocol::V1), ("V2", ProxyProtocol::V2)];
    Some(field.at("version").one_of(&versions).unwrap_or(ProxyProtocol::V1))
}

/// Istio's defaults: a fifth of the requests, and three in any case.
fn retry_budget(field: &Field<'_>) -> Option<RetryBudget> {
    if !field.is_there() {
        return None;
    }
    known(field, &["percent", "minRetryConcurrency", "budgetInterval"]);
    unhonoured(field, &["budgetInterval"]);
    Some(RetryBudget {
        share: percent(&field.at("percent")).unwrap_or(Fraction(200_000)),
        at_least: field.at("minRetryConcurrency").number().unwrap_or(3),
    })
}
