//! Address translation on a node: Service addresses, hairpins, the way out
//! of the cluster, and the source address of host probes.
//!
//! The lab's kube-proxy owns the Service rules, the node agent the probe
//! rules; they are tables of their own and never touch each other.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use nix::libc;

use super::links::{address_of, octets};
use super::netns::Netns;
use super::nft::expr::{self, End, Expr, Op, Version};
use super::nft::{Chain, FORWARD, Firewall, Hook, OUTPUT, POSTROUTING, PREROUTING, Set, Shape, Table, Value, Verdict};
use super::redirect::{PROBE_SOURCE_V4, PROBE_SOURCE_V6};

const SERVICES_TABLE: &str = "lab-kube-proxy";
const PROBES_TABLE: &str = "istio-ambient-host";
const DESTINATION_PRIORITY: i32 = -100;
const SOURCE_PRIORITY: i32 = 100;
const FILTER_PRIORITY: i32 = 0;

/// A transport protocol of a Service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    fn number(self) -> u8 {
        match self {
            Self::Tcp => libc::IPPROTO_TCP as u8,
            Self::Udp => libc::IPPROTO_UDP as u8,
        }
    }
}

/// One port of a Service address, and who answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Address and port that clients know.
    pub frontend: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// Pods that answer, each as likely as the other; none means that
    /// connections are refused. All of the frontend's address family; others
    /// are passed over.
    pub backends: Vec<SocketAddr>,
}

/// Everything a node translates for Services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceRules {
    /// The Service ports.
    pub ports: Vec<ServicePort>,
    /// Addresses inside the cluster (pods, Services, nodes): never hidden.
    pub cluster: Vec<IpNet>,
    /// Sources whose traffic that leaves the cluster is hidden behind the
    /// node's own address; empty: none.
    pub masquerade: Vec<IpNet>,
}

/// Replaces all Service rules of a node's namespace in one step; open
/// connections keep the backend they have.
pub fn apply_services(netns: &Netns, rules: &ServiceRules) -> io::Result<()> {
    Firewall::open(netns)?.replace(&[services_table(rules)], &[])
}

/// Makes the probe rules of a node: TCP from the node itself to a pod in the
/// set gets the source `169.254.7.127` or `fd16:9254:7127:1337:ffff:ffff:ffff:ffff`,
/// by which the rules in the pod know it. Keeps a set that is already there.
pub fn ensure_probe_rules(netns: &Netns) -> io::Result<()> {
    Firewall::open(netns)?.ensure(&probes_table())
}

/// Takes the probe rules of a node away, the set with them. Fine when there are none.
pub fn remove_probe_rules(netns: &Netns) -> io::Result<()> {
    Firewall::open(netns)?.replace(&[], &[PROBES_TABLE])
}

/// Adds pods to the probe set. One that is there already is fine.
pub fn add_probed(netns: &Netns, pods: &[IpAddr]) -> io::Result<()> {
    let firewall = Firewall::open(netns)?;
    for version in Version::BOTH {
        let keys: Vec<Vec<u8>> =
            pods.iter().filter(|pod| Version::of(**pod) == version).map(|pod| octets(*pod)).collect();
        firewall.add_keys(PROBES_TABLE, probes_set(version), &keys)?;
    }
    Ok(())
}

/// Takes pods out of the probe set. One that is not there is fine.
pub fn remove_probed(netns: &Netns, pods: &[IpAddr]) -> io::Result<()> {
    let firewall = Firewall::open(netns)?;
    pods.iter().try_for_each(|pod| firewall.remove_key(PROBES_TABLE, probes_set(Version::of(*pod)), &octets(*pod)))
}

/// The pods in the probe set.
pub fn probed(netns: &Netns) -> io::Result<Vec<IpAddr>> {
    let firewall = Firewall::open(netns)?;
    let mut pods = Vec::new();
    for version in Version::BOTH {
        pods.extend(firewall.keys(PROBES_TABLE, probes_set(version))?.iter().filter_map(|key| address_of(key)));
    }
    Ok(pods)
}

fn services_table(rules: &ServiceRules) -> Table {
    let mut sets = Vec::new();
    let mut chains = Vec::new();
    let mut entry = Vec::new();
    let mut refusals = Vec::new();
    let mut leaving = Vec::new();
    for version in Version::BOTH {
        let ports = distinct_ports(rules, version);
        let names = Names::of(version);
        let mut dispatch = Vec::new();
        let mut unanswered = Vec::new();
        let mut hairpins = BTreeSet::new();
        for (number, port) in ports.iter().enumerate() {
            let backends: Vec<SocketAddr> =
                port.backends.iter().copied().filter(|backend| Version::of(backend.ip()) == version).collect();
            let key = destination_key(port);
            if backends.is_empty() {
                unanswered.push((key, Value::Present));
                continue;
            }
            let name = format!("{}-{number}", names.service);
            dispatch.push((key, Value::Verdict(Verdict::Jump(name.clone()))));
            hairpins.extend(backends.iter().map(|backend| [octets(backend.ip()), octets(backend.ip())].concat()));
            sets.push(backends_map(&name, version, &backends));
            chains.push(service_chain(name.clone(), version, port.protocol, backends.len()));
        }
        let key_len = version.address_len() + 8;
        let hairpins = hairpins.into_iter().map(|key| (key, Value::Present)).collect();
        sets.push(Set { name: names.dispatch.into(), key_len, shape: Shape::Verdicts, elements: dispatch });
        sets.push(Set { name: names.unanswered.into(), key_len, shape: Shape::Keys, elements: unanswered });
        sets.push(Set {
            name: names.hairpins.into(),
            key_len: 2 * version.address_len(),
            shape: Shape::Keys,
            elements: hairpins,
        });
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let of_protocol = [expr::version(version), expr::protocol(protocol.number())].concat();
            entry.push([of_protocol.clone(), expr::destination_in(version, names.dispatch, true)].concat());
            refusals.push(
                [of_protocol, expr::destination_in(version, names.unanswered, false), expr::refuse(protocol.number())]
                    .concat(),
            );
        }
        leaving.push(
            [expr::version(version), expr::translated(), expr::pair_in(version, names.hairpins), expr::masquerade()]
                .concat(),
        );
    }
    leaving.extend(leaving_the_cluster(rules));
    let hooked = |name: &str, kind, number, priority, rules| Chain {
        name: name.to_owned(),
        hook: Some(Hook { kind, number, priority }),
        rules,
    };
    chains.push(hooked("prerouting", "nat", PREROUTING, DESTINATION_PRIORITY, entry.clone()));
    chains.push(hooked("output", "nat", OUTPUT, DESTINATION_PRIORITY, entry));
    chains.push(hooked("postrouting", "nat", POSTROUTING, SOURCE_PRIORITY, leaving));
    chains.push(hooked("refuse-forward", "filter", FORWARD, FILTER_PRIORITY, refusals.clone()));
    chains.push(hooked("refuse-output", "filter", OUTPUT, FILTER_PRIORITY, refusals));
    Table { name: SERVICES_TABLE, sets, chains }
}

