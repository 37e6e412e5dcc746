//! What a route is attached to, what it points to, and who gets its rules.

use super::{route, shop, show, tell};
use crate::{facts::*, index::Index};

const WEB: &str = "parentRefs: [{group: '', kind: Service, name: web}]";
const TO_API: &str = "rules: [{backendRefs: [{name: api, port: 8080}]}]";

fn http(name: &str, spec: &str) -> String {
    route("HTTPRoute", name, spec)
}

#[test]
fn a_route_becomes_rules_of_its_service() {
    let index = shop(&http("r", &format!("{WEB}\n{TO_API}")));
    let expected = ["shop/web.shop to shop/wp", "  HTTPRoute/shop/r", "    /** → shop/api.shop:8080×1"];
    assert_eq!(show::rules(&index).iter().map(|line| line.replace("//**", "/**")).collect::<Vec<_>>(), expected);
    assert_eq!(
        show::all_conditions(&index),
        [
            "HTTPRoute/shop/r Service/shop/web: Accepted/Accepted: Route was valid",
            "HTTPRoute/shop/r Service/shop/web: ResolvedRefs/ResolvedRefs: All references resolved",
            "HTTPRoute/shop/r Service/shop/web: ResolvedWaypoints/ResolvedWaypoints: All waypoints resolved",
        ]
    );
}

#[test]
fn a_parent_may_be_a_part_of_a_service() {
    for (part, expected) in [
        ("", "HTTPRoute/shop/r"),
        (", port: 80", "HTTPRoute/shop/r ports [80]"),
        (", sectionName: admin", "HTTPRoute/shop/r ports [81]"),
        (", sectionName: admin, port: 81", "HTTPRoute/shop/r ports [81]"),
        (", sectionName: admin, port: 80", "!Service/shop/web:admin:80 has no such port"),
        (", port: 99", "!Service/shop/web:99 has no such port"),
        (", port: 82", "!Service/shop/web:82: port 82 carries tcp, which is not read as HTTP"),
    ] {
        let spec = format!("parentRefs: [{{group: '', kind: Service, name: web{part}}}]\n{TO_API}");
        let index = shop(&http("r", &spec));
        match expected.strip_prefix('!') {
            None => {
                assert_eq!(show::rules(&index)[1].trim(), expected, "{part}");
                assert_eq!(show::unmet(&index), [""; 0], "{part}");
            }
            Some(message) => {
                assert_eq!(show::rules(&index), [""; 0], "{part}");
                let unmet = show::unmet(&index);
                assert!(unmet[0].ends_with(&format!("!Accepted/NoMatchingParent: {message}")), "{unmet:?}");
            }
        }
    }
}

#[test]
fn parents_of_several_kinds() {
    for (parent, rules, unmet) in [
        ("{group: networking.istio.io, kind: ServiceEntry, name: ext}", "shop/api.example to shop/wp", ""),
        ("{group: networking.istio.io, kind: ServiceEntry, name: gone}", "", "there is no ServiceEntry/shop/gone"),
        ("{group: '', kind: Service, name: gone}", "", "there is no Service/shop/gone"),
        ("{name: wp}", "", "it is attached to services, not to the gateway that serves them"),
        ("{group: x, kind: Thing, name: z}", "", "nothing is attached to Thing.x/shop/z here"),
    ] {
        let index = shop(&route("TCPRoute", "r", &format!("parentRefs: [{parent}]\n{TO_API}")));
        assert_eq!(show::rules(&index).first().map_or("", |line| line), rules, "{parent}");
        let found = show::unmet(&index);
        match unmet {
            "" => assert_eq!(found, [""; 0], "{parent}"),
            unmet => {
                let expected = format!("!Accepted/NoMatchingParent: {unmet}");
                assert!(found.iter().any(|line| line.ends_with(&expected)), "{parent}: {found:?}");
            }
        }
    }
}

#[test]
fn a_route_of_another_namespace_is_for_its_own_callers() {
    let route = http("r", "parentRefs: [{group: '', kind: Service, name: web, namespace: shop}]\nrules: [{backendRefs: [{name: bare, port: 90}]}]")
        .replace("namespace: shop}\nspec", "namespace: other}\nspec");
    let index = shop(&route);
    let rules = show::rules(&index);
    assert_eq!(rules[1].trim(), "HTTPRoute/other/r callers of other", "{rules:?}");
    assert_eq!(show::unmet(&index), [""; 0]);
}

