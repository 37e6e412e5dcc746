//! What the mesh says about a name. Pure.
//!
//! A client of Kubernetes asks for `web`, `web.shop` or `web.shop.svc` and lets its resolver append
//! search domains, the right one and wrong ones; also to names that are complete already. Every
//! reading of the question that could have been meant is tried, the plainest first, so that most
//! names are found at the first attempt of the resolver.

use mesh::{Service, ServiceKey, Str, View, Workload, service::IpFamilies, workload::Health};
use std::net::IpAddr;

/// What all answers of this proxy have in common.
#[derive(Clone, Debug)]
pub struct Zone {
    /// The cluster's domain, `cluster.local`.
    pub domain: Str,
    /// AAAA records are given.
    pub ipv6: bool,
    /// Breaks ties between services of one name, where the client's own namespace has none.
    pub preferred_namespace: Option<Str>,
}

/// Which addresses were asked for. Everything else is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A.
    V4,
    /// AAAA.
    V6,
}

/// What to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The mesh knows the name. No address of the family: an empty answer, which is final.
    Known {
        /// The name behind the one that was asked for, when that had a search suffix too much.
        canonical: Option<String>,
        /// The addresses, in no order.
        addresses: Vec<IpAddr>,
    },
    /// The mesh does not know it; others may.
    Forward,
    /// Nobody knows who asks.
    UnknownClient,
}

/// One reading of a question.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    name: String,
    /// A search domain was taken off: the answer says so with a CNAME.
    stripped: bool,
}

/// Answers one question of a pod. `name` may be in any case and end with a dot.
pub fn answer(view: &View, client: Option<&Workload>, zone: &Zone, name: &str, family: Family) -> Answer {
    let Some(client) = client else { return Answer::UnknownClient };
    for reading in readings(name, &client.namespace, &zone.domain) {
        let Some(service) = find(view, client, zone, &reading.name) else { continue };
        let Some(mut addresses) = addresses(view, service, client, zone) else { continue };
        addresses.retain(|address| wanted(*address, family, service, zone));
        addresses.sort_unstable();
        addresses.dedup();
        let canonical = (reading.stripped && !service.hostname.starts_with('*')).then_some(reading.name);
        return Answer::Known { canonical, addresses };
    }
    Answer::Forward
}

/// Every reading of a name: as it stands, completed, and without the search domains at its end.
fn readings(name: &str, namespace: &str, domain: &str) -> Vec<Reading> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let mut readings = Vec::new();
    let mut add = |name: String, stripped| {
        if !readings.iter().any(|known: &Reading| known.name == name) {
            readings.push(Reading { name, stripped });
        }
    };
    let completed = |name: &str| match name.split('.').collect::<Vec<_>>()[..] {
        [_] => Some(format!("{name}.{namespace}.svc.{domain}")),
        [_, _] => Some(format!("{name}.svc.{domain}")),
        [_, _, "svc"] => Some(format!("{name}.{domain}")),
        _ => None,
    };
    if !name.is_empty() {
        add(name.clone(), false);
        completed(&name).into_iter().for_each(|name| add(name, false));
    }
    for suffix in [format!(".{namespace}.svc.{domain}"), format!(".svc.{domain}"), format!(".{domain}")] {
        if let Some(bare) = name.strip_suffix(&suffix).filter(|bare| !bare.is_empty()) {
            add(bare.to_owned(), true);
            completed(bare).into_iter().for_each(|name| add(name, true));
        }
    }
    readings
}

/// The service of a name that the client sees: of its own namespace, of the preferred one, or of any.
fn find<'a>(view: &'a View, client: &Workload, zone: &Zone, name: &str) -> Option<&'a Service> {
    let found = view.service_by_hostname(name, &client.namespace)?;
    let preferred = || {
        let namespace = zone.preferred_namespace.clone()?;
        view.service(&ServiceKey { namespace, hostname: found.hostname.clone() })
    };
    match preferred() {
        Some(preferred) if found.namespace != client.namespace && !preferred.namespace_only => Some(preferred),
        _ => Some(found),
    }
}

/// The addresses that stand for a service on the client's network; `None`: it does not answer.
fn addresses(view: &View, service: &Service, client: &Workload, zone: &Zone) -> Option<Vec<IpAddr>> {
    let vips = service.vips.iter().filter(|vip| vip.network == client.network).map(|vip| vip.address);
    let vips: Vec<IpAddr> = vips.collect();
    if !vips.is_empty() {
        return Some(vips);
    }
    let headless = service.vips.is_empty()
        && service.hostname.strip_suffix(&*zone.domain).is_some_and(|rest| rest.ends_with(".svc."));
    headless.then(|| {
        let key = service.key();
        let usable = |workload: &Workload| {
            workload.network == client.network
                && (workload.health == Health::Healthy || service.load_balancing.allow_unhealthy)
        };
        view.endpoints(&key)
            .filter(|endpoint| usable(endpoint.workload))
            .flat_map(|endpoint| endpoint.workload.addresses.iter().copied())
            .take(ADDRESSES_MAX)
            .collect()
    })
}

/// Addresses of a headless service that are told: as many A records as fit into 64 KiB are four times that.
const ADDRESSES_MAX: usize = 1000;

fn wanted(address: IpAddr, family: Family, service: &Service, zone: &Zone) -> bool {
    match (family, service.ip_families) {
        (Family::V4, IpFamilies::Ipv6Only) | (Family::V6, IpFamilies::Ipv4Only) => false,
        (Family::V4, _) => address.is_ipv4(),
        (Family::V6, _) => address.is_ipv6() && zone.ipv6,
    }
}

