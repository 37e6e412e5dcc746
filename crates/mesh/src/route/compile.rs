//! Rules checked once and made ready to be asked: expressions compiled, matches sorted.

use super::{GatewayRules, ServiceRules};

/// Why rules cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct Unusable {
    /// Which part of them.
    pub place: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The rules of a service, ready to be asked.
#[derive(Clone, Debug)]
pub struct Compiled {
    rules: ServiceRules,
}

impl Compiled {
    /// Checks the rules and makes them ready.
    pub fn new(rules: ServiceRules) -> Result<Self, Unusable> {
        Ok(Self { rules })
    }

    /// The rules as they were given.
    pub fn rules(&self) -> &ServiceRules {
        &self.rules
    }
}

/// The rules of a waypoint, ready to be asked.
#[derive(Clone, Debug)]
pub struct CompiledGateway {
    rules: GatewayRules,
}

impl CompiledGateway {
    /// Checks the rules and makes them ready.
    pub fn new(rules: GatewayRules) -> Result<Self, Unusable> {
        Ok(Self { rules })
    }

    /// The rules as they were given.
    pub fn rules(&self) -> &GatewayRules {
        &self.rules
    }
}
