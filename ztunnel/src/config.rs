//! What the environment says, parsed once, all mistakes told together.
//!
//! Rooms: `keys` (every variable, once; the table in the documentation is printed from [`keys()`]) ·
//! [`proxy_config`] (what the mesh says to all proxies, below the environment) · `threads`.

mod keys;
pub mod proxy_config;
mod threads;

pub use keys::keys;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use chassis::env::{self, Key, Mistakes, Reader, Strings};
use chassis::run::{GRACE, drain_time};
use hbone::limits::{Engine, Limits};
use pki::control_plane::{ControlPlane, Source};

use crate::net::sockets::{Keepalive, Options};
use crate::node::Settings;
use crate::pods::protocol::Pod;
use keys::*;
use proxy_config::METADATA;

/// Where the control plane is when nobody says, outside of a cluster.
const LOCAL_CONTROL_PLANE: &str = "https://localhost:15012";

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
    /// Whom the proxy serves.
    pub mode: Mode,
    /// Where the view comes from; none where all of it is `local`.
    pub xds: Option<ControlPlane>,
    /// What is in the view before anybody tells.
    pub local: Option<Source>,
    /// Where certificates come from.
    pub ca: CertificateSource,
    /// Who the proxy is itself.
    pub own: Own,
    /// Asked-for life of a certificate.
    pub certificate_ttl: Duration,
    /// A file of revocation lists, if any are heeded.
    pub revocations: Option<PathBuf>,
    /// What TLS sessions may be like.
    pub session: Session,
    /// What connections care about.
    pub settings: Settings,
    /// What is served in each pod.
    pub served: Served,
    /// What sockets have in common.
    pub sockets: Options,
    /// Applications see the address of their caller; none: where the kernel allows it.
    pub keep_source: Option<bool>,
    /// Where operators, Prometheus and the kubelet ask.
    pub ports: Ports,
    /// Threads that move bytes.
    pub workers: usize,
    /// How long open connections may go on in a drain.
    pub grace: Duration,
    /// The DNS proxy; none where DNS is not captured.
    pub dns: Option<Dns>,
}

/// Whom the proxy serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The pods of its node, of which the agent at this socket tells.
    Shared(PathBuf),
    /// This one, in whose network namespace it runs itself.
    Dedicated(Pod),
}

/// Where certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// The certificate authority.
    Authority(Box<ControlPlane>),
    /// The process itself, for tests: nobody else believes it.
    Fake,
}

/// What TLS sessions may be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// TLS 1.3, with post-quantum keys where the peer has them.
    Usual,
    /// TLS 1.3, with post-quantum keys or not at all.
    OnlyPostQuantum,
    /// TLS 1.2 as well.
    Tls12Too,
}

/// What is served in each pod, besides DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// What is redirected.
    pub redirected: bool,
    /// SOCKS5.
    pub socks5: bool,
}

/// Ports of the process itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Where an operator asks, on the loopback only.
    pub admin: u16,
    /// Where metrics are scraped.
    pub metrics: u16,
    /// Where readiness is asked for.
    pub ready: u16,
}

/// Who the proxy is itself.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its pod.
    pub pod: String,
    /// Namespace of that.
    pub namespace: String,
    /// Service account of that, if it is known.
    pub service_account: Option<String>,
    /// Address of that.
    pub ip: Option<IpAddr>,
    /// What it says of itself to the control plane besides, as text.
    pub metadata: Vec<(String, String)>,
    /// The same, as JSON.
    pub structured: Vec<(String, serde_json::Value)>,
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
        let mode = mode(&mut reader);
        let local = local(&mut reader);
        let (xds, ca) = control_planes(&mut reader, local.is_some());
        let ipv6 = reader.read(&IPV6_ENABLED);
        let grace = reader.read(&GRACE).0;
        let config = Self {
            xds,
            local,
            ca,
            own: own(&mut reader),
            certificate_ttl: reader.read(&SECRET_TTL),
            revocations: reader.optional(&CRL_PATH),
            session: session(&mut reader),
            settings: settings(&mut reader, &mode),
            served: Served { redirected: reader.read(&ENABLE_PROXY), socks5: reader.read(&UNSTABLE_ENABLE_SOCKS5) },
            sockets: sockets(&mut reader, &mode, ipv6),
            // Without an agent nobody makes the rules that lead the answers back.
            keep_source: reader
                .optional(&ENABLE_ORIG_SRC)
                .or_else(|| matches!(mode, Mode::Dedicated(_)).then_some(false)),
            ports: Ports {
                admin: reader.read(&ADMIN_PORT),
                metrics: reader.read(&STATS_PORT),
                ready: reader.read(&READINESS_PORT),
            },
            workers: threads::workers(&mut reader, processors),
            grace: reader.optional(&CONNECTION_TERMINATION_DEADLINE).unwrap_or_else(|| drain_time(grace)),
            dns: dns(&mut reader, ipv6),
            mode,
        };
        reader.finish()?;
        Ok(config)
    }

    /// The proxy's own pod, where enough is known of it to be somebody in the mesh.
    pub fn own_pod(&self) -> Option<Pod> {
        let service_account = self.own.service_account.as_deref()?;
        let named = !self.own.pod.is_empty() && !self.own.namespace.is_empty();
        named.then(|| Pod {
            uid: OWN_POD_UID.into(),
            name: self.own.pod.as_str().into(),
            namespace: self.own.namespace.as_str().into(),
            service_account: service_account.into(),
        })
    }
}

