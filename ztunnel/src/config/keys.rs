//! Every key of the environment, once: name, default, unit, and a sentence. The names and defaults are
//! Istio's.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use chassis::env::{Key, Row};
use chassis::run::{GRACE, LOG_FORMAT, RUST_LOG};

use super::threads::Processors;

pub(super) const PROXY_MODE: Key<String> = Key::new(
    "PROXY_MODE",
    "shared",
    "shared or dedicated",
    "Whom the proxy serves: the pods of its node, or its own pod.",
);
pub(super) const PROXY_WORKLOAD_INFO: Key<String> = Key::new(
    "PROXY_WORKLOAD_INFO",
    "",
    "<namespace>/<name>/<service account>",
    "The pod that a dedicated proxy serves. It asks for its certificate with the pod's own token.",
);
pub(super) const ENABLE_PROXY: Key<bool> = Key::new(
    "ENABLE_PROXY",
    "true",
    "true or false",
    "Without it only DNS is served, and what is redirected is refused.",
);
pub(super) const UNSTABLE_ENABLE_SOCKS5: Key<bool> = Key::new(
    "UNSTABLE_ENABLE_SOCKS5",
    "false",
    "true or false",
    "Applications may also ask for connections by SOCKS5, at 127.0.0.1:15080.",
);
pub(super) const XDS_ADDRESS: Key<String> = Key::new(
    "XDS_ADDRESS",
    "https://istiod.istio-system.svc:15012",
    "address",
    "The control plane. `https://` is put in front when there is no scheme. Unused if not set and LOCAL_XDS is.",
);
pub(super) const CA_ADDRESS: Key<String> =
    Key::new("CA_ADDRESS", "", "address", "The certificate authority; where XDS_ADDRESS says if not set.");
pub(super) const LOCAL_XDS: Key<String> = Key::new(
    "LOCAL_XDS",
    "",
    "YAML",
    "Workloads, services and policies in the spelling of the config dump. They are there before what the control plane tells.",
);
pub(super) const LOCAL_XDS_PATH: Key<PathBuf> =
    Key::new("LOCAL_XDS_PATH", "", "path", "The same as a file, read at the start.");
pub(super) const FAKE_CA: Key<bool> = Key::new(
    "FAKE_CA",
    "false",
    "true or false",
    "For tests: the proxy certifies its pods itself, by a root that nobody else knows. CA_ADDRESS is unused.",
);
pub(super) const KUBERNETES_SERVICE_HOST: Key<String> = Key::new(
    "KUBERNETES_SERVICE_HOST",
    "",
    "address",
    "Set by Kubernetes. Without it the control plane is on localhost.",
);
pub(super) const ADMIN_PORT: Key<u16> =
    Key::new("ADMIN_PORT", "15000", "port", "Where an operator asks, on 127.0.0.1. `proxyAdminPort` of a ProxyConfig.");
pub(super) const STATS_PORT: Key<u16> =
    Key::new("STATS_PORT", "15020", "port", "Where metrics are scraped. `statusPort` of a ProxyConfig.");
pub(super) const READINESS_PORT: Key<u16> =
    Key::new("READINESS_PORT", "15021", "port", "Where readiness is asked for.");
pub(super) const PROXY_CONFIG: Key<String> = Key::new(
    "PROXY_CONFIG",
    "",
    "YAML",
    "A ProxyConfig: discoveryAddress, concurrency, proxyMetadata, proxyAdminPort, statusPort. Laid over `defaultConfig` of \
     ./etc/istio/config/mesh, and under the variables of this table.",
);
pub(super) const XDS_ROOT_CA: Key<String> = Key::new(
    "XDS_ROOT_CA",
    "/var/run/secrets/istio/root-cert.pem",
    "path, PEM or SYSTEM",
    "The roots that the control plane's certificate must come from.",
);
pub(super) const CA_ROOT_CA: Key<String> = Key::new(
    "CA_ROOT_CA",
    "",
    "path, PEM or SYSTEM",
    "The same for the certificate authority; as XDS_ROOT_CA if not set.",
);
pub(super) const ALT_XDS_HOSTNAME: Key<String> =
    Key::new("ALT_XDS_HOSTNAME", "", "hostname", "The name the control plane's certificate must have instead.");
