use super::*;
use mesh::fixture;

const SHOP: &str = "
pod client ns=shop sa=client ip=10.0.0.1,fd00::1 node=n1
pod server-1 ns=shop sa=server ip=10.0.0.2 node=n2
pod server-2 ns=shop sa=server ip=10.0.0.3 node=n1
pod old ns=shop sa=old ip=10.0.0.4 node=n2 plain
pod far ns=shop sa=far ip=10.0.0.5 net=other gateway=other/192.0.2.9
pod named ns=shop sa=named hostname=db.example.com plain
pod nameless ns=shop sa=nameless
pod native ns=shop sa=native ip=10.0.0.6 node=n1 native
pod behind ns=shop sa=behind ip=10.0.0.7 node=n2 waypoint=shop/wp.shop.svc.cluster.local
pod behind-ip ns=shop sa=behind ip=10.0.0.8 node=n2 waypoint=10.0.0.9
pod orphan ns=shop sa=orphan ip=10.0.0.11 node=n2 waypoint=shop/gone.shop.svc.cluster.local
pod wp-1 ns=shop sa=wp ip=10.0.0.9 node=n2
pod wrapped ns=shop sa=wrapped ip=10.0.0.12 node=n2 tunnel=15088
service web ns=shop vip=10.1.0.1 80->8080 pods=server-1
service near ns=shop vip=10.1.0.2 80->8080 pods=server-2
service plain ns=shop vip=10.1.0.3 80->8080 pods=old
service far ns=shop vip=10.1.0.4 80->8080 pods=far
service db ns=shop vip=10.1.0.5 5432->5433 pods=named
service nothing ns=shop vip=10.1.0.6 80->8080
service wp ns=shop vip=10.1.0.9 15008->15008 pods=wp-1
service guarded ns=shop vip=10.1.0.10 80->8080 pods=server-1 waypoint=shop/wp.shop.svc.cluster.local
service lost ns=shop vip=10.1.0.11 80->8080 pods=server-1 waypoint=shop/gone.shop.svc.cluster.local
service by-vip ns=shop vip=10.1.0.12 80->8080 pods=server-1 waypoint=10.1.0.9
service pass ns=shop vip=10.1.0.13 80->8080 lb=passthrough
service alias ns=shop vip=10.1.0.14 80->8080 pods=server-1 san=spiffe://cluster.local/ns/shop/sa/other,https://no.identity
service native ns=shop vip=10.1.0.15 80->8080 pods=native
service void ns=shop vip=10.1.0.16 80->8080 pods=nameless
";

fn check_in(text: &str, from: &str, target: &str, expected: &str) {
    let view = fixture::view(text);
    let source = view.workloads().find(|pod| &*pod.name == from).expect("the pod that sends").clone();
    let is_here = |workload: &Workload| &*workload.node == "n1" && *workload.name != *"client";
    let asked = Asked {
        view: &view,
        network: "",
        source: &source,
        target: target.parse().expect("an address"),
        dice: Dice { waypoint: 0, endpoint: 0 },
        tried: &[],
        is_here: &is_here,
    };
    assert_eq!(told(&plan(&asked)), expected, "{from} to {target}");
}

fn check(from: &str, target: &str, expected: &str) {
    check_in(SHOP, from, target, expected);
}

fn told(decision: &Decision) -> String {
    let at = decision.destination.as_ref().map_or("", |workload| &*workload.name);
    match &decision.plan {
        Ok(Plan::Tunnel { to, authority, expected }) => {
            let names: Vec<_> = expected.iter().map(|identity| identity.service_account().to_string()).collect();
            format!("tunnel to {at}@{to} for {authority}, expect {}", names.join(" "))
        }
        Ok(Plan::SameNode { address, identity }) => {
            format!("same node, {at}@{address}, {}", identity.service_account())
        }
        Ok(Plan::Plain { to }) => format!("plain to {at}@{to}"),
        Ok(Plan::ResolveFirst { hostname, port }) => format!("resolve {hostname}, then {at}:{port}"),
        Err(reject) => reject.to_string(),
    }
}

#[test]
fn a_service_is_reached_at_an_endpoint_through_a_tunnel() {
    check("client", "10.1.0.1:80", "tunnel to server-1@10.0.0.2:15008 for 10.0.0.2:8080, expect server");
}

#[test]
fn a_service_may_name_further_identities_and_what_is_none_is_nobody() {
    check("client", "10.1.0.14:80", "tunnel to server-1@10.0.0.2:15008 for 10.0.0.2:8080, expect server other");
}

