//! The rules inside a pod that lead its TCP to the proxy.
//!
//! With the rules in place and no proxy listening, the pod's connections are
//! refused: they are led to closed ports. Nothing here ever opens a way
//! around the proxy, and nothing here needs a program to be installed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc;

use super::conntrack;
use super::netns::Netns;
use super::nft::expr::{self, End, Expr, Op, Version};
use super::nft::{Chain, Difference, Firewall, Hook, OUTPUT, PREROUTING, Table, Verdict};
use super::policy_route;

/// The mark on every packet that the proxy itself sends from inside a pod.
pub const PROXY_MARK: u32 = 0x539;
/// The mark on the connections that the proxy makes to the pod.
pub const REDIRECTED_MARK: u32 = 0x111;
/// The part of a mark that is ours.
pub const MARK_MASK: u32 = 0xfff;
/// Where host probes come from, as the pod sees it.
pub const PROBE_SOURCE_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 7, 127);
/// Where host probes come from, as the pod sees it, in IPv6.
pub const PROBE_SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfd16, 0x9254, 0x7127, 0x1337, 0xffff, 0xffff, 0xffff, 0xffff);
/// Where the proxy listens for what the pod sends.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where it listens for plaintext to the pod.
pub const INBOUND_PLAINTEXT_PORT: u16 = 15006;
/// Where it listens for tunnels to the pod; led nowhere, it is dialled as is.
pub const INBOUND_PORT: u16 = 15008;
/// Where it answers the pod's DNS.
pub const DNS_PORT: u16 = 15053;

const NAT_TABLE: &str = "istio-ambient-nat";
const MANGLE_TABLE: &str = "istio-ambient-mangle";
const RAW_TABLE: &str = "istio-ambient-raw";
/// Chains for packets that ask for a connection.
const ARRIVING: &str = "istio-prerouting-opens";
const LEAVING: &str = "istio-output-opens";
const NAT_PRIORITY: i32 = -100;
const MANGLE_PRIORITY: i32 = -150;
const RAW_PRIORITY: i32 = -300;
/// A connection tracking zone for the proxy's own DNS, so that it is not taken
/// for the pod's query it answers.
const DNS_ZONE: u16 = 1;
/// A zone for what the proxy connects. It does so in the name of callers, from any port, and the
/// same caller may have used that port itself: then the proxy's connection would be taken for the
/// caller's and led back to the proxy, or the caller's for the proxy's and led past it. Answers
/// are not in the zone; they are told apart by where the caller's was led.
const PROXY_ZONE: u16 = 2;

const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;

/// How one pod is to be redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// Lead DNS (UDP and TCP port 53) to the proxy as well.
    pub dns: bool,
    /// Lead inbound connections to the proxy (off with
    /// `ambient.istio.io/bypass-inbound-capture`).
    pub inbound: bool,
    /// Interfaces whose inbound is somebody's outbound, such as those of
    /// virtual machines (`istio.io/reroute-virtual-interfaces`).
    pub reroute_interfaces: Vec<String>,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { dns: true, inbound: true, reroute_interfaces: Vec::new() }
    }
}

/// What [`verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Everything is as it should be.
    InPlace,
    /// Nothing of it is there.
    Absent,
    /// Something differs; what, for the log.
    Changed(String),
}

