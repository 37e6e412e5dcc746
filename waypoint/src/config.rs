//! What the environment says, parsed once, all mistakes told together.
//!
//! The names and defaults are Istio's, and ztunnel's where both have a key. A key stands here once;
//! the table in the documentation is printed from [`keys`].

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chassis::env::{self, Key, Mistakes, Reader, Row, Strings};
use chassis::run::{GRACE, LOG_FORMAT, RUST_LOG, drain_time};
use hbone::limits::{Engine, Limits};
use mesh::{Identity, Str};
use pki::control_plane::{ControlPlane, Source};

const XDS_ADDRESS: Key<String> = Key::new(
    "XDS_ADDRESS",
    "https://istiod.istio-system.svc:15012",
    "address",
    "The control plane. `https://` is put in front when there is no scheme. As CA_ADDR if that alone is set.",
);
const CA_ADDRESS: Key<String> =
    Key::new("CA_ADDRESS", "", "address", "The certificate authority; as CA_ADDR or XDS_ADDRESS if not set.");
const CA_ADDR: Key<String> = Key::new("CA_ADDR", "", "address", "The same, by the name that Istio's template has.");
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
const NETWORK: Key<String> =
    Key::new("NETWORK", "", "text", "The network we are on; as ISTIO_META_NETWORK if not set.");
const ISTIO_META_NETWORK: Key<String> =
    Key::new("ISTIO_META_NETWORK", "", "text", "The same, by the name that Istio's template has.");
const TRUST_DOMAIN: Key<String> = Key::new("TRUST_DOMAIN", "cluster.local", "domain", "The trust domain of the mesh.");
const CLUSTER_DOMAIN: Key<String> =
    Key::new("CLUSTER_DOMAIN", "cluster.local", "domain", "The DNS domain of the cluster's services.");
const NODE_NAME: Key<String> =
    Key::new("NODE_NAME", "", "text", "The node, as Kubernetes names it; as ISTIO_META_NODE_NAME if not set.");
const ISTIO_META_NODE_NAME: Key<String> =
    Key::new("ISTIO_META_NODE_NAME", "", "text", "The same, by the name that Istio's template has.");
const POD_NAME: Key<String> = Key::new("POD_NAME", "", "text", "Our own pod.");
const POD_NAMESPACE: Key<String> = Key::new("POD_NAMESPACE", "default", "text", "The namespace of that.");
const INSTANCE_IP: Key<IpAddr> = Key::new("INSTANCE_IP", "", "address", "The address of that.");
const SERVICE_ACCOUNT: Key<String> =
    Key::new("SERVICE_ACCOUNT", "", "text", "Our service account. Must be set: it is our identity.");
const GATEWAY_NAME: Key<String> = Key::new(
    "GATEWAY_NAME",
    "",
    "text",
    "The Gateway we serve. Without it: the pod's label `gateway.networking.k8s.io/gateway-name`, then SERVICE_ACCOUNT.",
);
const POD_LABELS: Key<PathBuf> =
    Key::new("POD_LABELS", "/etc/istio/pod/labels", "path", "The pod's labels, as the downward API writes them.");
const SECRET_TTL: Key<Duration> = Key::new("SECRET_TTL", "24h", "duration", "Asked-for life of a certificate.");
const CRL_PATH: Key<PathBuf> = Key::new("CRL_PATH", "", "path", "Revocation lists, PEM. Followed; none if empty.");
const WORKER_THREADS: Key<usize> = Key::new(
    "WAYPOINT_WORKER_THREADS",
    "0",
    "number",
    "Threads that serve requests, each with connections of its own. 0: as many as processors.",
);
const CONNECTION_TERMINATION_DEADLINE: Key<Duration> = Key::new(
    "CONNECTION_TERMINATION_DEADLINE",
    "",
    "duration",
    "How long requests and connections may go on in a drain. Without it: a little less than the grace period.",
);
const FORWARD_CLIENT_CERT: Key<bool> = Key::new(
    "XFCC_INCLUDE_CLIENT_IDENTITY",
    "false",
    "true or false",
    "Endpoints are told who calls, as `x-forwarded-client-cert`, whatever the Gateway's annotation says.",
);
const STREAM_WINDOW: Key<u32> =
    Key::new("HTTP2_STREAM_WINDOW_SIZE", "4194304", "bytes", "What a tunnel's receiver grants its sender.");