/// Whether a name is the mesh's own to deny, should nobody else be there to ask.
pub(super) fn is_of_cluster(name: &str, zone: &Zone) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.strip_suffix(&*zone.domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh::fixture;

    const SHOP: &str = "
pod client ns=shop sa=client ip=10.0.0.1
pod far ns=shop ip=10.9.0.1 net=other
pod db-0 ns=shop ip=10.0.0.10
pod db-1 ns=shop ip=10.0.0.11,fd00::11
pod db-2 ns=shop ip=10.0.0.12 unhealthy
service web ns=shop vip=10.1.0.1 80->8080
service dual ns=shop vip=10.1.0.2,fd00:1::2 80->8080
service six ns=shop vip=10.1.0.3,fd00:1::3 families=6 80->8080
service db ns=shop pods=db-0,db-1,db-2 5432->5432
service web ns=bank vip=10.1.1.1 80->8080
service vault ns=bank vip=10.1.1.2 80->8080 namespace-only
service api ns=egress host=api.example.com vip=240.0.0.1 443->443
service any ns=egress host=*.wild.example.com vip=240.0.0.2 443->443
service bare ns=egress host=bare.example.com 443->443
service away ns=shop vip=10.5.0.1 net=other 80->80
";

    fn zone() -> Zone {
        Zone { domain: "cluster.local".into(), ipv6: true, preferred_namespace: None }
    }

    fn show(answer: Answer) -> String {
        match answer {
            Answer::Known { canonical, addresses } => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let canonical = canonical.map(|name| format!("{name}: ")).unwrap_or_default();
                format!("{canonical}{}", if addresses.is_empty() { "nothing".into() } else { addresses.join(" ") })
            }
            Answer::Forward => "forward".into(),
            Answer::UnknownClient => "unknown client".into(),
        }
    }

    fn check(client: &str, zone: &Zone, name: &str, family: Family, expected: &str) {
        let view = fixture::view(SHOP);
        let client = view.workload_by_address("", client.parse().expect("an address")).map(|workload| &**workload);
        assert_eq!(show(answer(&view, client, zone, name, family)), expected, "{name} {family:?}");
    }

    fn asks(name: &str, expected: &str) {
        check("10.0.0.1", &zone(), name, Family::V4, expected);
    }

    #[test]
    fn a_service_answers_to_every_name_a_client_of_kubernetes_uses() {
        for name in ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "WEB.Shop.svc.Cluster.Local."] {
            asks(name, "10.1.0.1");
        }
        for name in ["web.bank", "web.bank.svc", "web.bank.svc.cluster.local"] {
            asks(name, "10.1.1.1");
        }
    }

    #[test]
    fn a_search_domain_too_much_is_taken_off_and_told() {
        asks("web.shop.svc.cluster.local.shop.svc.cluster.local", "web.shop.svc.cluster.local: 10.1.0.1");
        asks("web.bank.shop.svc.cluster.local", "web.bank.svc.cluster.local: 10.1.1.1");
        asks("web.bank.svc.svc.cluster.local", "web.bank.svc.cluster.local: 10.1.1.1");
        asks("api.example.com.shop.svc.cluster.local", "api.example.com: 240.0.0.1");
        asks("api.example.com.cluster.local", "api.example.com: 240.0.0.1");
    }

    #[test]
    fn wildcards_answer_for_what_is_below_them() {
        asks("a.wild.example.com", "240.0.0.2");
        asks("a.b.wild.example.com", "240.0.0.2");
        asks("a.wild.example.com.svc.cluster.local", "240.0.0.2");
        asks("wild.example.com", "forward");
    }

    #[test]
    fn a_headless_service_answers_with_its_healthy_pods() {
        asks("db", "10.0.0.10 10.0.0.11");
        check("10.0.0.1", &zone(), "db.shop", Family::V6, "fd00::11");
        asks("bare.example.com", "forward");
    }

    #[test]
    fn a_known_name_without_such_an_address_has_an_empty_answer() {
        check("10.0.0.1", &zone(), "web", Family::V6, "nothing");
        check("10.0.0.1", &zone(), "dual", Family::V6, "fd00:1::2");
        asks("six", "nothing");
        check("10.0.0.1", &zone(), "six", Family::V6, "fd00:1::3");
        let without = Zone { ipv6: false, ..zone() };
        check("10.0.0.1", &without, "dual", Family::V6, "nothing");
    }

    #[test]
    fn what_the_mesh_does_not_know_is_forwarded() {
        for name in ["example.com", "nothing", "shop.svc.cluster.local", "", ".", "*", "com", "away", "vault.bank"] {
            asks(name, "forward");
        }
    }

    #[test]
    fn of_two_services_of_one_name_the_preferred_namespace_answers() {
        let text = "pod client ns=shop ip=10.0.0.1
service one ns=aaa host=api.example.com vip=240.0.0.1 443->443
service two ns=bbb host=api.example.com vip=240.0.0.2 443->443";
        let view = fixture::view(text);
        let client = view.workload_by_address("", "10.0.0.1".parse().expect("an address")).map(|workload| &**workload);
        let zone = Zone { preferred_namespace: Some("bbb".into()), ..zone() };
        assert_eq!(show(answer(&view, client, &zone, "api.example.com", Family::V4)), "240.0.0.2");
    }

    #[test]
    fn nobody_knows_a_client_that_the_view_does_not_have() {
        check("10.77.0.1", &zone(), "web", Family::V4, "unknown client");
    }

    #[test]
    fn the_cluster_domain_ends_at_a_dot() {
        for (name, expected) in [("a.cluster.local", true), ("cluster.local.", true), ("notcluster.local", false)] {
            assert_eq!(is_of_cluster(name, &zone()), expected, "{name}");
        }
    }
}
