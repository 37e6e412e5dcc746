//! What the environment says, parsed once, all mistakes told together.
//!
//! The names and defaults are Istio's. A key stands here once; the table in the documentation is
//! printed from [`keys`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use chassis::env::{self, Key, Mistakes, Reader, Row, Strings};
use chassis::run::{GRACE, LOG_FORMAT, RUST_LOG, drain_time};
use hbone::limits::Limits;
use pki::control_plane::{ControlPlane, Source};

use crate::net::sockets::{Keepalive, Options};
use crate::node::Settings;

const PROXY_MODE: Key<String> =
    Key::new("PROXY_MODE", "shared", "shared", "Whom the proxy serves: the pods of its node, told by the node agent.");
const XDS_ADDRESS: Key<String> = Key::new(
    "XDS_ADDRESS",
    "https://istiod.istio-system.svc:15012",
    "address",
    "The control plane. `https://` is put in front when there is no scheme.",
);
const CA_ADDRESS: Key<String> =
    Key::new("CA_ADDRESS", "", "address", "The certificate authority; where XDS_ADDRESS says if not set.");
const XDS_ROOT_CA: Key<String> = Key::new(
    "XDS_ROOT_CA",
    "/var/run/secrets/istio/root-cert.pem",
    "path or PEM",
    "The roots that the control plane's certificate must come from.",
);
const CA_ROOT_CA: Key<String> =
    Key::new("CA_ROOT_CA", "", "path or PEM", "The same for the certificate authority; as XDS_ROOT_CA if not set.");
const ALT_XDS_HOSTNAME: Key<String> =
    Key::new("ALT_XDS_HOSTNAME", "", "hostname", "The name the control plane's certificate must have instead.");
const ALT_CA_HOSTNAME: Key<String> =
    Key::new("ALT_CA_HOSTNAME", "", "hostname", "The name the certificate authority's certificate must have instead.");
const AUTH_TOKEN: Key<String> = Key::new(
    "AUTH_TOKEN",
    "/var/run/secrets/tokens/istio-token",
    "path or token",
    "The token that proves the proxy to the control plane. A file is read anew for each request.",
);
const CLUSTER_ID: Key<String> = Key::new("CLUSTER_ID", "", "text", "The cluster; as ISTIO_META_CLUSTER_ID if not set.");
const ISTIO_META_CLUSTER_ID: Key<String> =
    Key::new("ISTIO_META_CLUSTER_ID", "Kubernetes", "text", "The cluster, as the control plane names it.");
const NETWORK: Key<String> = Key::new("NETWORK", "", "text", "The network this node is on.");
const CLUSTER_DOMAIN: Key<String> =
    Key::new("CLUSTER_DOMAIN", "cluster.local", "domain", "The DNS domain of the cluster's services.");
const TRUST_DOMAIN: Key<String> = Key::new("TRUST_DOMAIN", "cluster.local", "domain", "The trust domain of the mesh.");
const NODE_NAME: Key<String> = Key::new("NODE_NAME", "", "text", "The node, as Kubernetes names it.");
const POD_NAME: Key<String> = Key::new("POD_NAME", "", "text", "The proxy's own pod.");
const POD_NAMESPACE: Key<String> = Key::new("POD_NAMESPACE", "istio-system", "text", "The namespace of that.");
const INSTANCE_IP: Key<IpAddr> = Key::new("INSTANCE_IP", "", "address", "The address of that.");
const INPOD_UDS: Key<PathBuf> =
    Key::new("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock", "path", "The socket of the node agent.");
