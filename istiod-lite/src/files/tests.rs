//! What is read, what is left out, and how that is told.

use super::*;
use crate::facts::{Admits, Distribution, EntryAddress, MtlsMode, PolicyAction, Resolution, TargetPort, Vip};
use mesh::{
    policy::StringMatch,
    service::{AppProtocol, IpFamilies},
};
use proptest::prelude::*;
use std::path::Path;

fn reading(text: &str) -> Reading {
    let (objects, problems) = chassis::objects::parse(Path::new("shop.yaml"), text);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(objects.len(), 1, "one document a test");
    read(&objects[0])
}

fn good(text: &str) -> Fact {
    let Reading { fact, problems } = reading(text);
    assert!(problems.is_empty(), "{problems:?} in\n{text}");
    fact.expect("a fact")
}

/// The problems as `field: beginning of the reason`.
fn check_problems(text: &str, expected: &[&str]) -> Option<Fact> {
    let Reading { fact, problems } = reading(text);
    let found: Vec<String> = problems.iter().map(|it| format!("{}: {}", it.field, it.reason)).collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}\n{text}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found:?} does not begin with {expected:?}");
    }
    fact
}

fn policy(spec: &str) -> String {
    let head = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n";
    format!("{head}spec: {spec}")
}

#[test]
fn a_pod_is_read_with_its_status_and_named_ports() {
    let Fact::Pod(pod) = good(
        "
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  uid: u-1
  labels: {app: web}
  annotations: {ambient.istio.io/redirection: enabled}
  ownerReferences: [{kind: Job, name: other}, {kind: ReplicaSet, name: web-abc, controller: true}]
spec:
  nodeName: n1
  containers:
  - name: a
    ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]
  - name: b
    ports: [{name: http, containerPort: 9090}, {containerPort: 1}]
status:
  phase: Running
  podIP: 10.0.0.9
  podIPs: [{ip: 10.0.0.1}, {ip: '::ffff:10.0.0.2'}, {ip: 'fd00::1'}]
  conditions: [{type: Ready, status: 'True'}]
",
    ) else {
        panic!("not a pod")
    };
    assert_eq!((&*pod.uid, &*pod.node, &*pod.service_account), ("u-1", "n1", "default"));
    let addresses: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2", "fd00::1"]);
    assert!(pod.ready && pod.captured && !pod.host_network && !pod.terminating);
    assert_eq!(pod.ports, [("http".into(), 8080)].into());
    assert_eq!(pod.owner, Some(("ReplicaSet".into(), "web-abc".into())));
}

#[test]
fn a_service_is_read_with_what_kubernetes_would_default() {
    let Fact::Service(service) = good(
        "
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: shop
  annotations: {networking.istio.io/traffic-distribution: PreferSameNode}
spec:
  clusterIP: 10.1.0.1
  clusterIPs: [10.1.0.1, 'fd01::1']
  ipFamilies: [IPv4, IPv6]
  internalTrafficPolicy: Local
  publishNotReadyAddresses: true
  selector: {app: web}
  ports:
  - {name: http-web, port: 80, targetPort: http}
  - {name: x, port: 81, targetPort: '8081', appProtocol: kubernetes.io/h2c}
  - {port: 82}
  - {name: dns, port: 53, protocol: UDP}
",
    ) else {
        panic!("not a service")
    };
    assert_eq!(service.addresses.len(), 2);
    let ports: Vec<_> = service.ports.iter().map(|it| (it.port, it.target.clone(), it.app_protocol)).collect();
    assert_eq!(
        ports,
        [
            (80, TargetPort::Name("http".into()), AppProtocol::Http11),
            (81, TargetPort::Number(8081), AppProtocol::Http2),
            (82, TargetPort::Number(82), AppProtocol::Unknown),
        ]
    );
    assert!(service.only_local && service.publish_not_ready && !service.alias);
    assert_eq!((service.ip_families, service.distribution), (IpFamilies::Dual, Some(Distribution::SameNode)));
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: h, namespace: shop}\nspec: {clusterIP: None}";
    assert!(matches!(good(text), Fact::Service(service) if service.addresses.is_empty()));
}

#[test]
fn a_service_entry_is_read_with_its_endpoints() {
    let Fact::ServiceEntry(entry) = good(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: shop}
spec:
  hosts: [API.example.com, b.example.com]
  addresses: [10.2.0.1, 10.3.0.0/16, 10.4.0.1/32]
  resolution: STATIC
  ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}, {number: 53, name: dns, protocol: UDP}]
  endpoints:
  - {address: 192.0.2.1, ports: {tls: 9443}, weight: 3, locality: r/z/s, labels: {a: b}, network: far}
  - {address: backend.example.com}
  subjectAltNames: ['spiffe://td/ns/a/sa/b']
