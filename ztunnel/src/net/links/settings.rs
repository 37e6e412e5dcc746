//! Kernel settings of a namespace, by their names below `/proc/sys`.

use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use super::{Links, about};
use crate::net::netns::Netns;

/// Readies a new namespace: loopback up, and IPv6 addresses of the links that
/// are still to come usable at once. Without it a link's own IPv6 address is
/// on probation for two seconds, and who forwards to it cannot even ask for
/// its neighbour. Call it before the first link is made.
pub fn settle(netns: &Netns) -> io::Result<()> {
    Links::open(netns)?.up("lo")?;
    match set_kernel_setting(netns, "net/ipv6/conf/default/accept_dad", "0") {
        // A kernel without IPv6 has no such setting.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Writes a kernel setting of a namespace, such as
/// `("net/ipv4/ip_forward", "1")` or `("net/ipv4/conf/all/rp_filter", "0")`.
/// Only names under `net/` are per namespace, others are refused.
pub fn set_kernel_setting(netns: &Netns, name: &str, value: &str) -> io::Result<()> {
    let path = setting_path(name)?;
    netns.run(|| fs::write(&path, value))?.map_err(|error| about(error, format_args!("set {name} to {value}")))
}

/// Reads a kernel setting of a namespace.
pub fn kernel_setting(netns: &Netns, name: &str) -> io::Result<String> {
    let path = setting_path(name)?;
    let value = netns.run(|| fs::read_to_string(&path))?.map_err(|error| about(error, format_args!("read {name}")))?;
    Ok(value.trim_end().to_owned())
}

fn setting_path(name: &str) -> io::Result<PathBuf> {
    let path = Path::new(name);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || !name.starts_with("net/") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is not a setting of a namespace")));
    }
    Ok(Path::new("/proc/sys").join(path))
}
