use super::*;
use std::collections::BTreeMap;

fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
    let node = [("NODE_NAME", "n1")];
    let strings: BTreeMap<String, String> =
        node.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::read(&strings, 16).map_err(|mistakes| mistakes.to_string())
}

#[test]
fn without_a_word_the_defaults_are_those_of_istio() {
    let config = read(&[]).expect("nothing is wrong");
    assert_eq!(config.xds.address.to_string(), "https://istiod.istio-system.svc:15012/");
    assert_eq!(config.xds, config.ca);
    assert_eq!(config.xds.cluster_id, "Kubernetes");
    assert_eq!(config.xds.token, Some(Source::File("/var/run/secrets/tokens/istio-token".into())));
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
    assert_eq!(config.xds.address.to_string(), "https://istiod.shop.svc:1/");
    assert_eq!(config.ca.address.to_string(), "https://ca:2/");
    assert_eq!(config.ca.roots, Source::Literal("-----BEGIN CERTIFICATE-----".into()));
    assert_eq!(config.ca.alternative_hostname.as_deref(), Some("authority"));
    assert_eq!(config.ca.token, Some(Source::Literal("abc".into())));
    assert_eq!(config.xds.headers, [("x-team".to_owned(), "shop".to_owned())]);
    assert!(config.ca.headers.is_empty());
}

#[test]
fn workers_are_a_number_or_a_part_of_the_processors() {
    for (text, expected) in [("3", 3), ("0", 16), ("50%", 8), ("1%", 1)] {
        assert_eq!(read(&[("ZTUNNEL_WORKER_THREADS", text)]).expect("good").workers, expected, "{text}");
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
        ("PROXY_MODE", "dedicated"),
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
