//! Envoy's configuration, of which the control plane of a sidecar mesh would send as much.

use super::{Certificates, Way};
use anyhow::Result;
use serde_json::{Value, json};

/// How many threads it has: as many as the node proxies.
pub const CONCURRENCY: &str = "2";

/// The command that runs it.
pub fn argv(config: &str) -> [&str; 8] {
    ["envoy", "-c", config, "--concurrency", CONCURRENCY, "--disable-hot-restart", "-l", "error"]
}

/// TCP comes in plain and goes out by mTLS; one connection there for each here.
pub fn tcp_client(ways: &[Way], certificates: &Certificates) -> Result<String> {
    let tls = tls("Upstream", &certificates.client, &certificates.root);
    Ok(config(ways, |_| (tcp(), None, Some(tls.clone()), json!({}))))
}

/// TCP comes in by mTLS and goes out plain.
pub fn tcp_server(ways: &[Way], certificates: &Certificates) -> Result<String> {
    let tls = tls("Downstream", &certificates.server, &certificates.root);
    Ok(config(ways, |_| (tcp(), Some(tls.clone()), None, json!({}))))
}

/// A proxy of HTTP, its upstream of HTTP/1 or 2. `tls` has it terminate mTLS and originate it.
pub fn http(ways: &[Way], http2: bool, certificates: Option<&Certificates>) -> Result<String> {
    let down = certificates.map(|all| tls("Downstream", &all.server, &all.root));
    let up = certificates.map(|all| tls("Upstream", &all.client, &all.root));
    let kind = if http2 { "http2_protocol_options" } else { "http_protocol_options" };
    let options = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": { (kind): {} },
    } });
    Ok(config(ways, |cluster| {
        let filter = json!({
            "name": "http",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "http",
                "codec_type": "AUTO",
                "http_filters": [{
                    "name": "router",
                    "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                }],
                "route_config": { "virtual_hosts": [{
                    "name": "all", "domains": ["*"],
                    "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": cluster } }],
                }] },
            },
        });
        (filter, down.clone(), up.clone(), options.clone())
    }))
}

fn tcp() -> Value {
    json!({
        "name": "tcp",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": "tcp",
        },
    })
}

type Parts = (Value, Option<Value>, Option<Value>, Value);

/// A listener and a cluster for each way. `parts` gives, for a cluster's name, the filter, TLS of the listener and of
/// the cluster, and the cluster's options of protocol.
fn config(ways: &[Way], parts: impl Fn(&str) -> Parts) -> String {
    let (mut listeners, mut clusters) = (Vec::new(), Vec::new());
    for way in ways {
        let name = format!("to-{}", way.to.port());
        let (mut filter, down, up, options) = parts(&name);
        if filter["name"] == "tcp" {
            filter["typed_config"]["cluster"] = json!(name);
        }
        listeners.push(json!({
            "name": format!("from-{}", way.port),
            "address": { "socket_address": { "address": "0.0.0.0", "port_value": way.port } },
            "filter_chains": [{ "filters": [filter], "transport_socket": down }],
        }));
        let to = json!({ "socket_address": { "address": way.to.ip().to_string(), "port_value": way.to.port() } });
        clusters.push(json!({
            "name": name,
            "connect_timeout": "5s",
            "transport_socket": up,
            "typed_extension_protocol_options": options,
            // Its own limit is 1,024 of each.
            "circuit_breakers": { "thresholds": [{
                "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000,
            }] },
            "load_assignment": {
                "cluster_name": name,
                "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": to } }] }],
            },
        }));
    }
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } }).to_string()
}

/// Mutual TLS 1.3.
fn tls(side: &str, own: &(String, String), root: &str) -> Value {
    let context = json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [{
            "certificate_chain": { "inline_string": own.0 }, "private_key": { "inline_string": own.1 },
        }],
        "validation_context": { "trusted_ca": { "inline_string": root } },
    });
    let kind = format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{side}TlsContext");
    let mut config = json!({ "@type": kind, "common_tls_context": context });
    if side == "Downstream" {
        config["require_client_certificate"] = json!(true);
    }
    json!({ "name": "tls", "typed_config": config })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_a_listener_and_a_cluster() {
        let certificates = Certificates::new().unwrap();
        let way = |port, to: &str| Way { port, to: to.parse().unwrap() };
        let ways = [way(1, "10.0.0.1:11"), way(2, "10.0.0.1:12")];
        for (text, down, up) in [
            (tcp_client(&ways, &certificates).unwrap(), false, true),
            (tcp_server(&ways, &certificates).unwrap(), true, false),
            (http(&ways, false, None).unwrap(), false, false),
            (http(&ways, true, Some(&certificates)).unwrap(), true, true),
        ] {
            let config: Value = serde_json::from_str(&text).unwrap();
            let resources = &config["static_resources"];
            for (at, name) in ["to-11", "to-12"].into_iter().enumerate() {
                let chain = &resources["listeners"][at]["filter_chains"][0];
                assert!(chain.to_string().contains(&format!("\"cluster\":\"{name}\"")), "{text}");
                assert_eq!(chain["transport_socket"].is_object(), down, "{text}");
                assert_eq!(resources["clusters"][at]["name"], name);
                assert_eq!(resources["clusters"][at]["transport_socket"].is_object(), up, "{text}");
            }
        }
    }
}
