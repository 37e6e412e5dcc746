use super::*;
use proptest::prelude::*;

fn authority(text: &str, expected: &str) {
    let said = match Authority::parse(text) {
        Ok(Authority::Address(address)) => format!("address {address}"),
        Ok(Authority::Host { host, port }) => format!("host {host} {port}"),
        Err(AuthorityError::User(_)) => "user".into(),
        Err(AuthorityError::Port(_)) => "port".into(),
        Err(AuthorityError::Host(_)) => "no host".into(),
    };
    assert_eq!(said, expected, "{text:?}");
}

#[test]
fn a_target_is_an_address_or_a_hostname_with_a_port() {
    for (text, expected) in [
        ("10.0.0.1:80", "address 10.0.0.1:80"),
        ("[fd00::1]:8080", "address [fd00::1]:8080"),
        ("[FD00:0:0::1]:8080", "address [fd00::1]:8080"),
        ("web.shop.svc.cluster.local:80", "host web.shop.svc.cluster.local 80"),
        ("Web.Shop:80", "host web.shop 80"),
        ("my_db:5432", "host my_db 5432"),
        ("10-0-0-1.pod:1", "host 10-0-0-1.pod 1"),
        ("3scale:80", "host 3scale 80"),
        // one spelling for each address
        ("[::ffff:10.0.0.1]:80", "address 10.0.0.1:80"),
        ("010.0.0.1:80", "no host"),
        ("10.0.1:80", "no host"),
        ("2130706433:80", "no host"),
        ("0x7f.1:80", "no host"),
        ("[fe80::1%eth0]:80", "no host"),
        ("[10.0.0.1]:80", "no host"),
        ("fd00::1:80", "no host"),
        // a port, always, and plain
        ("10.0.0.1", "port"),
        ("[::1]", "port"),
        ("web", "port"),
        ("web:", "port"),
        ("web:0", "port"),
        ("web:+80", "port"),
        ("web:080", "port"),
        ("web:65536", "port"),
        ("web:80x", "port"),
        // and nothing else
        ("user@10.0.0.1:80", "user"),
        ("user:pass@web:80", "user"),
        ("web.:80", "no host"),
        (".web:80", "no host"),
        ("we b:80", "no host"),
        ("*.web:80", "no host"),
        ("-web:80", "no host"),
        ("wéb:80", "no host"),
        ("", "port"),
        (":80", "no host"),
        ("[::1:80", "no host"),
        ("http://web:80", "no host"),
    ] {
        authority(text, expected);
    }
    authority(&format!("{}.a:80", "x".repeat(64)), "no host");
    authority(&format!("{}a:80", "x.".repeat(130)), "no host");
}

fn parts(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Parts {
    build(Request::builder()).body(()).expect("a request of the test").into_parts().0
}

#[test]
fn only_a_plain_connect_opens_a_tunnel() {
    let refused = |parts: Parts| ConnectHead::parse(&parts).expect_err("must be refused");
    let get = parts(|r| r.method("GET").uri("http://web:80/"));
    assert_eq!(refused(get), BadConnect::Method(Method::GET));
    assert_eq!(refused(parts(|r| r.method("CONNECT").uri("http://web:80/x"))), BadConnect::Extended);
    assert_eq!(refused(parts(|r| r.method("CONNECT").uri("/"))), BadConnect::Extended);
    let bad = refused(parts(|r| r.method("CONNECT").uri("web")));
    assert!(matches!(bad, BadConnect::Authority(AuthorityError::Port(_))), "{bad:?}");
    let websocket = parts(|r| r.method("CONNECT").uri("web:80").extension(h2::ext::Protocol::from_static("websocket")));
    assert_eq!(refused(websocket), BadConnect::Extended);
}

#[test]
fn baggage_is_printed_in_the_order_of_the_contract() {
    let baggage = Baggage {
        cluster: Some("Kubernetes".into()),
        namespace: Some("shop".into()),
        workload: Some((mesh::workload::WorkloadType::Deployment, "web".into())),
        service: Some("web".into()),
        version: Some("v1, \"beta\"".into()),
        region: Some("eu".into()),
        zone: Some("eu-1".into()),
    };
    assert_eq!(
        baggage.print().as_deref(),
        Some(
            "k8s.cluster.name=Kubernetes,k8s.namespace.name=shop,k8s.deployment.name=web,service.name=web,\
             service.version=v1%2C%20%22beta%22,cloud.region=eu,cloud.availability_zone=eu-1"
        )
    );
    assert_eq!(Baggage::default().print(), None);
}

#[test]
fn baggage_is_read_as_far_as_it_can_be() {
    let namespace = |text: &str| Baggage::parse(text).namespace.as_deref().map(str::to_owned);
    for (text, expected) in [
        ("k8s.namespace.name=shop", Some("shop")),
        ("other=1, k8s.namespace.name = shop ;ttl=1 ,x", Some("shop")),
        ("k8s.namespace.name=a,k8s.namespace.name=b", Some("b")),
        ("k8s.namespace.name=a%2Cb", Some("a,b")),
        ("k8s.namespace.name=50%", Some("50%")),
        ("k8s.namespace.name=", None),
        ("k8s.namespace.name=a%0Ab", None),
        ("k8s.namespace.name=%ff", None),
        ("k8s.namespace.name", None),
        ("", None),
    ] {
        assert_eq!(namespace(text).as_deref(), expected, "{text:?}");
    }
    assert_eq!(namespace(&format!("k8s.namespace.name={}", "x".repeat(300))), None, "too long a value");
    assert_eq!(namespace(&format!("{}k8s.namespace.name=late", "a=b,".repeat(64))), None, "too many members");
}

#[test]
fn all_instances_of_baggage_count() {
    let request = parts(|r| {
        r.method("CONNECT")
            .uri("web:80")
            .header("baggage", "k8s.namespace.name=shop")
            .header("baggage", "k8s.job.name=nightly")
    });
    let head = ConnectHead::parse(&request).expect("a good head");
    let baggage = head.baggage.read();
    assert_eq!(baggage.namespace.as_deref(), Some("shop"));
    assert_eq!(baggage.workload, Some((mesh::workload::WorkloadType::Job, "nightly".into())));
}

#[test]
fn forwarded_is_read_as_far_as_it_can_be() {
    for (text, client, host) in [
        ("for=\"10.0.0.1:4711\";host=web.shop", Some("10.0.0.1:4711"), Some("web.shop")),
        ("For=\"[fd00::1]:1\"", Some("[fd00::1]:1"), None),
        ("for=10.0.0.1:4711, for=10.0.0.2:1", Some("10.0.0.1:4711"), None),
        ("by=x;host=\"web\"", None, Some("web")),
        ("for=unknown;host=web:80", None, None),
        ("", None, None),
    ] {
        let forwarded = Forwarded::parse(text).unwrap_or_default();
        assert_eq!(forwarded.client.map(|a| a.to_string()).as_deref(), client, "{text:?}");
        assert_eq!(forwarded.host.as_deref(), host, "{text:?}");
    }
}

#[test]
fn a_traceparent_has_one_form() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(TraceParent::parse(good).map(|t| t.to_string()).as_deref(), Some(good));
    for bad in [
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-+1",
        "",
    ] {
        assert_eq!(TraceParent::parse(bad), None, "{bad:?}");
    }
}

