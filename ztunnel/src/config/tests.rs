use super::*;
use std::collections::BTreeMap;

fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
    let node = [("NODE_NAME", "n1")];
    let strings: BTreeMap<String, String> =
        node.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::read(&strings, 16).map_err(|mistakes| mistakes.to_string())
}

fn both(config: &Config) -> (ControlPlane, ControlPlane) {
    match (&config.xds, &config.ca) {
        (Some(xds), CertificateSource::Authority(ca)) => (xds.clone(), (**ca).clone()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_word_the_defaults_are_those_of_istio() {
    let config = read(&[("KUBERNETES_SERVICE_HOST", "10.0.0.1")]).expect("nothing is wrong");
    let (xds, ca) = both(&config);
    assert_eq!(xds.address.to_string(), "https://istiod.istio-system.svc:15012/");
    assert_eq!(xds, ca);
    assert_eq!(xds.cluster_id, "Kubernetes");
    assert_eq!(xds.token, Some(Source::File("/var/run/secrets/tokens/istio-token".into())));
    assert_eq!(config.mode, Mode::Shared("/var/run/ztunnel/ztunnel.sock".into()));
    assert_eq!(config.served, Served { redirected: true, socks5: false });
    assert_eq!(config.ports, Ports { admin: 15000, metrics: 15020, ready: 15021 });
    assert_eq!((config.own_pod(), config.session), (None, Session::Usual));
    assert_eq!((config.workers, config.grace), (4, Duration::from_secs(4)));
    assert_eq!(config.sockets.mark, Some(1337));
    let dns = config.dns.expect("DNS is captured");
    assert_eq!(dns.addresses.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:15053", "[::1]:15053"]);
}

#[test]
fn the_certificate_authority_may_be_elsewhere() {
    let config = read(&[
        ("XDS_ADDRESS", "istiod.shop.svc:1"),
        ("CA_ADDRESS", "https://ca:2"),
        ("CA_ROOT_CA", "-----BEGIN CERTIFICATE-----"),
        ("ALT_CA_HOSTNAME", "authority"),
        ("AUTH_TOKEN", "abc"),
        ("XDS_HEADER_X-TEAM", "shop"),
    ])
    .expect("nothing is wrong");
    let (xds, ca) = both(&config);
    assert_eq!(xds.address.to_string(), "https://istiod.shop.svc:1/");
    assert_eq!(ca.address.to_string(), "https://ca:2/");
    assert_eq!(ca.roots, Source::Literal("-----BEGIN CERTIFICATE-----".into()));
    assert_eq!(ca.alternative_hostname.as_deref(), Some("authority"));
    assert_eq!(ca.token, Some(Source::Literal("abc".into())));
    assert_eq!(xds.headers, [("x-team".to_owned(), "shop".to_owned())]);
    assert!(ca.headers.is_empty());
}

#[test]
fn outside_of_a_cluster_the_control_plane_is_on_this_machine() {
    assert_eq!(both(&read(&[]).expect("good")).0.address.to_string(), "https://localhost:15012/");
    let set = read(&[("XDS_ROOT_CA", "SYSTEM"), ("CA_ROOT_CA", "/ca.pem")]).expect("good");
    assert_eq!(both(&set).0.roots, Source::System);
    assert_eq!(both(&set).1.roots, Source::File("/ca.pem".into()));
}

#[test]
fn a_local_state_needs_no_control_plane_and_may_have_one() {
    let config = read(&[("LOCAL_XDS_PATH", "/mesh.yaml"), ("FAKE_CA", "true")]).expect("good");
    assert_eq!(config.local, Some(Source::File("/mesh.yaml".into())));
    assert_eq!((config.xds, config.ca), (None, CertificateSource::Fake));
    let config = read(&[("LOCAL_XDS", "workloads: []"), ("XDS_ADDRESS", "istiod:1")]).expect("good");
    assert_eq!(config.local, Some(Source::Literal("workloads: []".into())));
    assert!(config.xds.is_some());
    let both = read(&[("LOCAL_XDS", "a"), ("LOCAL_XDS_PATH", "b")]).expect_err("which of them?");
    assert!(both.contains("LOCAL_XDS_PATH"), "{both}");
}

#[test]
fn a_dedicated_proxy_serves_its_own_pod() {
    let dedicated = |info| read(&[("NODE_NAME", ""), ("PROXY_MODE", "dedicated"), ("PROXY_WORKLOAD_INFO", info)]);
    let config = dedicated("shop/cart-1/cart").expect("good");
    let Mode::Dedicated(pod) = &config.mode else { panic!("{:?}", config.mode) };
    assert_eq!((&*pod.namespace, &*pod.name, &*pod.service_account), ("shop", "cart-1", "cart"));
    assert_eq!(config.sockets.mark, None);
    for wrong in ["", "shop/cart", "shop//cart", "a/b/c/d"] {
        let text = dedicated(wrong).expect_err(wrong);
        assert!(text.contains("PROXY_WORKLOAD_INFO"), "{wrong}: {text}");
    }
}

#[test]
fn what_the_proxy_says_of_itself_is_text_or_json() {
    let set = read(&[
        ("ISTIO_META_TEAM", "a"),
        ("ISTIO_METAJSON_LABELS", "{\"a\":1}"),
        ("SERVICE_ACCOUNT", "zt"),
        ("POD_NAME", "z1"),
    ]);
    let config = set.expect("good");
    assert_eq!(config.own.metadata, [("TEAM".to_owned(), "a".to_owned())]);
    assert_eq!(config.own.structured, [("LABELS".to_owned(), serde_json::json!({ "a": 1 }))]);
    let own = config.own_pod().expect("enough is known");
    assert_eq!((&*own.namespace, &*own.name, &*own.service_account), ("istio-system", "z1", "zt"));
    let wrong = read(&[("ISTIO_METAJSON_LABELS", "{")]).expect_err("no JSON");
    assert!(wrong.contains("ISTIO_METAJSON_LABELS"), "{wrong}");
}

#[test]
fn what_cannot_be_kept_of_a_compliance_policy_is_refused() {
    let (policy, tls12) = (("COMPLIANCE_POLICY", "pqc"), ("TLS12_ENABLED", "true"));
    assert_eq!(read(&[policy]).expect("good").session, Session::OnlyPostQuantum);
    assert_eq!(read(&[tls12]).expect("good").session, Session::Tls12Too);
    for (settings, name) in
        [(&[("COMPLIANCE_POLICY", "fips-140-2")][..], "COMPLIANCE_POLICY"), (&[policy, tls12], "TLS12_ENABLED")]
    {
        let text = read(settings).expect_err(name);
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn a_drain_ends_before_the_grace_period_does() {
    for (grace, expected) in [("30", 25), ("10", 9), ("1", 0)] {
        let config = read(&[("TERMINATION_GRACE_PERIOD_SECONDS", grace)]).expect("good");
        assert_eq!(config.grace, Duration::from_secs(expected), "{grace}");
    }
}

#[test]
fn every_mistake_is_told() {
    let text = read(&[
        ("NODE_NAME", ""),
        ("PROXY_MODE", "lonely"),
        ("XDS_ADDRESS", "https://not a uri"),
        ("ZTUNNEL_WORKER_THREADS", "many"),
        ("DNS_PROXY_ADDR", "nowhere"),
        ("KEEPALIVE_TIME", "soon"),
    ])
    .expect_err("all of it is wrong");
    for name in ["NODE_NAME", "PROXY_MODE", "XDS_ADDRESS", "ZTUNNEL_WORKER_THREADS", "DNS_PROXY_ADDR", "KEEPALIVE_TIME"]
    {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
}

#[test]
fn what_is_shown_has_no_token_in_it() {
    let strings: BTreeMap<String, String> =
        [("AUTH_TOKEN", "secret"), ("NODE_NAME", "n1")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let shown = shown(&strings);
    assert_eq!(shown["NODE_NAME"], "n1");
    assert_eq!(shown["AUTH_TOKEN"], "(given)");
    assert_eq!(shown["SECRET_TTL"], "24h");
    assert_eq!(super::shown(&BTreeMap::new())["AUTH_TOKEN"], "/var/run/secrets/tokens/istio-token");
}

#[test]
fn each_key_is_documented_once() {
    let mut names: Vec<_> = keys().iter().map(|row| row.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}
