//! Rules checked once and made ready to be asked: expressions compiled, matches sorted.
//!
//! What cannot be used is refused here, whole, so that nothing that is asked later can fail, and
//! a waypoint keeps the rules it had.

use super::{
    GatewayRules, HttpRoute, HttpRule, ServiceRules, check,
    expression::Expression,
    head::Head,
    http::{Action, HttpMatch},
    index::{Candidate, Index},
    limit::{Fault, RateLimit},
    matcher::{self, Matcher, Text},
    rewrite::Substitution,
};
use crate::Str;
use std::collections::HashMap;

/// Why rules cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Unusable {
    /// Which part of them.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Unusable {
    /// This is wrong there.
    pub(crate) fn at(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into() }
    }
}

/// The rules of a service, ready to be asked.
#[derive(Clone, Debug)]
pub struct Compiled {
    rules: ServiceRules,
    /// Routes for every caller.
    everyone: Index,
    /// Routes for the callers of a namespace.
    callers: HashMap<Str, Index>,
    /// Of each route the rules.
    ready: Vec<Vec<ReadyRule>>,
    limits: Conditions,
    faults: Conditions,
    log_filter: Option<Expression>,
}

impl Compiled {
    /// Checks the rules and makes them ready.
    pub fn new(rules: ServiceRules) -> Result<Self, Unusable> {
        check::service(&rules)?;
        let mut by_caller: HashMap<Option<Str>, Vec<(usize, &HttpRoute)>> = HashMap::new();
        for (at, route) in rules.http.iter().enumerate() {
            by_caller.entry(route.callers.clone()).or_default().push((at, route));
        }
        let everyone = Index::new(&by_caller.remove(&None).unwrap_or_default())?;
        let mut callers = HashMap::new();
        for (caller, routes) in by_caller {
            if let Some(caller) = caller {
                callers.insert(caller, Index::new(&routes)?);
            }
        }
        let ready = |route: &HttpRoute| {
            let numbered = route.rules.iter().enumerate();
            numbered.map(|(at, rule)| ReadyRule::new(route, rule, &format!("{}, rule {at}", route.name))).collect()
        };
        Ok(Self {
            everyone,
            callers,
            ready: rules.http.iter().map(ready).collect::<Result<_, _>>()?,
            limits: Conditions::of_limits(&rules.limits, "limits of the service")?,
            faults: Conditions::of_faults(&rules.faults, "faults of the service")?,
            log_filter: log_filter(&rules.telemetry)?,
            rules,
        })
    }

    /// The rules as they were given.
    pub fn rules(&self) -> &ServiceRules {
        &self.rules
    }

    /// The rule that a request takes.
    pub fn select(&self, head: &Head<'_>) -> Selected<'_> {
        let own = head.caller_namespace().and_then(|namespace| self.callers.get(namespace));
        let found = own.and_then(|own| own.find(head)).or_else(|| self.everyone.find(head));
        match found.and_then(|found| self.hit(found)) {
            Some(hit) => Selected::Rule(hit),
            None => Selected::NoRoute {
                routes_exist: self.everyone.serves(head.port) || own.is_some_and(|own| own.serves(head.port)),
            },
        }
    }

    fn hit(&self, found: &Candidate) -> Option<Hit<'_>> {
        let route = self.rules.http.get(found.route)?;
        let rule = route.rules.get(found.rule)?;
        let ready = self.ready.get(found.route)?.get(found.rule)?;
        Some(Hit { route, rule, matched: found.matched.and_then(|at| rule.matches.get(at)), ready })
    }

    /// The limits of the whole service that count a request. Those of its rule count it too:
    /// [`Hit::limits`].
    pub fn limits<'a>(&'a self, head: &'a Head<'_>) -> impl Iterator<Item = &'a RateLimit> {
        self.limits.of(&self.rules.limits, head)
    }

    /// When a request is written to the access log; none: the waypoint's says.
    pub fn log_filter(&self) -> Option<&Expression> {
        self.log_filter.as_ref()
    }
}

/// The rules of a waypoint, ready to be asked.
#[derive(Clone, Debug)]
pub struct CompiledGateway {
    rules: GatewayRules,
    limits: Conditions,
    faults: Conditions,
    log_filter: Option<Expression>,
}

impl CompiledGateway {
    /// Checks the rules and makes them ready.
    pub fn new(rules: GatewayRules) -> Result<Self, Unusable> {
        check::gateway(&rules)?;
        Ok(Self {
            limits: Conditions::of_limits(&rules.limits, "limits of the waypoint")?,
            faults: Conditions::of_faults(&rules.faults, "faults of the waypoint")?,
            log_filter: log_filter(&rules.telemetry)?,
            rules,
        })
    }

    /// The rules as they were given.
    pub fn rules(&self) -> &GatewayRules {
        &self.rules
    }

