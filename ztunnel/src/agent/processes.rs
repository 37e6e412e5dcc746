//! Finds the network namespaces of running pods through their processes.
//!
//! Which pod a process belongs to is said by its control group, whose name the kubelet makes of the
//! pod's uid. What is found is held open at once, so that it is still that namespace when it is
//! used; whether it holds the pod's addresses is seen when it is entered. The host's own namespace
//! is nobody's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::net::netns::{Netns, NetnsId};

/// The namespaces of the pods with these uids that have a process below `proc` (the host's
/// `/proc`). Those in `foreign` are passed over.
pub fn find(proc: &Path, wanted: &BTreeSet<String>, foreign: &[NetnsId]) -> io::Result<BTreeMap<String, Arc<Netns>>> {
    let mut found: BTreeMap<String, (u64, Arc<Netns>)> = BTreeMap::new();
    for entry in fs::read_dir(proc)? {
        let process = entry?.path();
        let is_process = process.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        // Processes come and go while we look; one that cannot be read is one that is gone.
        let Some((uid, started)) = is_process.then(|| of_process(&process)).flatten() else { continue };
        // The first process of a pod is the one that holds its namespaces; later ones may have made their own.
        if !wanted.contains(&uid) || found.get(&uid).is_some_and(|(earlier, _)| *earlier <= started) {
            continue;
        }
        let Ok(netns) = Netns::from_path(&process.join("ns/net")) else { continue };
        // The number may have been given to another process between the two looks.
        let same = of_process(&process).is_some_and(|now| now == (uid.clone(), started));
        if same && !foreign.contains(&netns.id()) {
            found.insert(uid, (started, Arc::new(netns)));
        }
    }
    Ok(found.into_iter().map(|(uid, (_, netns))| (uid, netns)).collect())
}

/// The pod of a process and when it was started.
fn of_process(process: &Path) -> Option<(String, u64)> {
    let uid = pod_of(&fs::read_to_string(process.join("cgroup")).ok()?)?;
    // The name of a program is any bytes.
    let stat = fs::read(process.join("stat")).ok()?;
    Some((uid, started(&String::from_utf8_lossy(&stat))?))
}

/// The uid of the pod that a process with these control groups belongs to. The outermost name
/// counts: inside, a pod may make groups with any names.
fn pod_of(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.filter_map(|path| path.split('/').find_map(pod_of_name)).next()
}

/// `pod<uid>`, or `…-pod<uid with underscores>.slice` as systemd has it.
fn pod_of_name(name: &str) -> Option<String> {
    let name = name.strip_suffix(".slice").unwrap_or(name);
    let uid = name.strip_prefix("pod").or_else(|| name.rsplit_once("-pod").map(|(_, uid)| uid))?;
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let others = uid.bytes().filter(|byte| *byte != b'-' && !byte.is_ascii_hexdigit()).count();
    (digits == 32 && others == 0).then_some(uid)
}

/// When a process was started, in ticks since the machine was: the 22nd field, of which the second
/// is a name in brackets that may hold anything.
fn started(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "1d2c3b4a-0000-4000-8000-00000000beef";

    #[test]
    fn the_control_group_says_which_pod() {
        let slice = "1d2c3b4a_0000_4000_8000_00000000beef";
        for (cgroup, expected) in [
            (format!("0::/kubepods/burstable/pod{UID}/0123abcd\n"), true),
            (
                format!(
                    "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{slice}.slice/cri-containerd-01.scope\n"
                ),
                true,
            ),
            (
                format!(
                    "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice/cri-containerd-01.scope\n"
                ),
                true,
            ),
            // Seen from inside another pod's control group namespace.
            (format!("0::/../../kubepods-burstable-pod{slice}.slice/crio-01.scope\n"), true),
            (format!("12:pids:/kubepods/pod{UID}/01\n11:cpuset:/\n1:name=systemd:/kubepods/pod{UID}/01\n"), true),
            (format!("12:pids:/system.slice\n1:name=systemd:/kubepods/pod{UID}/01\n"), true),
            // A pod that makes groups with the names of others is still itself.
            (format!("0::/kubepods/pod{UID}/01/podffffffff-0000-4000-8000-000000000000\n"), true),
            ("0::/system.slice/containerd.service\n".to_owned(), false),
            ("0::/user.slice/podman-123.scope\n".to_owned(), false),
            ("0::/\n".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(pod_of(&cgroup).as_deref(), expected.then_some(UID), "{cgroup}");
        }
    }

    #[test]
    fn the_start_is_read_past_any_name() {
        let rest = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 200";
        for name in ["pause", "a) S 1 2 (b", ") ) )", ""] {
            assert_eq!(started(&format!("42 ({name}) {rest}")), Some(4711), "{name}");
        }
        assert_eq!(started("42 (x"), None);
        assert_eq!(started("42 (x) S 1"), None);
    }
}
