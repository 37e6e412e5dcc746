//! From which ports we connect in the name of others.
//!
//! A caller's connection to a pod and ours to it in the caller's name are remembered in the same namespace by the same
//! address. Of two with the same port the kernel translates one, and when the pod leaves the mesh and its rules go, that
//! one hangs. The kernel has `connect` choose every second port, as long as there are some (since Linux 4.2, counted
//! from the first of `ip_local_port_range`); we take the ones between.

use super::super::links::kernel_setting;
use super::super::netns::Netns;

/// The ports that the kernel chooses from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ports {
    first: u16,
    last: u16,
}

/// What the kernel has where nobody chose.
const USUAL: Ports = Ports { first: 32_768, last: 60_999 };

impl Ports {
    /// Those of a namespace; without one, of where the process is.
    pub(super) fn of(netns: Option<&Netns>) -> Self {
        let told = match netns {
            Some(netns) => kernel_setting(netns, "net/ipv4/ip_local_port_range"),
            None => std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range"),
        };
        told.ok().and_then(|told| Self::read(&told)).unwrap_or(USUAL)
    }

    fn read(told: &str) -> Option<Self> {
        let mut words = told.split_whitespace().map(str::parse);
        let (first, last) = (words.next()?.ok()?, words.next()?.ok()?);
        (first < last).then_some(Self { first, last })
    }

    /// One of those that `connect` does not choose while it has others.
    pub(super) fn apart(self, random: u16) -> u16 {
        let pairs = (self.last - self.first).div_ceil(2);
        self.first + 2 * (random % pairs) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_between_those_that_connect_chooses_is_taken() {
        for (told, expected) in [
            ("32768\t60999", (32_769, 60_999, 14_116)),
            ("1025 1030", (1_026, 1_030, 3)),
            ("1025 1026", (1_026, 1_026, 1)),
            ("1 65535", (2, 65_534, 32_767)),
        ] {
            let ports = Ports::read(told).expect(told);
            let taken: std::collections::BTreeSet<u16> = (0..=u16::MAX).map(|random| ports.apart(random)).collect();
            let found = (*taken.first().expect("some"), *taken.last().expect("some"), taken.len());
            assert_eq!(found, expected, "{told}");
            assert!(taken.iter().all(|port| (port - ports.first) % 2 == 1), "{told}");
        }
        for told in ["", "7", "9 9", "9 8", "a b", "70000 80000"] {
            assert_eq!(Ports::read(told), None, "{told:?}");
        }
        assert_eq!(
            Ports::of(None),
            Ports::read(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap()).unwrap()
        );
    }
}
