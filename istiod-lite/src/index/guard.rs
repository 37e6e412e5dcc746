//! What is behind a waypoint refuses whom the waypoint did not let through.
//!
//! Node proxies of callers send traffic to the waypoint, but a caller that has none, or is not
//! honest, could connect to the pod itself. So each service behind a waypoint has a policy, which
//! its endpoints' node proxies enforce: on the service's ports only its waypoint may call. A pod's
//! port cannot tell by which service it was addressed, so where services share an endpoint and a
//! port, the waypoints of all of them may call there.

use super::told::Name;
use mesh::{
    Policy, ServiceKey, Str,
    policy::{Action, Clause, Match, PolicyScope, Rule, StringMatch, Values},
};
use std::collections::{BTreeMap, BTreeSet};

/// What a policy of this kind guards.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Guard {
    /// The workloads of a namespace that are behind a workload waypoint, on every port.
    Workloads { namespace: Str, waypoint: Name },
    /// The endpoints of a service behind a waypoint, on its ports. `Ok` is the name of a Service,
    /// `Err` the hostname of a service entry.
    Service { key: ServiceKey, name: Result<Str, Str> },
}

impl Guard {
    fn namespace(&self) -> &Str {
        match self {
            Self::Workloads { namespace, .. } => namespace,
            Self::Service { key, .. } => &key.namespace,
        }
    }

    /// The policy's name. An underscore is in no name of Kubernetes, so it is never somebody's own.
    fn name(&self) -> String {
        match self {
            Self::Workloads { waypoint: (of, name), .. } => {
                format!("istio_only_via_waypoint_workloads_{of}_{name}")
            }
            Self::Service { name: Ok(name), .. } => format!("istio_only_via_waypoint_{name}"),
            Self::Service { name: Err(host), .. } => format!("istio_only_via_waypoint_host_{host}"),
        }
    }

    /// `namespace/name` of the policy.
    pub(super) fn key(&self) -> Str {
        format!("{}/{}", self.namespace(), self.name()).into()
    }
}

/// The guards of one workload, and the ports they guard; none: every port.
pub(super) type Guards = BTreeMap<Guard, BTreeSet<u16>>;

/// Which guards have workloads, and which of them meet at a port of one.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    /// Guard → (port, or 0 for all; the other guard, or itself) → at how many workloads.
    meetings: BTreeMap<Guard, BTreeMap<(u16, Guard), usize>>,
}

impl Guarded {
    /// Takes in how the guards of a workload change. Those whose policy may be another come back.
    pub(super) fn change(&mut self, old: &Guards, new: &Guards) -> BTreeSet<Guard> {
        let mut changed = BTreeSet::new();
        if old == new {
            return changed;
        }
        for (guard, meeting) in meetings(new) {
            let count = self.meetings.entry(guard.clone()).or_default().entry(meeting).or_default();
            *count += 1;
            if *count == 1 {
                changed.insert(guard);
            }
        }
        for (guard, meeting) in meetings(old) {
            let Some(all) = self.meetings.get_mut(&guard) else { continue };
            let Some(count) = all.get_mut(&meeting) else { continue };
            *count -= 1;
            if *count == 0 {
                all.remove(&meeting);
                if all.is_empty() {
                    self.meetings.remove(&guard);
                }
                changed.insert(guard);
            }
        }
        changed
    }

    /// A guard and those that meet it: their policies depend on its waypoint.
    pub(super) fn around(&self, guard: &Guard) -> BTreeSet<Guard> {
        let met = self.meetings.get(guard).into_iter().flat_map(BTreeMap::keys);
        met.map(|(_, other)| other.clone()).chain([guard.clone()]).collect()
    }

    /// The guards of workloads.
    pub(super) fn of_workloads(&self) -> impl Iterator<Item = &Guard> {
        self.meetings.keys().take_while(|guard| matches!(guard, Guard::Workloads { .. }))
    }

    /// The policy of a guard, if it guards anything. `callers` says whom a guard's waypoint is.
    pub(super) fn policy(&self, guard: &Guard, callers: impl Fn(&Guard) -> BTreeSet<Str>) -> Option<Policy> {
        let meetings = self.meetings.get(guard)?;
        let mut by_port: BTreeMap<u16, BTreeSet<Str>> = BTreeMap::new();
        for (port, other) in meetings.keys() {
            by_port.entry(*port).or_default().extend(callers(other));
        }
        let mut by_callers: BTreeMap<BTreeSet<Str>, Vec<u16>> = BTreeMap::new();
        for (port, callers) in by_port {
            by_callers.entry(callers).or_default().push(port);
        }
        Some(Policy {
            name: guard.name().into(),
            namespace: guard.namespace().clone(),
            scope: PolicyScope::WorkloadSelector,
            action: Action::Deny,
            rules: by_callers.into_iter().map(|(callers, ports)| rule(callers, ports)).collect(),
            dry_run: false,
        })
    }
}

/// Hits everybody but these callers, on these ports; 0 is every port.
fn rule(callers: BTreeSet<Str>, ports: Vec<u16>) -> Rule {
    let none_of: Vec<_> = callers.into_iter().map(StringMatch::Exact).collect();
    let others = Match { principals: Values { any_of: vec![], none_of }, ..Match::default() };
    let here = Match { destination_ports: Values { any_of: ports, none_of: vec![] }, ..Match::default() };
    let every_port = here.destination_ports.any_of.contains(&0);
    // A match that says nothing would never hit, and a clause that is not there always does.
    let clauses = [(!others.principals.none_of.is_empty()).then_some(others), (!every_port).then_some(here)];
    Rule { clauses: clauses.into_iter().flatten().map(|one| Clause { matches: vec![one] }).collect() }
}

/// Every two guards that meet at a workload, and where.
fn meetings(guards: &Guards) -> Vec<(Guard, (u16, Guard))> {
    let mut found = Vec::new();
    for (guard, ports) in guards {
        for (other, others) in guards {
            match (guard, other) {
                (Guard::Workloads { .. }, _) => found.push((guard.clone(), (0, other.clone()))),
                (Guard::Service { .. }, Guard::Workloads { .. }) => {
                    found.extend(ports.iter().map(|port| (guard.clone(), (*port, other.clone()))));
                }
                (Guard::Service { .. }, Guard::Service { .. }) => {
                    let shared = ports.intersection(others);
                    found.extend(shared.map(|port| (guard.clone(), (*port, other.clone()))));
                }
            }
        }
    }
    found
}