    /// The limits of the whole waypoint that count a request.
    pub fn limits<'a>(&'a self, head: &'a Head<'_>) -> impl Iterator<Item = &'a RateLimit> {
        self.limits.of(&self.rules.limits, head)
    }

    /// When a request is written to the access log, where the service says nothing.
    pub fn log_filter(&self) -> Option<&Expression> {
        self.log_filter.as_ref()
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub enum Selected<'a> {
    /// It takes this rule.
    Rule(Hit<'a>),
    /// No rule takes it.
    NoRoute {
        /// There are routes for the port: it is answered with 404. Otherwise it goes to the service.
        routes_exist: bool,
    },
}

/// A rule that a request takes.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    /// Its route.
    pub route: &'a HttpRoute,
    /// The rule.
    pub rule: &'a HttpRule,
    /// The match that agreed; none where the rule takes every request.
    pub matched: Option<&'a HttpMatch>,
    pub(super) ready: &'a ReadyRule,
}

impl<'a> Hit<'a> {
    /// Route and rule, for logs.
    pub fn name(&self) -> &'a Str {
        &self.ready.name
    }

    /// The limits of the rule that count a request.
    pub fn limits(&self, head: &'a Head<'_>) -> impl Iterator<Item = &'a RateLimit> + use<'a> {
        self.ready.limits.of(&self.rule.limits, head)
    }
}

/// The faults that are tried on a request: those of its rule, else of its service, else of the
/// waypoint; of these the ones whose matches agree.
pub fn faults<'a>(
    gateway: &'a CompiledGateway,
    service: &'a Compiled,
    hit: Option<&Hit<'a>>,
    head: &'a Head<'_>,
) -> impl Iterator<Item = &'a Fault> + use<'a> {
    let own = hit.map(|hit| (&hit.ready.faults, &hit.rule.faults)).filter(|(_, faults)| !faults.is_empty());
    let services = Some((&service.faults, &service.rules.faults)).filter(|(_, faults)| !faults.is_empty());
    let (conditions, faults) = own.or(services).unwrap_or((&gateway.faults, &gateway.rules.faults));
    conditions.of(faults, head)
}

/// What of a rule was made ready.
#[derive(Clone, Debug)]
pub(super) struct ReadyRule {
    name: Str,
    pub(super) origins: Vec<Text>,
    pub(super) rewrite: Option<Substitution>,
    pub(super) redirect: Option<Substitution>,
    limits: Conditions,
    faults: Conditions,
}

impl ReadyRule {
    fn new(route: &HttpRoute, rule: &HttpRule, place: &str) -> Result<Self, Unusable> {
        let origins = rule.filters.cors.iter().flat_map(|cors| &cors.allow_origins);
        let redirect = match &rule.action {
            Action::Redirect(redirect) => redirect.path.as_ref(),
            Action::Forward(_) | Action::Respond(_) => None,
        };
        let substitution = |path| Substitution::of(path, &format!("{place}, path rewrite"));
        Ok(Self {
            name: format!("{}/{}", route.name, rule.name).into(),
            // Origins are compared without case: scheme and host have none.
            origins: origins
                .map(|origin| Text::new(origin, true, &format!("{place}, cors")))
                .collect::<Result<_, _>>()?,
            rewrite: substitution(rule.filters.rewrite.path.as_ref())?,
            redirect: substitution(redirect)?,
            limits: Conditions::of_limits(&rule.limits, place)?,
            faults: Conditions::of_faults(&rule.faults, place)?,
        })
    }
}

/// Which requests each of a list is for.
#[derive(Clone, Debug, Default)]
struct Conditions(Vec<Vec<Matcher>>);

impl Conditions {
    fn of_limits(limits: &[RateLimit], place: &str) -> Result<Self, Unusable> {
        let one = |limit: &RateLimit| Matcher::alternatives(&limit.matches, &format!("{place}, limit {}", limit.name));
        Ok(Self(limits.iter().map(one).collect::<Result<_, _>>()?))
    }

    fn of_faults(faults: &[Fault], place: &str) -> Result<Self, Unusable> {
        let numbered = faults.iter().enumerate();
        let one = |(at, fault): (usize, &Fault)| Matcher::alternatives(&fault.matches, &format!("{place}, fault {at}"));
        Ok(Self(numbered.map(one).collect::<Result<_, _>>()?))
    }

    fn of<'a, T>(&'a self, all: &'a [T], head: &'a Head<'_>) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let pairs = all.iter().zip(&self.0);
        pairs.filter(|(_, alternatives)| matcher::any(alternatives, head)).map(|(one, _)| one)
    }
}

fn log_filter(telemetry: &super::Telemetry) -> Result<Option<Expression>, Unusable> {
    let filter = telemetry.access_log.as_ref().and_then(|log| log.filter.as_deref());
    let place = "filter of the access log";
    filter.map(|text| Expression::parse(text).map_err(|error| Unusable::at(place, error.to_string()))).transpose()
}

#[cfg(test)]
mod tests;
