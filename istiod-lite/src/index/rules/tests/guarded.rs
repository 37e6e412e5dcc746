//! Policies for waypoints, and what is told of requests.

use super::{shop, show, tell};
use crate::{
    facts::{Fact, FactKey, Kind},
    index::Index,
};
use mesh::{
    policy::PathPattern,
    route::{Destination, Guards, guard::GuardAction, guard::Keys, text::Fraction},
};

fn object(api: &str, kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )
}

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    object("security.istio.io/v1", "AuthorizationPolicy", namespace, name, spec)
}

const WEB: &str = "targetRefs: [{group: '', kind: Service, name: web}]";
const ENTRY: &str = "targetRefs: [{group: networking.istio.io, kind: ServiceEntry, name: ext}]";
const WAYPOINT: &str = "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: wp}]";
const CLASS: &str = "targetRefs: [{group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint}]";

fn guards(index: &Index) -> Vec<String> {
    let shown = |place: &str, guards: &Guards| {
        let policies = guards.policies.iter().map(|it| format!("{}/{}", it.namespace, it.name));
        let tokens = guards.authentications.iter().map(|it| format!("tokens {}", it.name));
        policies.chain(tokens).map(|it| format!("{place}: {it}")).collect::<Vec<_>>()
    };
    let services = index.service_rules().flat_map(|(it, _)| shown(&it.rules().service.hostname, &it.rules().guards));
    let gateways = index.gateway_rules().flat_map(|it| shown(&it.rules().key(), &it.rules().guards));
    services.chain(gateways).collect()
}

#[test]
fn policies_guard_what_they_are_attached_to() {
    for (namespace, target, expected) in [
        ("shop", WEB, "web.shop.svc.cluster.local: shop/p"),
        ("shop", ENTRY, "api.example: shop/p"),
        ("shop", WAYPOINT, "shop/wp: shop/p"),
        ("istio-system", CLASS, "shop/wp: istio-system/p"),
    ] {
        let index = shop(&policy(namespace, "p", &format!("{target}, rules: [{{}}]")));
        assert_eq!(guards(&index), [expected]);
        let all = show::all_conditions(&index);
        assert!(all.iter().any(|line| line.contains(": WaypointAccepted/Accepted: ")), "{all:?}");
        assert!(!all.iter().any(|line| line.contains("Ztunnel")), "node proxies have nothing to do with it: {all:?}");
        assert!(index.policies().all(|policy| &*policy.name != "p"), "node proxies do not have it");
    }
}

#[test]
fn what_is_not_there_or_not_behind_a_waypoint_is_told() {
    for (namespace, target, expected) in [
        (
            "shop",
            "targetRefs: [{group: '', kind: Service, name: gone}]",
            "Service/gone: !WaypointAccepted/TargetNotFound",
        ),
        (
            "other",
            "targetRefs: [{group: '', kind: Service, name: bare}]",
            "Service/bare: !WaypointAccepted/AncestorNotBound",
        ),
        ("other", WAYPOINT, "Gateway/wp: !WaypointAccepted/TargetNotFound"),
        ("shop", CLASS, "GatewayClass/istio-waypoint: !WaypointAccepted/TargetNotFound"),
        ("other", ENTRY, "ServiceEntry/ext: !WaypointAccepted/TargetNotFound"),
    ] {
        let index = shop(&policy(namespace, "p", &format!("{target}, rules: [{{}}]")));
        let unmet = show::unmet(&index);
        assert!(unmet.len() == 1 && unmet[0].contains(expected), "{unmet:?} has no {expected}");
        assert!(guards(&index).is_empty(), "{namespace} {target}");
    }
}

#[test]
fn a_waypoint_that_comes_later_is_guarded_too() {
    let gateway = super::SHOP
        .rsplit("---")
        .next()
        .expect("the gateway")
        .replace("name: wp", "name: late")
        .replace("wp.", "late.");
    let mut index = shop(&policy("istio-system", "p", &format!("{CLASS}, rules: [{{}}]")));
    tell(&mut index, &gateway);
    assert_eq!(guards(&index), ["shop/late: istio-system/p", "shop/wp: istio-system/p"]);
}