pub(super) const ALT_CA_HOSTNAME: Key<String> =
    Key::new("ALT_CA_HOSTNAME", "", "hostname", "The name the certificate authority's certificate must have instead.");
pub(super) const AUTH_TOKEN: Key<String> = Key::new(
    "AUTH_TOKEN",
    "/var/run/secrets/tokens/istio-token",
    "path or token",
    "The token that proves the proxy to the control plane. A file is read anew for each request.",
);
pub(super) const CLUSTER_ID: Key<String> =
    Key::new("CLUSTER_ID", "", "text", "The cluster; as ISTIO_META_CLUSTER_ID if not set.");
pub(super) const ISTIO_META_CLUSTER_ID: Key<String> =
    Key::new("ISTIO_META_CLUSTER_ID", "Kubernetes", "text", "The cluster, as the control plane names it.");
pub(super) const NETWORK: Key<String> = Key::new("NETWORK", "", "text", "The network this node is on.");
pub(super) const CLUSTER_DOMAIN: Key<String> =
    Key::new("CLUSTER_DOMAIN", "cluster.local", "domain", "The DNS domain of the cluster's services.");
pub(super) const TRUST_DOMAIN: Key<String> =
    Key::new("TRUST_DOMAIN", "cluster.local", "domain", "The trust domain of the mesh.");
pub(super) const NODE_NAME: Key<String> = Key::new("NODE_NAME", "", "text", "The node, as Kubernetes names it.");
pub(super) const POD_NAME: Key<String> = Key::new("POD_NAME", "", "text", "The proxy's own pod.");
pub(super) const POD_NAMESPACE: Key<String> =
    Key::new("POD_NAMESPACE", "istio-system", "text", "The namespace of that.");
pub(super) const SERVICE_ACCOUNT: Key<String> = Key::new(
    "SERVICE_ACCOUNT",
    "",
    "text",
    "The service account of that. With it, and with POD_NAME, metrics can also be scraped through a tunnel to :15008.",
);
pub(super) const INSTANCE_IP: Key<IpAddr> = Key::new("INSTANCE_IP", "", "address", "The address of that.");
pub(super) const INPOD_UDS: Key<PathBuf> =
    Key::new("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock", "path", "The socket of the node agent.");
pub(super) const INPOD_PORT_REUSE: Key<bool> = Key::new(
    "INPOD_PORT_REUSE",
    "true",
    "true or false",
    "Listeners in pods share their ports, so that the next proxy can open its own before this one ends.",
);
pub(super) const PACKET_MARK: Key<u32> = Key::new(
    "PACKET_MARK",
    "1337",
    "number",
    "The mark of the proxy's own sockets; 0 is none. The pods' rules know it. A dedicated proxy has none if not set.",
);
pub(super) const SECRET_TTL: Key<Duration> =
    Key::new("SECRET_TTL", "24h", "duration", "Asked-for life of a certificate.");
pub(super) const CRL_PATH: Key<PathBuf> =
    Key::new("CRL_PATH", "", "path", "Revocation lists, PEM. Followed; none if empty.");
pub(super) const COMPLIANCE_POLICY: Key<String> = Key::new(
    "COMPLIANCE_POLICY",
    "",
    "pqc",
    "`pqc`: keys are agreed on by X25519MLKEM768 only. Without it: that first, and others with peers that do not have it.",
);
pub(super) const TLS12_ENABLED: Key<bool> = Key::new(
    "TLS12_ENABLED",
    "false",
    "true or false",
    "Tunnels may also be of TLS 1.2, with peers that have no 1.3. Not together with `COMPLIANCE_POLICY=pqc`.",
);
pub(super) const ZTUNNEL_WORKER_THREADS: Key<String> = Key::new(
    "ZTUNNEL_WORKER_THREADS",
    "",
    "number or percent",
    "Threads that move bytes. 0: as many as processors. Without it: ZTUNNEL_RESOURCE_CPU_LIMIT, and without that a \
     quarter of the processors, but two and ZTUNNEL_RESOURCE_CPU_REQUEST at least.",
);
pub(super) const ZTUNNEL_CPU_LIMIT: Key<Processors> = Key::new(
    "ZTUNNEL_CPU_LIMIT",
    "",
    "quantity",
    "How many processors there are for the proxy. Without it: those of the machine.",
);
pub(super) const ZTUNNEL_RESOURCE_CPU_LIMIT: Key<Processors> =
    Key::new("ZTUNNEL_RESOURCE_CPU_LIMIT", "", "quantity", "`resources.limits.cpu` of the proxy, where it has one.");