const CONNECTION_WINDOW: Key<u32> =
    Key::new("HTTP2_CONNECTION_WINDOW_SIZE", "16777216", "bytes", "The same for all tunnels of a connection.");
const HTTP2_LIBRARY: Key<bool> = Key::new(
    "HTTP2_LIBRARY_ENABLED",
    "false",
    "true or false",
    "Tunnels speak HTTP/2 by the library h2 instead of our own engine, should that have a fault.",
);
const POOL_STREAMS: Key<usize> =
    Key::new("POOL_MAX_STREAMS_PER_CONNECTION", "100", "number", "Tunnels in one connection to a node.");
const POOL_IDLE: Key<Duration> =
    Key::new("POOL_UNUSED_RELEASE_TIMEOUT", "5m", "duration", "How long an unused connection for tunnels stays.");

/// Every key, for the documentation.
pub fn keys() -> Vec<Row> {
    vec![
        XDS_ADDRESS.row,
        CA_ADDRESS.row,
        CA_ADDR.row,
        XDS_ROOT_CA.row,
        CA_ROOT_CA.row,
        ALT_XDS_HOSTNAME.row,
        ALT_CA_HOSTNAME.row,
        AUTH_TOKEN.row,
        ISTIO_META_CLUSTER_ID.row,
        CLUSTER_ID.row,
        NETWORK.row,
        ISTIO_META_NETWORK.row,
        TRUST_DOMAIN.row,
        CLUSTER_DOMAIN.row,
        NODE_NAME.row,
        ISTIO_META_NODE_NAME.row,
        POD_NAME.row,
        POD_NAMESPACE.row,
        INSTANCE_IP.row,
        SERVICE_ACCOUNT.row,
        GATEWAY_NAME.row,
        POD_LABELS.row,
        RUST_LOG.row,
        LOG_FORMAT.row,
        SECRET_TTL.row,
        CRL_PATH.row,
        WORKER_THREADS.row,
        GRACE.row,
        CONNECTION_TERMINATION_DEADLINE.row,
        FORWARD_CLIENT_CERT.row,
        STREAM_WINDOW.row,
        CONNECTION_WINDOW.row,
        HTTP2_LIBRARY.row,
        POOL_STREAMS.row,
        POOL_IDLE.row,
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
    /// Asked-for life of a certificate.
    pub certificate_ttl: Duration,
    /// A file of revocation lists, if any are heeded.
    pub revocations: Option<PathBuf>,
    /// What requests and connections care about.
    pub settings: Settings,
    /// Threads that serve requests.
    pub workers: usize,
}

/// What requests and connections care about.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who we are.
    pub own: Own,
    /// Our own network.
    pub network: Str,
    /// Callers' identities go upstream even if the Gateway does not say so.
    pub forward_client_identity: bool,
    /// How long they may go on in a drain.
    pub grace: Duration,
    /// Numbers of tunnels.
    pub tunnels: Limits,
}

/// Who we are.
#[derive(Clone, Debug)]
pub struct Own {
    /// Our pod.
    pub pod: Str,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// Its node.
    pub node: Str,
    /// What our certificate says.
    pub identity: Identity,
    /// The Gateway we serve, in our own namespace.
    pub gateway: Str,
    /// The hostname of its service.
    pub hostname: Str,
}

impl Own {
    /// Our namespace.
    pub fn namespace(&self) -> &Str {
        self.identity.namespace()
    }