status: {addresses: [{host: api.example.com, value: 240.240.0.9}]}
",
    ) else {
        panic!("not a service entry")
    };
    assert_eq!(entry.hosts, ["api.example.com".into(), "b.example.com".into()]);
    assert_eq!(entry.vips.iter().filter(|vip| matches!(vip, Vip::One(_))).count(), 2);
    assert_eq!((entry.resolution, entry.auto_allocate, entry.ports.len()), (Resolution::Static, true, 1));
    let [first, second] = &entry.endpoints[..] else { panic!("{:?}", entry.endpoints) };
    assert_eq!((first.weight, first.ports["tls"], &*first.locality.zone), (3, 9443, "z"));
    assert_eq!(first.network.as_deref(), Some("far"));
    assert_eq!(second.address, EntryAddress::Name("backend.example.com".into()));
    assert_eq!(entry.allocated.len(), 1);
}

#[test]
fn a_field_that_is_wrong_is_told_and_the_rest_counts() {
    let head = "apiVersion: v1\nmetadata: {name: a, namespace: shop}\n";
    for (text, expected) in [
        ("kind: Pod\nstatus: {phase: Dancing}", "status.phase: \"Dancing\" is none of Pending, Running"),
        ("kind: Pod\nstatus: {podIPs: [{ip: 10.0.0}]}", "status.podIPs[0].ip: \"10.0.0\" is not an IP address"),
        ("kind: Pod\nspec: {hostNetwork: 'yes'}", "spec.hostNetwork: should be true or false and is a text"),
        ("kind: Service\nspec: {ports: [{port: 0}]}", "spec.ports[0].port: is not a port"),
        ("kind: Service\nspec: {ports: {port: 1}}", "spec.ports: should be a list and is a map"),
        ("kind: Service\nspec: {internalTrafficPolicy: Near}", "spec.internalTrafficPolicy: \"Near\" is none of"),
        ("kind: Service\nspec: {selector: {app: [1]}}", "spec.selector[\"app\"]: should be a text and is a list"),
    ] {
        let fact = check_problems(&format!("{head}{text}"), &[expected]);
        assert!(fact.is_some(), "dropped: {text}");
    }
    let text = format!("{head}kind: Service\nspec: {{selector: {{version: 1, on: true}}}}");
    assert!(matches!(good(&text), Fact::Service(it) if it.selector.get("version").map(|v| &**v) == Some("1")));
}

#[test]
fn a_problem_names_file_line_resource_field_and_reason() {
    let text = "# a comment\napiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nstatus: {podIP: x}";
    let problem = reading(text).problems.remove(0).to_string();
    assert_eq!(problem, "shop.yaml:2: Pod shop/a: status.podIP: \"x\" is not an IP address; it is left out");
}

#[test]
fn what_is_too_large_is_left_out() {
    let long = "x".repeat(10 << 20);
    let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: s}}\nspec: {{nodeName: {long}}}");
    let (objects, _) = chassis::objects::parse(Path::new("f"), &text);
    for object in objects {
        let Reading { problems, .. } = read(&object);
        assert!(problems[0].reason.starts_with("is 10485760 bytes long"), "{problems:?}");
    }
    let value = serde_json::json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "spec": {"rules": [{"from": [{"source": {"principals": vec!["p"; 20_000]}}]}]},
    });
    let origin = Origin { file: Path::new("f").into(), line: 1 };
    let object = Object {
        api_version: "security.istio.io/v1".into(),
        kind: "AuthorizationPolicy".into(),
        namespace: "shop".into(),
        name: "p".into(),
        value,
        origin,
    };
    let Reading { fact, problems } = read(&object);
    assert!(matches!(fact, Some(Fact::Otherwise(_))));
    assert!(problems[0].reason.starts_with("has 20000 items"), "{problems:?}");
}

#[test]
fn names_that_kubernetes_would_refuse_are_refused() {
    for name in ["a_b", "A", "a/b", "istio_converted_static_strict"] {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: '{name}', namespace: shop}}");
        let fact = check_problems(&text, &["metadata.name: is not a Kubernetes name"]);
        assert!(fact.is_none(), "{name}");
    }
}