#[test]
fn a_pod_of_this_node_is_reached_without_a_tunnel() {
    check("client", "10.1.0.2:80", "same node, server-2@10.0.0.3:8080, server");
    check("client", "10.0.0.3:9", "same node, server-2@10.0.0.3:9, server");
}

#[test]
fn a_pod_of_this_node_that_ends_tunnels_itself_is_given_one() {
    check("client", "10.1.0.15:80", "tunnel to native@10.0.0.6:15008 for 10.0.0.6:8080, expect native");
    check("client", "10.0.0.12:80", "tunnel to wrapped@10.0.0.12:15008 for 10.0.0.12:80, expect wrapped");
}

#[test]
fn an_endpoint_that_takes_no_tunnels_is_reached_without() {
    check("client", "10.1.0.3:80", "plain to old@10.0.0.4:8080");
    check("client", "10.0.0.4:81", "plain to old@10.0.0.4:81");
}

#[test]
fn a_service_with_a_waypoint_is_reached_through_it() {
    for vip in ["10.1.0.10:80", "10.1.0.12:80"] {
        check("client", vip, &format!("tunnel to wp-1@10.0.0.9:15008 for {vip}, expect wp"));
    }
}

#[test]
fn a_workload_with_a_waypoint_is_reached_through_it() {
    for pod in ["10.0.0.7:80", "10.0.0.8:80"] {
        check("client", pod, &format!("tunnel to wp-1@10.0.0.9:15008 for {pod}, expect wp"));
    }
}

#[test]
fn the_waypoint_itself_goes_straight_to_its_workloads() {
    for (pod, name) in [("10.0.0.7", "behind"), ("10.0.0.8", "behind-ip")] {
        check("wp-1", &format!("{pod}:80"), &format!("tunnel to {name}@{pod}:15008 for {pod}:80, expect behind"));
    }
}

#[test]
fn a_waypoint_that_cannot_be_reached_is_never_gone_around() {
    for target in ["10.1.0.11:80", "10.0.0.11:80"] {
        check("client", target, "no usable endpoint of waypoint shop/gone.shop.svc.cluster.local");
    }
    let unhealthy = SHOP.replace("ip=10.0.0.9 node=n2", "ip=10.0.0.9 node=n2 unhealthy");
    check_in(&unhealthy, "client", "10.1.0.10:80", "no usable endpoint of waypoint shop/wp.shop.svc.cluster.local");
}

#[test]
fn what_the_control_plane_closed_is_refused_with_its_reason() {
    // No service can have such a name, so there is never an endpoint.
    let closed = SHOP.replace("shop/gone.shop.svc.cluster.local", "shop/wp.shop.svc.cluster.local~not-ready");
    for target in ["10.1.0.11:80", "10.0.0.11:80"] {
        check_in(&closed, "client", target, "no usable endpoint of waypoint shop/wp.shop.svc.cluster.local~not-ready");
    }
}

#[test]
fn a_waypoint_on_this_node_is_reached_through_a_tunnel_all_the_same() {
    let here = SHOP.replace("ip=10.0.0.9 node=n2", "ip=10.0.0.9 node=n1");
    let plain = SHOP.replace("ip=10.0.0.9 node=n2", "ip=10.0.0.9 node=n1 plain");
    for text in [here, plain] {
        for target in ["10.1.0.10:80", "10.0.0.7:80"] {
            let expected = format!("tunnel to wp-1@10.0.0.9:15008 for {target}, expect wp");
            check_in(&text, "client", target, &expected);
        }
    }
}

#[test]
fn replicas_of_a_waypoint_share_connections_and_stand_in_for_each_other() {
    let two = SHOP.replace("pods=wp-1", "pods=wp-1,wp-2") + "pod wp-2 ns=shop sa=wp ip=10.0.0.19 node=n1\n";
    let view = fixture::view(&two);
    let source = view.workload_by_address("", "10.0.0.1".parse().expect("an address")).expect("client");
    let uid = |name: &str| Str::from(format!("Kubernetes//Pod/shop/{name}"));
    let chosen = |endpoint, tried: &[Str], target: &str| {
        let target = target.parse().expect("an address");
        let dice = Dice { waypoint: 0, endpoint };
        let decision = plan(&Asked { view: &view, network: "", source, target, dice, tried, is_here: &|_| false });
        assert!(decision.replica, "{decision:?}");
        decision.destination.as_ref().map_or_else(|| told(&decision), |replica| replica.name.to_string())
    };
    // By service, by workload, and by the address of the waypoint's service.
    for target in ["10.1.0.10:80", "10.0.0.7:80", "10.1.0.12:80"] {
        let mut both = [chosen(0, &[], target), chosen(u64::MAX, &[], target)];
        both.sort();
        assert_eq!(both, ["wp-1", "wp-2"], "{target}");
        for dice in [0, u64::MAX] {
            assert_eq!(chosen(dice, &[uid("wp-1")], target), "wp-2", "{target}");
            assert_eq!(chosen(dice, &[uid("wp-2")], target), "wp-1", "{target}");
        }
        assert!(chosen(0, &[uid("wp-1"), uid("wp-2")], target).starts_with("no usable endpoint of waypoint"));
    }
}