const INPOD_PORT_REUSE: Key<bool> = Key::new(
    "INPOD_PORT_REUSE",
    "true",
    "true or false",
    "Listeners in pods share their ports, so that the next proxy can open its own before this one ends.",
);
const PACKET_MARK: Key<u32> = Key::new(
    "PACKET_MARK",
    "1337",
    "number",
    "The mark of the proxy's own sockets; 0 is none. The pods' rules know it.",
);
const SECRET_TTL: Key<Duration> = Key::new("SECRET_TTL", "24h", "duration", "Asked-for life of a certificate.");
const CRL_PATH: Key<PathBuf> = Key::new("CRL_PATH", "", "path", "Revocation lists, PEM. Followed; none if empty.");
const ZTUNNEL_WORKER_THREADS: Key<String> = Key::new(
    "ZTUNNEL_WORKER_THREADS",
    "",
    "number or percent",
    "Threads that move bytes. Without it: a quarter of the processors, two at least. 0: as many as processors.",
);
const CONNECTION_TERMINATION_DEADLINE: Key<Duration> = Key::new(
    "CONNECTION_TERMINATION_DEADLINE",
    "",
    "duration",
    "How long open connections may go on in a drain. Without it: a little less than the grace period.",
);
const ENABLE_ORIG_SRC: Key<bool> = Key::new(
    "ENABLE_ORIG_SRC",
    "",
    "true or false",
    "Applications see the address of their caller. Without it: wherever the kernel allows that.",
);
const IPV6_ENABLED: Key<bool> = Key::new("IPV6_ENABLED", "true", "true or false", "IPv6 is used where there is any.");
const KEEPALIVE_ENABLED: Key<bool> =
    Key::new("KEEPALIVE_ENABLED", "true", "true or false", "Silent connections are probed.");
const KEEPALIVE_TIME: Key<Duration> = Key::new("KEEPALIVE_TIME", "180s", "duration", "Silence before the first probe.");
const KEEPALIVE_INTERVAL: Key<Duration> = Key::new("KEEPALIVE_INTERVAL", "180s", "duration", "Between probes.");
const KEEPALIVE_RETRIES: Key<u32> =
    Key::new("KEEPALIVE_RETRIES", "9", "number", "Probes without an answer that end a connection.");
const USER_TIMEOUT_ENABLED: Key<bool> = Key::new(
    "USER_TIMEOUT_ENABLED",
    "false",
    "true or false",
    "Data that nobody acknowledges ends a connection as silence does.",
);
const STREAM_WINDOW: Key<u32> =
    Key::new("HTTP2_STREAM_WINDOW_SIZE", "4194304", "bytes", "What a tunnel's receiver grants its sender.");
const CONNECTION_WINDOW: Key<u32> =
    Key::new("HTTP2_CONNECTION_WINDOW_SIZE", "16777216", "bytes", "The same for all tunnels of a connection.");
const FRAME_SIZE: Key<u32> = Key::new("HTTP2_FRAME_SIZE", "1048576", "bytes", "Largest frame of a tunnel.");
const POOL_STREAMS: Key<usize> =
    Key::new("POOL_MAX_STREAMS_PER_CONNECTION", "100", "number", "Tunnels in one connection.");
const POOL_IDLE: Key<Duration> =
    Key::new("POOL_UNUSED_RELEASE_TIMEOUT", "5m", "duration", "How long an unused connection for tunnels stays.");
const DNS_CAPTURE: Key<bool> =
    Key::new("ISTIO_META_DNS_CAPTURE", "true", "true or false", "DNS of the pods is answered by the proxy.");
const DNS_PROXY_ADDR: Key<String> =
    Key::new("DNS_PROXY_ADDR", "localhost:15053", "address", "Where that listens in each pod.");
const PREFERRED_NAMESPACE: Key<String> = Key::new(
    "PREFERED_SERVICE_NAMESPACE",
    "",
    "text",
    "Of several services of one hostname the one of this namespace is meant.",
);
const LOCALHOST_APP_TUNNEL: Key<bool> =
    Key::new("LOCALHOST_APP_TUNNEL", "true", "true or false", "Proxies behind this one are reached on the loopback.");
const RESPONSE_BAGGAGE: Key<bool> =
    Key::new("ENABLE_RESPONSE_BAGGAGE", "true", "true or false", "Callers are told which workload answered them.");
const LOG_POLICY: Key<bool> =
    Key::new("AUTHZ_POLICY_INFO_LOGGING", "false", "true or false", "Each decision of policy is logged at level info.");
const FORCE_TUNNEL: Key<bool> = Key::new(
    "FORCE_TUNNEL",
    "false",
    "true or false",
    "Pods of one node are connected through tunnels, too. Decisions, log and metrics are the same without.",
);

