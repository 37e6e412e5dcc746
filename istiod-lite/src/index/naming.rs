//! Who names which gateway, so that a gateway's change touches them and nobody else.

use super::told::{Name, Owner, Source};
use mesh::Str;
use std::collections::{BTreeMap, BTreeSet};

/// Who can name a gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Namer {
    /// A namespace, for all that is in it.
    Namespace(Str),
    Source(Source),
    Owner(Owner),
}

/// Who names which gateway, both ways.
#[derive(Debug, Default)]
pub(super) struct Naming {
    by_gateway: BTreeMap<Name, BTreeSet<Namer>>,
    named: BTreeMap<Namer, Vec<Name>>,
}

impl Naming {
    /// Says which gateways somebody names now.
    pub(super) fn put(&mut self, namer: Namer, gateways: Vec<Name>) {
        for gateway in self.named.remove(&namer).into_iter().flatten() {
            if let Some(all) = self.by_gateway.get_mut(&gateway) {
                all.remove(&namer);
                if all.is_empty() {
                    self.by_gateway.remove(&gateway);
                }
            }
        }
        for gateway in &gateways {
            self.by_gateway.entry(gateway.clone()).or_default().insert(namer.clone());
        }
        if !gateways.is_empty() {
            self.named.insert(namer, gateways);
        }
    }

    /// Those that name a gateway.
    pub(super) fn of(&self, gateway: &Name) -> impl Iterator<Item = &Namer> {
        self.by_gateway.get(gateway).into_iter().flatten()
    }
}
