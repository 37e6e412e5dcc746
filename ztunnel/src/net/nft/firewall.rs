//! The firewall of a namespace: replaces tables in one step, reads them back.

use std::io;

use super::encode::{
    BATCH_BEGIN, BATCH_END, CHAIN_TABLE, DATA_VALUE, DEL_ELEMENT, DEL_TABLE, ELEMENT_KEY, ELEMENTS, ELEMENTS_SET,
    ELEMENTS_TABLE, GET_CHAIN, GET_ELEMENT, GET_RULE, NEW_ELEMENT, NEW_TABLE, RULE_CHAIN, RULE_TABLE, add_table,
    bracket, elements, is_chain, is_rule, message, named,
};
use super::{Table, Value};
use crate::net::netlink::{F_CREATE, Family, Message, Socket, attribute, attributes, text};
use crate::net::netns::Netns;

/// The firewall of one namespace.
#[derive(Debug)]
pub(in crate::net) struct Firewall {
    socket: Socket,
}

impl Firewall {
    /// Opens the firewall of a namespace.
    pub(in crate::net) fn open(netns: &Netns) -> io::Result<Self> {
        Ok(Self { socket: Socket::open(netns, Family::Netfilter)? })
    }

    /// Puts tables in place of those with the same names, and removes the
    /// tables named in `gone`, all in one step.
    pub(in crate::net) fn replace(&self, tables: &[Table], gone: &[&str]) -> io::Result<()> {
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
    pub(in crate::net) fn ensure(&self, table: &Table) -> io::Result<()> {
        if self.chains(table.name)?.is_some() {
            return Ok(());
        }
        self.replace(std::slice::from_ref(table), &[])
    }

    /// Adds keys to a set.
    pub(in crate::net) fn add_keys(&self, table: &str, set: &str, keys: &[Vec<u8>]) -> io::Result<()> {
        self.commit(elements(NEW_ELEMENT, F_CREATE, table, set, keys.iter().map(|key| (key, &Value::Present))))
    }

    /// Takes a key out of a set; fine when it is not there.
    pub(in crate::net) fn remove_key(&self, table: &str, set: &str, key: &Vec<u8>) -> io::Result<()> {
        let acts = elements(DEL_ELEMENT, 0, table, set, std::iter::once((key, &Value::Present)));
        match self.commit(acts) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// The keys of a set; none when there is no such set.
    pub(in crate::net) fn keys(&self, table: &str, set: &str) -> io::Result<Vec<Vec<u8>>> {
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
    pub(in crate::net) fn difference(&self, table: &Table) -> io::Result<Option<Difference>> {
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
pub(in crate::net) enum Difference {
    /// It is not there.
    Absent,
    /// Something in it is missing, added or changed.
    Other(String),
}

fn none_if_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
