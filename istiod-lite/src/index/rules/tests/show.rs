//! Rules and conditions as short texts, to compare in tests.

use crate::index::Index;
use mesh::{
    Str,
    route::{
        Destination, HttpRoute, HttpRule, ServiceRules, StreamRoute, Traffic,
        http::{Action, HeaderEdit, HttpMatch, PathRewrite, Redirect, SessionCarrier},
        text::{FieldMatch, PathMatch, TextMatch},
        traffic::TlsRoots,
    },
};

/// The published rules of every service that say something, a line for each fact of them.
pub(super) fn rules(index: &Index) -> Vec<String> {
    let mut lines = Vec::new();
    for (compiled, audience) in index.service_rules() {
        let rules = compiled.rules();
        if *rules == ServiceRules::of(rules.service.clone()) {
            continue;
        }
        let to: Vec<&str> = audience.iter().map(|name| &**name).collect();
        lines.push(format!("{} to {}", short(&rules.service.to_string()), to.join(", ")));
        lines.extend(of_service(rules).into_iter().map(|line| format!("  {line}")));
    }
    lines
}

/// Only the rules of requests of all services: `match → action`.
pub(super) fn http(index: &Index) -> Vec<String> {
    let all = index.service_rules().flat_map(|(rules, _)| rules.rules().http.clone());
    all.flat_map(|route| route.rules).map(|it| rule(&it)).collect()
}

/// Every condition that is not met: `Kind/namespace/name parent: Condition=Reason: message`.
pub(super) fn unmet(index: &Index) -> Vec<String> {
    conditions(index, |status| !status)
}

/// Every condition, with what it is.
pub(super) fn all_conditions(index: &Index) -> Vec<String> {
    conditions(index, |_| true)
}

fn conditions(index: &Index, which: impl Fn(bool) -> bool) -> Vec<String> {
    // What is said of waypoints themselves is not about rules.
    let objects = index.conditions().filter(|(key, _)| key.kind != crate::facts::Kind::Gateway);
    let all = objects.flat_map(|(key, all)| all.iter().map(move |one| (key, one)));
    let all = all.filter(|(_, one)| which(one.status) && !one.kind.starts_with("istio.io/"));
    let show = |(key, one): (&crate::facts::FactKey, &crate::facts::Condition)| {
        let parent = one.parent.as_ref().map(|parent| format!(" {parent}")).unwrap_or_default();
        let not = if one.status { "" } else { "!" };
        format!("{}{parent}: {not}{}/{}: {}", key.text(), one.kind, one.reason, one.message)
    };
    all.map(show).collect()
}

fn of_service(rules: &ServiceRules) -> Vec<String> {
    let mut lines = Vec::new();
    for route in &rules.http {
        lines.push(head(&route.name, &route.ports, route.callers.as_ref()));
        lines.extend(http_route(route));
    }
    lines.extend(rules.tls.iter().map(|route| stream("tls", route)));
    lines.extend(rules.tcp.iter().map(|route| stream("tcp", route)));
    lines.extend(rules.traffic.iter().map(traffic));
    lines
}

fn http_route(route: &HttpRoute) -> Vec<String> {
    route.rules.iter().map(|it| format!("  {}", rule(it))).collect()
}

fn head(name: &str, ports: &[u16], callers: Option<&Str>) -> String {
    let ports = if ports.is_empty() { String::new() } else { format!(" ports {ports:?}") };
    let callers = callers.map(|callers| format!(" callers of {callers}")).unwrap_or_default();
    format!("{name}{ports}{callers}")
}

pub(super) fn rule(rule: &HttpRule) -> String {
    let matches: Vec<String> = rule.matches.iter().map(one_match).collect();
    let mut parts = vec![if matches.is_empty() { "any".into() } else { matches.join(" | ") }];
    let filters = &rule.filters;
    parts.extend(edit("request", &filters.request_headers));
    parts.extend(edit("response", &filters.response_headers));
    parts.extend(filters.rewrite.host.as_ref().map(|host| format!("host {host}")));
    parts.extend(filters.rewrite.path.as_ref().map(|path| format!("path {}", rewrite(path))));
    for mirror in &filters.mirrors {
        parts.push(format!("mirror {} {}", mirror.share.0, destination(&mirror.destination)));
    }
    if let Some(cors) = &filters.cors {
        let origins: Vec<String> = cors.allow_origins.iter().map(text).collect();
        let (methods, headers) = (cors.allow_methods.join(","), cors.allow_headers.join(","));
        let (expose, age) = (cors.expose_headers.join(","), cors.max_age.unwrap_or_default());
        let with = if cors.allow_credentials { " credentials" } else { "" };
        parts.push(format!("cors {} {methods} {headers} {expose} {age:?}{with}", origins.join(",")));
    }
    if let Some(time) = rule.timeouts.request {
        parts.push(format!("timeout {time:?}"));
    }
    if let Some(time) = rule.timeouts.backend_request {
        parts.push(format!("try {time:?}"));
    }
    if let Some(retry) = &rule.retry {
        let wait = retry.backoff.map(|wait| format!(" wait {wait:?}")).unwrap_or_default();
        parts.push(format!("retry {} on {:?}{wait}", retry.attempts, retry.on.status));
    }
    if let Some(session) = &rule.session {
        let carrier = match session.carrier {
            SessionCarrier::Header => "header",
            SessionCarrier::SessionCookie => "cookie",
            SessionCarrier::PermanentCookie => "kept cookie",
        };
        let time = session.absolute_timeout.map(|time| format!(" {time:?}")).unwrap_or_default();
        parts.push(format!("session {carrier} {}{time}", session.name));
    }
    format!("{} → {}", parts.join("; "), action(&rule.action))
}