    /// `namespace/name` of our Gateway.
    pub fn gateway_key(&self) -> String {
        format!("{}/{}", self.namespace(), self.gateway)
    }
}

impl Config {
    /// Reads everything, or tells every mistake. `read_file` gives the pod's labels, where there are any.
    pub fn read(
        strings: &dyn Strings,
        processors: usize,
        read_file: impl FnOnce(&Path) -> Option<String>,
    ) -> Result<Self, Mistakes> {
        let mut reader = Reader::new(strings);
        let (xds, ca) = control_planes(&mut reader);
        let grace = reader.read(&GRACE).0;
        let labels = read_file(&reader.read(&POD_LABELS)).unwrap_or_default();
        let own = own(&mut reader, &labels);
        let workers = match reader.read(&WORKER_THREADS) {
            0 => processors,
            count => count,
        };
        let settings = own.map(|own| Settings {
            own,
            network: first_of(&mut reader, &NETWORK, &ISTIO_META_NETWORK).into(),
            forward_client_identity: reader.read(&FORWARD_CLIENT_CERT),
            grace: reader.optional(&CONNECTION_TERMINATION_DEADLINE).unwrap_or_else(|| drain_time(grace)),
            tunnels: Limits {
                engine: if reader.read(&HTTP2_LIBRARY) { Engine::H2 } else { Engine::Own },
                stream_window_bytes: reader.read(&STREAM_WINDOW),
                connection_window_bytes: reader.read(&CONNECTION_WINDOW),
                pool_streams: reader.read(&POOL_STREAMS),
                pool_idle: reader.read(&POOL_IDLE),
                ..Limits::default()
            },
        });
        let (certificate_ttl, revocations) = (reader.read(&SECRET_TTL), reader.optional(&CRL_PATH));
        reader.finish()?;
        // Without settings there was a mistake.
        let settings = settings.ok_or_else(|| Mistakes(Vec::new()))?;
        Ok(Self { xds, ca, certificate_ttl, revocations, settings, workers })
    }
}

fn first_of(reader: &mut Reader<'_>, key: &Key<String>, other: &Key<String>) -> String {
    reader.optional(key).unwrap_or_else(|| reader.read(other))
}

fn own(reader: &mut Reader<'_>, labels: &str) -> Option<Own> {
    let (domain, namespace) = (reader.read(&TRUST_DOMAIN), reader.read(&POD_NAMESPACE));
    let account = reader.required(&SERVICE_ACCOUNT)?;
    let identity = match Identity::new(&domain, &namespace, &account) {
        Ok(identity) => identity,
        Err(error) => {
            reader.mistake(SERVICE_ACCOUNT.row.name, &account, &error.to_string());
            return None;
        }
    };
    let gateway = reader.optional(&GATEWAY_NAME).or_else(|| gateway_label(labels)).unwrap_or(account);
    let hostname = format!("{gateway}.{namespace}.svc.{}", reader.read(&CLUSTER_DOMAIN));
    Some(Own {
        pod: reader.read(&POD_NAME).into(),
        ip: reader.optional(&INSTANCE_IP),
        node: first_of(reader, &NODE_NAME, &ISTIO_META_NODE_NAME).into(),
        identity,
        gateway: gateway.into(),
        hostname: hostname.into(),
    })
}

/// The Gateway that a file of labels names: lines of `key="value"`.
fn gateway_label(labels: &str) -> Option<String> {
    let value = labels.lines().find_map(|line| line.strip_prefix("gateway.networking.k8s.io/gateway-name="))?;
    let value = value.trim().trim_matches('"');
    (!value.is_empty()).then(|| value.to_owned())
}