#[test]
fn kinds_that_are_not_the_meshs_are_passed_over_and_unknown_ones_of_istio_are_told() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, namespace: s}\nspec: {replicas: x}";
    assert!(check_problems(text, &[]).is_none());
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorisationPolicy\nmetadata: {name: a, namespace: s}";
    assert!(check_problems(text, &["kind: AuthorisationPolicy is not a kind of security.istio.io"]).is_none());
}

#[test]
fn a_policy_is_read_clause_by_clause() {
    let text = policy(
        "
  action: DENY
  selector: {matchLabels: {app: web}}
  rules:
  - to: [{operation: {ports: ['80', 81], methods: [GET]}}, {operation: {notPorts: ['90']}}]
    from:
    - source: {principals: ['*', 'a*', '*b', 'spiffe://td/ns/x/sa/y'], ipBlocks: [10.0.0.1, 10.1.0.0/16]}
    - source: {serviceAccounts: [web, other/web]}
    when:
    - {key: destination.port, notValues: ['443']}
    - {key: 'request.headers[x]', values: [y]}
  - {}",
    );
    let remark = "spec: node proxies cannot decide methods, request.headers[x]: rules that ask for it deny";
    let Some(Fact::AuthorizationPolicy(policy)) = check_problems(&text, &[remark]) else { panic!("not a policy") };
    assert_eq!((policy.action, policy.selector.len()), (PolicyAction::Deny, 1));
    let [rule, all] = &policy.rules[..] else { panic!("{:?}", policy.rules) };
    assert!(all.clauses.is_empty());
    let sizes: Vec<usize> = rule.clauses.iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 2, 1, 1]);
    assert_eq!(rule.clauses[0][0].l4.destination_ports.any_of, [80, 81]);
    assert_eq!(rule.clauses[0][0].unsupported, ["methods".into()]);
    let exact = StringMatch::Exact("td/ns/x/sa/y".into());
    let texts = [StringMatch::Presence, StringMatch::Prefix("a".into()), StringMatch::Suffix("b".into()), exact];
    assert_eq!(rule.clauses[1][0].l4.principals.any_of, texts);
    let accounts = &rule.clauses[1][1].l4.service_accounts.any_of;
    let accounts: Vec<_> = accounts.iter().map(|it| format!("{}/{}", it.namespace, it.service_account)).collect();
    assert_eq!(accounts, ["shop/web", "other/web"]);
    assert_eq!(rule.clauses[3][0].unsupported, ["request.headers[x]".into()]);
}

#[test]
fn a_policy_that_is_not_understood_closes() {
    for (spec, field) in [
        ("{rules: [{from: [{source: {ipBlocks: [10.0.0.0/33]}}]}]}", "spec.rules[0].from[0].source.ipBlocks[0]"),
        ("{rules: [{to: [{operation: {ports: ['70000']}}]}]}", "spec.rules[0].to[0].operation.ports[0]"),
        ("{rules: [{from: []}]}", "spec.rules[0].from"),
        ("{rules: [{from: [{}]}]}", "spec.rules[0].from[0].source"),
        ("{rules: [{from: [{source: {}}]}]}", "spec.rules[0].from[0].source"),
        ("{rules: [{from: [{source: {principals: ['']}}]}]}", "spec.rules[0].from[0].source.principals[0]"),
        (
            "{rules: [{from: [{source: {serviceAccounts: ['a/*']}}]}]}",
            "spec.rules[0].from[0].source.serviceAccounts[0]",
        ),
        ("{rules: [{when: [{key: source.ip}]}]}", "spec.rules[0].when[0]"),
        ("{rules: [{when: [{values: [a]}]}]}", "spec.rules[0].when[0].key"),
        ("{rules: [x]}", "spec.rules[0]"),
        ("{rules: x}", "spec.rules"),
        ("{selectr: {matchLabels: {a: b}}}", "spec[\"selectr\"]"),
        ("{selector: {matchExpressions: []}}", "spec.selector[\"matchExpressions\"]"),
        ("{selector: {matchLabels: {a: 'b*'}}}", "spec.selector.matchLabels[\"a\"]"),
    ] {
        let Reading { fact, problems } = reading(&policy(spec));
        assert_eq!(problems[0].field, field, "{spec}: {problems:?}");
        let Some(Fact::Otherwise(closed)) = fact else { panic!("{spec} was taken") };
        let Fact::AuthorizationPolicy(closed) = *closed else { panic!("another kind") };
        assert!(closed.action == PolicyAction::Allow && closed.rules.is_empty(), "{spec} does not close");
    }
    for spec in ["{action: DENIE, rules: [{}]}", "{action: DENY, rules: [{from: []}]}", "{action: 3}"] {
        let Some(Fact::Otherwise(closed)) = reading(&policy(spec)).fact else { panic!("{spec} was taken") };
        let Fact::AuthorizationPolicy(closed) = *closed else { panic!("another kind") };
        assert!(closed.action == PolicyAction::Deny && closed.rules[0].clauses.is_empty(), "{spec} does not close");
    }
}