#[test]
fn a_waypoint_on_another_network_is_out_of_reach() {
    let away = SHOP.replace("ip=10.0.0.9 node=n2", "ip=10.0.0.9 net=away gateway=away/192.0.2.8");
    let text = "workload Kubernetes//Pod/shop/wp-1 is on network \"away\", which cannot be reached from here";
    check_in(&away, "client", "10.1.0.10:80", text);
}

#[test]
fn an_endpoint_on_another_network_is_out_of_reach() {
    let text = "workload Kubernetes//Pod/shop/far is on network \"other\", which cannot be reached from here";
    check("client", "10.1.0.4:80", text);
}

#[test]
fn an_endpoint_with_a_name_is_resolved_first() {
    check("client", "10.1.0.5:5432", "resolve db.example.com, then named:5433");
    let view = fixture::view(SHOP);
    let source = view.workload_by_address("", "10.0.0.1".parse().expect("an address")).expect("client");
    let target = "10.1.0.5:5432".parse().expect("an address");
    let dice = Dice { waypoint: 0, endpoint: 0 };
    let asked = Asked { view: &view, network: "", source, target, dice, tried: &[], is_here: &|_| false };
    let decision = plan(&asked);
    let plan = resolved(&asked, &decision, "192.0.2.1".parse().expect("an address"), 5433);
    assert_eq!(plan, Ok(Plan::Plain { to: "192.0.2.1:5433".parse().expect("an address") }));
}

#[test]
fn a_service_without_an_endpoint_is_refused_unless_it_lets_pass() {
    check("client", "10.1.0.6:80", "no healthy endpoint of shop/nothing.shop.svc.cluster.local");
    check("client", "10.1.0.16:80", "no healthy endpoint of shop/void.shop.svc.cluster.local");
    check("client", "10.1.0.1:81", "no healthy endpoint of shop/web.shop.svc.cluster.local");
    check("client", "10.1.0.13:80", "plain to @10.1.0.13:80");
}

#[test]
fn an_address_that_nobody_knows_is_left_as_it_is() {
    check("client", "192.0.2.7:443", "plain to @192.0.2.7:443");
    check("client", "[2001:db8::1]:443", "plain to @[2001:db8::1]:443");
    check("client", "127.0.0.1:80", "plain to @127.0.0.1:80");
}

#[test]
fn a_call_of_the_proxy_itself_is_refused() {
    for port in PROXY_PORTS {
        for ip in ["127.0.0.1", "127.9.9.9", "[::1]", "10.0.0.1", "[fd00::1]"] {
            check("client", &format!("{ip}:{port}"), &format!("{ip}:{port} is a port of the proxy itself"));
        }
    }
}

#[test]
fn weighted_waypoints_take_the_place_of_the_one_and_share_by_weight() {
    let at = |hostname: &str| GatewayAddress {
        destination: Destination::Service(ServiceKey { namespace: "shop".into(), hostname: hostname.into() }),
        hbone_mtls_port: HBONE_PORT,
    };
    let mut service = Service::named("shop", "web");
    service.waypoint = Some(at("one"));
    let chosen = |service: &Service, dice| waypoint_of(service, dice).map(name_of);
    assert_eq!(chosen(&service, 7), Some("shop/one".into()));
    service.weighted_waypoints = vec![(at("a"), 3), (at("none"), 0), (at("b"), 1)];
    for (dice, expected) in [(0, "a"), (u64::MAX / 4 * 3 - 9, "a"), (u64::MAX / 4 * 3 + 9, "b"), (u64::MAX, "b")] {
        assert_eq!(chosen(&service, dice), Some(format!("shop/{expected}")), "{dice}");
    }
    service.weighted_waypoints = vec![(at("a"), 0)];
    assert_eq!(chosen(&service, 7), Some("shop/a".into()), "no weight at all must not mean no waypoint");
}
