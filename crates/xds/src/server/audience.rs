//! Who is told what: the audience of a resource, and the scope of a session.
//!
//! The kind of a session decides which kinds of resource it may ask for, the audience which of
//! the resources it is told of. Whoever is not in the audience is told neither of the resource
//! nor, unless it was told of it before, of its end.

use crate::Kind;
use mesh::{Change, Str};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Whom a resource is for, of the sessions that may ask for its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// All of them.
    Everyone,
    /// These waypoints: `namespace/name` of their Gateways.
    Waypoints(Arc<BTreeSet<Str>>),
}

/// A change, and who is told of it.
#[derive(Clone, Debug)]
pub struct Publication {
    /// What changes.
    pub change: Change,
    /// Who is told. A removal is told to those who were told of the resource, whatever stands here.
    pub audience: Audience,
}

impl From<Change> for Publication {
    fn from(change: Change) -> Self {
        Self { change, audience: Audience::Everyone }
    }
}

/// What a session may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Workloads, services and L4 policies: a node proxy must find any of them.
    NodeProxy,
    /// Workloads, services, and the rules that are for this waypoint: `namespace/name` of its
    /// Gateway.
    Waypoint(Str),
}

impl Scope {
    /// The kinds it may ask for. The others are not served to it.
    pub fn kinds(&self) -> &'static [Kind] {
        match self {
            Self::NodeProxy => Kind::NODE_PROXY,
            Self::Waypoint(_) => Kind::WAYPOINT,
        }
    }
}

/// Who sees a resource, and since which place of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Viewers {
    Everyone(u64),
    Waypoints(BTreeMap<Str, u64>),
}

/// One who sees a resource, as [`Viewers`] tell them apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Viewer {
    Everyone,
    Waypoint(Str),
}

impl Viewers {
    /// The audience of a resource whose viewers were `earlier`: who stays has seen it all along,
    /// who is new sees it from `place` on.
    pub(super) fn of(audience: &Audience, earlier: Option<&Self>, place: u64) -> Self {
        let since = |scope| earlier.and_then(|earlier| earlier.since(&scope)).unwrap_or(place);
        match audience {
            // The first who saw it must hear of its end, and then all others do as well.
            Audience::Everyone => Self::Everyone(match earlier {
                Some(Self::Everyone(since)) => *since,
                Some(Self::Waypoints(names)) => names.values().copied().min().unwrap_or(place),
                None => place,
            }),
            Audience::Waypoints(names) => {
                Self::Waypoints(names.iter().map(|name| (name.clone(), since(Scope::Waypoint(name.clone())))).collect())
            }
        }
    }

    /// Since when a session has seen it; none: it does not.
    pub(super) fn since(&self, scope: &Scope) -> Option<u64> {
        match (self, scope) {
            (Self::Everyone(since), _) => Some(*since),
            (Self::Waypoints(names), Scope::Waypoint(name)) => names.get(name).copied(),
            (Self::Waypoints(_), Scope::NodeProxy) => None,
        }
    }

    /// Whether everyone sees it when `later` do, and only some did: nobody knows which of them.
    pub(super) fn opens(&self, later: &Self) -> bool {
        matches!((self, later), (Self::Waypoints(_), Self::Everyone(_)))
    }

    /// Who sees it no more when `later` do, and since when they had.
    pub(super) fn without(&self, later: &Self) -> Vec<(Viewer, u64)> {
        match (self, later) {
            (_, Self::Everyone(_)) => Vec::new(),
            (Self::Everyone(since), Self::Waypoints(_)) => vec![(Viewer::Everyone, *since)],
            (Self::Waypoints(names), Self::Waypoints(later)) => {
                let gone = names.iter().filter(|(name, _)| !later.contains_key(*name));
                gone.map(|(name, since)| (Viewer::Waypoint(name.clone()), *since)).collect()
            }
        }
    }
}

impl Viewer {
    /// Whether a session is meant.
    pub(super) fn is(&self, scope: &Scope) -> bool {
        match (self, scope) {
            (Self::Everyone, _) => true,
            (Self::Waypoint(viewer), Scope::Waypoint(name)) => viewer == name,
            (Self::Waypoint(_), Scope::NodeProxy) => false,
        }
    }
}
