//! Which services the hosts that people write are: short names, whole names, wildcards.

use crate::index::{Index, Mesh};
use mesh::{ServiceKey, Str};

/// A host with the mesh's domain: one without a dot is a Service beside the object that names it.
pub(super) fn whole(mesh: &Mesh, namespace: &str, host: &str) -> Str {
    match host {
        "*" => "*".into(),
        host if host.contains('.') => host.into(),
        host => format!("{host}.{namespace}.svc.{}", mesh.domain).into(),
    }
}

/// How closely a whole host names a hostname; more is closer. `None`: it names another.
pub(super) fn closeness(host: &str, hostname: &str) -> Option<usize> {
    if host == hostname {
        return Some(usize::MAX);
    }
    let suffix = host.strip_prefix('*')?;
    hostname.strip_suffix(suffix).filter(|rest| !rest.is_empty()).map(|_| suffix.len())
}

/// The services that a whole host names, of those that are published.
pub(super) fn services<'a>(index: &'a Index, host: &'a Str) -> Box<dyn Iterator<Item = ServiceKey> + 'a> {
    if host.starts_with('*') {
        let named = |key: &&ServiceKey| closeness(host, &key.hostname).is_some();
        return Box::new(index.services.keys().filter(named).cloned());
    }
    Box::new(index.hosts.get(host).into_iter().flat_map(|all| all.values()).cloned())
}

/// The namespace of a waypoint (`namespace/name`).
pub(super) fn namespace_of(waypoint: &str) -> &str {
    waypoint.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_host_is_the_longest() {
        let mesh = Mesh::default();
        for (host, expected) in [
            ("web", Some(usize::MAX)),
            ("web.shop.svc.cluster.local", Some(usize::MAX)),
            ("*.shop.svc.cluster.local", Some(23)),
            ("*.local", Some(6)),
            ("*", Some(0)),
            ("api", None),
            ("web.shop", None),
            ("*.web.shop.svc.cluster.local", None),
        ] {
            let whole = whole(&mesh, "shop", host);
            assert_eq!(closeness(&whole, "web.shop.svc.cluster.local"), expected, "{host}");
        }
    }
}
