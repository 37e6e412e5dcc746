//! The dump as istioctl reads it.

use super::*;
use crate::connection::Party;
use hbone::head::Authority;
use mesh::fixture;
use serde_json::{Value, json};
use std::time::Duration;

const SHOP: &str = "
pod client ns=shop sa=client ip=10.0.0.1 node=n1 region=r1 zone=z1 uid=u-client
pod server-1 ns=shop sa=server ip=10.0.0.2 node=n2 plain unhealthy uid=u-server waypoint=shop/wp.shop.svc.cluster.local
service web ns=shop vip=10.1.0.1 80->8080 pods=server-1:80->8080 waypoint=10.0.0.9 lb=failover:network,region
deny only ns=shop for=server-1 principal=cluster.local/ns/shop/sa/client not-port=8080 source-ip=10.9.0.0/16
";

fn dump(pods: BTreeMap<Str, PodDump>) -> Value {
    let dump = Dump::from_parts(&fixture::view(SHOP), Vec::new(), pods, json!({"network": ""}));
    serde_json::to_value(dump).expect("it is JSON")
}

#[test]
fn workloads_have_the_keys_that_istioctl_reads() {
    let dump = dump(BTreeMap::new());
    let client = &dump["workloads"][0];
    for (key, expected) in [
        ("workloadIps", json!(["10.0.0.1"])),
        ("protocol", json!("HBONE")),
        ("networkMode", json!("Standard")),
        ("uid", json!("u-client")),
        ("name", json!("client")),
        ("namespace", json!("shop")),
        ("trustDomain", json!("cluster.local")),
        ("serviceAccount", json!("client")),
        ("workloadType", json!("pod")),
        ("node", json!("n1")),
        ("status", json!("Healthy")),
        ("clusterId", json!("Kubernetes")),
        ("locality", json!({"region": "r1", "zone": "z1"})),
        ("capacity", json!(1)),
    ] {
        assert_eq!(client[key], expected, "{key}");
    }
    let absent = ["waypoint", "networkGateway", "network", "hostname", "nativeTunnel", "applicationTunnel", "services"];
    for key in absent {
        assert!(client.get(key).is_none(), "{key} is the default");
    }
    let server = &dump["workloads"][1];
    assert_eq!(server["protocol"], "TCP");
    assert_eq!(server["status"], "Unhealthy");
    assert_eq!(server["waypoint"], json!({"destination": "shop/wp.shop.svc.cluster.local", "hboneMtlsPort": 15008}));
    assert_eq!(server["services"], json!({"shop/web.shop.svc.cluster.local": {"80": 8080}}));
    assert_eq!(server["authorizationPolicies"], json!(["shop/only"]));
}

#[test]
fn services_have_their_endpoints() {
    let service = dump(BTreeMap::new())["services"][0].clone();
    assert_eq!(
        service,
        json!({
            "name": "web", "namespace": "shop", "hostname": "web.shop.svc.cluster.local", "vips": ["/10.1.0.1"],
            "ports": {"80": 8080},
            "endpoints": {"u-server": {"workloadUid": "u-server", "port": {"80": 8080}, "status": "Unhealthy"}},
            "waypoint": {"destination": "/10.0.0.9", "hboneMtlsPort": 15008},
            "loadBalancer": {"routingPreferences": ["Network", "Region"], "mode": "Failover", "healthPolicy": "OnlyHealthy"},
        })
    );
}

#[test]
fn policies_nest_rules_clauses_and_matches() {
    assert_eq!(
        dump(BTreeMap::new())["policies"],
        json!([{
            "name": "only", "namespace": "shop", "scope": "WorkloadSelector", "action": "Deny",
            "rules": [[[{
                "principals": [{"Exact": "cluster.local/ns/shop/sa/client"}],
                "sourceIps": ["10.9.0.0/16"], "notDestinationPorts": [8080],
            }]]],
        }])
    );
    let presence = serde_json::to_value(texts_for_tests()).expect("it is JSON");
    assert_eq!(presence, json!(["Presence"]));
}