/// What stands for the uid of the proxy's own pod, which it is not told.
const OWN_POD_UID: &str = "ztunnel";

fn mode(reader: &mut Reader<'_>) -> Mode {
    let shared = Mode::Shared(reader.read(&INPOD_UDS));
    match reader.read(&PROXY_MODE).as_str() {
        "shared" => shared,
        "dedicated" => {
            let text = reader.required(&PROXY_WORKLOAD_INFO).unwrap_or_default();
            let parts: Vec<&str> = text.split('/').collect();
            match parts[..] {
                [namespace, name, account] if parts.iter().all(|part| !part.is_empty()) => Mode::Dedicated(Pod {
                    uid: name.into(),
                    name: name.into(),
                    namespace: namespace.into(),
                    service_account: account.into(),
                }),
                _ if text.is_empty() => shared,
                _ => {
                    let expected = "expected <namespace>/<name>/<service account>";
                    reader.mistake(PROXY_WORKLOAD_INFO.row.name, &text, expected);
                    shared
                }
            }
        }
        other => {
            reader.mistake(PROXY_MODE.row.name, other, "expected shared or dedicated");
            shared
        }
    }
}

fn local(reader: &mut Reader<'_>) -> Option<Source> {
    let (text, path) = (reader.optional(&LOCAL_XDS), reader.optional(&LOCAL_XDS_PATH));
    if let (Some(_), Some(path)) = (&text, &path) {
        reader.mistake(LOCAL_XDS_PATH.row.name, &path.to_string_lossy(), "LOCAL_XDS is set too; set one of them");
    }
    text.map(Source::Literal).or_else(|| path.map(Source::File))
}

fn own(reader: &mut Reader<'_>) -> Own {
    const AS_JSON: &str = "ISTIO_METAJSON_";
    let stripped = |reader: &Reader<'_>, prefix: &str| -> Vec<(String, String)> {
        let named = reader.with_prefix(prefix).into_iter();
        named.map(|(name, value)| (name[prefix.len()..].to_owned(), value)).collect()
    };
    let mut structured = Vec::new();
    for (name, text) in stripped(reader, AS_JSON) {
        match serde_json::from_str(&text) {
            Ok(value) => structured.push((name, value)),
            Err(error) => reader.mistake(&format!("{AS_JSON}{name}"), &text, &format!("expected JSON: {error}")),
        }
    }
    Own {
        pod: reader.read(&POD_NAME),
        namespace: reader.read(&POD_NAMESPACE),
        service_account: reader.optional(&SERVICE_ACCOUNT),
        ip: reader.optional(&INSTANCE_IP),
        metadata: stripped(reader, METADATA),
        structured,
    }
}

fn session(reader: &mut Reader<'_>) -> Session {
    let tls12 = reader.read(&TLS12_ENABLED);
    match reader.optional(&COMPLIANCE_POLICY).as_deref() {
        None if tls12 => Session::Tls12Too,
        None => Session::Usual,
        Some("pqc") => {
            if tls12 {
                reader.mistake(TLS12_ENABLED.row.name, "true", "TLS 1.2 has no post-quantum keys, which pqc asks for");
            }
            Session::OnlyPostQuantum
        }
        Some(other) => {
            // Going on without would be weaker than what was asked for.
            reader.mistake(COMPLIANCE_POLICY.row.name, other, "the only policy that can be kept here is pqc");
            Session::Usual
        }
    }
}

