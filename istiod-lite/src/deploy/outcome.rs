//! What became of the deployment of each Gateway, for whoever writes its status.

use crate::facts::{Condition, FactKey};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What is wrong, by Gateway. By default nothing is.
#[derive(Debug, Default)]
pub struct Outcomes {
    failed: Mutex<BTreeMap<FactKey, Condition>>,
}

impl Outcomes {
    /// What became of a Gateway; `None`: all is well, or it is nobody's to deploy here. Returns whether
    /// that is new.
    pub fn put(&self, gateway: &FactKey, failure: Option<Condition>) -> bool {
        let mut failed = self.lock();
        match failure {
            None => failed.remove(gateway).is_some(),
            Some(failure) => {
                let known = failed.get(gateway) == Some(&failure);
                failed.insert(gateway.clone(), failure);
                !known
            }
        }
    }

    /// What is wrong with a Gateway.
    pub fn of(&self, gateway: &FactKey) -> Option<Condition> {
        self.lock().get(gateway).cloned()
    }

    /// Of Gateways that are not there nothing is known.
    pub fn keep(&self, there: impl Fn(&FactKey) -> bool) {
        self.lock().retain(|gateway, _| there(gateway));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FactKey, Condition>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The objects cannot be made of what was written.
pub fn invalid(message: String) -> Condition {
    Condition::unmet("Accepted", "InvalidParameters", message)
}

/// The objects could not be written.
pub fn undeployed(message: String) -> Condition {
    Condition::unmet("Programmed", "DeploymentFailed", message)
}