fn texts_for_tests() -> impl Serialize {
    policies::texts(&[mesh::policy::StringMatch::Presence])
}

#[test]
fn endpoints_of_unknown_services_are_staged() {
    let view =
        fixture::view("pod a ns=shop ip=10.0.0.1 uid=u-a\nservice web ns=shop vip=10.1.0.1 80->8080 pods=a:80->8080");
    let view = view.apply([mesh::Change::RemoveAddress("shop/web.shop.svc.cluster.local".into())]);
    let dump = Dump::from_parts(&view, Vec::new(), BTreeMap::new(), Value::Null);
    assert_eq!(
        serde_json::to_value(dump).expect("it is JSON")["stagedServices"],
        json!({"shop/web.shop.svc.cluster.local": {"u-a": {"workloadUid": "u-a", "port": {"80": 8080}, "status": "Healthy"}}})
    );
}

#[test]
fn connections_stand_with_their_pod() {
    let view = fixture::view(SHOP);
    let pod = |uid: &str, name: &str, up| PodState {
        uid: uid.into(),
        up,
        name: name.into(),
        namespace: "shop".into(),
        service_account: name.into(),
    };
    let mut pods = Pods::new(vec![pod("1", "client", true), pod("2", "server-1", false)]);
    let party = |address: &str| {
        let address: std::net::SocketAddr = address.parse().expect("an address");
        Party { workload: view.workload_by_address("", address.ip()).cloned(), ..Party::unknown(address) }
    };
    let mut connection = Connection {
        direction: Direction::Outbound,
        source: party("10.0.0.1:33000"),
        destination: party("10.0.0.2:15008"),
        authority: Some(Authority::parse("10.1.0.1:80").expect("an authority")),
        service: None,
        trace: None,
    };
    pods.add(&connection);
    connection.direction = Direction::Inbound;
    pods.add(&connection);
    connection.source = Party::unknown("192.0.2.1:5".parse().expect("an address"));
    connection.direction = Direction::Outbound;
    pods.add(&connection);
    let dump = dump(pods.by_uid);
    assert_eq!(
        dump["workloadState"],
        json!({
            "1": {
                "state": "Up", "info": {"name": "client", "namespace": "shop", "serviceAccount": "client"},
                "connections": {"inbound": [], "outbound": [{
                    "src": "10.0.0.1:33000", "originalDst": "10.1.0.1:80", "actualDst": "10.0.0.2:15008", "protocol": "HBONE",
                }]},
            },
            "2": {
                "state": "Pending", "info": {"name": "server-1", "namespace": "shop", "serviceAccount": "server-1"},
                "connections": {"outbound": [], "inbound": [{
                    "src": "10.0.0.1:33000", "originalDst": "10.0.0.2:15008", "actualDst": "10.1.0.1:80", "protocol": "HBONE",
                }]},
            },
        })
    );
}

#[test]
fn every_key_of_the_dump_is_there() {
    let dump = dump(BTreeMap::new());
    let keys: Vec<&str> = dump.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected = [
        "workloads",
        "services",
        "policies",
        "stagedServices",
        "certificates",
        "workloadState",
        "staticConfig",
        "version",
        "config",
    ];
    expected.sort_unstable();
    let mut keys = keys;
    keys.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(dump["version"]["cryptoProvider"], "aws-lc-rs");
}

#[test]
fn bytes_and_moments_are_written_as_istioctl_reads_them() {
    for (bytes, expected) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
        assert_eq!(base64(bytes.as_bytes()), expected);
    }
    assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(1_700_000_000_999)), "2023-11-14T22:13:20Z");
    assert_eq!(rfc3339(UNIX_EPOCH - Duration::from_secs(5)), "1970-01-01T00:00:00Z");
}
