//! Tables as messages to the kernel, and the kernel's answers against them.

use super::expr::Expr;
use super::{Chain, Set, Shape, Table, Value};
use crate::net::netlink::{F_APPEND, F_CREATE, Message, attribute, attributes, text};

// From linux/netfilter/nfnetlink.h and nf_tables.h.
const SUBSYSTEM: u16 = 10;
pub(super) const BATCH_BEGIN: u16 = 0x10;
pub(super) const BATCH_END: u16 = 0x11;
pub(super) const NEW_TABLE: u16 = SUBSYSTEM << 8;
pub(super) const DEL_TABLE: u16 = NEW_TABLE | 2;
const NEW_CHAIN: u16 = NEW_TABLE | 3;
pub(super) const GET_CHAIN: u16 = NEW_TABLE | 4;
const NEW_RULE: u16 = NEW_TABLE | 6;
pub(super) const GET_RULE: u16 = NEW_TABLE | 7;
const NEW_SET: u16 = NEW_TABLE | 9;
pub(super) const NEW_ELEMENT: u16 = NEW_TABLE | 12;
pub(super) const GET_ELEMENT: u16 = NEW_TABLE | 13;
pub(super) const DEL_ELEMENT: u16 = NEW_TABLE | 14;

const TABLE_NAME: u16 = 1;
pub(super) const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
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
pub(super) const ELEMENTS_TABLE: u16 = 1;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS: u16 = 3;
pub(super) const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
pub(super) const DATA_VALUE: u16 = 1;
const FLAG_MAP: u32 = 8;
const TYPE_VERDICT: u32 = 0xffff_ff00;
/// Types of keys and values are only for programs that print; ours are plain.
const TYPE_PLAIN: u32 = 5;
const NFPROTO_INET: u8 = 1;

/// Elements a message: keeps the list attribute well below its 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 256;

pub(super) fn add_table(table: &Table, acts: &mut Vec<Message>) {
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

pub(super) fn elements<'a>(
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

pub(super) fn is_chain(content: &[u8], chain: &Chain) -> bool {
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

pub(super) fn is_rule(content: &[u8], ours: &[Expr]) -> bool {
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

pub(super) fn message(kind: u16, flags: u16) -> Message {
    Message::new(kind, flags, &[NFPROTO_INET, 0, 0, 0])
}

pub(super) fn named(kind: u16, flags: u16, table: &str) -> Message {
    let mut act = message(kind, flags);
    act.text(TABLE_NAME, table);
    act
}

pub(super) fn bracket(kind: u16) -> Message {
    let subsystem = SUBSYSTEM.to_be_bytes();
    Message::new(kind, 0, &[0, 0, subsystem[0], subsystem[1]])
}

fn number(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("keys and values of sets are a few bytes").to_be_bytes()
}
