use super::*;
use mesh::{Identity, fixture};

const MESH: &str = "
pod wp-1 ns=shop sa=wp ip=10.0.0.9
pod client ns=shop sa=client ip=10.0.0.1
pod server ns=shop sa=server ip=10.0.0.2 waypoint=wp
pod other ns=shop sa=other ip=10.0.0.3 waypoint=elsewhere
service wp ns=shop vip=10.1.0.9 15008->15008 pods=wp-1
service elsewhere ns=shop vip=10.1.0.8 15008->15008
service web ns=shop vip=10.1.0.1 80->8080 pods=server waypoint=wp
service by-address ns=shop vip=10.1.0.2 80->8080 waypoint=10.1.0.9
service foreign ns=shop vip=10.1.0.3 80->8080 waypoint=elsewhere
service open ns=shop vip=10.1.0.4 80->8080
";

fn own() -> Own {
    Own {
        pod: "wp-1".into(),
        ip: Some("10.0.0.9".parse().expect("an address")),
        node: "".into(),
        identity: Identity::new("cluster.local", "shop", "wp").expect("a name"),
        gateway: "wp".into(),
        hostname: "wp.shop.svc.cluster.local".into(),
    }
}

fn check(asked: &str, expected: &str) {
    let authority = Authority::parse(asked).expect("a good authority");
    let found = match of(&fixture::view(MESH), "", &own(), &authority) {
        Ok(Target::Service { service, port, .. }) => format!("service {}:{port}", service.name),
        Ok(Target::Workload { workload, address }) => format!("workload {}:{}", workload.name, address.port()),
        Err(reject) => format!("{} {reject}", reject.status().as_u16()),
    };
    assert!(found.starts_with(expected), "{asked}: {found}");
}

#[test]
fn what_is_bound_to_us_is_served() {
    check("10.1.0.1:80", "service web:80");
    check("web.shop.svc.cluster.local:80", "service web:80");
    check("10.1.0.2:80", "service by-address:80");
    check("10.0.0.2:9999", "workload server:9999");
}

#[test]
fn everything_else_is_refused() {
    check("10.1.0.1:81", "404 service web.shop.svc.cluster.local has no port 81");
    check("10.1.0.3:80", "404 foreign.shop.svc.cluster.local is not bound to this waypoint");
    check("10.1.0.4:80", "404 open.shop.svc.cluster.local is not bound");
    check("10.0.0.3:80", "404 other is not bound");
    check("10.0.0.1:80", "404 client is not bound");
    check("10.9.9.9:80", "404 10.9.9.9:80 is no service");
    check("nobody.example:80", "404 nobody.example:80 is no service");
}
