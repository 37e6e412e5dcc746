//! What to do next about one pod: what should be, against what is. Pure.
//!
//! Taking in: find the namespace and see that it is the pod's, program the rules, have the proxy
//! take the sockets, let the node's probes through, and only then say that the pod is in. In a pod that runs
//! already the proxy comes before the rules, so that what connects meanwhile is not led to closed ports; in one that is
//! about to start, and where there is no proxy, the rules come first, and nothing gets around them. Taking
//! out is the way back, with one difference: the rules first lead no new connection to the proxy,
//! which then ends those that are open, and only after that they go. Each step is small and may be done again, so that whatever happens in
//! between (a failure, a changed mind, a restart of the agent) the next step follows from what is.

use super::place::Place;
use crate::net::redirect::Redirect;
use std::net::IpAddr;

/// A pod that should be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which incarnation of the name.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
    /// Where its namespace is.
    pub netns: Place,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// How it is to be redirected.
    pub redirect: Redirect,
    /// Something runs in it, which has been outside of the mesh if it was not taken in yet.
    pub running: bool,
}

/// What should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// It should be in.
    In(Member),
    /// It should be out, and lives on.
    Out {
        /// Where its namespace is, should something of an earlier agent be left there.
        netns: Option<Place>,
        /// The mesh is being removed: what is open has only seconds to end.
        hurry: bool,
    },
    /// It is no more. Its rules stay: whatever still runs in there gets nowhere.
    Gone,
}

/// What is known of the rules in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rules {
    /// Nothing: it was not looked.
    Unknown,
    /// There are none of ours.
    Absent,
    /// There are some of ours, but not those that should be: what was led to the proxy is to stay closed meanwhile.
    Other,
    /// These are in place.
    Set(Redirect),
    /// What is open goes on with them, what is new does not come to the proxy.
    LettingGo,
}

/// What the Pod's annotation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Nothing.
    Nothing,
    /// The rules are in, the proxy is not yet: `pending`.
    Pending,
    /// It is in: `enabled`.
    Enabled,
}

/// What the proxies know of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxied {
    /// Nothing.
    No,
    /// Perhaps of it: they were asked, or an earlier agent asked them.
    Asked,
    /// One has taken it.
    Yes,
}

/// What is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Have {
    /// Of which incarnation all of this is.
    pub uid: Option<String>,
    /// The namespace that is held, and the addresses that were seen in it.
    pub entered: Option<(Place, Vec<IpAddr>)>,
    /// The rules in it.
    pub rules: Rules,
    /// What proxies know of it.
    pub proxied: Proxied,
    /// The addresses of it that probes may reach.
    pub probed: Vec<IpAddr>,
    /// What its annotation says.
    pub told: Told,
    /// The namespace turned out not to be the pod's: nothing may be done in its name there.
    pub doubted: bool,
}

impl Have {
    /// Whether a pod that runs outside of the mesh joins it, with the connections that it makes from now on. One that was
    /// in it before, or has rules of ours of whatever make, does not join: it is closed until all is right again.
    pub fn joins(&self, member: &Member) -> bool {
        member.running && self.told == Told::Nothing && matches!(self.rules, Rules::Absent | Rules::LettingGo)
    }

    /// A pod that nobody has dealt with, unless its annotation says so.
    pub fn of(told: Told) -> Self {
        let (rules, proxied) = match told {
            Told::Nothing => (Rules::Absent, Proxied::No),
            Told::Pending | Told::Enabled => (Rules::Unknown, Proxied::Asked),
        };
        Self { uid: None, entered: None, rules, proxied, probed: Vec::new(), told, doubted: false }
    }
}

/// One step on the way from what is to what should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Open its namespace and see that it holds its addresses.
    Enter,
    /// Look which rules are in place.
    Inspect,
    /// Put its rules in place.
    Program,
    /// Have the proxy take it.
    Propose,
    /// Let probes through to it.
    Probe,
    /// Say this on the Pod.
    Tell(Told),
    /// No longer let probes through.
    Unprobe,
    /// Have the proxies let go of it.
    Withdraw,
    /// Lead no new connection to the proxy.
    LetGo,
    /// Take the rules away, when what was open had its time to end.
    Unprogram,
    /// Let go of its namespace.
    Leave,
    /// Nothing to do.
    Rest,
    /// Nothing is left of this incarnation.
    End,
}

/// What to do next.
pub fn next(want: &Want, have: &Have) -> Step {
    match want {
        _ if have.doubted => next_out(have, false).unwrap_or(Step::End),
        Want::In(member) if have.uid.as_ref().is_none_or(|uid| *uid == member.uid) => next_in(member, have),
        // Another incarnation of the name: the one before is gone.
        Want::In(_) | Want::Gone => next_out(have, false).unwrap_or(Step::End),
        Want::Out { .. } => next_out(have, true).unwrap_or(Step::Rest),
    }
}

fn next_in(member: &Member, have: &Have) -> Step {
    let here = have
        .entered
        .as_ref()
        .is_some_and(|(netns, addresses)| *netns == member.netns && *addresses == member.addresses);
    if !here {
        return Step::Enter;
    }
    match &have.rules {
        Rules::Unknown => return Step::Inspect,
        Rules::Set(redirect) if *redirect == member.redirect => {}
        // Tried once: if there is no proxy, the pod is closed.
        Rules::Absent | Rules::LettingGo if member.running && have.proxied == Proxied::No => return Step::Propose,
        Rules::Absent | Rules::Other | Rules::Set(_) | Rules::LettingGo => return Step::Program,
    }
    if have.proxied != Proxied::Yes {
        Step::Propose
    } else if have.probed != member.addresses {
        Step::Probe
    } else if have.told != Told::Enabled {
        Step::Tell(Told::Enabled)
    } else {
        Step::Rest
    }
}

fn next_out(have: &Have, alive: bool) -> Option<Step> {
    if !have.probed.is_empty() {
        Some(Step::Unprobe)
    } else if alive && matches!(have.rules, Rules::Set(_) | Rules::Other | Rules::Unknown) {
        Some(Step::LetGo)
    } else if have.proxied != Proxied::No {
        Some(Step::Withdraw)
    } else if have.told != Told::Nothing {
        // Before the rules are gone: nobody has to come through the proxy any more.
        Some(Step::Tell(Told::Nothing))
    } else if alive && have.rules != Rules::Absent {
        Some(Step::Unprogram)
    } else if have.entered.is_some() {
        Some(Step::Leave)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
