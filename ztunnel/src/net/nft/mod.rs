//! Firewall tables as values: described here, [written](encode) and compared as the kernel wants
//! them, put in place and read back by the [`Firewall`].
//!
//! A [`Table`] holds chains, sets and rules; a rule is a list of [`expr::Expr`]. Nothing here
//! knows what the rules are for. Only what this crate uses of nf_tables is here, and all of it
//! works in the `inet` family.

mod encode;
pub(super) mod expr;
mod firewall;

pub(super) use firewall::{Difference, Firewall};

use self::expr::Expr;
use super::netlink::Attributes;

// From linux/netfilter/nf_tables.h.
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

/// Where in a packet's way a chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hook {
    /// `nat`, `route` or `filter`.
    pub(super) kind: &'static str,
    /// One of [`PREROUTING`] and its neighbours.
    pub(super) number: u32,
    /// Lower comes first.
    pub(super) priority: i32,
}

pub(super) const PREROUTING: u32 = 0;
pub(super) const FORWARD: u32 = 2;
pub(super) const OUTPUT: u32 = 3;
pub(super) const POSTROUTING: u32 = 4;

/// What a verdict does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Let the packet on; later tables may still object.
    Accept,
    /// Let the packet vanish: who sent it may try again.
    Drop,
    /// Leave this chain.
    Return,
    /// Go through another chain and come back.
    Jump(String),
}

impl Verdict {
    fn encode(&self, into: &mut Attributes) {
        let (code, chain): (i32, _) = match self {
            Self::Accept => (1, None),
            Self::Drop => (0, None),
            Self::Return => (-5, None),
            Self::Jump(chain) => (-3, Some(chain)),
        };
        into.nested(DATA_VERDICT, |verdict| {
            verdict.attribute(VERDICT_CODE, &code.to_be_bytes());
            if let Some(chain) = chain {
                verdict.text(VERDICT_CHAIN, chain);
            }
        });
    }
}

/// A list of rules, called by a hook or by other chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Vec<Expr>>,
}

/// What a set gives for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A set: that the key is there.
    Present,
    /// A map to bytes.
    Bytes(Vec<u8>),
    /// A map to what to do.
    Verdict(Verdict),
}

/// A set or a map. Multi-part keys are each padded to four bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) name: String,
    pub(super) key_len: usize,
    /// What its values look like; also when it is empty.
    pub(super) shape: Shape,
    pub(super) elements: Vec<(Vec<u8>, Value)>,
}

/// The sort of a set's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A plain set.
    Keys,
    /// A map to this many bytes.
    Bytes(usize),
    /// A map to verdicts.
    Verdicts,
}

/// A table of the `inet` family with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) sets: Vec<Set>,
    pub(super) chains: Vec<Chain>,
}
