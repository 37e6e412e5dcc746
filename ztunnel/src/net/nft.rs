//! Firewall tables as values: describe them, replace them in one step, read
//! them back and compare.
//!
//! A [`Table`] holds chains, sets and rules; a rule is a list of [`Expr`].
//! Nothing here knows what the rules are for. Only what this crate uses of
//! nf_tables is here, and all of it works in the `inet` family.

use std::io;

use super::netlink::{Attributes, F_APPEND, F_CREATE, Family, Message, Socket, attribute, attributes, text};
use super::netns::Netns;
use super::nft_expr::Expr;

// From linux/netfilter/nfnetlink.h and nf_tables.h.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DEL_TABLE: u16 = NEW_TABLE | 2;
const NEW_CHAIN: u16 = NEW_TABLE | 3;
const GET_CHAIN: u16 = NEW_TABLE | 4;
const NEW_RULE: u16 = NEW_TABLE | 6;
const GET_RULE: u16 = NEW_TABLE | 7;
const NEW_SET: u16 = NEW_TABLE | 9;
const NEW_ELEMENT: u16 = NEW_TABLE | 12;
const GET_ELEMENT: u16 = NEW_TABLE | 13;
const DEL_ELEMENT: u16 = NEW_TABLE | 14;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LEN: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LEN: u16 = 7;
const SET_ID: u16 = 10;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const FLAG_MAP: u32 = 8;
const TYPE_VERDICT: u32 = 0xffff_ff00;
/// Types of keys and values are only for programs that print; ours are plain.
const TYPE_PLAIN: u32 = 5;
const NFPROTO_INET: u8 = 1;

/// Elements a message: keeps the list attribute well below its 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 256;

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
    /// Leave this chain.
    Return,
    /// Go through another chain and come back.
    Jump(String),
}

