//! The lab's network: a namespace for each node and pod, and the links
//! between them.
//!
//! ```text
//!   pod eth0 ──── pod7 node eth0 ──── n1 fabric n2 ──── eth0 node
//!   10.244.1.7    (10.244.1.1)  172.18.1.1   (172.18.0.1)
//! ```
//!
//! Everything is routed, nothing is bridged: a pod's default route leads to
//! its node, a node's to the fabric, which knows each node's pods. Packets
//! between nodes cross the fabric, where they can be looked at. The fabric is
//! the supervisor's own namespace and has no way out of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ipnet::IpNet;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::os::fd::{AsFd, AsRawFd};
use ztunnel::net::links::{self, Links, Route, VethEnd};
use ztunnel::net::netns::Netns;

use super::plan::{NodePlan, PodPlan, ledger};

/// The name of a node's or pod's own interface.
pub(crate) const OWN_INTERFACE: &str = "eth0";

/// All namespaces of the lab.
#[derive(Debug)]
pub(crate) struct World {
    fabric: Netns,
    dir: PathBuf,
    nodes: Mutex<BTreeMap<String, Place>>,
}

/// A namespace and the file it is mounted at.
#[derive(Debug)]
struct Place {
    netns: Netns,
    path: PathBuf,
}

impl World {
    /// Makes the fabric of the namespace we are in; namespaces will be
    /// mounted at files in `dir`.
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        let fabric = Netns::current()?;
        prepare(&fabric, true)?;
        Ok(Self { fabric, dir: dir.to_owned(), nodes: Mutex::default() })
    }

    /// Makes a node and links it to the fabric.
    pub(crate) fn add_node(&self, node: &NodePlan) -> io::Result<()> {
        let place = self.place(&format!("node-{}", node.name))?;
        prepare(&place.netns, true)?;
        let far = fabric_interface(node.number);
        links::create_veth(
            VethEnd { netns: &self.fabric, name: &far },
            VethEnd { netns: &place.netns, name: OWN_INTERFACE },
        )?;
        let (outside, inside) = (Links::open(&self.fabric)?, Links::open(&place.netns)?);
        let ours = ledger::node_addresses(node.number);
        join(&outside, &far, ledger::fabric_addresses(), &inside, ours)?;
        for (network, node) in ledger::pod_networks(node.number).into_iter().zip(ours) {
            if usable(node) {
                outside.add_route(&Route::via(network, node, &far))?;
            }
        }
        self.nodes.lock().expect("no holder panics").insert(node.name.clone(), place);
        Ok(())
    }

    /// Removes a node; its pods must be gone.
    pub(crate) fn remove_node(&self, name: &str) {
        if let Some(place) = self.nodes.lock().expect("no holder panics").remove(name) {
            release(&place.path);
        }
    }

    /// Makes the network of a pod and returns where its namespace is mounted;
    /// for a pod in its node's network, the node's.
    pub(crate) fn add_pod(&self, pod: &PodPlan) -> io::Result<PathBuf> {
        let node = self.node(&pod.node)?;
        let Some(place_on_node) = pod.place else { return Ok(self.node_path(&pod.node)) };
        let place = self.place(&pod_file(pod))?;
        prepare(&place.netns, false)?;
        let far = pod_interface(place_on_node);
        // What is left of a pod that had this place.
        let outside = Links::open(&node)?;
        links::create_veth(VethEnd { netns: &node, name: &far }, VethEnd { netns: &place.netns, name: OWN_INTERFACE })?;
        let inside = Links::open(&place.netns)?;
        let gateway = ledger::pod_addresses(pod.node_number, 1);
        let ours = ledger::pod_addresses(pod.node_number, place_on_node);
        join(&outside, &far, gateway, &inside, ours)?;
        Ok(place.path)
    }

    /// Removes the network of a pod.
    pub(crate) fn remove_pod(&self, pod: &PodPlan) {
        let Some(place_on_node) = pod.place else { return };
        // Deleting one end deletes the other, also where somebody still holds
        // the namespace.
        let gone = self.node(&pod.node).and_then(|node| Links::open(&node)?.delete(&pod_interface(place_on_node)));
        if let Err(error) = gone {
            tracing::warn!(pod = %pod.key.name, %error, "cannot remove the link of a pod");
        }
        release(&self.dir.join(pod_file(pod)));
    }

    /// The namespace of a node.
    pub(crate) fn node(&self, name: &str) -> io::Result<Netns> {
        let nodes = self.nodes.lock().expect("no holder panics");
        let place = nodes.get(name).ok_or_else(|| io::Error::other(format!("there is no node `{name}`")))?;
        place.netns.try_clone()
    }

    /// Where a node's namespace is mounted.
    pub(crate) fn node_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("node-{name}"))
    }

    /// Where the network of a pod is, or will be, mounted.
    pub(crate) fn pod_path(&self, pod: &PodPlan) -> PathBuf {
        match pod.place {
            Some(_) => self.dir.join(pod_file(pod)),
            None => self.node_path(&pod.node),
        }
    }

    /// A new namespace, mounted at a file so that it has a path.
    fn place(&self, name: &str) -> io::Result<Place> {
        let path = self.dir.join(name);
        release(&path);
        let netns = Netns::new()?;
        fs::File::create(&path)?;
        let source = format!("/proc/self/fd/{}", netns.as_fd().as_raw_fd());
        mount(Some(source.as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(Place { netns, path })
    }
}

/// The interface of the fabric that leads to a node.
pub(crate) fn fabric_interface(node: u16) -> String {
    format!("n{node}")
}

fn pod_interface(place: u8) -> String {
    format!("pod{place}")
}

fn pod_file(pod: &PodPlan) -> String {
    format!("{}_{}_{}", pod.key.namespace, pod.key.name, &pod.uid[24..])
}

fn release(path: &Path) {
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

/// Settings that new namespaces take over from the machine, made the same on
/// every machine.
fn prepare(netns: &Netns, forwards: bool) -> io::Result<()> {
    let set = |name: &str, value: &str| links::set_kernel_setting(netns, name, value);
    set("net/ipv4/conf/all/rp_filter", "0")?;
    set("net/ipv4/conf/default/rp_filter", "0")?;
    if forwards {
        set("net/ipv4/ip_forward", "1")?;
    }
    if ipv6_exists() {
        set("net/ipv6/conf/all/disable_ipv6", "0")?;
        set("net/ipv6/conf/default/disable_ipv6", "0")?;
        // Addresses here are ours to give: no second is spent on asking
        // whether somebody has them.
        set("net/ipv6/conf/default/accept_dad", "0")?;
        set("net/ipv6/conf/default/accept_ra", "0")?;
        if forwards {
            set("net/ipv6/conf/all/forwarding", "1")?;
        }
    }
    Links::open(netns)?.up("lo")
}

/// Sets a link up: `inside` gets its addresses and reaches everything through
/// `gateway`, `outside` has the gateway's addresses and a route to `ours`.
fn join(outside: &Links, far: &str, gateway: [IpAddr; 2], inside: &Links, ours: [IpAddr; 2]) -> io::Result<()> {
    outside.up(far)?;
    inside.up(OWN_INTERFACE)?;
    for (gateway, own) in gateway.into_iter().zip(ours).filter(|(gateway, _)| usable(*gateway)) {
        outside.add_address(far, IpNet::from(gateway))?;
        inside.add_address(OWN_INTERFACE, IpNet::from(own))?;
        outside.add_route(&Route::device(IpNet::from(own), far))?;
        inside.add_route(&Route::device(IpNet::from(gateway), OWN_INTERFACE))?;
        inside.add_route(&Route::via(everywhere(gateway), gateway, OWN_INTERFACE))?;
    }
    Ok(())
}

/// The default route's destination, of this address's family.
fn everywhere(address: IpAddr) -> IpNet {
    let zero: IpAddr =
        if address.is_ipv4() { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    IpNet::new_assert(zero, 0)
}

fn usable(address: IpAddr) -> bool {
    address.is_ipv4() || ipv6_exists()
}

fn ipv6_exists() -> bool {
    Path::new("/proc/sys/net/ipv6").exists()
}
