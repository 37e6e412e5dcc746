//! A text that becomes a [`View`], for tests and docs. It is generous: what a line does not say
//! has a sensible default. It reads no network input: a mistake in it panics with the line.
//!
//! ```
//! # let view = mesh::fixture::view("
//! pod client ns=shop sa=client ip=10.0.0.1 node=n1
//! pod server-1 ns=shop sa=server ip=10.0.0.2 node=n2 plain
//! service web ns=shop vip=10.1.0.1 80->8080 pods=server-1
//! allow only-client ns=shop for=server-1 principal=cluster.local/ns/shop/sa/client port=8080
//! deny nobody ns=shop source-ip=10.9.0.0/16
//! # ");
//! # assert_eq!((view.workloads().count(), view.services().count(), view.policies().count()), (2, 1, 2));
//! ```
//!
//! Words of all kinds: `ns=` (`default`), `#` begins a comment. Lists are joined by commas.
//!
//! * `pod`: `ip=` `sa=` `node=` `net=` `cluster=` `td=` `region=` `zone=` `subzone=` `capacity=`
//!   `hostname=` `waypoint=` `gateway=` `policies=` `uid=` `tunnel=` (application tunnel port) and
//!   `plain` (instead of HBONE), `unhealthy`, `host-network`, `native`.
//! * `service`: `vip=` (address or range) `host=` `net=` `pods=` `waypoint=` `san=` `lb=` (`strict:node`,
//!   `failover:network,region`, `passthrough`) `families=` (`4`, `6`, `dual`) `PORT->TARGET`, and
//!   `canonical`, `namespace-only`, `allow-unhealthy`. A target of 0 leaves it to the pod: `pods=a:80->8080`.
//! * `allow`, `deny`: `for=` (pods) or `global`, `dry-run`, and the fields of one match: `namespace=`
//!   `principal=` `account=` (`ns/sa`) `source-ip=` `ip=` `port=`, each with `not-` in front too.
//!   Without a field it has no rule; `anyone` is a rule that matches all. A further line of
//!   the same name adds a rule, a line `and NAME …` a clause, a line `or NAME …` a match.
//!
//! A waypoint or gateway is the name of a service of the namespace, `ns/host`, or an address
//! `[network/]ip`, each with `:port` if it is not 15008.

mod parse;

use crate::{
    Change, Policy, Service, ServiceKey, Str, View, Workload,
    policy::{Action, Clause, Match, PolicyScope, Rule},
    route::{
        self, Backend, Destination, HttpRoute, HttpRule,
        http::{HeaderEdit, HttpMatch, Precedence},
        text::PathMatch,
    },
    workload::{ApplicationTunnel, Health, Protocol},
};
use parse::{Line, vip_or_range};
use std::{collections::BTreeMap, sync::Arc};

/// Parses a fixture; panics with the line on a mistake in it, for a fixture is part of a test.
pub fn view(text: &str) -> View {
    View::default().apply(changes(text))
}

/// The same as the changes that make it.
pub fn changes(text: &str) -> Vec<Change> {
    let mut mesh = Mesh::default();
    for line in text.lines().filter_map(Line::parse) {
        match line.kind {
            "pod" => mesh.pod(&line),
            "service" => mesh.service(&line),
            "allow" => mesh.policy(&line, Action::Allow),
            "deny" => mesh.policy(&line, Action::Deny),
            "and" => mesh.clause(&line),
            "or" => mesh.or(&line),
            other => panic!("fixture: {other:?} is no kind of line: {}", line.text),
        }
    }
    mesh.changes()
}

/// So many routes of a service, to port 80 of it. Each asks for a path that no other has, but for the last, which takes all
/// and which, having the shortest prefix, all others stand before.
pub fn routes(service: &ServiceKey, count: usize) -> Vec<HttpRoute> {
    (0..count).map(|n| route(service, n, count)).collect()
}

fn route(service: &ServiceKey, n: usize, of: usize) -> HttpRoute {
    let path = if n + 1 == of { "/".to_owned() } else { format!("/team-{}/service-{n}/v1", n % 50) };
    let forward = Backend {
        destination: Destination::Service { service: service.clone(), port: 80, subset: None },
        weight: 1,
        request_headers: HeaderEdit::default(),
        response_headers: HeaderEdit::default(),
    };
    let rule = HttpRule {
        name: "0".into(),
        matches: vec![HttpMatch { path: Some(PathMatch::PathPrefix(path.into())), ..HttpMatch::default() }],
        action: route::http::Action::Forward(vec![forward]),
        ..HttpRule::default()
    };
    HttpRoute {
        name: format!("HTTPRoute/shop/route-{n}").into(),
        created: None,
        ports: Vec::new(),
        callers: None,
        precedence: Precedence::Specific,
        rules: vec![rule],
    }
}

#[derive(Default)]
struct Mesh {
    pods: BTreeMap<(Str, Str), Workload>,
    services: Vec<Service>,
    policies: BTreeMap<(Str, Str), Policy>,
    members: Vec<Member>,
    /// (namespace, pod, policy key)
    selected: Vec<(Str, String, Str)>,
}

/// A pod of a service.
struct Member {
    namespace: Str,
    pod: String,
    service: ServiceKey,
    ports: Option<(u16, u16)>,
}