pub(super) const ZTUNNEL_RESOURCE_CPU_REQUEST: Key<Processors> = Key::new(
    "ZTUNNEL_RESOURCE_CPU_REQUEST",
    "",
    "quantity",
    "`resources.requests.cpu` of the proxy, where it has any.",
);
pub(super) const CONNECTION_TERMINATION_DEADLINE: Key<Duration> = Key::new(
    "CONNECTION_TERMINATION_DEADLINE",
    "",
    "duration",
    "How long open connections may go on in a drain. Without it: a little less than the grace period.",
);
pub(super) const ENABLE_ORIG_SRC: Key<bool> = Key::new(
    "ENABLE_ORIG_SRC",
    "",
    "true or false",
    "Applications see the address of their caller. Without it: wherever the kernel allows that, and not with a dedicated proxy.",
);
pub(super) const IPV6_ENABLED: Key<bool> =
    Key::new("IPV6_ENABLED", "true", "true or false", "IPv6 is used where there is any.");
pub(super) const KEEPALIVE_ENABLED: Key<bool> =
    Key::new("KEEPALIVE_ENABLED", "true", "true or false", "Silent connections are probed.");
pub(super) const KEEPALIVE_TIME: Key<Duration> =
    Key::new("KEEPALIVE_TIME", "180s", "duration", "Silence before the first probe.");
pub(super) const KEEPALIVE_INTERVAL: Key<Duration> =
    Key::new("KEEPALIVE_INTERVAL", "180s", "duration", "Between probes.");
pub(super) const KEEPALIVE_RETRIES: Key<u32> =
    Key::new("KEEPALIVE_RETRIES", "9", "number", "Probes without an answer that end a connection.");
pub(super) const USER_TIMEOUT_ENABLED: Key<bool> = Key::new(
    "USER_TIMEOUT_ENABLED",
    "false",
    "true or false",
    "Data that nobody acknowledges ends a connection as silence does.",
);
pub(super) const STREAM_WINDOW: Key<u32> =
    Key::new("HTTP2_STREAM_WINDOW_SIZE", "4194304", "bytes", "What a tunnel's receiver grants its sender.");
pub(super) const CONNECTION_WINDOW: Key<u32> =
    Key::new("HTTP2_CONNECTION_WINDOW_SIZE", "16777216", "bytes", "The same for all tunnels of a connection.");
pub(super) const FRAME_SIZE: Key<u32> = Key::new("HTTP2_FRAME_SIZE", "1048576", "bytes", "Largest frame of a tunnel.");
pub(super) const HTTP2_LIBRARY: Key<bool> = Key::new(
    "HTTP2_LIBRARY_ENABLED",
    "false",
    "true or false",
    "Tunnels speak HTTP/2 by the library h2 instead of our own engine, should that have a fault.",
);
pub(super) const POOL_STREAMS: Key<usize> =
    Key::new("POOL_MAX_STREAMS_PER_CONNECTION", "100", "number", "Tunnels in one connection.");
pub(super) const POOL_IDLE: Key<Duration> =
    Key::new("POOL_UNUSED_RELEASE_TIMEOUT", "5m", "duration", "How long an unused connection for tunnels stays.");
pub(super) const DNS_CAPTURE: Key<bool> =
    Key::new("ISTIO_META_DNS_CAPTURE", "true", "true or false", "DNS of the pods is answered by the proxy.");