#[test]
fn without_a_waypoint_rules_go_to_nobody() {
    let spec = format!("parentRefs: [{{group: '', kind: Service, name: bare, namespace: other}}]\n{TO_API}");
    let index = shop(&http("r", &spec));
    assert_eq!(show::rules(&index), [""; 0]);
    let all = show::all_conditions(&index);
    assert!(all.iter().any(|line| line.contains("ResolvedWaypoints: istio.io/use-waypoint label missing")), "{all:?}");
}

#[test]
fn a_waypoint_that_is_not_there_is_told() {
    let mut index = shop(&http("r", &format!("{WEB}\n{TO_API}")));
    let waypoints = |index: &Index| {
        let all = show::all_conditions(index);
        let found = all.into_iter().find(|line| line.contains("ResolvedWaypoints")).unwrap_or_default();
        found.split("ResolvedWaypoints: ").nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!((waypoints(&index).as_str(), show::rules(&index).is_empty()), ("All waypoints resolved", false));
    index.apply(Fact::Removed(FactKey { kind: Kind::Gateway, namespace: "shop".into(), name: "wp".into() }));
    assert!(waypoints(&index).starts_with("there is no waypoint shop/wp"), "{}", waypoints(&index));
    assert_eq!(show::rules(&index), [""; 0]);
}

#[test]
fn a_gateway_may_tell_backends_who_calls() {
    let gateway = |annotation: &str| {
        format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: wp, namespace: shop, annotations: {{ambient.istio.io/xfcc-include-client-identity: '{annotation}'}}}}
spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}
"
        )
    };
    let mut index = shop("");
    let told = |index: &Index| {
        let all = index.gateway_rules().map(|it| (it.rules().key(), it.rules().forward_client_identity));
        all.collect::<Vec<_>>()
    };
    assert_eq!(told(&index), [("shop/wp".to_owned(), false)]);
    tell(&mut index, &gateway("true"));
    assert_eq!(told(&index), [("shop/wp".to_owned(), true)]);
    tell(&mut index, &gateway("false"));
    assert_eq!(told(&index), [("shop/wp".to_owned(), false)]);
}

#[test]
fn what_a_waypoint_serves_has_rules_that_may_say_nothing() {
    let mut index = shop("");
    let services = |index: &Index| {
        let all = index.service_rules().map(|(it, to)| {
            assert_eq!(it.rules(), &mesh::route::ServiceRules::of(it.rules().service.clone()));
            format!("{} to {}", it.rules().service.hostname, to.iter().map(|to| &**to).collect::<Vec<_>>().join(","))
        });
        all.collect::<Vec<_>>()
    };
    let bound =
        ["api.example to shop/wp", "api.shop.svc.cluster.local to shop/wp", "web.shop.svc.cluster.local to shop/wp"];
    assert_eq!(services(&index), bound, "and not what is not bound");
    let service = FactKey { kind: Kind::Service, namespace: "shop".into(), name: "web".into() };
    index.apply(Fact::Removed(service));
    assert_eq!(services(&index), bound[..2]);
    let built = index.rules.log.len();
    index.apply(Fact::Removed(FactKey { kind: Kind::Gateway, namespace: "shop".into(), name: "wp".into() }));
    assert_eq!((services(&index).len(), index.gateway_rules().count()), (0, 0));
    assert_eq!(index.rules.log.len(), built + 2, "only what was bound is built");
    tell(&mut index, super::SHOP);
    assert_eq!((services(&index).len(), index.gateway_rules().count()), (3, 1));
    // Another class makes it none of ours.
    tell(&mut index, &super::SHOP.replace("gatewayClassName: istio-waypoint", "gatewayClassName: other"));
    assert_eq!((services(&index).len(), index.gateway_rules().count()), (0, 0));
}

#[test]
fn what_a_backend_may_be() {
    for (backend, expected, unmet) in [
        ("{name: api, port: 8080, weight: 3}", "shop/api.shop:8080×3", ""),
        ("{group: networking.istio.io, kind: Hostname, name: api.example, port: 443}", "shop/api.example:443×1", ""),
        ("{group: networking.istio.io, kind: Hostname, name: API.example}", "shop/api.example:443×1", ""),
        ("{name: gone, port: 1}", "<there is no Service shop/gone>×1", "BackendNotFound"),
        ("{name: api, port: 1}", "<Service shop/api has no port 1>×1", "BackendNotFound"),
        (
            "{kind: Hostname, group: networking.istio.io, name: x.example}",
            "<there is no service x.example>×1",
            "BackendNotFound",
        ),
        (
            "{name: bare, namespace: other, port: 90}",
            "<Service other/bare is in another namespace, and no ReferenceGrant there lets HTTPRoute of shop send to it>×1",
            "RefNotPermitted",
        ),
        (
            "{group: x, kind: Thing, name: z, port: 1}",
            "<spec.rules[0].backendRefs[0]: Thing.x is not a kind of backend here>×1",
            "InvalidKind",
        ),
    ] {
        let index = shop(&http("r", &format!("{WEB}\nrules: [{{backendRefs: [{backend}]}}]")));
        let rules = show::http(&index);
        assert_eq!(rules[0].split_once(" → ").expect("an arrow").1, expected, "{backend}");
        let found = show::unmet(&index);
        match unmet {
            "" => assert_eq!(found, [""; 0], "{backend}"),
            unmet => {
                let expected = format!("!ResolvedRefs/{unmet}: ");
                assert!(found.iter().any(|line| line.contains(&expected)), "{backend}: {found:?}");
            }
        }
    }
}