/// Every key, for the documentation.
pub fn keys() -> Vec<Row> {
    vec![
        PROXY_MODE.row,
        XDS_ADDRESS.row,
        CA_ADDRESS.row,
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
        INSTANCE_IP.row,
        INPOD_UDS.row,
        INPOD_PORT_REUSE.row,
        PACKET_MARK.row,
        RUST_LOG.row,
        LOG_FORMAT.row,
        SECRET_TTL.row,
        CRL_PATH.row,
        ZTUNNEL_WORKER_THREADS.row,
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

/// Every key with its value, for an operator to read. A token that is written out is left out.
pub fn shown(strings: &dyn Strings) -> serde_json::Value {
    let token = |name: &str, text: &str| {
        name == AUTH_TOKEN.row.name && matches!(Source::of(text.to_owned()), Source::Literal(_))
    };
    env::shown(&keys(), strings, token)
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the view comes from.
    pub xds: ControlPlane,
    /// Where certificates come from.
    pub ca: ControlPlane,
    /// Who the proxy is itself.
    pub own: Own,
    /// Asked-for life of a certificate.
    pub certificate_ttl: Duration,
    /// A file of revocation lists, if any are heeded.
    pub revocations: Option<PathBuf>,
    /// The socket of the node agent.
    pub agent: PathBuf,
    /// What connections care about.
    pub settings: Settings,
    /// What sockets have in common.
    pub sockets: Options,
    /// Applications see the address of their caller; none: where the kernel allows it.
    pub keep_source: Option<bool>,
    /// Threads that move bytes.
    pub workers: usize,
    /// How long open connections may go on in a drain.
    pub grace: Duration,
    /// The DNS proxy; none where DNS is not captured.
    pub dns: Option<Dns>,
}

/// Who the proxy is itself.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its pod.
    pub pod: String,
    /// Namespace of that.
    pub namespace: String,
    /// Address of that.
    pub ip: Option<IpAddr>,
}

/// The DNS proxy of each pod.
#[derive(Clone, Debug)]
pub struct Dns {
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// Domain of the cluster's services.
    pub domain: String,
    /// Whose services are meant where several have a hostname.
    pub preferred_namespace: Option<String>,
}

impl Config {
    /// Reads everything, or tells every mistake.
    pub fn read(strings: &dyn Strings, processors: usize) -> Result<Self, Mistakes> {
        let mut reader = Reader::new(strings);
        let mode = reader.read(&PROXY_MODE);
        if mode != "shared" {
            reader.mistake(PROXY_MODE.row.name, &mode, "only `shared` is there");
        }
        let (xds, ca) = control_planes(&mut reader);
        let ipv6 = reader.read(&IPV6_ENABLED);
        let grace = reader.read(&GRACE).0;
        let config = Self {
            xds,
            ca,
            own: Own {
                pod: reader.read(&POD_NAME),
                namespace: reader.read(&POD_NAMESPACE),
                ip: reader.optional(&INSTANCE_IP),
            },
            certificate_ttl: reader.read(&SECRET_TTL),
            revocations: reader.optional(&CRL_PATH),
            agent: reader.read(&INPOD_UDS),
            settings: settings(&mut reader),
            sockets: sockets(&mut reader, ipv6),
            keep_source: reader.optional(&ENABLE_ORIG_SRC),
            workers: workers(&mut reader, processors),
            grace: reader.optional(&CONNECTION_TERMINATION_DEADLINE).unwrap_or_else(|| drain_time(grace)),
            dns: dns(&mut reader, ipv6),
        };
        reader.finish()?;
        Ok(config)
    }
}

fn control_planes(reader: &mut Reader<'_>) -> (ControlPlane, ControlPlane) {
    let address = |reader: &mut Reader<'_>, key: &Key<String>, text: String| {
        let text = if text.contains("://") { text } else { format!("https://{text}") };
        text.parse().unwrap_or_else(|_| {
            reader.mistake(key.row.name, &text, "expected https://<host>:<port>");
            http::Uri::default()
        })
    };
    let xds_address = reader.read(&XDS_ADDRESS);
    let ca_address = reader.optional(&CA_ADDRESS).unwrap_or_else(|| xds_address.clone());
    let xds_roots = reader.read(&XDS_ROOT_CA);
    let ca_roots = reader.optional(&CA_ROOT_CA).unwrap_or_else(|| xds_roots.clone());
    let token = Source::of(reader.read(&AUTH_TOKEN));
    let cluster_id = reader.optional(&CLUSTER_ID).unwrap_or_else(|| reader.read(&ISTIO_META_CLUSTER_ID));
    let headers = |reader: &Reader<'_>, prefix: &str| -> Vec<(String, String)> {
        let named = reader.with_prefix(prefix).into_iter();
        named.map(|(name, value)| (name[prefix.len()..].to_ascii_lowercase(), value)).collect()
    };
    let xds = ControlPlane {
        address: address(reader, &XDS_ADDRESS, xds_address),
        roots: Source::of(xds_roots),
        token: Some(token.clone()),
        cluster_id: cluster_id.clone(),
        alternative_hostname: reader.optional(&ALT_XDS_HOSTNAME),
        headers: headers(reader, "XDS_HEADER_"),
    };
    let ca = ControlPlane {
        address: address(reader, &CA_ADDRESS, ca_address),
        roots: Source::of(ca_roots),
        token: Some(token),
        cluster_id,
        alternative_hostname: reader.optional(&ALT_CA_HOSTNAME),
        headers: headers(reader, "CA_HEADER_"),
    };
    (xds, ca)
}

