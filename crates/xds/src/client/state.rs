//! What a client knows and what it answers. Pure: no clock, no socket, no task.
//!
//! It remembers the version of every resource it took, so that after a lost stream it is sent
//! only what changed; it does not hold the resources, which are the sink's. What it remembers it says resource by
//! resource, or in short, to a server that has said that it knows how ([`crate::digests`]).

use crate::{
    Kind, Node,
    codec::{self, DecodeError, Names},
    digests, limits, resource,
    wire::{Request, Response, Status},
};
use mesh::{Change, Str};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write,
};

/// A client of delta ADS.
#[derive(Debug)]
pub struct Client {
    node: Node,
    /// What it asks for, in this order.
    kinds: &'static [Kind],
    known: [Known; Kind::ALL.len()],
    synced: bool,
    /// The server of the last stream knows digests.
    knows_digests: bool,
    digests_from: usize,
    /// Texts that resources repeat.
    names: Names,
}

/// What it has of one kind.
#[derive(Debug, Default)]
struct Known {
    /// Name → version of everything that was taken and not removed.
    versions: HashMap<Str, Str>,
    /// A response has been handled on this stream.
    answered: bool,
    /// What it has was said in short on this stream, and has not been answered.
    in_short: bool,
}

/// A resource that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its name, as far as it could be read.
    pub name: String,
    /// Why.
    pub reason: DecodeError,
}

/// What a response comes to.
#[derive(Debug)]
pub struct Received {
    /// What it is about.
    pub kind: Kind,
    /// To apply, in this order and in one piece, before `reply` is sent.
    pub changes: Vec<Change>,
    /// The ACK or NACK.
    pub reply: Request,
    /// What was refused.
    pub refused: Vec<Refused>,
}

/// A response of a kind that was never asked for. It is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the control plane sent resources of type {0:?}, which were not asked for")]
pub struct Unasked(pub String);

impl Client {
    /// A client that asks for these kinds and knows nothing yet.
    pub fn new(node: Node, kinds: &'static [Kind]) -> Self {
        Self {
            node,
            kinds,
            known: Default::default(),
            synced: false,
            knows_digests: false,
            digests_from: digests::RESOURCES_MIN,
            names: Names::new(),
        }
    }

    /// Who has as many resources says it in short; [`digests::RESOURCES_MIN`] unless there is a reason.
    pub fn set_digests_from(&mut self, resources: usize) {
        self.digests_from = resources;
    }

    /// The first requests of a new stream, in the order in which they are sent.
    pub fn open(&mut self) -> Vec<Request> {
        for kind in self.kinds {
            let known = &mut self.known[kind.index()];
            known.answered = false;
            let much = known.versions.len() >= self.digests_from;
            known.in_short = self.knows_digests && digests::are_of(*kind) && much;
        }
        let request = |kind: &Kind| Request {
            node: Some(self.node.to_wire()),
            type_url: kind.type_url().into(),
            initial_resource_versions: self.known[kind.index()].claims(),
            ..Request::default()
        };
        self.kinds.iter().map(request).collect()
    }

    /// Every kind has once been answered on one and the same stream, so what was there then is
    /// known whole. Answers of two streams do not fit together: a workload of the first may name
    /// a policy that was gone before the second.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Every kind has been answered on the stream that [`Self::open`] began.
    pub fn current(&self) -> bool {
        self.kinds.iter().all(|kind| self.known[kind.index()].answered)
    }

    /// How many resources of a kind it has.
    pub fn count(&self, kind: Kind) -> usize {
        self.known[kind.index()].versions.len()
    }

