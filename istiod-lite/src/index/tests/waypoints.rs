//! Which waypoint stands before what, and that it cannot be gone around.

use super::{facts, index, pod, tell};
use crate::facts::Fact;
use mesh::{
    Identity, ServiceKey, View,
    authz::{self, Attributes},
    workload::{Destination, GatewayAddress},
};

/// A namespace with a pod behind a service, and a waypoint.
const SHOP: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {serviceAccountName: web}
status: {phase: Running, podIP: 10.0.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

const SERVICE: &str = "metadata: {name: web, namespace: shop}";
const NAMESPACE: &str = "metadata: {name: shop}";
const POD: &str = "metadata: {name: web, namespace: shop, labels: {app: web}}";

fn gateway(namespace: &str, name: &str, more: &str) -> String {
    let head = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\n";
    let listener = "{name: mesh, port: 15008, protocol: HBONE}";
    format!(
        "{head}metadata: {{name: {name}, namespace: {namespace}{more}}}\nspec: {{gatewayClassName: istio-waypoint, listeners: [{listener}]}}\nstatus: {{addresses: [{{type: IPAddress, value: 10.1.0.9}}, {{type: Hostname, value: {name}.{namespace}.svc.cluster.local}}]}}\n"
    )
}

fn labelled(place: &str, labels: &str) -> String {
    match place.contains("labels") {
        true => place.replace("labels: {", &format!("labels: {{{labels}, ")),
        false => place.replace("{name", &format!("{{labels: {{{labels}}}, name")),
    }
}

fn annotated(place: &str, annotations: &str) -> String {
    place.replace("metadata: {", &format!("metadata: {{annotations: {{{annotations}}}, "))
}

fn shown(at: Option<&GatewayAddress>) -> String {
    match at.map(|at| &at.destination) {
        Some(Destination::Service(key)) => key.to_string(),
        Some(Destination::Address(at)) => at.address.to_string(),
        None => "-".into(),
    }
}

fn web() -> ServiceKey {
    "shop/web.shop.svc.cluster.local".parse().expect("a key")
}

/// The waypoints of the service and of the pod.
fn waypoints(view: &View) -> (String, String) {
    let service = view.service(&web()).expect("the service");
    let pod = view.workload(&pod("web")).expect("the pod");
    (shown(service.waypoint.as_ref()), shown(pod.waypoint.as_ref()))
}

/// Who of these may call the pod on a port: its waypoint, another's, a client, nobody proven.
fn callers(view: &View, port: u16) -> String {
    let destination = view.workload(&pod("web")).expect("the pod");
    let may = |account: Option<&str>| {
        let source = account.map(|account| Identity::new("cluster.local", "shop", account).expect("an identity"));
        let attributes = Attributes {
            source: source.as_ref(),
            source_ip: "10.0.0.9".parse().expect("an address"),
            destination_ip: destination.addresses[0],
            destination_port: port,
            server_name: None,
            request: None,
        };
        let verdict = authz::decide(view, destination, &attributes);
        assert!(verdict.missing.is_empty(), "{:?}", verdict.missing);
        if verdict.allowed { "+" } else { "-" }
    };
    [Some("wp"), Some("other"), Some("client"), None].map(may).concat()
}

/// Reason of the condition of an object, `+` before it if it is met.
fn reason(text: &str, name: &str, kind: &str) -> String {
    let (index, _) = index(text);
    let of = |(key, _): &(&crate::facts::FactKey, _)| format!("{:?}", key.kind) == name;
    let all = index.conditions().filter(of).flat_map(|(_, all)| all);
    let found: Vec<_> = all.filter(|one| &*one.kind == kind).collect();
    let show = |one: &&crate::facts::Condition| format!("{}{}", if one.status { "+" } else { "-" }, one.reason);
    found.iter().map(show).collect::<Vec<_>>().join(" ")
}

const WP: &str = "shop/wp.shop.svc.cluster.local";

#[test]
fn what_is_named_is_bound_by_what_the_waypoint_is_for() {
    let (none, wp) = ("-".to_owned(), WP.to_owned());
    let for_ = |what: &str| gateway("shop", "wp", &format!(", labels: {{istio.io/waypoint-for: {what}}}"));
    let uses = "istio.io/use-waypoint: wp";
    for (place, labels, gateways, service, workload, said) in [
        (NAMESPACE, uses, gateway("shop", "wp", ""), &wp, &none, "+WaypointAccepted"),
        (NAMESPACE, uses, for_("service"), &wp, &none, "+WaypointAccepted"),
        (NAMESPACE, uses, for_("workload"), &none, &wp, "-UnsupportedTrafficType"),
        (NAMESPACE, uses, for_("all"), &wp, &wp, "+WaypointAccepted"),
        (NAMESPACE, uses, for_("none"), &none, &none, "-UnsupportedTrafficType"),
        (SERVICE, uses, for_("all"), &wp, &none, "+WaypointAccepted"),
        (SERVICE, uses, for_("workload"), &none, &none, "-UnsupportedTrafficType"),
        (POD, uses, for_("workload"), &none, &wp, ""),
        (SERVICE, "istio.io/use-waypoint: none", for_("all"), &none, &none, ""),
        (SERVICE, "unrelated: x", gateway("shop", "wp", ""), &none, &none, ""),
    ] {
        let text = SHOP.replace(place, &labelled(place, labels)) + &gateways;
        let (_, view) = index(&text);
        assert_eq!(waypoints(&view), (service.clone(), workload.clone()), "{place} {labels} {gateways}");
        assert_eq!(reason(&text, "Service", "istio.io/WaypointBound"), said, "{place} {labels} {gateways}");
    }
    let exempt = SHOP
        .replace(NAMESPACE, &labelled(NAMESPACE, uses))
        .replace(SERVICE, &labelled(SERVICE, "istio.io/use-waypoint: none"));
    let (_, view) = index(&(exempt + &for_("all")));
    assert_eq!(waypoints(&view), (none, wp), "the service is exempt and the pod is not");
}

#[test]
fn what_cannot_be_used_is_refused_and_not_left_out() {
    let place = labelled(SERVICE, "istio.io/use-waypoint: wp");
    let away = labelled(SERVICE, "istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra");
    let admits = |text: &str, namespaces: &str| {
        text.replace("protocol: HBONE", &format!("protocol: HBONE, allowedRoutes: {{namespaces: {{{namespaces}}}}}"))
    };
    let (own, infra) = (gateway("shop", "wp", ""), gateway("infra", "wp", ""));
    let expression = "from: Selector, selector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [shop]}]}";
    for (place, gateways, tag, said) in [
        (&place, own.clone(), "", "+WaypointAccepted"),
        (&place, String::new(), "missing", "-WaypointIsNotReady"),
        (&place, own.replace("status:", "ignored:"), "not-ready", "-WaypointIsNotReady"),
        (&place, own.replace("HBONE", "HTTP"), "unusable", "-WaypointIsNotReady"),
        (&place, own.replace("15008", "15009"), "unusable", "-WaypointIsNotReady"),
        (&place, own.replace("istio-waypoint", "istio"), "missing", "-WaypointIsNotReady"),
        (&place, admits(&own, "from: None"), "not-admitted", "-AttachmentDenied"),
        (&away, infra.clone(), "not-admitted", "-AttachmentDenied"),
        (&away, admits(&infra, "from: Same"), "not-admitted", "-AttachmentDenied"),
        (&away, admits(&infra, "from: All"), "", "+WaypointAccepted"),
        (&away, admits(&infra, expression), "", "+WaypointAccepted"),
        (&away, admits(&infra, "from: Selector, selector: {matchLabels: {a: b}}"), "not-admitted", "-AttachmentDenied"),
        (&away, own.clone(), "missing", "-WaypointIsNotReady"),
        (
            &place,
            gateway("shop", "wp", ", labels: {istio.io/waypoint-for: nothing}"),
            "unusable",
            "-WaypointIsNotReady",
        ),
    ] {
        let text = SHOP.replace(SERVICE, place) + &gateways;
        let (index, view) = index(&text);
        let (found, _) = waypoints(&view);
        match tag {
            "" => assert!(found.ends_with("svc.cluster.local"), "{found} {gateways}"),
            tag => {
                assert!(found.ends_with(&format!(".svc.cluster.local~{tag}")), "{found} {gateways}");
                let at = view.service(&web()).and_then(|it| it.waypoint.clone()).expect("a waypoint");
                let Destination::Service(key) = at.destination else { panic!("it is by name") };
                assert!(view.service(&key).is_none(), "it must lead nowhere");
            }
        }
        assert_eq!(reason(&text, "Service", "istio.io/WaypointBound"), said, "{place} {gateways}");
        let served = index.waypoint_of_service(&web()).len();
        assert_eq!(served, usize::from(matches!(tag, "" | "not-ready")), "{tag}: rules are for those that serve");
        // The client is refused on the service's port whatever became of the waypoint.
        assert_eq!(&callers(&view, 8080)[2..], "--", "{tag}");
    }
}

#[test]
fn an_address_stands_for_the_waypoint_that_has_no_name() {
    let text = SHOP.replace(SERVICE, &labelled(SERVICE, "istio.io/use-waypoint: wp"))
        + &gateway("shop", "wp", "").replace(", {type: Hostname, value: wp.shop.svc.cluster.local}", "");
    let (_, view) = index(&text);
    assert_eq!(waypoints(&view).0, "10.1.0.9");
}

#[test]
fn only_its_waypoint_may_call_what_is_behind_it() {
    let behind = SHOP.replace(SERVICE, &labelled(SERVICE, "istio.io/use-waypoint: wp"));
    let (wp, all) = (gateway("shop", "wp", ""), gateway("shop", "wp", ", labels: {istio.io/waypoint-for: all}"));
    let named = gateway("shop", "w", ", annotations: {gateway.istio.io/service-account: wp}");
    let everywhere = SHOP.replace(NAMESPACE, &labelled(NAMESPACE, "istio.io/use-waypoint: wp"));
    let around =
        |place: &str, value: &str| annotated(place, &format!("istiod-lite.io/allow-around-waypoint: '{value}'"));
    let second = "---\napiVersion: v1\nkind: Service\nmetadata: {name: two, namespace: shop, labels: {istio.io/use-waypoint: other}}\nspec: {clusterIP: 10.1.0.2, selector: {app: web}, ports: [{port: 80, targetPort: 8080}, {port: 81, targetPort: 8081}]}\n";
    let other = gateway("shop", "other", "");
    for (what, text, on_8080, on_8081) in [
        ("no waypoint", format!("{SHOP}{wp}"), "++++", "++++"),
        ("a service's waypoint, on its ports", format!("{behind}{wp}"), "+---", "++++"),
        ("a namespace's", format!("{everywhere}{wp}"), "+---", "++++"),
        ("for workloads too, on every port", format!("{everywhere}{all}"), "+---", "+---"),
        ("none is there", behind.clone(), "----", "++++"),
        ("none is there, for all of the namespace", everywhere, "----", "----"),
        ("not ready", format!("{behind}{}", wp.replace("status:", "x:")), "+---", "++++"),
        (
            "not admitted",
            format!("{behind}{}", wp.replace("HBONE}", "HBONE, allowedRoutes: {namespaces: {from: None}}}")),
            "----",
            "++++",
        ),
        (
            "by its service account",
            format!("{}{named}", behind.replace("use-waypoint: wp", "use-waypoint: w")),
            "+---",
            "++++",
        ),
        ("two services share the port", format!("{behind}{wp}{second}{other}"), "++--", "-+--"),
        (
            "and one of them has none",
            format!("{behind}{wp}{}", second.replace("use-waypoint: other", "a: b")),
            "+---",
            "++++",
        ),
        ("the pod says no", format!("{}{wp}", behind.replace(POD, &around(POD, "true"))), "++++", "++++"),
        (
            "the service says no",
            format!("{}{wp}", SHOP.replace(SERVICE, &around(&labelled(SERVICE, "istio.io/use-waypoint: wp"), "true"))),
            "++++",
            "++++",
        ),
        (
            "the namespace says no",
            format!(
                "{}{all}",
                SHOP.replace(NAMESPACE, &around(&labelled(NAMESPACE, "istio.io/use-waypoint: wp"), "true"))
            ),
            "++++",
            "++++",
        ),
        (
            "anything else is no no",
            format!("{}{wp}", behind.replace(NAMESPACE, &around(NAMESPACE, "yes"))),
            "+---",
            "++++",
        ),
    ] {
        let (_, view) = index(&text);
        assert_eq!((&*callers(&view, 8080), &*callers(&view, 8081)), (on_8080, on_8081), "{what}: {text}");
        let mut facts = facts(&text);
        facts.reverse();
        let mut index = super::Index::new(super::Mesh::default());
        let view = tell(&mut index, &View::default(), facts);
        assert_eq!((&*callers(&view, 8080), &*callers(&view, 8081)), (on_8080, on_8081), "reversed, {what}");
    }
}

#[test]
fn the_mesh_may_allow_to_go_around_and_a_namespace_may_not() {
    let behind = SHOP.replace(SERVICE, &labelled(SERVICE, "istio.io/use-waypoint: wp")) + &gateway("shop", "wp", "");
    let strict = annotated(NAMESPACE, "istiod-lite.io/allow-around-waypoint: 'false'");
    for (text, expected) in [(behind.clone(), "++++"), (behind.replace(NAMESPACE, &strict), "+---")] {
        let mesh = super::Mesh { allow_around_waypoint: true, ..super::Mesh::default() };
        let mut index = super::Index::new(mesh);
        let view = tell(&mut index, &View::default(), facts(&text));
        assert_eq!(callers(&view, 8080), expected);
    }
}

#[test]
fn the_policies_have_names_that_nobody_else_can_have() {
    let text = SHOP.replace(NAMESPACE, &labelled(NAMESPACE, "istio.io/use-waypoint: wp"))
        + &gateway("shop", "wp", ", labels: {istio.io/waypoint-for: all}")
        + "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e, namespace: shop}\nspec: {hosts: [a.example], resolution: STATIC, workloadSelector: {labels: {app: web}}, ports: [{number: 80, name: http}]}\n";
    let (_, view) = index(&text);
    let expected = [
        "shop/istio_only_via_waypoint_host_a.example",
        "shop/istio_only_via_waypoint_web",
        "shop/istio_only_via_waypoint_workloads_shop_wp",
    ];
    let mut keys: Vec<_> = view.policies().map(|policy| policy.key()).collect();
    keys.sort();
    assert_eq!(keys, expected);
    assert_eq!(view.workload(&pod("web")).expect("the pod").authorization_policies.join(" "), expected.join(" "));
}

#[test]
fn a_canary_has_its_share_if_it_can_be_used() {
    let both = "istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: new";
    let (wp, new) = (gateway("shop", "wp", ""), gateway("shop", "new", ""));
    let weighted =
        |weight: &str| annotated(&labelled(SERVICE, both), &format!("istio.io/use-waypoint-canary-weight: '{weight}'"));
    let same = labelled(SERVICE, "istio.io/use-waypoint: wp, istio.io/use-waypoint-canary: wp");
    for (place, gateways, expected, said) in [
        (
            labelled(SERVICE, both),
            format!("{wp}{new}"),
            "wp.shop.svc.cluster.local 100, new.shop.svc.cluster.local 0",
            "+WaypointAccepted",
        ),
        (
            weighted("30"),
            format!("{wp}{new}"),
            "wp.shop.svc.cluster.local 70, new.shop.svc.cluster.local 30",
            "+WaypointAccepted",
        ),
        (
            weighted("100"),
            new.clone(),
            "wp.shop.svc.cluster.local~missing 0, new.shop.svc.cluster.local 100",
            "-WaypointIsNotReady",
        ),
        (weighted("101"), format!("{wp}{new}"), "", "-CanaryInvalidWeight"),
        (weighted("half"), format!("{wp}{new}"), "", "-CanaryInvalidWeight"),
        (weighted("30"), wp.clone(), "", "-WaypointIsNotReady"),
        (same, wp, "", "-CanarySameAsPrimary"),
    ] {
        let text = SHOP.replace(SERVICE, &place) + &gateways;
        let (index, view) = index(&text);
        let service = view.service(&web()).expect("the service");
        let shown: Vec<_> =
            service.weighted_waypoints.iter().map(|(at, weight)| format!("{} {weight}", shown(Some(at)))).collect();
        assert_eq!(shown.join(", ").replace("shop/", ""), expected, "{place}");
        assert_eq!(reason(&text, "Service", "istio.io/WaypointBound"), said, "{place}");
        if !expected.is_empty() {
            assert!(index.waypoint_of_service(&web()).contains("shop/new"), "the canary serves it");
        }
    }
}

#[test]
fn an_identity_is_one_waypoints() {
    let shared = gateway("shop", "b", ", annotations: {gateway.istio.io/service-account: a}");
    let (index, _) = index(&format!(
        "{}{shared}{}",
        gateway("shop", "a", ""),
        gateway("else", "c", "").replace("istio-waypoint", "istio")
    ));
    let of = |domain: &str, namespace: &str, account: &str| {
        index.gateway_of(&Identity::new(domain, namespace, account).expect("an identity")).map(|key| key.to_string())
    };
    assert_eq!(of("cluster.local", "shop", "a"), Some("shop/a".into()));
    assert_eq!(of("cluster.local", "shop", "b"), None);
    assert_eq!(of("cluster.local", "else", "c"), None, "it is of another class");
    assert_eq!(of("other.domain", "shop", "a"), None);
    let text = format!("{}{shared}", gateway("shop", "a", ""));
    assert_eq!(reason(&text, "Gateway", "Accepted"), "+Accepted +Accepted -ServiceAccountInUse +Accepted");
}

#[test]
fn a_gateway_touches_what_names_it() {
    let behind = SHOP.replace(SERVICE, &labelled(SERVICE, "istio.io/use-waypoint: wp"));
    let (mut index, view) = index(&behind);
    let names = |changes: Vec<mesh::Change>| changes.len();
    let wp = |text: &str| facts(text).remove(0);
    assert_eq!(names(super::changes(&mut index, wp(&gateway("shop", "unrelated", "")))), 1, "its own rules");
    let changes = super::changes(&mut index, wp(&gateway("shop", "wp", "")));
    let view = view.apply(changes.clone());
    assert_eq!(names(changes), 4, "the service and its policy, its rules and those of the Gateway");
    assert_eq!(waypoints(&view).0, WP);
    let changes = super::changes(&mut index, Fact::Removed(wp(&gateway("shop", "wp", "")).key()));
    assert_eq!(names(changes), 4);
}

#[test]
fn a_waypoints_own_service_and_pods_have_none() {
    let own = "gateway.networking.k8s.io/gateway-name: wp";
    let text = SHOP
        .replace(NAMESPACE, &labelled(NAMESPACE, "istio.io/use-waypoint: wp"))
        .replace(SERVICE, &labelled(SERVICE, own))
        .replace(POD, &labelled(POD, own))
        + &gateway("shop", "wp", ", labels: {istio.io/waypoint-for: all}");
    let (_, view) = index(&text);
    assert_eq!(waypoints(&view), ("-".into(), "-".into()));
    assert_eq!(callers(&view, 8080), "++++");
}

#[test]
fn a_gateway_that_cannot_be_read_stays_what_it_was_and_says_so() {
    let good = gateway("shop", "wp", "");
    let (mut index, _) = index(&good);
    let key = |index: &crate::index::Index| {
        index.gateway_of(&Identity::new("cluster.local", "shop", "wp").expect("an identity")).map(|key| key.to_string())
    };
    let said = |index: &crate::index::Index| {
        let mut all = index.conditions().flat_map(|(_, all)| all).filter(|one| &*one.kind == "Accepted");
        all.next().map(|one| format!("{} {}: {}", one.status, one.reason, one.message)).unwrap_or_default()
    };
    assert!(said(&index).starts_with("true Accepted"), "{}", said(&index));
    let broken = good.replace("protocol: HBONE", "protocol: HBONE, allowedRoutes: {namespaces: {from: Nobody}}");
    let (objects, _) = chassis::objects::parse(std::path::Path::new("broken.yaml"), &broken);
    objects.iter().filter_map(|object| crate::files::read(object).fact).for_each(|fact| drop(index.apply(fact)));
    assert_eq!(key(&index), Some("shop/wp".into()));
    let wanted = "false ListenersNotValid: spec.listeners[0].allowedRoutes.namespaces.from: is none of";
    assert!(said(&index).starts_with(wanted), "{}", said(&index));
    facts(&good).into_iter().for_each(|fact| drop(index.apply(fact)));
    assert!(said(&index).starts_with("true Accepted"), "{}", said(&index));
}