fn settings(reader: &mut Reader<'_>) -> Settings {
    Settings {
        network: reader.read(&NETWORK).into(),
        node: reader.required(&NODE_NAME).unwrap_or_default().into(),
        trust_domain: reader.read(&TRUST_DOMAIN).into(),
        force_tunnel: reader.read(&FORCE_TUNNEL),
        tunnel_to_localhost: reader.read(&LOCALHOST_APP_TUNNEL),
        response_baggage: reader.read(&RESPONSE_BAGGAGE),
        log_policy: reader.read(&LOG_POLICY),
        tunnels: Limits {
            stream_window_bytes: reader.read(&STREAM_WINDOW),
            connection_window_bytes: reader.read(&CONNECTION_WINDOW),
            frame_bytes: reader.read(&FRAME_SIZE),
            pool_streams: reader.read(&POOL_STREAMS),
            pool_idle: reader.read(&POOL_IDLE),
            ..Limits::default()
        },
    }
}

fn sockets(reader: &mut Reader<'_>, ipv6: bool) -> Options {
    let keepalive = Keepalive {
        time: reader.read(&KEEPALIVE_TIME),
        interval: reader.read(&KEEPALIVE_INTERVAL),
        retries: reader.read(&KEEPALIVE_RETRIES),
    };
    Options {
        mark: Some(reader.read(&PACKET_MARK)).filter(|mark| *mark != 0),
        share_ports: reader.read(&INPOD_PORT_REUSE),
        ipv6,
        keepalive: reader.read(&KEEPALIVE_ENABLED).then_some(keepalive),
        user_timeout: reader.read(&USER_TIMEOUT_ENABLED),
    }
}

fn workers(reader: &mut Reader<'_>, processors: usize) -> usize {
    let quarter = processors.div_ceil(4).max(2);
    let Some(text) = reader.optional(&ZTUNNEL_WORKER_THREADS) else { return quarter };
    let count = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<usize>().ok().map(|percent| (processors * percent).div_ceil(100).max(1)),
        None => text.parse().ok().map(|count| if count == 0 { processors } else { count }),
    };
    count.unwrap_or_else(|| {
        reader.mistake(ZTUNNEL_WORKER_THREADS.row.name, &text, "expected a number or a percentage");
        quarter
    })
}

fn dns(reader: &mut Reader<'_>, ipv6: bool) -> Option<Dns> {
    let (text, domain) = (reader.read(&DNS_PROXY_ADDR), reader.read(&CLUSTER_DOMAIN));
    let preferred_namespace = reader.optional(&PREFERRED_NAMESPACE);
    let addresses = match text.strip_prefix("localhost:").map(str::parse::<u16>) {
        Some(Ok(port)) if ipv6 => vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()],
        Some(Ok(port)) => vec![(Ipv4Addr::LOCALHOST, port).into()],
        _ => text.parse().into_iter().collect(),
    };
    if addresses.is_empty() {
        reader.mistake(DNS_PROXY_ADDR.row.name, &text, "expected <address>:<port> or localhost:<port>");
    }
    reader.read(&DNS_CAPTURE).then_some(Dns { addresses, domain, preferred_namespace })
}

#[cfg(test)]
mod tests;
