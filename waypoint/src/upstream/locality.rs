//! How near an endpoint is, by what a policy says of localities. Pure.

use mesh::route::traffic::Locality as Preference;
use mesh::workload::Locality;
use mesh::{Service, Str, Workload};

/// How near `endpoint` is to us: the larger, the nearer; none: it may not be used at all.
pub(super) fn rank(
    preference: Option<&Preference>,
    service: &Service,
    endpoint: &Workload,
    own: Option<&Workload>,
) -> Option<usize> {
    match preference {
        None => mesh::balance::rank(service, endpoint, own),
        Some(Preference::Off) => Some(0),
        Some(Preference::Failover(over)) => {
            Some(own.map_or(0, |own| failover(over, &endpoint.locality, &own.locality)))
        }
        Some(Preference::Priority(labels)) => {
            Some(own.map_or(0, |own| labels.iter().take_while(|label| agrees(label, endpoint, own)).count()))
        }
        Some(Preference::Distribute(shares)) => {
            let from = own.and_then(|own| shares.iter().find(|(from, _)| covers(from, &own.locality)));
            // Without a line for where we are, all are alike.
            let Some((_, to)) = from else { return Some(0) };
            to.iter().any(|(to, percent)| *percent > 0 && covers(to, &endpoint.locality)).then_some(0)
        }
    }
}

/// The share of an endpoint's locality, where shares are set for ours: (which line, percent).
pub(super) fn share(preference: &Preference, endpoint: &Workload, own: &Workload) -> Option<(usize, u32)> {
    let Preference::Distribute(shares) = preference else { return None };
    let (_, to) = shares.iter().find(|(from, _)| covers(from, &own.locality))?;
    let at = to.iter().position(|(to, _)| covers(to, &endpoint.locality))?;
    Some((at, to[at].1))
}

fn failover(over: &[(Str, Str)], there: &Locality, here: &Locality) -> usize {
    if there.region != here.region {
        let next = over.iter().any(|(from, to)| *from == here.region && *to == there.region);
        return usize::from(next);
    }
    match (there.zone == here.zone, there.subzone == here.subzone) {
        (false, _) => 2,
        (true, false) => 3,
        (true, true) => 4,
    }
}

/// Whether both have a label, and the same; or the endpoint has `key=value`. What is known of labels
/// is where a workload is.
fn agrees(label: &str, endpoint: &Workload, own: &Workload) -> bool {
    let (key, wanted) = label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)));
    let (Some(there), Some(here)) = (placed(key, endpoint), placed(key, own)) else { return false };
    match wanted {
        Some(wanted) => there == wanted,
        None => there == here,
    }
}

fn placed<'a>(key: &str, workload: &'a Workload) -> Option<&'a str> {
    Some(match key {
        "topology.kubernetes.io/region" => &workload.locality.region,
        "topology.kubernetes.io/zone" => &workload.locality.zone,
        "topology.istio.io/subzone" => &workload.locality.subzone,
        "topology.istio.io/network" => &workload.network,
        "topology.istio.io/cluster" => &workload.cluster_id,
        "kubernetes.io/hostname" => &workload.node,
        _ => return None,
    })
}

/// Whether `pattern` (`region/zone/subzone`, cut short, or with `*`) covers a locality.
fn covers(pattern: &str, locality: &Locality) -> bool {
    let parts = [&locality.region, &locality.zone, &locality.subzone];
    pattern.split('/').zip(parts).all(|(wanted, found)| wanted == "*" || *wanted == **found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh::Service;

    fn at(place: &str) -> Workload {
        let mut workload = Workload::named("x");
        let mut parts = place.split('/').map(Into::into);
        let mut next = || parts.next().unwrap_or_else(|| "".into());
        workload.locality = Locality { region: next(), zone: next(), subzone: next() };
        workload
    }

    fn check(preference: &Preference, endpoint: &str, expected: Option<usize>) {
        let found = rank(Some(preference), &Service::named("ns", "a.b"), &at(endpoint), Some(&at("eu/a/1")));
        assert_eq!(found, expected, "{preference:?} {endpoint}");
    }

    #[test]
    fn nearer_is_more_and_a_named_region_is_next() {
        let over = Preference::Failover(vec![("eu".into(), "us".into())]);
        for (endpoint, expected) in [("eu/a/1", 4), ("eu/a/2", 3), ("eu/b/1", 2), ("us/a/1", 1), ("asia/a/1", 0)] {
            check(&over, endpoint, Some(expected));
        }
    }

    #[test]
    fn labels_count_as_long_as_they_agree() {
        let labels = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone=b", "topology.istio.io/subzone"];
        let priority = Preference::Priority(labels.into_iter().map(Into::into).collect());
        check(&priority, "us/b/1", Some(0));
        check(&priority, "eu/a/1", Some(1));
        check(&Preference::Priority(vec!["app".into()]), "eu/a/1", Some(0));
    }

    #[test]
    fn shares_are_for_the_localities_that_they_name() {
        let to = vec![("eu/a/*".into(), 80), ("us".into(), 20), ("asia/*".into(), 0)];
        let distribute = Preference::Distribute(vec![("eu/a".into(), to)]);
        for (endpoint, expected) in [("eu/a/2", Some(0)), ("us/x/y", Some(0)), ("asia/a/1", None), ("eu/b/1", None)] {
            check(&distribute, endpoint, expected);
        }
        assert_eq!(share(&distribute, &at("us/x"), &at("eu/a/1")), Some((1, 20)));
        assert_eq!(share(&distribute, &at("us/x"), &at("us/b")), None);
    }
}
