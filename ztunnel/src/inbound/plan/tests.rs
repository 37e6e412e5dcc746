use super::*;
use mesh::fixture;

const SHOP: &str = "
pod client ns=shop sa=client ip=10.0.0.1 node=n1
pod server ns=shop sa=server ip=10.0.0.2 node=n2
pod wp ns=shop sa=wp ip=10.0.0.9 node=n2
pod wrapped ns=shop sa=wrapped ip=10.0.0.12 node=n2 tunnel=15088
service web ns=shop vip=10.1.0.1 80->8080 pods=server
service own ns=shop vip=10.1.0.2 80->0 pods=server:80->9090
service elsewhere ns=shop vip=10.1.0.3 80->8080 pods=client
service admin ns=shop vip=10.1.0.4 80->15001 pods=server
service wp ns=shop vip=10.1.0.9 15008->15008 pods=wp
service guarded ns=shop vip=10.1.0.10 80->8080 pods=server waypoint=shop/wp.shop.svc.cluster.local
allow only-client ns=shop for=server principal=cluster.local/ns/shop/sa/client
deny no-admin ns=shop for=server port=9999
";

fn decide(to: &str, authority: &str, source: Option<&str>) -> Decision {
    let view = fixture::view(SHOP);
    let own = view.workloads().find(|pod| &*pod.name == to).expect("the pod that is called").clone();
    let source = source.map(|account| Identity::new("cluster.local", "shop", account).expect("an identity"));
    admit(&Asked {
        view: &view,
        network: "",
        own: &own,
        reached: own.addresses[0],
        through_tunnel: true,
        authority: &Authority::parse(authority).expect("an authority"),
        hint: None,
        source: source.as_ref(),
        source_ip: "10.0.0.1".parse().expect("an address"),
        tunnel_to_localhost: true,
    })
}

fn check(to: &str, authority: &str, source: Option<&str>, expected: &str) {
    let told = match decide(to, authority, source).plan {
        Ok(Plan { address, announce: None, judged }) => {
            assert_eq!(address, judged);
            format!("to {address}")
        }
        Ok(Plan { address, announce: Some(target), judged }) => format!("to {address} (judged {judged}), say {target}"),
        Err(reject) => format!("{} {reject}", reject.status().as_u16()),
    };
    assert_eq!(told, expected, "{to} asked for {authority} by {source:?}");
}

#[test]
fn a_tunnel_for_the_pod_goes_to_its_port() {
    check("server", "10.0.0.2:8080", Some("client"), "to 10.0.0.2:8080");
}

#[test]
fn a_tunnel_for_somebody_else_is_refused() {
    for authority in ["10.0.0.1:8080", "127.0.0.1:8080", "169.254.169.254:80", "[::1]:80", "10.1.0.1:80", "192.0.2.1:1"]
    {
        let text = format!("400 the tunnel asks for {authority}, but it ended at 10.0.0.2");
        check("server", authority, Some("client"), &text);
    }
}

#[test]
fn a_waypoint_takes_tunnels_for_what_it_stands_before_only() {
    check("wp", "10.1.0.10:80", Some("client"), "to 10.0.0.9:80");
    check("wp", "10.1.0.1:80", Some("client"), "400 the tunnel asks for 10.1.0.1:80, but it ended at 10.0.0.9");
}

#[test]
fn a_service_by_name_leads_to_the_port_it_has_on_this_pod() {
    check("server", "web.shop.svc.cluster.local:80", Some("client"), "to 10.0.0.2:8080");
    check("server", "own.shop.svc.cluster.local:80", Some("client"), "to 10.0.0.2:9090");
}

#[test]
fn a_service_that_the_pod_is_no_part_of_is_refused() {
    for authority in ["elsewhere.shop.svc.cluster.local:80", "web.shop.svc.cluster.local:81", "nobody.example.com:80"] {
        check("server", authority, Some("client"), &format!("503 {authority} is not served by this pod"));
    }
}

#[test]
fn a_port_of_the_proxy_is_refused_before_policy_is_asked() {
    for port in PROXY_PORTS {
        let text = format!("503 10.0.0.2:{port} is a port of the proxy itself");
        check("server", &format!("10.0.0.2:{port}"), Some("stranger"), &text);
    }
    let text = "503 10.0.0.2:15001 is a port of the proxy itself";
    check("server", "admin.shop.svc.cluster.local:80", Some("client"), text);
}

#[test]
fn policy_is_asked_about_the_port_where_the_bytes_go() {
    let denied = |by: &str| format!("401 connection closed due to policy rejection: {by}");
    check("server", "10.0.0.2:9999", Some("client"), &denied("explicitly denied by shop/no-admin"));
    let none = denied("allow policies exist, but none allowed");
    check("server", "10.0.0.2:8080", Some("stranger"), &none);
    check("server", "10.0.0.2:8080", None, &none);
    check("server", "web.shop.svc.cluster.local:80", Some("stranger"), &none);
}

#[test]
fn a_proxy_behind_us_is_told_what_was_asked_for() {
    check("wrapped", "10.1.0.1:80", Some("client"), "to 127.0.0.1:15088 (judged 10.0.0.12:15088), say 10.1.0.1:80");
}

#[test]
fn the_service_that_was_meant_is_found_for_telling() {
    let name = |decision: Decision| decision.service.map(|service| service.name.to_string());
    assert_eq!(name(decide("server", "10.0.0.2:9090", Some("client"))), Some("own".into()));
    assert_eq!(name(decide("server", "10.0.0.2:8080", Some("client"))), None, "two lead there");
    assert_eq!(name(decide("server", "10.0.0.2:1", Some("client"))), None);
}
