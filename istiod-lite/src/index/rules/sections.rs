//! Parts of how something is reached, laid over each other.

use crate::facts::{Balancing, Reach, Sections};
use mesh::{Str, route::Traffic};
use std::collections::BTreeSet;

/// What a DestinationRule says for one port, or for those without an entry of their own. Settings
/// of a port replace what is said for all, those that it leaves out too; but for what cannot be said
/// for single ports.
pub(super) fn on_port(reach: &Reach, port: Option<u16>) -> Sections {
    let Some(own) = port.and_then(|port| reach.ports.get(&port)) else { return reach.all.clone() };
    Sections {
        proxy_protocol: reach.all.proxy_protocol,
        retry_budget: reach.all.retry_budget,
        adaptive: reach.all.adaptive,
        ..own.clone()
    }
}

/// What a subset says, over what its host says.
pub(super) fn over(wide: Sections, own: Sections) -> Sections {
    Sections {
        balancing: own.balancing.or(wide.balancing),
        pool: own.pool.or(wide.pool),
        outlier: own.outlier.or(wide.outlier),
        tls: own.tls.or(wide.tls),
        proxy_protocol: own.proxy_protocol.or(wide.proxy_protocol),
        retry_budget: own.retry_budget.or(wide.retry_budget),
        adaptive: own.adaptive.or(wide.adaptive),
    }
}

/// The entries of a host, or of a subset of it: one for all ports, and one for each that differs.
pub(super) fn entries(host: &Reach, subset: Option<&Reach>, name: &Str) -> Vec<Traffic> {
    let own = subset.iter().flat_map(|subset| subset.ports.keys());
    let ports: BTreeSet<u16> = host.ports.keys().chain(own).copied().collect();
    let entry = |port: Option<u16>| {
        let wide = on_port(host, port);
        let sections = match subset {
            Some(subset) => over(wide, on_port(subset, port)),
            None => wide,
        };
        let mut traffic = Traffic { port, name: name.clone(), ..Traffic::default() };
        lay(&mut traffic, &sections);
        traffic
    };
    let all = std::iter::once(None).chain(ports.into_iter().map(Some));
    all.map(entry).collect()
}

/// Lays sections over an entry. It gives the names of those that said something else before.
pub(super) fn lay(traffic: &mut Traffic, sections: &Sections) -> Vec<&'static str> {
    let mut overridden = Vec::new();
    if let Some(Balancing { balance, locality, warmup }) = sections.balancing.clone() {
        let said = traffic.balance != Default::default() || traffic.locality.is_some() || traffic.warmup.is_some();
        overridden.extend(said.then_some("loadBalancer"));
        (traffic.balance, traffic.locality, traffic.warmup) = (balance, locality, warmup);
    }
    if let Some(pool) = sections.pool {
        overridden.extend((traffic.pool != Default::default()).then_some("connectionPool"));
        // Which HTTP is spoken cannot be said by those who do not know.
        let as_caller = pool.as_caller || traffic.pool.as_caller;
        traffic.pool = mesh::route::traffic::Pool { http: pool.http.or(traffic.pool.http), as_caller, ..pool };
    }
    let mut put = |name, said: bool| overridden.extend(said.then_some(name));
    if let Some(outlier) = &sections.outlier {
        put("outlierDetection", traffic.outlier.is_some());
        traffic.outlier = Some(outlier.clone());
    }
    if let Some(tls) = &sections.tls {
        put("tls", traffic.tls.is_some());
        traffic.tls.clone_from(tls);
    }
    if let Some(header) = sections.proxy_protocol {
        put("proxyProtocol", traffic.proxy_protocol.is_some());
        traffic.proxy_protocol = Some(header);
    }
    if let Some(budget) = sections.retry_budget {
        put("retryBudget", traffic.retry_budget.is_some());
        traffic.retry_budget = Some(budget);
    }
    if let Some(adaptive) = sections.adaptive {
        put("adaptiveConcurrency", traffic.adaptive.is_some());
        traffic.adaptive = Some(adaptive);
    }
    overridden
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh::route::text::Fraction;
    use mesh::route::traffic::{Balance, Pool, RetryBudget};

    fn balancing(balance: Balance) -> Option<Balancing> {
        Some(Balancing { balance, ..Balancing::default() })
    }

    fn shown(all: &[Traffic]) -> Vec<String> {
        let one = |it: &Traffic| {
            let budget = if it.retry_budget.is_some() { " budget" } else { "" };
            format!("{:?} {:?} {:?}{budget}", it.port, it.balance, it.pool.connections_max)
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn ports_replace_and_subsets_complete() {
        let pool = Some(Pool { connections_max: Some(7), ..Pool::default() });
        let budget = Some(RetryBudget { share: Fraction::ALL, at_least: 1 });
        let all = Sections { balancing: balancing(Balance::Random), pool, retry_budget: budget, ..Sections::default() };
        let port = Sections { balancing: balancing(Balance::RoundRobin), ..Sections::default() };
        let host = Reach { all, ports: [(81, port)].into() };
        let expected = ["None Random Some(7) budget", "Some(81) RoundRobin None budget"];
        assert_eq!(shown(&entries(&host, None, &"n".into())), expected);
        let subset = Reach {
            all: Sections { balancing: balancing(Balance::Passthrough), ..Sections::default() },
            ports: [(82, Sections::default())].into(),
        };
        let expected =
            ["None Passthrough Some(7) budget", "Some(81) Passthrough None budget", "Some(82) Random Some(7) budget"];
        assert_eq!(shown(&entries(&host, Some(&subset), &"n".into())), expected);
    }
}