impl Verdict {
    pub(super) fn encode(&self, into: &mut Attributes) {
        let (code, chain): (i32, _) = match self {
            Self::Accept => (1, None),
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

/// The firewall of one namespace.
#[derive(Debug)]
pub(super) struct Firewall {
    socket: Socket,
}

impl Firewall {
    /// Opens the firewall of a namespace.
    pub(super) fn open(netns: &Netns) -> io::Result<Self> {
        Ok(Self { socket: Socket::open(netns, Family::Netfilter)? })
    }

    /// Puts tables in place of those with the same names, and removes the
    /// tables named in `gone`, all in one step.
    pub(super) fn replace(&self, tables: &[Table], gone: &[&str]) -> io::Result<()> {
        let mut acts = Vec::new();
        for name in tables.iter().map(|table| table.name).chain(gone.iter().copied()) {
            // Removing a table that is not there is an error, making one that
            // is there is none: so make it first.
            acts.push(named(NEW_TABLE, F_CREATE, name));
            acts.push(named(DEL_TABLE, 0, name));
        }
        tables.iter().for_each(|table| add_table(table, &mut acts));
        self.commit(acts)
    }

    /// Makes a table unless it is there already.
    pub(super) fn ensure(&self, table: &Table) -> io::Result<()> {
        if self.chains(table.name)?.is_some() {
            return Ok(());
        }
        self.replace(std::slice::from_ref(table), &[])
    }

    /// Adds keys to a set.
    pub(super) fn add_keys(&self, table: &str, set: &str, keys: &[Vec<u8>]) -> io::Result<()> {
        self.commit(elements(NEW_ELEMENT, F_CREATE, table, set, keys.iter().map(|key| (key, &Value::Present))))
    }

    /// Takes a key out of a set; fine when it is not there.
    pub(super) fn remove_key(&self, table: &str, set: &str, key: &Vec<u8>) -> io::Result<()> {
        let acts = elements(DEL_ELEMENT, 0, table, set, std::iter::once((key, &Value::Present)));
        match self.commit(acts) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// The keys of a set; none when there is no such set.
    pub(super) fn keys(&self, table: &str, set: &str) -> io::Result<Vec<Vec<u8>>> {
        let mut ask = message(GET_ELEMENT, 0);
        ask.text(ELEMENTS_TABLE, table).text(ELEMENTS_SET, set);
        let found = none_if_absent(self.socket.dump(ask))?.unwrap_or_default();
        let lists = found.iter().filter_map(|(_, content)| attribute(content.get(4..)?, ELEMENTS));
        let keys = lists
            .flat_map(attributes)
            .filter_map(|(_, element)| attribute(attribute(element, ELEMENT_KEY)?, DATA_VALUE));
        Ok(keys.map(<[u8]>::to_vec).collect())
    }

    /// How the table in the kernel differs from this one, apart from the
    /// contents of its sets: `None` when it does not, `Some` with the reason.
    pub(super) fn difference(&self, table: &Table) -> io::Result<Option<Difference>> {
        let Some(chains) = self.chains(table.name)? else { return Ok(Some(Difference::Absent)) };
        if chains.len() != table.chains.len() {
            return Ok(Some(Difference::Other(format!("{} has {} chains", table.name, chains.len()))));
        }
        for chain in &table.chains {
            if !chains.iter().any(|content| is_chain(content, chain)) {
                return Ok(Some(Difference::Other(format!("chain {} of {}", chain.name, table.name))));
            }
            let rules = self.rules(table.name, &chain.name)?;
            let same = rules.len() == chain.rules.len()
                && rules.iter().zip(&chain.rules).all(|(there, ours)| is_rule(there, ours));
            if !same {
                return Ok(Some(Difference::Other(format!("rules in chain {} of {}", chain.name, table.name))));
            }
        }
        Ok(None)
    }

    fn commit(&self, acts: Vec<Message>) -> io::Result<()> {
        if acts.is_empty() {
            return Ok(());
        }
        self.socket.transaction(bracket(BATCH_BEGIN), acts, bracket(BATCH_END))
    }

    /// The chains of a table, or `None` when there is no such table.
    fn chains(&self, table: &str) -> io::Result<Option<Vec<Vec<u8>>>> {
        // The listing of chains knows no filter: it is of all tables.
        let found = self.socket.dump(message(GET_CHAIN, 0))?;
        let ours = |content: &Vec<u8>| {
            content.get(4..).and_then(|rest| attribute(rest, CHAIN_TABLE)).map(text).as_deref() == Some(table)
        };
        let chains: Vec<Vec<u8>> = found.into_iter().map(|(_, content)| content).filter(ours).collect();
        Ok((!chains.is_empty()).then_some(chains))
    }

    fn rules(&self, table: &str, chain: &str) -> io::Result<Vec<Vec<u8>>> {
        let mut ask = message(GET_RULE, 0);
        ask.text(RULE_TABLE, table).text(RULE_CHAIN, chain);
        let found = none_if_absent(self.socket.dump(ask))?.unwrap_or_default();
        Ok(found.into_iter().map(|(_, content)| content).collect())
    }
}

/// How a table differs from what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Difference {
    /// It is not there.
    Absent,
    /// Something in it is missing, added or changed.
    Other(String),
}

fn add_table(table: &Table, acts: &mut Vec<Message>) {
    acts.push(named(NEW_TABLE, F_CREATE, table.name));
    // Chains first: the values of maps and the rules refer to them.
    for chain in &table.chains {
        let mut act = message(NEW_CHAIN, F_CREATE);
        act.text(CHAIN_TABLE, table.name).text(CHAIN_NAME, &chain.name);
        if let Some(hook) = chain.hook {
            act.nested(CHAIN_HOOK, |at| {
                at.attribute(HOOK_NUMBER, &hook.number.to_be_bytes())
                    .attribute(HOOK_PRIORITY, &hook.priority.to_be_bytes());
            });
            act.attribute(CHAIN_POLICY, &1_u32.to_be_bytes()).text(CHAIN_TYPE, hook.kind);
        }
        acts.push(act);
    }
    for (id, set) in (1_u32..).zip(&table.sets) {
        acts.push(new_set(table.name, set, id));
        let pairs = set.elements.iter().map(|(key, value)| (key, value));
        acts.extend(elements(NEW_ELEMENT, F_CREATE, table.name, &set.name, pairs));
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            let mut act = message(NEW_RULE, F_CREATE | F_APPEND);
            act.text(RULE_TABLE, table.name).text(RULE_CHAIN, &chain.name);
            act.nested(RULE_EXPRESSIONS, |list| {
                for expr in rule {
                    list.nested(LIST_ELEMENT, |element| {
                        element.text(EXPR_NAME, expr.name).attribute(EXPR_DATA, &expr.encode());
                    });
                }
            });
            acts.push(act);
        }
    }
}

fn new_set(table: &str, set: &Set, id: u32) -> Message {
    let mut act = message(NEW_SET, F_CREATE);
    act.text(SET_TABLE, table).text(SET_NAME, &set.name).attribute(SET_ID, &id.to_be_bytes());
    act.attribute(SET_KEY_TYPE, &TYPE_PLAIN.to_be_bytes()).attribute(SET_KEY_LEN, &number(set.key_len));
    match set.shape {
        Shape::Keys => act.attribute(SET_FLAGS, &0_u32.to_be_bytes()),
        Shape::Bytes(len) => act
            .attribute(SET_FLAGS, &FLAG_MAP.to_be_bytes())
            .attribute(SET_DATA_TYPE, &TYPE_PLAIN.to_be_bytes())
            .attribute(SET_DATA_LEN, &number(len)),
        Shape::Verdicts => {
            act.attribute(SET_FLAGS, &FLAG_MAP.to_be_bytes()).attribute(SET_DATA_TYPE, &TYPE_VERDICT.to_be_bytes())
        }
    };
    act
}

fn elements<'a>(
    kind: u16,
    flags: u16,
    table: &str,
    set: &str,
    pairs: impl Iterator<Item = (&'a Vec<u8>, &'a Value)>,
) -> Vec<Message> {
    let pairs: Vec<_> = pairs.collect();
    let of_chunk = |chunk: &[(&Vec<u8>, &Value)]| {
        let mut act = message(kind, flags);
        act.text(ELEMENTS_TABLE, table).text(ELEMENTS_SET, set);
        act.nested(ELEMENTS, |list| {
            for (key, value) in chunk {
                list.nested(LIST_ELEMENT, |element| {
                    element.nested(ELEMENT_KEY, |data| {
                        data.attribute(DATA_VALUE, key);
                    });
                    match value {
                        Value::Present => {}
                        Value::Bytes(bytes) => {
                            element.nested(ELEMENT_DATA, |data| {
                                data.attribute(DATA_VALUE, bytes);
                            });
                        }
                        Value::Verdict(verdict) => {
                            element.nested(ELEMENT_DATA, |data| verdict.encode(data));
                        }
                    }
                });
            }
        });
        act
    };
    pairs.chunks(ELEMENTS_PER_MESSAGE).map(of_chunk).collect()
}

fn is_chain(content: &[u8], chain: &Chain) -> bool {
    let Some(rest) = content.get(4..) else { return false };
    if attribute(rest, CHAIN_NAME).map(text).as_deref() != Some(&*chain.name) {
        return false;
    }
    let hook = attribute(rest, CHAIN_HOOK);
    match chain.hook {
        None => hook.is_none(),
        Some(ours) => hook.is_some_and(|hook| {
            attribute(hook, HOOK_NUMBER) == Some(&ours.number.to_be_bytes())
                && attribute(hook, HOOK_PRIORITY) == Some(&ours.priority.to_be_bytes())
                && attribute(rest, CHAIN_TYPE).map(text).as_deref() == Some(ours.kind)
        }),
    }
}

fn is_rule(content: &[u8], ours: &[Expr]) -> bool {
    let Some(list) = content.get(4..).and_then(|rest| attribute(rest, RULE_EXPRESSIONS)) else {
        return ours.is_empty();
    };
    let there: Vec<&[u8]> = attributes(list).map(|(_, expr)| expr).collect();
    there.len() == ours.len()
        && there.iter().zip(ours).all(|(there, ours)| {
            attribute(there, EXPR_NAME).map(text).as_deref() == Some(ours.name)
                && ours.is_within(attribute(there, EXPR_DATA).unwrap_or_default())
        })
}

fn message(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags, &[NFPROTO_INET, 0, 0, 0])
}

fn named(kind: u16, flags: u16, table: &str) -> Message {
    let mut act = message(kind, flags);
    act.text(TABLE_NAME, table);
    act
}

fn bracket(kind: u16) -> Message {
    let subsystem = SUBSYSTEM.to_be_bytes();
    Message::new(kind, 0, &[0, 0, subsystem[0], subsystem[1]])
}

fn number(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("keys and values of sets are a few bytes").to_be_bytes()
}

fn none_if_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
