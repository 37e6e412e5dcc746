//! One connected proxy and what it has already been sent. Pure: no clock, no socket, no task.
//!
//! A session is a place in the catalog's log for each kind, and the nonces that are not answered
//! yet. It never waits for an answer before it sends more: an answer tells that a proxy is well,
//! it does not steer.
//!
//! In one round policies and rules that are new or different go before addresses, and those that
//! are gone after them: a workload never names a policy that the proxy has not got, and neither it
//! nor a service stands for a moment without what it is still to be judged by.

use super::{
    audience::Scope,
    catalog::{Contents, Head, Item},
};
use crate::{
    Kind, codec, digests, limits,
    wire::{ControlPlane, Request, Response},
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

/// What one proxy has been sent.
#[derive(Debug)]
pub struct Session {
    /// Makes this session's nonces unlike any other's.
    id: u64,
    scope: Scope,
    sent: u64,
    kinds: [Subscription; Kind::ALL.len()],
}

/// What it asked for of one kind.
#[derive(Debug, Default)]
struct Subscription {
    /// It has asked at all.
    asked: bool,
    /// It wants everything, and not only `names`.
    wildcard: bool,
    names: BTreeSet<String>,
    /// Where it stands in the log; `None`: it has been told nothing.
    place: Option<u64>,
    /// What must be answered even if there is nothing to say.
    owed: Option<Owed>,
    /// Nonces that were sent and not answered.
    nonces: VecDeque<String>,
}

/// A question that has not been answered.
#[derive(Debug)]
enum Owed {
    /// Everything, except what the client already has: name → version.
    Everything(BTreeMap<String, String>),
    /// These names.
    Names(BTreeSet<String>),
}

/// What a request was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It asks for something, and is owed an answer.
    Asked(Kind),
    /// The latest response was taken.
    Acked(Kind),
    /// A response was refused, at least in part; what could be read of it is in force.
    Nacked(Kind, String),
    /// It answers a response that this session did not send, or long ago. It is ignored.
    Stale(Kind),
    /// It is of a kind that is not served. It is ignored.
    Unserved(String),
}

/// Something to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What it is about.
    pub kind: Kind,
    /// The message.
    pub response: Response,
    /// When the oldest of the changes in it came in; `None` in an answer to a question.
    pub oldest: Option<Instant>,
}

/// What a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// There is nothing to tell.
    Nothing,
    /// There are changes that may wait a little to be told with others.
    Changes,
    /// There is something that may restrict, or a question.
    Urgent,
}

/// The session is further behind than the log reaches; it must begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this stream fell too far behind; connect again with the versions you have")]
pub struct Behind;

impl Session {
    /// A session that may see `scope` and has not asked for anything.
    pub fn new(id: u64, scope: Scope) -> Self {
        Self { id, scope, sent: 0, kinds: Default::default() }
    }

    /// Takes a request.
    pub fn request(&mut self, request: Request) -> Event {
        let kind = Kind::of_type_url(&request.type_url).filter(|kind| self.scope.kinds().contains(kind));
        let Some(kind) = kind else {
            return Event::Unserved(request.type_url.chars().take(200).collect());
        };
        let subscription = &mut self.kinds[kind.index()];
        if !subscription.asked {
            subscription.begin(request);
            return Event::Asked(kind);
        }
        let answer = match subscription.answers(&request.response_nonce) {
            Answers::Nothing => None,
            Answers::Unknown => return Event::Stale(kind),
            Answers::One if request.error_detail.is_none() => Some(Event::Acked(kind)),
            Answers::One => {
                let reason = request.error_detail.as_ref().map(|status| status.message.clone());
                Some(Event::Nacked(kind, reason.unwrap_or_default()))
            }
        };
        subscription.extend(&request);
        answer.unwrap_or(Event::Asked(kind))
    }

    /// What there is to do for a session when the log ends at `head`.
    pub fn pending(&self, head: Head) -> Pending {
        let asked = || Kind::ALL.map(|kind| (&self.kinds[kind.index()], head.of(kind))).into_iter();
        let behind = |subscription: &Subscription, place| subscription.place.is_some_and(|at| at < place);
        if asked().any(|(subscription, end)| subscription.owed.is_some() || behind(subscription, end.urgent)) {
            Pending::Urgent
        } else if asked().any(|(subscription, end)| behind(subscription, end.place)) {
            Pending::Changes
        } else {
            Pending::Nothing
        }
    }