#[test]
fn a_policy_that_cannot_be_read_closes_or_stays() {
    let bad = policy("shop", "p", &format!("{WEB}, action: DENY, rules: [{{to: [{{operation: {{path: [/a]}}}}]}}]"));
    let index = shop(&bad);
    assert_eq!(guards(&index), ["web.shop.svc.cluster.local: shop/p"]);
    let (rules, _) = index.service_rules().find(|(it, _)| !it.rules().guards.policies.is_empty()).expect("rules");
    let closed = &rules.rules().guards.policies[0];
    assert!(closed.action == GuardAction::Deny && closed.rules[0].clauses.is_empty(), "{closed:?}");
    let unmet = show::unmet(&index);
    assert!(
        unmet.iter().any(|it| it.contains("!WaypointAccepted/PartiallyInvalid: spec.rules[0].to[0].operation")),
        "{unmet:?}"
    );

    let good = policy("shop", "p", &format!("{WEB}, action: DENY, rules: [{{to: [{{operation: {{paths: [/a]}}}}]}}]"));
    let mut index = shop(&good);
    let rules = |index: &Index| index.service_rules().map(|(it, _)| it.rules().clone()).collect::<Vec<_>>();
    let before = rules(&index);
    tell(&mut index, &bad);
    assert_eq!(rules(&index), before, "the last good version stays");
}

#[test]
fn a_route_that_cannot_be_used_opens_nothing() {
    let guard = policy("shop", "p", &format!("{WEB}, rules: []"));
    let expected = ["web.shop.svc.cluster.local: shop/p"];
    let bad = "hosts: [web], http: [{match: [{uri: {regex: '('}}], directResponse: {status: 200}}]";
    let index = shop(&(object("networking.istio.io/v1", "VirtualService", "shop", "v", bad) + &guard));
    assert_eq!(guards(&index), expected);
    assert!(show::unmet(&index).iter().any(|it| it.contains("VirtualService/shop/v: !Accepted/Invalid")));
    let bad = "parentRefs: [{group: '', kind: Service, name: web}]\nrules: [{matches: [{path: {type: RegularExpression, value: '/('}}]}]";
    let index = shop(&(super::route("HTTPRoute", "r", bad) + &guard));
    assert_eq!(guards(&index), expected);
    let good = "parentRefs: [{group: '', kind: Service, name: web}]";
    let mut index = shop(&super::route("HTTPRoute", "r", good));
    let bad = super::route("HTTPRoute", "r", bad);
    tell(&mut index, &bad);
    tell(&mut index, &guard);
    assert_eq!(guards(&index), expected, "a policy counts though the last good routes stay");
}

const CONFIG: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    accessLogFile: /dev/stdout
    defaultConfig: {tracing: {sampling: 10}}
    defaultProviders: {tracing: [otel]}
    extensionProviders:
    - {name: asker, envoyExtAuthzGrpc: {service: api.shop.svc.cluster.local, port: 8080}}
    - {name: otel, opentelemetry: {service: bare.other.svc.cluster.local, port: 90}}
";

#[test]
fn who_is_asked_is_found_in_the_meshs_configuration() {
    let custom = policy("shop", "p", &format!("{WEB}, action: CUSTOM, provider: {{name: asker}}, rules: [{{}}]"));
    let mut index = shop(&custom);
    let action = |index: &Index| {
        let web = index.service_rules().find(|(it, _)| it.rules().service.hostname.starts_with("web"));
        web.expect("rules of web").0.rules().guards.policies[0].action.clone()
    };
    assert_eq!(action(&index), GuardAction::Deny, "nobody to ask refuses");
    assert!(show::unmet(&index)[0].contains("!WaypointAccepted/Invalid: spec.provider"), "{:?}", show::unmet(&index));
    tell(&mut index, CONFIG);
    let GuardAction::Custom(asked) = action(&index) else { panic!("nobody is asked") };
    assert!(
        matches!(&asked.destination, Destination::Service { service, port: 8080, .. } if service.hostname.starts_with("api."))
    );
    assert!(show::unmet(&index).is_empty(), "{:?}", show::unmet(&index));
    tell(&mut index, &CONFIG.replace("extensionProviders:", "extensionProviders: ["));
    assert!(matches!(action(&index), GuardAction::Custom(_)), "the last good configuration stays");
    assert!(show::unmet(&index)[0].contains("!Accepted/Invalid: data.mesh: line"), "{:?}", show::unmet(&index));
}

