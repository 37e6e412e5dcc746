//! Whose a network namespace is, by the addresses in it. Pure.
//!
//! The runtime takes a pod's network away before the pod is said to have ended, and while its
//! namespace is still held. A namespace that is empty is nobody's, and nobody has done anything wrong.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The pod's: it holds all of its addresses.
    ThePods,
    /// Nobody's: it holds no address that could be a pod's.
    Nobodys,
    /// Another's: it holds addresses, and this one of the pod's is missing.
    Anothers(IpAddr),
}

/// Decides by the addresses that were found, by interface, and those that the pod has.
pub(super) fn whose(found: &[(String, IpNet)], addresses: &[IpAddr]) -> Whose {
    let missing = addresses.iter().find(|address| found.iter().all(|(_, net)| net.addr() != **address));
    let Some(missing) = missing else { return Whose::ThePods };
    let of_a_pod = |(link, net): &(String, IpNet)| {
        let link_local = matches!(net.addr(), IpAddr::V6(v6) if v6.is_unicast_link_local());
        link != "lo" && !net.addr().is_loopback() && !link_local
    };
    if found.iter().any(of_a_pod) { Whose::Anothers(*missing) } else { Whose::Nobodys }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_namespace_is_nobodys_and_one_with_other_addresses_anothers() {
        let (four, six): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        let cases: [(&[(&str, &str)], Whose); 7] = [
            (&[("eth0", "10.0.0.1/24"), ("eth0", "fd00::1/64"), ("lo", "127.0.0.1/8")], Whose::ThePods),
            (&[], Whose::Nobodys),
            (&[("lo", "127.0.0.1/8"), ("lo", "::1/128")], Whose::Nobodys),
            (&[("eth0", "fe80::1/64"), ("lo", "127.0.0.1/8")], Whose::Nobodys),
            (&[("eth0", "10.0.0.1/24")], Whose::Anothers(six)),
            (&[("eth0", "fd00::1/64")], Whose::Anothers(four)),
            (&[("eth0", "10.0.0.2/24"), ("eth0", "fd00::2/64")], Whose::Anothers(four)),
        ];
        for (found, expected) in cases {
            let found: Vec<(String, IpNet)> =
                found.iter().map(|(link, net)| ((*link).to_owned(), net.parse().unwrap())).collect();
            assert_eq!(whose(&found, &[four, six]), expected, "{found:?}");
        }
    }
}