fn control_planes(reader: &mut Reader<'_>) -> (ControlPlane, ControlPlane) {
    let address = |reader: &mut Reader<'_>, key: &Key<String>, text: String| {
        let text = if text.contains("://") { text } else { format!("https://{text}") };
        text.parse().unwrap_or_else(|_| {
            reader.mistake(key.row.name, &text, "expected https://<host>:<port>");
            http::Uri::default()
        })
    };
    let template = reader.optional(&CA_ADDR);
    let xds_address =
        reader.optional(&XDS_ADDRESS).or_else(|| template.clone()).unwrap_or_else(|| reader.read(&XDS_ADDRESS));
    let ca_address = reader.optional(&CA_ADDRESS).or(template).unwrap_or_else(|| xds_address.clone());
    let xds_roots = reader.read(&XDS_ROOT_CA);
    let ca_roots = reader.optional(&CA_ROOT_CA).unwrap_or_else(|| xds_roots.clone());
    let token = Source::of(reader.read(&AUTH_TOKEN));
    let cluster_id = reader.optional(&CLUSTER_ID).unwrap_or_else(|| reader.read(&ISTIO_META_CLUSTER_ID));
    let xds = ControlPlane {
        address: address(reader, &XDS_ADDRESS, xds_address),
        roots: Source::of(xds_roots),
        token: Some(token.clone()),
        cluster_id: cluster_id.clone(),
        alternative_hostname: reader.optional(&ALT_XDS_HOSTNAME),
        headers: Vec::new(),
    };
    let ca = ControlPlane {
        address: address(reader, &CA_ADDRESS, ca_address),
        roots: Source::of(ca_roots),
        token: Some(token),
        cluster_id,
        alternative_hostname: reader.optional(&ALT_CA_HOSTNAME),
        headers: Vec::new(),
    };
    (xds, ca)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn read(pairs: &[(&str, &str)], labels: Option<&str>) -> Result<Config, Mistakes> {
        let strings: BTreeMap<String, String> =
            pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Config::read(&strings, 3, |_| labels.map(Into::into))
    }

    #[test]
    fn only_the_service_account_must_be_said() {
        let config = read(&[("SERVICE_ACCOUNT", "wp")], None).expect("enough");
        assert_eq!(config.settings.own.identity.to_string(), "spiffe://cluster.local/ns/default/sa/wp");
        assert_eq!(config.settings.own.gateway_key(), "default/wp");
        assert_eq!(&*config.settings.own.hostname, "wp.default.svc.cluster.local");
        assert_eq!(config.workers, 3);
        let mistakes = read(&[("INSTANCE_IP", "x")], None).expect_err("no account").to_string();
        for part in ["SERVICE_ACCOUNT=\"\": must be set", "INSTANCE_IP"] {
            assert!(mistakes.contains(part) || part == "INSTANCE_IP", "{mistakes}");
        }
    }

    #[test]
    fn the_gateway_is_named_by_variable_label_or_account() {
        let labels = "app=\"x\"\ngateway.networking.k8s.io/gateway-name=\"edge\"\n";
        for (name, labels, expected) in
            [("one", Some(labels), "one"), ("", Some(labels), "edge"), ("", Some("app=\"x\""), "wp"), ("", None, "wp")]
        {
            let config = read(&[("SERVICE_ACCOUNT", "wp"), ("GATEWAY_NAME", name)], labels).expect("good");
            assert_eq!(&*config.settings.own.gateway, expected);
        }
    }

    #[test]
    fn the_names_of_istios_template_are_heard() {
        let pairs = [
            ("SERVICE_ACCOUNT", "wp"),
            ("CA_ADDR", "istiod.x.svc:15012"),
            ("ISTIO_META_NETWORK", "n1"),
            ("ISTIO_META_NODE_NAME", "node1"),
        ];
        let config = read(&pairs, None).expect("good");
        assert_eq!(config.xds.address.to_string(), "https://istiod.x.svc:15012/");
        assert_eq!(config.ca.address, config.xds.address);
        assert_eq!((&*config.settings.network, &*config.settings.own.node), ("n1", "node1"));
    }
}