const GRANT: &str = "
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
  to: [{group: '', kind: Service, name: bare}]
";

#[test]
fn a_grant_lets_a_route_send_to_another_namespace() {
    let spec = format!("{WEB}\nrules: [{{backendRefs: [{{name: bare, namespace: other, port: 90}}]}}]");
    for (from, to, granted) in [
        ("", "", true),
        (", name: bare", "", true),
        ("HTTPRoute", "GRPCRoute", false),
        ("namespace: shop}]", "namespace: third}]", false),
        ("name: bare", "name: wares", false),
        ("namespace: other", "namespace: shop", false),
    ] {
        let mut index = shop(&http("r", &spec));
        let ready = |index: &Index| show::http(index)[0].contains("other/bare.other:90");
        assert!(!ready(&index));
        tell(&mut index, &if from.is_empty() { GRANT.to_owned() } else { GRANT.replace(from, to) });
        assert_eq!(ready(&index), granted, "{from} → {to}");
        let grant = FactKey { kind: Kind::ReferenceGrant, namespace: "other".into(), name: "g".into() };
        index.apply(Fact::Removed(grant));
        assert!(!ready(&index), "{from} → {to}");
    }
}

#[test]
fn only_what_is_concerned_is_built_again() {
    let spec = |to: &str| format!("{WEB}\nrules: [{{backendRefs: [{to}]}}]");
    let mut index = shop(&http("r", &spec("{name: api, port: 8080}, {name: bare, namespace: other, port: 90}")));
    for n in 0..20 {
        tell(
            &mut index,
            &format!(
                "
apiVersion: v1
kind: Service
metadata: {{name: s{n}, namespace: shop, labels: {{istio.io/use-waypoint: wp}}}}
spec: {{clusterIP: 10.2.0.{n}, ports: [{{name: http, port: 80}}]}}
"
            ),
        );
    }
    let mut built = |text: &str| {
        index.rules.log.clear();
        tell(&mut index, text);
        index
            .rules
            .log
            .iter()
            .map(|key| key.hostname.split('.').next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let api = "
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop, labels: {istio.io/use-waypoint: wp}}
spec: {clusterIP: 10.1.0.2, ports: [{name: http, port: 8080}, {name: more, port: 8081}]}
";
    assert_eq!(built(api), ["api", "web"], "a backend has another port");
    assert_eq!(built(api), [""; 0], "nothing is different");
    assert_eq!(built(GRANT), ["web"], "a grant appears");
    assert_eq!(built(&http("r", &spec("{name: api, port: 8081}"))), ["web"], "the route is different");
    assert_eq!(built(GRANT), [""; 0], "a grant that nobody needs");
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop, labels: {app: web}}
spec: {nodeName: n1}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
";
    assert_eq!(built(pod), [""; 0], "a pod");
}

#[test]
fn a_service_gets_what_those_need_who_send_to_it() {
    let web = http("r", &format!("{WEB}\nrules: [{{backendRefs: [{{name: bare, namespace: other, port: 90}}]}}]"));
    let bare = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: own, namespace: other}
spec:
  parentRefs: [{group: '', kind: Service, name: bare}]
  rules: [{backendRefs: [{name: bare, port: 90}]}]
";
    let mut index = shop(&format!("{web}{bare}"));
    let to_whom =
        |index: &Index| show::rules(index).into_iter().filter(|line| !line.starts_with(' ')).collect::<Vec<_>>();
    assert_eq!(to_whom(&index), ["shop/web.shop to shop/wp"]);
    tell(&mut index, GRANT);
    assert_eq!(to_whom(&index), ["other/bare.other to shop/wp", "shop/web.shop to shop/wp"]);
    let key = FactKey { kind: Kind::HTTPRoute, namespace: "shop".into(), name: "r".into() };
    index.apply(Fact::Removed(key));
    assert_eq!(to_whom(&index), [""; 0]);
}