#[test]
fn tokens_are_judged_where_the_policy_is_attached() {
    let text = |target: &str, rules: &str| {
        object(
            "security.istio.io/v1",
            "RequestAuthentication",
            "shop",
            "t",
            &format!("{target}, jwtRules: [{{{rules}}}]"),
        )
    };
    let index = shop(&text(WEB, "issuer: a, jwksUri: 'https://a/keys'"));
    assert_eq!(guards(&index), ["web.shop.svc.cluster.local: tokens shop/t"]);
    let index = shop(&text(WAYPOINT, "issuer: a, jwks: nothing"));
    assert_eq!(guards(&index), ["shop/wp: tokens shop/t"]);
    let keys: Vec<Keys> =
        index.gateway_rules().map(|it| it.rules().guards.authentications[0].issuers[0].keys.clone()).collect();
    assert_eq!(keys, [Keys::Inline("{\"keys\":[]}".into())], "no token passes");
    let index = shop(&text("selector: {matchLabels: {a: b}}", "issuer: a, jwksUri: 'https://a/keys'"));
    assert!(guards(&index).is_empty());
    assert!(show::unmet(&index).iter().any(|it| it.contains("FieldsHonoured")), "{:?}", show::unmet(&index));
}

fn telemetry(namespace: &str, name: &str, spec: &str) -> String {
    object("telemetry.istio.io/v1", "Telemetry", namespace, name, spec)
}

#[test]
fn what_is_told_goes_from_the_mesh_down_to_the_service() {
    let sampled = |index: &Index| {
        let gateway = index.gateway_rules().find_map(|it| it.rules().telemetry.tracing.clone());
        let service = index.service_rules().find_map(|(it, _)| it.rules().telemetry.tracing.clone());
        let percent =
            |it: mesh::route::telemetry::Tracing| (it.sampling.map(|Fraction(n)| n / 10_000), it.collector.is_some());
        (gateway.map(percent), service.map(percent))
    };
    let mut index = shop(CONFIG);
    assert_eq!(sampled(&index), (Some((Some(10), true)), None));
    tell(&mut index, &telemetry("istio-system", "root", "tracing: [{randomSamplingPercentage: 20}]"));
    assert_eq!(sampled(&index).0, Some((Some(20), true)));
    tell(&mut index, &telemetry("shop", "own", "tracing: [{randomSamplingPercentage: 30}]"));
    assert_eq!(sampled(&index), (Some((Some(30), true)), None));
    let named = telemetry("shop", "named", &format!("{WAYPOINT}, tracing: [{{randomSamplingPercentage: 40}}]"));
    tell(&mut index, &named);
    assert_eq!(sampled(&index).0, Some((Some(40), true)));
    let web = telemetry("shop", "web", &format!("{WEB}, tracing: [{{customTags: {{a: {{literal: {{value: b}}}}}}}}]"));
    tell(&mut index, &web);
    assert_eq!(sampled(&index).1, Some((Some(40), true)), "what it does not say its waypoint says");
    tell(&mut index, &named.replace("40", "50"));
    assert_eq!(sampled(&index), (Some((Some(50), true)), Some((Some(50), true))));
    assert!(show::unmet(&index).is_empty(), "{:?}", show::unmet(&index));
    tell(&mut index, &telemetry("shop", "zz", "tracing: [{randomSamplingPercentage: 60}]"));
    assert!(show::unmet(&index)[0].contains("!WaypointAccepted/Conflicted"), "{:?}", show::unmet(&index));
}