    /// The client has asked for addresses but not for all else that is for it yet: its other
    /// requests are on the way, and answering all in one round keeps their order.
    pub fn asked_half(&self) -> bool {
        let asked = |kind: &Kind| self.kinds[kind.index()].asked;
        self.kinds[Kind::Address.index()].owed.is_some() && !self.scope.kinds().iter().all(asked)
    }

    /// Everything that this session has not had, in the order in which it is to be sent.
    pub fn round(&mut self, contents: &Contents) -> Result<Vec<Outgoing>, Behind> {
        let mut deltas = Kind::ALL.map(|kind| self.kinds[kind.index()].delta(kind, contents, &self.scope));
        if deltas.iter().any(|delta| delta.behind) {
            return Err(Behind);
        }
        let addresses = std::mem::take(&mut deltas[Kind::Address.index()]);
        let mut gone: [Delta; Kind::ALL.len()] = Default::default();
        for (delta, gone) in deltas.iter_mut().zip(&mut gone) {
            if !addresses.is_empty() {
                gone.removed = std::mem::take(&mut delta.removed);
                gone.oldest = delta.oldest;
            }
            // Removals alone answer a question as well: then there is no empty response before.
            delta.answer &= gone.removed.is_empty() || !delta.updates.is_empty();
        }
        let before = Kind::ALL.into_iter().zip(deltas);
        let after = Kind::ALL.into_iter().zip(gone);
        let mut outgoing = Vec::new();
        for (kind, delta) in before.chain([(Kind::Address, addresses)]).chain(after) {
            if !delta.is_empty() {
                outgoing.push(self.response(kind, delta, contents.place()));
            }
        }
        Ok(outgoing)
    }

    fn response(&mut self, kind: Kind, delta: Delta, place: u64) -> Outgoing {
        self.sent += 1;
        let nonce = format!("{place}-{:016x}-{}", self.id, self.sent);
        let nonces = &mut self.kinds[kind.index()].nonces;
        if nonces.len() == limits::NONCES_MAX {
            nonces.pop_front();
        }
        nonces.push_back(nonce.clone());
        let response = Response {
            system_version_info: place.to_string(),
            resources: delta.updates,
            type_url: kind.type_url().into(),
            nonce,
            removed_resources: delta.removed,
            control_plane: delta.answer.then(|| ControlPlane { identifier: format!("istiod-lite {}", digests::WORD) }),
        };
        Outgoing { kind, response, oldest: if delta.answer { None } else { delta.oldest } }
    }
}

/// What a nonce answers.
enum Answers {
    Nothing,
    One,
    Unknown,
}

impl Subscription {
    fn begin(&mut self, request: Request) {
        self.asked = true;
        let star = |names: &[String]| names.iter().any(|name| name == "*");
        let (subscribe, unsubscribe) = (&request.resource_names_subscribe, &request.resource_names_unsubscribe);
        self.wildcard = (subscribe.is_empty() || star(subscribe)) && !star(unsubscribe);
        if self.wildcard {
            self.owed = Some(Owed::Everything(request.initial_resource_versions));
        } else {
            self.owed = Some(Owed::Names(BTreeSet::new()));
            self.extend(&request);
            // What it has from an earlier stream it still wants to hear of.
            let names = request.initial_resource_versions.into_keys().collect();
            self.ask(names);
        }
    }

    fn answers(&mut self, nonce: &str) -> Answers {
        if nonce.is_empty() {
            return Answers::Nothing;
        }
        match self.nonces.iter().position(|sent| sent == nonce) {
            Some(at) => {
                self.nonces.drain(..=at);
                Answers::One
            }
            None => Answers::Unknown,
        }
    }

    /// Later requests add names or take some back. A wildcard session has them all already.
    fn extend(&mut self, request: &Request) {
        for name in &request.resource_names_unsubscribe {
            self.names.remove(name);
        }
        let names = request.resource_names_subscribe.iter().filter(|name| *name != "*").cloned().collect();
        if !self.wildcard {
            self.ask(names);
        }
    }