impl Mesh {
    fn pod(&mut self, line: &Line<'_>) {
        let namespace = line.namespace();
        let uid = line.one("uid").map_or_else(|| format!("Kubernetes//Pod/{namespace}/{}", line.name), Into::into);
        let mut pod = Workload::named(&uid);
        pod.name = line.name.into();
        pod.namespace = namespace.clone();
        pod.protocol = if line.flag("plain") { Protocol::Plain } else { Protocol::Hbone };
        pod.health = if line.flag("unhealthy") { Health::Unhealthy } else { Health::Healthy };
        pod.host_network = line.flag("host-network");
        pod.native_tunnel = line.flag("native");
        pod.addresses = line.list("ip").map(|text| line.parsed(text)).collect();
        pod.hostname = line.one("hostname").map(Into::into);
        pod.waypoint = line.one("waypoint").map(|text| line.gateway(text));
        pod.network_gateway = line.one("gateway").map(|text| line.gateway(text));
        pod.authorization_policies = line.list("policies").map(Into::into).collect();
        let tunnel = |text| ApplicationTunnel { proxy_protocol: true, port: line.parsed(text) };
        pod.application_tunnel = line.one("tunnel").map(tunnel);
        pod.capacity = line.one("capacity").map_or(1, |text| line.parsed(text));
        pod.workload_name = line.name.into();
        pod.canonical_name = line.name.into();
        pod.canonical_revision = "latest".into();
        for (word, field) in [
            ("sa", &mut pod.service_account),
            ("node", &mut pod.node),
            ("net", &mut pod.network),
            ("cluster", &mut pod.cluster_id),
            ("td", &mut pod.trust_domain),
            ("region", &mut pod.locality.region),
            ("zone", &mut pod.locality.zone),
            ("subzone", &mut pod.locality.subzone),
        ] {
            if let Some(text) = line.one(word) {
                *field = text.into();
            }
        }
        line.all_read();
        let earlier = self.pods.insert((namespace, line.name.into()), pod);
        assert!(earlier.is_none(), "fixture: a second pod of this name: {}", line.text);
    }

    fn service(&mut self, line: &Line<'_>) {
        let namespace = line.namespace();
        let hostname =
            line.one("host").map_or_else(|| format!("{}.{namespace}.svc.cluster.local", line.name), Into::into);
        let mut service = Service::named(&namespace, &hostname);
        service.name = line.name.into();
        let network: Str = line.one("net").unwrap_or_default().into();
        for text in line.list("vip") {
            vip_or_range(text, line, &network, &mut service);
        }
        service.waypoint = line.one("waypoint").map(|text| line.gateway(text));
        service.subject_alt_names = line.list("san").map(Into::into).collect();
        service.canonical = line.flag("canonical");
        service.namespace_only = line.flag("namespace-only");
        service.load_balancing = line.load_balancing();
        service.ip_families = line.ip_families();
        service.ports = line.ports();
        for text in line.list("pods") {
            let (pod, ports) = text.split_once(':').map_or((text, None), |(pod, ports)| (pod, Some(ports)));
            let ports =
                ports.map(|text| line.arrow(text).unwrap_or_else(|| panic!("fixture: {text:?}: {}", line.text)));
            self.members.push(Member { namespace: namespace.clone(), pod: pod.into(), service: service.key(), ports });
        }
        line.all_read();
        self.services.push(service);
    }

    fn policy(&mut self, line: &Line<'_>, action: Action) {
        let namespace = line.namespace();
        let selected: Vec<_> = line.list("for").collect();
        let scope = match (line.flag("global"), selected.is_empty()) {
            (true, _) => PolicyScope::Global,
            (false, true) => PolicyScope::Namespace,
            (false, false) => PolicyScope::WorkloadSelector,
        };
        let key = (namespace.clone(), line.name.into());
        let policy = self.policies.entry(key).or_insert_with(|| Policy {
            name: line.name.into(),
            namespace: namespace.clone(),
            scope,
            action,
            rules: Vec::new(),
            dry_run: line.flag("dry-run"),
        });
        for pod in selected {
            self.selected.push((namespace.clone(), pod.into(), policy.key().into()));
        }
        let one = line.fields();
        if line.flag("anyone") {
            policy.rules.push(Rule::default());
        } else if one != Match::default() {
            policy.rules.push(Rule { clauses: vec![Clause { matches: vec![one] }] });
        }
        line.all_read();
    }

    fn last_rule(&mut self, line: &Line<'_>) -> &mut Rule {
        let policy = self.policies.get_mut(&(line.namespace(), line.name.into()));
        policy
            .and_then(|policy| policy.rules.last_mut())
            .unwrap_or_else(|| panic!("fixture: no rule yet: {}", line.text))
    }

    fn clause(&mut self, line: &Line<'_>) {
        let one = line.fields();
        self.last_rule(line).clauses.push(Clause { matches: vec![one] });
        line.all_read();
    }

    fn or(&mut self, line: &Line<'_>) {
        let one = line.fields();
        let clause = self.last_rule(line).clauses.last_mut();
        clause.unwrap_or_else(|| panic!("fixture: no clause yet: {}", line.text)).matches.push(one);
        line.all_read();
    }

    fn changes(mut self) -> Vec<Change> {
        for Member { namespace, pod, service, ports } in self.members {
            let pod = self.pods.get_mut(&(namespace, pod.as_str().into()));
            let pod = pod.unwrap_or_else(|| panic!("fixture: service {service} has an unknown pod"));
            pod.services.entry(service).or_default().extend(ports);
        }
        for (namespace, pod, policy) in self.selected {
            let pod = self.pods.get_mut(&(namespace, pod.as_str().into()));
            pod.unwrap_or_else(|| panic!("fixture: policy {policy} is for an unknown pod"))
                .authorization_policies
                .push(policy);
        }
        let pods = self.pods.into_values().map(|pod| Change::Workload(Arc::new(pod)));
        let services = self.services.into_iter().map(|service| Change::Service(Arc::new(service)));
        pods.chain(services).chain(self.policies.into_values().map(|policy| Change::Policy(Arc::new(policy)))).collect()
    }
}

#[cfg(test)]
mod tests;