#[test]
fn whatever_the_order_the_rules_are_the_same() {
    let text = [
        CONFIG.to_owned(),
        policy("shop", "p", &format!("{WEB}, action: CUSTOM, provider: {{name: asker}}, rules: [{{}}]")),
        policy("istio-system", "q", &format!("{CLASS}, rules: [{{}}]")),
        telemetry("istio-system", "root", "tracing: [{randomSamplingPercentage: 20}]"),
        telemetry("shop", "web", &format!("{WEB}, tracing: [{{disableSpanReporting: true}}]")),
        object(
            "networking.istio.io/v1",
            "VirtualService",
            "shop",
            "v",
            "hosts: [web], http: [{route: [{destination: {host: api, subset: s}}]}, {delegate: {name: w}}]",
        ),
        object("networking.istio.io/v1", "VirtualService", "shop", "w", "http: [{directResponse: {status: 201}}]"),
        object(
            "networking.istio.io/v1",
            "VirtualService",
            "shop",
            "all",
            "hosts: ['*'], http: [{directResponse: {status: 202}}]",
        ),
        object(
            "networking.istio.io/v1",
            "DestinationRule",
            "shop",
            "d",
            "host: api, subsets: [{name: s, labels: {a: b}}], trafficPolicy: {loadBalancer: {simple: RANDOM}}",
        ),
        object(
            "networking.istio.io/v1",
            "DestinationRule",
            "shop",
            "e",
            "host: '*.shop.svc.cluster.local', trafficPolicy: {loadBalancer: {simple: RANDOM}}",
        ),
        object(
            "istiod-lite.io/v1alpha1",
            "TrafficPolicy",
            "shop",
            "t",
            &format!("{WEB}, loadBalancer: {{simple: ROUND_ROBIN}}, rateLimit: [{{requests: 1}}]"),
        ),
        object(
            "istiod-lite.io/v1alpha1",
            "TrafficPolicy",
            "shop",
            "u",
            "targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: r}], rateLimit: [{requests: 2}]",
        ),
        super::route("HTTPRoute", "r", "parentRefs: [{group: '', kind: Service, name: web}]"),
        super::SHOP.to_owned(),
    ]
    .join("\n---\n");
    let facts = super::facts(&text);
    assert_eq!(facts.len(), 18);
    let shown = |index: &Index| {
        let rules: Vec<_> = index.service_rules().map(|(rules, to)| (rules.rules().clone(), to.clone())).collect();
        let gateways: Vec<_> = index.gateway_rules().map(|rules| rules.rules().clone()).collect();
        (rules, gateways, show::all_conditions(index))
    };
    let mut first = Index::new(crate::index::Mesh::default());
    facts.iter().for_each(|fact| drop(first.apply(fact.clone())));
    let expected = shown(&first);
    // Every rotation, forwards and backwards: each fact is once the first and once the last.
    for turn in 0..facts.len() {
        let mut other = facts.clone();
        other.rotate_left(turn);
        for _ in 0..2 {
            other.reverse();
            let mut index = Index::new(crate::index::Mesh::default());
            other.iter().for_each(|fact| drop(index.apply(fact.clone())));
            assert_eq!(shown(&index), expected, "turned by {turn}");
        }
    }
}

/// A policy that reads well and that no waypoint can use.
fn unusable(name: &str, target: &str) -> Fact {
    let text =
        policy("shop", name, &format!("{target}, action: DENY, rules: [{{to: [{{operation: {{paths: [/a]}}}}]}}]"));
    let mut fact = super::facts(&text).remove(0);
    let Fact::AuthorizationPolicy(policy) = &mut fact else { panic!("{fact:?} is no policy") };
    let all = policy.rules.iter_mut().flat_map(|rule| &mut rule.clauses).flatten();
    for request in all.filter_map(|term| term.l4.request.as_deref_mut()) {
        request.paths.any_of = vec![PathPattern::Template("no-template".into())];
    }
    fact
}

#[test]
fn what_cannot_be_used_leaves_the_last_good_rules_or_lets_nobody_in() {
    for (target, at) in [(WEB, "web.shop.svc.cluster.local"), (WAYPOINT, "shop/wp")] {
        let said = |index: &Index, what: &str| {
            let unmet = show::unmet(index);
            assert!(unmet.iter().any(|it| it.contains(what)), "{target}: {unmet:?}");
        };
        let closed = [format!("{at}: shop/unusable")];
        let mut first = Index::new(crate::index::Mesh::default());
        first.apply(unusable("p", target));
        tell(&mut first, super::SHOP);
        assert_eq!(guards(&first), closed, "there never were good rules");
        said(&first, "nobody may ask");
        let mut index = shop("");
        index.apply(unusable("p", target));
        assert_eq!(guards(&index), closed, "those that were good did not have the policy");
        index.apply(unusable("q", target));
        assert_eq!(guards(&index), closed, "what is closed is not a good version");

        let good = policy("shop", "p", &format!("{target}, action: DENY, rules: [{{}}]"));
        let mut index = shop(&good);
        index.apply(unusable("p", target));
        assert_eq!(guards(&index), [format!("{at}: shop/p")], "the last good version stays");
        said(&index, "the last good rules stay");
        index.apply(unusable("q", target));
        assert_eq!(guards(&index), closed, "a policy that is new has no good version");
        for name in ["p", "q"] {
            let (namespace, name) = ("shop".into(), name.into());
            index.apply(Fact::Removed(FactKey { kind: Kind::AuthorizationPolicy, namespace, name }));
        }
        assert_eq!((guards(&index), show::unmet(&index)), (Vec::new(), Vec::new()));
    }
}