    fn ask(&mut self, mut names: BTreeSet<String>) {
        if names.is_empty() {
            return;
        }
        if self.names.len() + names.len() > limits::ON_DEMAND_NAMES_MAX {
            tracing::warn!(max = limits::ON_DEMAND_NAMES_MAX, "proxy asks for more names than one may");
            names.clear();
        }
        self.names.extend(names.iter().cloned());
        match &mut self.owed {
            Some(Owed::Names(owed)) => owed.extend(names),
            Some(Owed::Everything(_)) => {}
            None => self.owed = Some(Owed::Names(names)),
        }
    }

    fn delta(&mut self, kind: Kind, contents: &Contents, scope: &Scope) -> Delta {
        if !self.asked {
            return Delta::default();
        }
        let place = self.place.replace(contents.place()).unwrap_or_else(|| contents.place());
        match self.owed.take() {
            Some(Owed::Everything(claims)) => match digests::claimed(kind, &claims) {
                Some(claimed) => Delta::of_buckets(kind, &claimed, contents, scope),
                None => Delta::of_everything(kind, claims, contents, scope),
            },
            _ if !contents.reaches(place) => Delta { behind: true, ..Delta::default() },
            Some(Owed::Names(asked)) => {
                let mut delta = Delta::of_changes(contents.since(kind, place, scope), |name| {
                    self.names.contains(name) && !asked.contains(name)
                });
                delta.answer_names(kind, &asked, contents, scope);
                delta
            }
            None if self.wildcard => Delta::of_changes(contents.since(kind, place, scope), |_| true),
            None => Delta::of_changes(contents.since(kind, place, scope), |name| self.names.contains(name)),
        }
    }
}

/// What one kind's response will say.
#[derive(Debug, Default)]
struct Delta {
    updates: Vec<Bytes>,
    removed: Vec<String>,
    /// It answers a question: it is sent even when there is nothing to say.
    answer: bool,
    behind: bool,
    oldest: Option<Instant>,
}

impl Delta {
    fn is_empty(&self) -> bool {
        !self.answer && self.updates.is_empty() && self.removed.is_empty()
    }

    fn of_everything(kind: Kind, mut claims: BTreeMap<String, String>, contents: &Contents, scope: &Scope) -> Self {
        let mut delta = Self { answer: true, ..Self::default() };
        let mut services = Vec::new();
        for item in contents.all(kind, scope) {
            let same = match claims.remove(&**item.name) {
                // Policies carry no version: whoever resumes is sent them all.
                Some(version) => kind.versioned() && version == codec::version(item.hash),
                None => false,
            };
            let (false, Some(bytes)) = (same, item.bytes) else { continue };
            let list = if item.is_service { &mut services } else { &mut delta.updates };
            list.push(bytes.clone());
        }
        delta.updates.append(&mut services);
        delta.removed = claims.into_keys().collect();
        delta
    }

    /// The whole of the buckets in which the client has something else.
    fn of_buckets(kind: Kind, claimed: &[digests::Digest], contents: &Contents, scope: &Scope) -> Self {
        let mut delta = Self { answer: true, ..Self::default() };
        let mut services = Vec::new();
        for number in contents.differing(kind, claimed) {
            delta.removed.push(digests::resent(number));
            for item in contents.bucket(kind, number, scope) {
                let list = if item.is_service { &mut services } else { &mut delta.updates };
                list.extend(item.bytes.cloned());
            }
        }
        delta.updates.append(&mut services);
        delta
    }

    fn of_changes<'a>(changes: impl Iterator<Item = Item<'a>>, wanted: impl Fn(&str) -> bool) -> Self {
        let mut delta = Self::default();
        let mut services = Vec::new();
        for item in changes.filter(|item| wanted(item.name)) {
            delta.oldest.get_or_insert(item.at);
            match item.bytes {
                Some(bytes) if item.is_service => services.push(bytes.clone()),
                Some(bytes) => delta.updates.push(bytes.clone()),
                None => delta.removed.push(item.name.to_string()),
            }
        }
        delta.updates.append(&mut services);
        delta
    }

    fn answer_names(&mut self, kind: Kind, names: &BTreeSet<String>, contents: &Contents, scope: &Scope) {
        self.answer = true;
        for name in names {
            match contents.find(kind, name, scope).and_then(|item| item.bytes) {
                Some(bytes) => self.updates.push(bytes.clone()),
                None => self.removed.push(name.clone()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