/// The ports of one family, each frontend once: the first that names it wins.
fn distinct_ports(rules: &ServiceRules, version: Version) -> Vec<&ServicePort> {
    let mut seen = BTreeSet::new();
    rules
        .ports
        .iter()
        .filter(|port| Version::of(port.frontend.ip()) == version && seen.insert((port.frontend, port.protocol)))
        .collect()
}

fn service_chain(name: String, version: Version, protocol: Protocol, backends: usize) -> Chain {
    let count = u32::try_from(backends).unwrap_or(u32::MAX);
    let rule = [expr::protocol(protocol.number()), expr::translate_to_one_of(version, &name, count)].concat();
    Chain { name, hook: None, rules: vec![rule] }
}

/// The map from a random number to a backend.
fn backends_map(name: &str, version: Version, backends: &[SocketAddr]) -> Set {
    let target = |backend: &SocketAddr| [octets(backend.ip()), padded(&backend.port().to_be_bytes())].concat();
    let elements = (0_u32..)
        .zip(backends)
        .map(|(number, backend)| (number.to_ne_bytes().to_vec(), Value::Bytes(target(backend))))
        .collect();
    Set { name: name.to_owned(), key_len: 4, shape: Shape::Bytes(version.address_len() + 4), elements }
}

fn destination_key(port: &ServicePort) -> Vec<u8> {
    let frontend = port.frontend;
    [octets(frontend.ip()), padded(&[port.protocol.number()]), padded(&frontend.port().to_be_bytes())].concat()
}

/// What goes from the cluster to the outside goes under the node's address.
fn leaving_the_cluster(rules: &ServiceRules) -> Vec<Vec<Expr>> {
    let with_version = |net: IpNet, rest: Vec<Expr>| [expr::version(Version::of(net.addr())), rest].concat();
    let stays = rules.cluster.iter().map(|net| {
        with_version(*net, [expr::within(End::Destination, Op::Is, *net), expr::verdict(&Verdict::Return)].concat())
    });
    let hidden = rules
        .masquerade
        .iter()
        .map(|net| with_version(*net, [expr::within(End::Source, Op::Is, *net), expr::masquerade()].concat()));
    stays.chain(hidden).collect()
}

fn probes_table() -> Table {
    let set = |version: Version| Set {
        name: probes_set(version).to_owned(),
        key_len: version.address_len(),
        shape: Shape::Keys,
        elements: Vec::new(),
    };
    let rule = |version: Version| {
        let source = match version {
            Version::V4 => PROBE_SOURCE_V4.into(),
            Version::V6 => PROBE_SOURCE_V6.into(),
        };
        [
            expr::version(version),
            expr::protocol(Protocol::Tcp.number()),
            expr::from_here(),
            expr::address_in(End::Destination, version, probes_set(version)),
            expr::translate_source(source),
        ]
        .concat()
    };
    let postrouting = Chain {
        name: "postrouting".to_owned(),
        hook: Some(Hook { kind: "nat", number: POSTROUTING, priority: SOURCE_PRIORITY }),
        rules: vec![expr::verdict(&Verdict::Jump("istio-postrouting".to_owned()))],
    };
    let ours = Chain { name: "istio-postrouting".to_owned(), hook: None, rules: Version::BOTH.map(rule).to_vec() };
    Table { name: PROBES_TABLE, sets: Version::BOTH.map(set).to_vec(), chains: vec![postrouting, ours] }
}

fn probes_set(version: Version) -> &'static str {
    match version {
        Version::V4 => "istio-inpod-probes-v4",
        Version::V6 => "istio-inpod-probes-v6",
    }
}

/// The names of what exists once for each address family.
struct Names {
    service: &'static str,
    dispatch: &'static str,
    unanswered: &'static str,
    hairpins: &'static str,
}

impl Names {
    fn of(version: Version) -> Self {
        match version {
            Version::V4 => Self {
                service: "service-v4",
                dispatch: "dispatch-v4",
                unanswered: "unanswered-v4",
                hairpins: "hairpins-v4",
            },
            Version::V6 => Self {
                service: "service-v6",
                dispatch: "dispatch-v6",
                unanswered: "unanswered-v6",
                hairpins: "hairpins-v6",
            },
        }
    }
}

/// A part of a key: sets pad each to four bytes.
fn padded(part: &[u8]) -> Vec<u8> {
    let mut bytes = part.to_vec();
    bytes.resize(part.len().next_multiple_of(4), 0);
    bytes
}