pub(super) const DNS_PROXY_ADDR: Key<String> =
    Key::new("DNS_PROXY_ADDR", "localhost:15053", "address", "Where that listens in each pod.");
pub(super) const PREFERRED_NAMESPACE: Key<String> = Key::new(
    "PREFERED_SERVICE_NAMESPACE",
    "",
    "text",
    "Of several services of one hostname the one of this namespace is meant.",
);
pub(super) const LOCALHOST_APP_TUNNEL: Key<bool> =
    Key::new("LOCALHOST_APP_TUNNEL", "true", "true or false", "Proxies behind this one are reached on the loopback.");
pub(super) const RESPONSE_BAGGAGE: Key<bool> =
    Key::new("ENABLE_RESPONSE_BAGGAGE", "true", "true or false", "Callers are told which workload answered them.");
pub(super) const LOG_POLICY: Key<bool> =
    Key::new("AUTHZ_POLICY_INFO_LOGGING", "false", "true or false", "Each decision of policy is logged at level info.");
pub(super) const FORCE_TUNNEL: Key<bool> = Key::new(
    "FORCE_TUNNEL",
    "false",
    "true or false",
    "Pods of one node are connected through tunnels, too. Decisions, log and metrics are the same without.",
);

/// Every key, for the documentation.
pub fn keys() -> Vec<Row> {
    vec![
        PROXY_MODE.row,
        PROXY_WORKLOAD_INFO.row,
        ENABLE_PROXY.row,
        UNSTABLE_ENABLE_SOCKS5.row,
        PROXY_CONFIG.row,
        ADMIN_PORT.row,
        STATS_PORT.row,
        READINESS_PORT.row,
        KUBERNETES_SERVICE_HOST.row,
        XDS_ADDRESS.row,
        CA_ADDRESS.row,
        LOCAL_XDS.row,
        LOCAL_XDS_PATH.row,
        FAKE_CA.row,
        XDS_ROOT_CA.row,
        CA_ROOT_CA.row,
        ALT_XDS_HOSTNAME.row,
        ALT_CA_HOSTNAME.row,
        AUTH_TOKEN.row,
        ISTIO_META_CLUSTER_ID.row,
        CLUSTER_ID.row,
        NETWORK.row,
        CLUSTER_DOMAIN.row,
        TRUST_DOMAIN.row,
        NODE_NAME.row,
        POD_NAME.row,
        POD_NAMESPACE.row,
        SERVICE_ACCOUNT.row,
        INSTANCE_IP.row,
        INPOD_UDS.row,
        INPOD_PORT_REUSE.row,
        PACKET_MARK.row,
        RUST_LOG.row,
        LOG_FORMAT.row,
        SECRET_TTL.row,
        CRL_PATH.row,
        COMPLIANCE_POLICY.row,
        TLS12_ENABLED.row,
        ZTUNNEL_WORKER_THREADS.row,
        ZTUNNEL_CPU_LIMIT.row,
        ZTUNNEL_RESOURCE_CPU_LIMIT.row,
        ZTUNNEL_RESOURCE_CPU_REQUEST.row,
        GRACE.row,
        CONNECTION_TERMINATION_DEADLINE.row,
        ENABLE_ORIG_SRC.row,
        IPV6_ENABLED.row,
        KEEPALIVE_ENABLED.row,
        KEEPALIVE_TIME.row,
        KEEPALIVE_INTERVAL.row,
        KEEPALIVE_RETRIES.row,
        USER_TIMEOUT_ENABLED.row,
        STREAM_WINDOW.row,
        CONNECTION_WINDOW.row,
        FRAME_SIZE.row,
        HTTP2_LIBRARY.row,
        POOL_STREAMS.row,
        POOL_IDLE.row,
        DNS_CAPTURE.row,
        DNS_PROXY_ADDR.row,
        PREFERRED_NAMESPACE.row,
        LOCALHOST_APP_TUNNEL.row,
        RESPONSE_BAGGAGE.row,
        LOG_POLICY.row,
        FORCE_TUNNEL.row,
    ]
}