#[test]
fn a_peer_authentication_is_read_and_closes_when_it_is_not_understood() {
    let head = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p, namespace: shop}\n";
    let Fact::PeerAuthentication(peer) = good(&format!(
        "{head}spec: {{mtls: {{mode: UNSET}}, portLevelMtls: {{80: {{mode: STRICT}}, '81': {{}}, 82: {{mode: DISABLE}}}}}}"
    )) else {
        panic!("not a peer authentication")
    };
    assert_eq!(peer.mode, None);
    assert_eq!(peer.ports, [(80, Some(MtlsMode::Strict)), (81, None), (82, Some(MtlsMode::Disable))].into());
    for spec in ["{mtls: {mode: PERMISIVE}}", "{mtls: {mod: STRICT}}", "{portLevelMtls: {http: {mode: PERMISSIVE}}}"] {
        let Some(Fact::Otherwise(closed)) = reading(&format!("{head}spec: {spec}")).fact else { panic!("{spec}") };
        assert!(matches!(*closed, Fact::PeerAuthentication(it) if it.mode == Some(MtlsMode::Strict)), "{spec}");
    }
}

#[test]
fn hosts_that_cannot_be_served_are_told() {
    let text = |resolution: &str, host: &str| {
        let head = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop}\n";
        format!("{head}spec: {{hosts: ['{host}', good.example], resolution: {resolution}}}")
    };
    check_problems(&text("DNS", "*.example"), &["spec.hosts[0]: is a wildcard"]);
    check_problems(&text("DYNAMIC_DNS", "*.example"), &[]);
    check_problems(&text("STATIC", "a b"), &["spec.hosts[0]: \"a b\" is not a hostname"]);
    check_problems(&text("LATER", "a.example"), &["spec.resolution: \"LATER\" is none of"]);
}