    /// Takes a response: what can be read is to be applied, what cannot is refused alone.
    pub fn receive(&mut self, response: Response) -> Result<Received, Unasked> {
        let kind = Kind::of_type_url(&response.type_url).filter(|kind| self.kinds.contains(kind));
        let Some(kind) = kind else {
            return Err(Unasked(response.type_url.chars().take(200).collect()));
        };
        let identifier = response.control_plane.as_ref().map_or("", |it| &it.identifier);
        let known = &mut self.known[kind.index()];
        if !known.answered && digests::are_of(kind) {
            self.knows_digests = digests::known_to(identifier);
        }
        let resent = std::mem::take(&mut known.in_short).then(|| Resent::of(&response, self.knows_digests));
        let mut changes = Vec::with_capacity(response.resources.len() + response.removed_resources.len());
        let mut refused = Vec::new();
        for bytes in &response.resources {
            match codec::decode(kind, bytes, &mut self.names).and_then(|decoded| known.take(decoded)) {
                Ok(change) => changes.push(change),
                // What was known of it stays in force, and its version stays remembered.
                Err((name, reason)) => refused.push(Refused { name, reason }),
            }
        }
        // Updates first: a name that is on both lists ends up removed, as with Istio's proxy.
        let removed = match resent {
            Some(resent) => known.missing(&resent, &changes, &refused),
            None => response.removed_resources.into_iter().map(Str::from).collect(),
        };
        for name in removed {
            known.versions.remove(&name);
            changes.push(match kind {
                Kind::Address => Change::RemoveAddress(name),
                Kind::Authorization => Change::RemovePolicy(name),
                Kind::ServiceRules => Change::RemoveServiceRules(name),
                Kind::GatewayRules => Change::RemoveGatewayRules(name),
            });
        }
        known.answered = true;
        self.synced |= self.current();
        let reply = Request {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: (!refused.is_empty()).then(|| Status { code: 0, message: reasons(&refused) }),
            ..Request::default()
        };
        Ok(Received { kind, changes, reply, refused })
    }
}

impl Known {
    /// What it has, as the first request of a stream says it.
    fn claims(&self) -> BTreeMap<String, String> {
        if self.in_short {
            return [digests::claim(self.versions.iter().map(|(name, version)| (&**name, &**version)))].into();
        }
        self.versions.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect()
    }

    /// What it has and was not sent, of all that was to be sent: it is gone. What was sent and refused is not, and
    /// where one cannot say its name, it may be any.
    fn missing(&self, resent: &Resent, sent: &[Change], refused: &[Refused]) -> Vec<Str> {
        if refused.iter().any(|refused| refused.name.is_empty()) {
            return Vec::new();
        }
        let sent = sent.iter().map(|change| resource::of_change(change).1);
        let sent: HashSet<Str> = sent.chain(refused.iter().map(|refused| Str::from(&*refused.name))).collect();
        self.versions.keys().filter(|name| resent.covers(name) && !sent.contains(*name)).cloned().collect()
    }

    fn take(&mut self, decoded: codec::Decoded) -> Result<Change, (String, DecodeError)> {
        if self.versions.len() >= limits::RESOURCES_MAX && !self.versions.contains_key(&decoded.name) {
            return Err((decoded.name.to_string(), DecodeError::TooMany));
        }
        self.versions.insert(decoded.name, decoded.version);
        Ok(decoded.change)
    }
}

/// What was sent whole in answer to a client that said in short what it has.
enum Resent {
    Everything,
    Buckets(HashSet<usize>),
}

impl Resent {
    fn of(response: &Response, knows_digests: bool) -> Self {
        let removed = &response.removed_resources;
        // Not understood, it is a resource that the server has not got.
        if !knows_digests || removed.iter().any(|name| name == digests::CLAIM) {
            return Self::Everything;
        }
        Self::Buckets(removed.iter().filter_map(|name| digests::resent_bucket(name)).collect())
    }

    fn covers(&self, name: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Buckets(buckets) => buckets.contains(&digests::bucket(name)),
        }
    }
}

/// `name: reason` of each, as far as it fits.
fn reasons(refused: &[Refused]) -> String {
    let mut text = String::new();
    for (n, Refused { name, reason }) in refused.iter().enumerate() {
        if text.len() >= limits::NACK_BYTES_MAX {
            let _ = write!(text, "; and {} more", refused.len() - n);
            break;
        }
        let separator = if n == 0 { "" } else { "; " };
        let _ = write!(text, "{separator}{name}: {reason}");
    }
    text
}

#[cfg(test)]
mod tests;
