//! The rules of a service and of the waypoint together, ready to be asked, kept as long as they stay
//! the same.
//!
//! What the control plane said nothing of is not served ([`Missing`]): rules that say nothing are said,
//! and rules that never came, or could not be read, must not leave anything open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use chassis::env::{ProcessEnvironment, Strings};
use foldhash::fast::RandomState;
use mesh::route::text::Fraction;
use mesh::route::{Compiled, CompiledGateway, GatewayRules, ServiceRules};
use mesh::{ServiceKey, Str, View};

use crate::authn::{Authenticator, KeyStore};
use crate::limits::CLUSTERS_MAX;
use crate::report::Telling;
use crate::trace::Settings;

/// Rules without which nothing is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Those of the waypoint's own Gateway.
    #[error("the waypoint has no rules of its own yet")]
    Gateway,
    /// Those of the service.
    #[error("the waypoint has no rules for this service yet")]
    Service,
}

/// Rules, ready to be asked.
#[derive(Debug)]
pub struct Prepared {
    /// Of the service.
    pub service: Arc<Compiled>,
    /// Of the waypoint.
    pub gateway: Arc<CompiledGateway>,
    /// What is told of its requests.
    pub telling: Telling,
    /// Which of them are traced.
    pub tracing: Settings,
    /// Whose tokens are accepted.
    pub authenticator: Authenticator,
    /// Why nothing may be served by them.
    pub missing: Option<Missing>,
    /// Whether the control plane said what the rules of the service are.
    told: bool,
}

/// The rules of all services that somebody asked for.
pub struct Preparations {
    gateway: String,
    log: bool,
    keys: KeyStore,
    nothing: Arc<CompiledGateway>,
    /// By service; without one for workloads that are asked for by address.
    known: ArcSwap<HashMap<Option<ServiceKey>, Arc<Prepared>, RandomState>>,
    adding: Mutex<()>,
}

impl Preparations {
    /// For the Gateway `namespace/name`; `log` is whether requests are logged where nobody says.
    pub fn new(namespace: &Str, name: &Str, log: bool, keys: KeyStore) -> Self {
        let rules = GatewayRules::of(namespace.clone(), name.clone());
        let gateway = rules.key();
        let nothing = CompiledGateway::new(rules).expect("rules that say nothing can be used");
        Self { gateway, log, keys, nothing: Arc::new(nothing), known: ArcSwap::default(), adding: Mutex::default() }
    }

    /// The rules for requests to a service, or to workloads by their address.
    pub fn of(&self, view: &View, service: Option<&ServiceKey>) -> Arc<Prepared> {
        let gateway = view.gateway_rules(&self.gateway).unwrap_or(&self.nothing);
        let told = service.and_then(|service| view.service_rules(service));
        let known = self.known.load();
        // The key is cloned for the look-up: three counts, and no text is copied.
        let found = known.get(&service.cloned()).filter(|prepared| prepared.is_of(told, gateway));
        found.cloned().unwrap_or_else(|| self.prepare(service, told, gateway))
    }

    fn prepare(
        &self,
        service: Option<&ServiceKey>,
        told: Option<&Arc<Compiled>>,
        gateway: &Arc<CompiledGateway>,
    ) -> Arc<Prepared> {
        let _one = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.known.load();
        let key = service.cloned();
        if let Some(found) = before.get(&key).filter(|prepared| prepared.is_of(told, gateway)) {
            return found.clone();
        }
        let compiled = told.cloned().unwrap_or_else(|| {
            let nobody = || ServiceKey { namespace: "".into(), hostname: "".into() };
            let rules = ServiceRules::of(service.cloned().unwrap_or_else(nobody));
            Arc::new(Compiled::new(rules).expect("rules that say nothing can be used"))
        });
        let own = told.map(|compiled| &compiled.rules().telemetry);
        let (telling, complaints) = Telling::of(own, &gateway.rules().telemetry, self.log);
        for complaint in complaints {
            tracing::warn!(
                service = service.map(|key| key.to_string()),
                complaint,
                "Telemetry cannot be heeded in part"
            );
        }
        let environment = |name: &str| ProcessEnvironment.value(name);
        let tracing = Settings::of(own, &gateway.rules().telemetry, Fraction::NONE, environment);
        let rules = [&gateway.rules().guards, &compiled.rules().guards];
        let authenticator =
            Authenticator::new(rules.into_iter().flat_map(|guards| &guards.authentications), &self.keys);
        let prepared = Arc::new(Prepared {
            missing: missing(!Arc::ptr_eq(gateway, &self.nothing), service.is_some(), told.is_some()),
            told: told.is_some(),
            service: compiled,
            gateway: gateway.clone(),
            telling,
            tracing,
            authenticator,
        });
        let mut known = HashMap::clone(&before);
        if known.len() >= CLUSTERS_MAX {
            known.clear();
        }
        known.insert(key, prepared.clone());
        self.known.store(Arc::new(known));
        prepared
    }
}

impl Prepared {
    fn is_of(&self, told: Option<&Arc<Compiled>>, gateway: &Arc<CompiledGateway>) -> bool {
        let service = match told {
            Some(told) => Arc::ptr_eq(told, &self.service),
            None => !self.told,
        };
        service && Arc::ptr_eq(gateway, &self.gateway)
    }
}

/// What is missing: the rules of the waypoint are needed always, those of a service for a service.
fn missing(gateway: bool, is_service: bool, service: bool) -> Option<Missing> {
    match (gateway, is_service, service) {
        (false, _, _) => Some(Missing::Gateway),
        (true, true, false) => Some(Missing::Service),
        (true, true, true) | (true, false, _) => None,
    }
}

#[cfg(test)]
mod tests;