/// Why a pod's redirection could not be set, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum RedirectError {
    /// The rules could not be written or read.
    #[error(
        "the kernel refused the redirection rules, does it have nf_tables with nat, and are CAP_SYS_ADMIN and CAP_NET_ADMIN there: {0}"
    )]
    Rules(#[source] std::io::Error),
    /// What is remembered of connections could not be read or forgotten.
    #[error("the kernel does not list or forget the connections of the pod: {0}")]
    Connections(#[source] std::io::Error),
    /// The kernel refused the policy route.
    #[error("the kernel refused the policy route of marked packets: {0}")]
    PolicyRoute(#[source] std::io::Error),
}

/// Puts the redirection in place, replacing an older one in one step. There
/// is no moment without rules. Applying twice is the same as once.
pub fn apply(netns: &Netns, redirect: &Redirect) -> Result<(), RedirectError> {
    policy_route::apply(netns).map_err(RedirectError::PolicyRoute)?;
    let tables = tables(redirect);
    let gone: Vec<&str> =
        ALL_TABLES.into_iter().filter(|name| tables.iter().all(|table| table.name != *name)).collect();
    Firewall::open(netns).and_then(|firewall| firewall.replace(&tables, &gone)).map_err(RedirectError::Rules)
}

/// Reads the rules back from the kernel and compares them.
pub fn verify(netns: &Netns, redirect: &Redirect) -> Result<Standing, RedirectError> {
    let firewall = Firewall::open(netns).map_err(RedirectError::Rules)?;
    let tables = tables(redirect);
    let mut absent = Vec::new();
    for table in &tables {
        match firewall.difference(table).map_err(RedirectError::Rules)? {
            None => {}
            Some(Difference::Absent) => absent.push(table.name),
            Some(Difference::Other(what)) => return Ok(Standing::Changed(what)),
        }
    }
    let (routes, families) = policy_route::count(netns).map_err(RedirectError::PolicyRoute)?;
    Ok(match absent.len() {
        0 if routes == families => Standing::InPlace,
        0 => Standing::Changed("the policy route of marked packets".to_owned()),
        some if some == tables.len() && routes == 0 => Standing::Absent,
        _ => Standing::Changed(format!("no table {}", absent.join(", "))),
    })
}

/// Leads no new connection to the proxy, or none any more; those that are open go on, and the kernel remembers what is
/// connected from now on. It translates only while there are rules, so a connection through the proxy would hang if they
/// went at once: first let go, and [`remove`] when the proxy has ended what was open. The other way round, what is
/// connected after this goes on as it is when [`apply`] is called.
pub fn let_go(netns: &Netns) -> Result<(), RedirectError> {
    let nat = table(NAT_TABLE, "nat", "nat", NAT_PRIORITY, Vec::new(), Vec::new());
    // An empty chain has the kernel remember nothing; these do.
    let mangle = table(MANGLE_TABLE, "filter", "route", MANGLE_PRIORITY, vec![mark_proxys()], vec![mark_answers()]);
    Firewall::open(netns).and_then(|firewall| firewall.replace(&[nat, mangle], &[])).map_err(RedirectError::Rules)
}

/// Puts the redirection into a pod that works: what is open goes on, and what is opened meanwhile goes one way or the
/// other. That what is open could not be remembered, which is the inner result, does not keep the rules out.
pub fn join(netns: &Netns, redirect: &Redirect) -> Result<std::io::Result<()>, RedirectError> {
    let_go(netns)?;
    let adopted = conntrack::adopt(netns);
    apply(netns, redirect)?;
    let pruned = conntrack::prune(netns);
    Ok(adopted.and(pruned).map(drop))
}

/// The first half of taking a pod out: [`let_go`]; [`remove`] is the second. What has ended is forgotten in between. The
/// proxy connects in the name of callers, and of a caller that comes by a port which the proxy had, the kernel would
/// translate the port for as long as both are remembered. When it stops to, such a connection hangs.
pub fn leave(netns: &Netns) -> Result<(), RedirectError> {
    let_go(netns)?;
    conntrack::prune(netns).map(drop).map_err(RedirectError::Connections)
}

/// How many connections are open that would hang after [`remove`]: the pod's through the proxy, and the proxy's to the pod.
pub fn carried(netns: &Netns) -> Result<usize, RedirectError> {
    conntrack::led(netns, REDIRECTED_MARK, MARK_MASK).map_err(RedirectError::Connections)
}

/// Takes the redirection away. Fine when there is none.
pub fn remove(netns: &Netns) -> Result<(), RedirectError> {
    Firewall::open(netns).and_then(|firewall| firewall.replace(&[], &ALL_TABLES)).map_err(RedirectError::Rules)?;
    // Of what ends from now on nothing is heard. What is remembered would be wrong when the rules come back.
    conntrack::forget(netns).map_err(RedirectError::Connections)?;
    policy_route::remove(netns).map_err(RedirectError::PolicyRoute)
}

const ALL_TABLES: [&str; 3] = [NAT_TABLE, MANGLE_TABLE, RAW_TABLE];

/// The tables of a pod, as they stand in the kernel.
fn tables(redirect: &Redirect) -> Vec<Table> {
    // A changed mark must lead to a new choice of route: type `route`.
    let (prerouting, output) = (vec![mark_proxys(), judge(ARRIVING)], vec![mark_answers(), judge(LEAVING)]);
    let mut mangle = table(MANGLE_TABLE, "filter", "route", MANGLE_PRIORITY, prerouting, output);
    mangle.chains.extend([(ARRIVING, arriving(redirect)), (LEAVING, leaving())].map(|(name, rules)| ours(name, rules)));
    vec![
        table(NAT_TABLE, "nat", "nat", NAT_PRIORITY, nat_prerouting(redirect), nat_output(redirect)),
        mangle,
        table(RAW_TABLE, "filter", "filter", RAW_PRIORITY, raw_prerouting(redirect), raw_output(redirect)),
    ]
}

fn nat_prerouting(redirect: &Redirect) -> Vec<Vec<Expr>> {
    let mut rules = Vec::new();
    for name in &redirect.reroute_interfaces {
        rules.push([expr::arrived_by(name), expr::protocol(TCP), expr::redirect(OUTBOUND_PORT)].concat());
        rules.push([expr::arrived_by(name), expr::protocol(TCP), expr::verdict(&Verdict::Return)].concat());
    }
    if redirect.inbound {
        // Probes of the node, already given this source there.
        rules.extend(each_version(|version| {
            vec![expr::address(End::Source, Op::Is, probe_source(version)), expr::protocol(TCP), accept()]
        }));
        rules.extend(each_version(|version| {
            vec![
                not_to_loopback(version),
                expr::protocol(TCP),
                expr::port(End::Destination, Op::IsNot, INBOUND_PORT),
                not_from_proxy(),
                expr::redirect(INBOUND_PLAINTEXT_PORT),
            ]
        }));
    }
    rules
}

fn nat_output(redirect: &Redirect) -> Vec<Vec<Expr>> {
    let mut rules = each_version(|version| {
        vec![expr::address(End::Destination, Op::Is, probe_source(version)), expr::protocol(TCP), accept()]
    });
    if redirect.dns {
        rules.push(
            [
                expr::leaves_by(Op::IsNot, "lo"),
                expr::protocol(UDP),
                expr::port(End::Destination, Op::Is, 53),
                not_from_proxy(),
                expr::redirect(DNS_PORT),
            ]
            .concat(),
        );
        rules.extend(each_version(|version| {
            vec![
                not_to_loopback(version),
                expr::protocol(TCP),
                expr::port(End::Destination, Op::Is, 53),
                not_from_proxy(),
                expr::redirect(DNS_PORT),
            ]
        }));
    }
    rules.push([expr::protocol(TCP), expr::mark(Op::Is, REDIRECTED_MARK, MARK_MASK), accept()].concat());
    // A pod that calls itself by its own address.
    rules.extend(each_version(|version| vec![not_to_loopback(version), expr::leaves_by(Op::Is, "lo"), accept()]));
    rules.extend(each_version(|version| {
        vec![not_to_loopback(version), expr::protocol(TCP), not_from_proxy(), expr::redirect(OUTBOUND_PORT)]
    }));
    rules
}

/// Has a packet that asks for a connection go through a chain of its own: the rest, which is nearly all, is spared that.
fn judge(chain: &str) -> Vec<Expr> {
    [expr::protocol(TCP), expr::opens(), expr::verdict(&Verdict::Jump(chain.to_owned()))].concat()
}

fn arriving(redirect: &Redirect) -> Vec<Vec<Expr>> {
    let mut rules = Vec::new();
    if redirect.inbound {
        for version in Version::BOTH {
            let led_to_proxy = [
                expr::version(version),
                expr::port(End::Destination, Op::IsNot, INBOUND_PORT),
                not_to_loopback(version),
                not_from_proxy(),
                expr::address(End::Source, Op::IsNot, probe_source(version)),
            ];
            rules.extend(lend_no_way(&led_to_proxy.concat()));
        }
    }
    rules
}

/// The proxy's connections to the pod are known by their mark from then on…
fn mark_proxys() -> Vec<Expr> {
    [from_proxy(), expr::mark_connection(REDIRECTED_MARK, MARK_MASK)].concat()
}

/// …and the answers to them carry it, which the policy route looks at.
fn mark_answers() -> Vec<Expr> {
    [expr::connection_mark(Op::Is, REDIRECTED_MARK, MARK_MASK), expr::mark_as_connection()].concat()
}

fn leaving() -> Vec<Vec<Expr>> {
    let mut rules = Vec::new();
    for version in Version::BOTH {
        let led_to_proxy = [
            expr::version(version),
            not_to_loopback(version),
            not_from_proxy(),
            expr::mark(Op::IsNot, REDIRECTED_MARK, MARK_MASK),
            expr::leaves_by(Op::IsNot, "lo"),
            expr::address(End::Destination, Op::IsNot, probe_source(version)),
        ];
        rules.extend(lend_no_way(&led_to_proxy.concat()));
    }
    rules
}

/// Of a packet that asks for a connection. Only the first packet of a connection is led to the proxy. A new one with the addresses and ports of one that was
/// open before the pod joined, of whose end the kernel has not heard or only for seconds, would be taken for that one,
/// and go around the proxy. It is made to wait.
fn lend_no_way(led_to_proxy: &[Expr]) -> [Vec<Expr>; 2] {
    let drop = expr::verdict(&Verdict::Drop);
    let taken_for_another = [expr::established(), expr::untranslated(), drop.clone()].concat();
    let taken_for_its_answer = [expr::invalid(), drop].concat();
    [taken_for_another, taken_for_its_answer].map(|rest| [led_to_proxy, &rest].concat())
}

fn raw_prerouting(redirect: &Redirect) -> Vec<Vec<Expr>> {
    if !redirect.dns {
        return Vec::new();
    }
    let answers = [expr::protocol(UDP), expr::port(End::Source, Op::Is, 53), not_from_proxy()];
    vec![[answers.concat(), expr::track_in_zone(DNS_ZONE)].concat()]
}

fn raw_output(redirect: &Redirect) -> Vec<Vec<Expr>> {
    let mut rules = vec![[expr::protocol(TCP), from_proxy(), expr::track_original_in_zone(PROXY_ZONE)].concat()];
    if redirect.dns {
        let queries = [expr::protocol(UDP), expr::port(End::Destination, Op::Is, 53), from_proxy()];
        rules.push([queries.concat(), expr::track_in_zone(DNS_ZONE)].concat());
    }
    rules
}

/// A table with the two chains that every one of ours has, each called by the
/// hook and delegating to one of our name.
fn table(
    name: &'static str,
    prerouting_kind: &'static str,
    output_kind: &'static str,
    priority: i32,
    prerouting: Vec<Vec<Expr>>,
    output: Vec<Vec<Expr>>,
) -> Table {
    let hooked = |hook: &str, kind, number| Chain {
        name: hook.to_owned(),
        hook: Some(Hook { kind, number, priority }),
        rules: vec![expr::verdict(&Verdict::Jump(format!("istio-{hook}")))],
    };
    let chains = vec![
        hooked("prerouting", prerouting_kind, PREROUTING),
        hooked("output", output_kind, OUTPUT),
        ours("istio-prerouting", prerouting),
        ours("istio-output", output),
    ];
    Table { name, sets: Vec::new(), chains }
}

/// A chain that others delegate to.
fn ours(name: &str, rules: Vec<Vec<Expr>>) -> Chain {
    Chain { name: name.to_owned(), hook: None, rules }
}

fn each_version(rule: impl Fn(Version) -> Vec<Vec<Expr>>) -> Vec<Vec<Expr>> {
    Version::BOTH.into_iter().map(|version| [expr::version(version), rule(version).concat()].concat()).collect()
}

fn accept() -> Vec<Expr> {
    expr::verdict(&Verdict::Accept)
}

fn not_to_loopback(version: Version) -> Vec<Expr> {
    let loopback = match version {
        Version::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Version::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    expr::address(End::Destination, Op::IsNot, loopback)
}

fn from_proxy() -> Vec<Expr> {
    expr::mark(Op::Is, PROXY_MARK, MARK_MASK)
}

fn not_from_proxy() -> Vec<Expr> {
    expr::mark(Op::IsNot, PROXY_MARK, MARK_MASK)
}

fn probe_source(version: Version) -> IpAddr {
    match version {
        Version::V4 => PROBE_SOURCE_V4.into(),
        Version::V6 => PROBE_SOURCE_V6.into(),
    }
}