/// Any JSON at all, of the shapes that confuse readers.
fn anything() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let texts = ["", "*", "a", "10.0.0.1", "10.0.0.0/8", "::ffff:1.2.3.4/97", "spiffe://x", "80", "unix:///a", "é"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(texts.to_vec()).prop_map(Value::from),
    ];
    let keys = [
        "metadata",
        "labels",
        "annotations",
        "spec",
        "status",
        "podIPs",
        "ip",
        "ports",
        "port",
        "targetPort",
        "name",
        "selector",
        "matchLabels",
        "rules",
        "from",
        "source",
        "principals",
        "ipBlocks",
        "to",
        "operation",
        "when",
        "key",
        "values",
        "mtls",
        "mode",
        "portLevelMtls",
        "80",
        "hosts",
        "endpoints",
        "address",
        "addresses",
        "conditions",
        "targetRef",
        "clusterIPs",
        "ipFamilies",
        "containers",
        "creationTimestamp",
        "resolution",
        "action",
    ];
    leaf.prop_recursive(7, 200, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => prop::collection::btree_map(prop::sample::select(keys.to_vec()), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_that_is_written_stops_the_reader(value in anything(), kind in 0..10usize) {
        let (api_version, kind) = [
            ("v1", "Namespace"), ("v1", "Node"), ("v1", "Pod"), ("v1", "Service"), ("v1", "ServiceAccount"),
            ("discovery.k8s.io/v1", "EndpointSlice"), ("networking.istio.io/v1", "ServiceEntry"),
            ("networking.istio.io/v1", "WorkloadEntry"), ("security.istio.io/v1", "AuthorizationPolicy"),
            ("security.istio.io/v1", "PeerAuthentication"),
        ][kind];
        let object = Object {
            api_version: api_version.into(),
            kind: kind.into(),
            namespace: "shop".into(),
            name: "a".into(),
            value,
            origin: Origin { file: Path::new("f").into(), line: 1 },
        };
        let Reading { fact, problems } = read(&object);
        prop_assert!(fact.is_some() || !problems.is_empty(), "dropped without a word");
        prop_assert!(problems.len() <= limits::PROBLEMS_PER_OBJECT);
        let mut index = crate::index::Index::new(crate::index::Mesh::default());
        if let Some(fact) = fact {
            index.apply(fact);
        }
    }
}

#[test]
fn a_gateway_is_read_and_admits_nobody_by_what_cannot_be_read() {
    let text = |namespaces: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: wp, namespace: shop, annotations: {{gateway.istio.io/service-account: w, other: x}}}}\nspec:\n  gatewayClassName: istio-waypoint\n  listeners:\n  - {{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {{namespaces: {namespaces}}}}}\nstatus: {{addresses: [{{value: 10.1.0.9}}, {{type: Hostname, value: WP.shop}}]}}"
        )
    };
    let Fact::Gateway(gateway) = good(&text("{from: All}")) else { panic!("it is a gateway") };
    assert_eq!(
        (&*gateway.class, gateway.listeners[0].port, &*gateway.listeners[0].protocol),
        ("istio-waypoint", 15008, "HBONE")
    );
    assert_eq!(format!("{:?}", gateway.addresses), r#"[Ip(10.1.0.9), Hostname("wp.shop")]"#);
    assert_eq!(gateway.meta.annotations.len(), 1, "only what means something is kept");

    let at = "spec.listeners[0].allowedRoutes.namespaces";
    for (namespaces, problems, admits) in [
        ("{}", vec![], Admits::Same),
        ("{from: Same}", vec![], Admits::Same),
        ("{from: None}", vec![], Admits::None),
        ("{from: Every}", vec![".from: is none of Same"], Admits::None),
        ("{from: Selector}", vec![".selector: is missing"], Admits::None),
        (
            "{from: Selector, selector: {matchLabel: {a: b}}}",
            vec![".selector[\"matchLabel\"]: is not a field"],
            Admits::None,
        ),
        (
            "{from: Selector, selector: {matchLabels: {a: [b]}}}",
            vec![".selector.matchLabels[\"a\"]: should be a text"],
            Admits::None,
        ),
        (
            "{from: Selector, selector: {matchExpressions: [{key: a, operator: Is, values: [b]}]}}",
            vec![".selector.matchExpressions[0]: needs a key"],
            Admits::None,
        ),
        (
            "{from: Selector, selector: {matchExpressions: [{key: a, operator: In}]}}",
            vec![".selector.matchExpressions[0]: needs a key"],
            Admits::None,
        ),
    ] {
        let mut problems: Vec<_> = problems.iter().map(|problem| format!("{at}{problem}")).collect();
        let bad = !problems.is_empty();
        problems.extend(bad.then(|| "spec: the last good version of this Gateway stays".to_owned()));
        let problems: Vec<_> = problems.iter().map(String::as_str).collect();
        let fact = check_problems(&text(namespaces), &problems);
        let (gateway, held_back) = match fact {
            Some(Fact::Gateway(gateway)) => (gateway, false),
            Some(Fact::Otherwise(fact)) => match *fact {
                Fact::Gateway(gateway) => (gateway, true),
                other => panic!("it is a gateway: {other:?}"),
            },
            other => panic!("it is a gateway: {other:?}"),
        };
        assert_eq!((held_back, gateway.refused.is_empty()), (bad, !bad), "{namespaces}");
        assert_eq!(gateway.listeners[0].admits, admits, "{namespaces}");
    }
}

#[test]
fn a_label_selector_asks_for_all_it_says() {
    let selector = "{from: Selector, selector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: NotIn, values: [d]}, {key: e, operator: Exists}, {key: f, operator: DoesNotExist}]}}";
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: wp, namespace: shop}}\nspec: {{listeners: [{{allowedRoutes: {{namespaces: {selector}}}}}]}}"
    );
    let Fact::Gateway(gateway) = good(&text) else { panic!("it is a gateway") };
    let Admits::Selected(selector) = &gateway.listeners[0].admits else { panic!("it selects") };
    for (labels, expected) in [
        ("a=b e=", true),
        ("a=b c=x e=", true),
        ("a=b c=d e=", false),
        ("a=b", false),
        ("e=", false),
        ("a=b e= f=", false),
    ] {
        let pairs = labels.split(' ').filter_map(|pair| pair.split_once('='));
        let labels: Labels = pairs.map(|(key, value)| (key.into(), value.into())).collect();
        assert_eq!(selector.selects(&labels), expected, "{labels:?}");
    }
}