fn action(action: &Action) -> String {
    match action {
        Action::Forward(backends) if backends.is_empty() => "500".into(),
        Action::Forward(backends) => {
            let all = backends.iter().map(|backend| {
                let edits: Vec<String> = edit("request", &backend.request_headers)
                    .chain(edit("response", &backend.response_headers))
                    .collect();
                let edits = if edits.is_empty() { String::new() } else { format!(" ({})", edits.join("; ")) };
                format!("{}×{}{edits}", destination(&backend.destination), backend.weight)
            });
            all.collect::<Vec<_>>().join(", ")
        }
        Action::Redirect(Redirect { scheme, host, port, path, status }) => {
            let mut parts = vec![format!("redirect {status}")];
            parts.extend(scheme.as_ref().map(ToString::to_string));
            parts.extend(host.as_ref().map(ToString::to_string));
            parts.extend(port.map(|port| port.to_string()));
            parts.extend(path.as_ref().map(rewrite));
            parts.join(" ")
        }
        Action::Respond(response) => format!("respond {}", response.status),
    }
}

fn one_match(one: &HttpMatch) -> String {
    let mut parts = Vec::new();
    parts.extend(one.method.as_ref().map(text));
    parts.extend(one.path.as_ref().map(|path| match path {
        PathMatch::Exact(text) => format!("={text}"),
        PathMatch::PathPrefix(text) => format!("{text}/**"),
        PathMatch::Prefix(text) => format!("{text}*"),
        PathMatch::Regex(text) => format!("~{text}"),
    }));
    let field = |what: &str, field: &FieldMatch| format!("{what}[{}]{}", field.name, text(&field.value));
    parts.extend(one.headers.iter().map(|it| field("header", it)));
    parts.extend(one.query.iter().map(|it| field("query", it)));
    if parts.is_empty() { "any".into() } else { parts.join(" ") }
}

fn text(one: &TextMatch) -> String {
    match one {
        TextMatch::Exact(text) => format!("={text}"),
        TextMatch::Prefix(text) => format!("{text}*"),
        TextMatch::Suffix(text) => format!("*{text}"),
        TextMatch::Contains(text) => format!("*{text}*"),
        TextMatch::Regex(text) => format!("~{text}"),
        TextMatch::Present => "*".into(),
    }
}

fn edit(what: &str, edit: &HeaderEdit) -> impl Iterator<Item = String> {
    let pair = |sign: &str, (name, value): &(Str, Str)| format!("{sign}{name}={value}");
    let mut parts: Vec<String> = edit.remove.iter().map(|name| format!("-{name}")).collect();
    parts.extend(edit.set.iter().map(|it| pair("", it)));
    parts.extend(edit.add.iter().map(|it| pair("+", it)));
    (!parts.is_empty()).then(|| format!("{what} {}", parts.join(" "))).into_iter()
}

fn rewrite(path: &PathRewrite) -> String {
    match path {
        PathRewrite::Full(text) => format!("={text}"),
        PathRewrite::Prefix(text) => format!("{text}/**"),
        PathRewrite::Regex { pattern, substitution } => format!("~{pattern}→{substitution}"),
    }
}

pub(super) fn destination(destination: &Destination) -> String {
    match destination {
        Destination::Service { service, port, .. } => format!("{}:{port}", short(&service.to_string())),
        Destination::Invalid { reason } => format!("<{reason}>"),
    }
}

fn stream(kind: &str, route: &StreamRoute) -> String {
    let names =
        if route.server_names.is_empty() { String::new() } else { format!(" for {}", route.server_names.join(",")) };
    let to: Vec<String> = route.backends.iter().map(|(to, weight)| format!("{}×{weight}", destination(to))).collect();
    let head = head(&route.name, &route.ports, route.callers.as_ref());
    format!("{kind} {head}{names} → {}", to.join(", "))
}

fn traffic(traffic: &Traffic) -> String {
    let port = traffic.port.map_or_else(|| "*".into(), |port| port.to_string());
    let tls = traffic.tls.as_ref().map(|tls| {
        let roots = match &tls.roots {
            TlsRoots::System => "system".into(),
            TlsRoots::Pem(pem) => format!("{} certificates", pem.matches("BEGIN").count()),
            TlsRoots::Anybody => "anybody".into(),
            TlsRoots::Missing { reason } => format!("nobody ({reason})"),
        };
        let names = if tls.subject_alt_names.is_empty() {
            String::new()
        } else {
            format!(" as {}", tls.subject_alt_names.join(","))
        };
        format!(" tls {}{names} by {roots}", tls.server_name.as_deref().unwrap_or("-"))
    });
    let budget = traffic.retry_budget.map(|it| format!(" tries {} at least {}", it.share.0, it.at_least));
    format!("traffic {port} {}{}{}", traffic.name, tls.unwrap_or_default(), budget.unwrap_or_default())
}

/// Without what all hostnames of the cluster end with.
fn short(text: &str) -> String {
    text.replace(".svc.cluster.local", "")
}