fn any_authority() -> impl Strategy<Value = Authority> {
    prop_oneof![
        (any::<[u8; 4]>(), 1u16..).prop_map(|(ip, port)| Authority::address(ip.into(), port)),
        (any::<[u8; 16]>(), 1u16..).prop_map(|(ip, port)| Authority::address(ip.into(), port)),
        ("[a-z][a-z0-9_]{0,20}(\\.[a-z][a-z0-9]{0,20}){0,4}", 1u16..)
            .prop_map(|(host, port)| Authority::Host { host: host.into(), port }),
    ]
}

fn any_baggage() -> impl Strategy<Value = Baggage> {
    let word = || proptest::option::of("[ -~é€]{1,40}".prop_map(|text| text.as_str().into()));
    let kind = prop_oneof![
        Just(mesh::workload::WorkloadType::Deployment),
        Just(mesh::workload::WorkloadType::CronJob),
        Just(mesh::workload::WorkloadType::Job),
        Just(mesh::workload::WorkloadType::Pod)
    ];
    (word(), word(), proptest::option::of((kind, "[a-z.-]{1,40}")), word(), word(), word(), word()).prop_map(
        |(cluster, namespace, workload, service, version, region, zone)| Baggage {
            cluster,
            namespace,
            workload: workload.map(|(kind, name)| (kind, name.as_str().into())),
            service,
            version,
            region,
            zone,
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(
        authority in any_authority(),
        baggage in any_baggage(),
        client in proptest::option::of(any_authority()),
        host in proptest::option::of("[a-z][a-z0-9_]{0,20}(\\.[a-z][a-z0-9]{0,20}){0,4}"),
        trace in any::<Option<(u128, u64)>>(),
        network in proptest::option::of("[!-~]{1,40}"),
    ) {
        let client = client.and_then(|a| match a { Authority::Address(address) => Some(address), _ => None });
        let host = host.map(|host| host.as_str().into());
        let head = ConnectHead {
            authority,
            baggage: (&baggage).into(),
            forwarded: (client.is_some() || host.is_some()).then_some(Forwarded { client, host }),
            traceparent: trace.map(|(trace, span)| TraceParent::new(trace, span)),
            forwarded_network: network.map(|text| text.as_str().into()),
        };
        let (parts, ()) = head.request().into_parts();
        prop_assert_eq!(ConnectHead::parse(&parts), Ok(head));
    }

    #[test]
    fn nothing_read_makes_it_panic(text in "\\PC{0,80}", bytes in any::<Vec<u8>>()) {
        let _ = Authority::parse(&text);
        let _ = Forwarded::parse(&text);
        let _ = TraceParent::parse(&text);
        let _ = Baggage::parse(&text);
        let _ = Baggage::parse(&String::from_utf8_lossy(&bytes));
    }
}