fn control_planes(reader: &mut Reader<'_>, is_local: bool) -> (Option<ControlPlane>, CertificateSource) {
    let address = |reader: &mut Reader<'_>, key: &Key<String>, text: String| {
        let text = if text.contains("://") { text } else { format!("https://{text}") };
        text.parse().unwrap_or_else(|_| {
            reader.mistake(key.row.name, &text, "expected https://<host>:<port>");
            http::Uri::default()
        })
    };
    let in_cluster = reader.optional(&KUBERNETES_SERVICE_HOST).is_some();
    let by_default = if in_cluster { XDS_ADDRESS.row.default } else { LOCAL_CONTROL_PLANE };
    let xds_address = reader.optional(&XDS_ADDRESS);
    let ca_address = reader.optional(&CA_ADDRESS).or_else(|| xds_address.clone()).unwrap_or_else(|| by_default.into());
    let xds_address = match xds_address {
        None if is_local => None,
        given => Some(given.unwrap_or_else(|| by_default.into())),
    };
    let xds_roots = reader.read(&XDS_ROOT_CA);
    let ca_roots = reader.optional(&CA_ROOT_CA).unwrap_or_else(|| xds_roots.clone());
    let token = Source::of(reader.read(&AUTH_TOKEN));
    let cluster_id = reader.optional(&CLUSTER_ID).unwrap_or_else(|| reader.read(&ISTIO_META_CLUSTER_ID));
    let headers = |reader: &Reader<'_>, prefix: &str| -> Vec<(String, String)> {
        let named = reader.with_prefix(prefix).into_iter();
        named.map(|(name, value)| (name[prefix.len()..].to_ascii_lowercase(), value)).collect()
    };
    let xds = xds_address.map(|text| ControlPlane {
        address: address(reader, &XDS_ADDRESS, text),
        roots: Source::of_roots(xds_roots),
        token: Some(token.clone()),
        cluster_id: cluster_id.clone(),
        alternative_hostname: reader.optional(&ALT_XDS_HOSTNAME),
        headers: headers(reader, "XDS_HEADER_"),
    });
    if reader.read(&FAKE_CA) {
        return (xds, CertificateSource::Fake);
    }
    let ca = ControlPlane {
        address: address(reader, &CA_ADDRESS, ca_address),
        roots: Source::of_roots(ca_roots),
        token: Some(token),
        cluster_id,
        alternative_hostname: reader.optional(&ALT_CA_HOSTNAME),
        headers: headers(reader, "CA_HEADER_"),
    };
    (xds, CertificateSource::Authority(Box::new(ca)))
}

fn settings(reader: &mut Reader<'_>, mode: &Mode) -> Settings {
    let node = match mode {
        Mode::Shared(_) => reader.required(&NODE_NAME),
        Mode::Dedicated(_) => reader.optional(&NODE_NAME),
    };
    Settings {
        network: reader.read(&NETWORK).into(),
        node: node.unwrap_or_default().into(),
        trust_domain: reader.read(&TRUST_DOMAIN).into(),
        force_tunnel: reader.read(&FORCE_TUNNEL),
        tunnel_to_localhost: reader.read(&LOCALHOST_APP_TUNNEL),
        response_baggage: reader.read(&RESPONSE_BAGGAGE),
        log_policy: reader.read(&LOG_POLICY),
        tunnels: Limits {
            engine: if reader.read(&HTTP2_LIBRARY) { Engine::H2 } else { Engine::Own },
            stream_window_bytes: reader.read(&STREAM_WINDOW),
            connection_window_bytes: reader.read(&CONNECTION_WINDOW),
            frame_bytes: reader.read(&FRAME_SIZE),
            pool_streams: reader.read(&POOL_STREAMS),
            pool_idle: reader.read(&POOL_IDLE),
            ..Limits::default()
        },
    }
}

fn sockets(reader: &mut Reader<'_>, mode: &Mode, ipv6: bool) -> Options {
    // A mark needs a right that a proxy of one pod has no other use for.
    let mark = match mode {
        Mode::Shared(_) => Some(reader.read(&PACKET_MARK)),
        Mode::Dedicated(_) => reader.optional(&PACKET_MARK),
    };
    let keepalive = Keepalive {
        time: reader.read(&KEEPALIVE_TIME),
        interval: reader.read(&KEEPALIVE_INTERVAL),
        retries: reader.read(&KEEPALIVE_RETRIES),
    };
    Options {
        mark: mark.filter(|mark| *mark != 0),
        share_ports: reader.read(&INPOD_PORT_REUSE),
        ipv6,
        keepalive: reader.read(&KEEPALIVE_ENABLED).then_some(keepalive),
        user_timeout: reader.read(&USER_TIMEOUT_ENABLED),
    }
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
