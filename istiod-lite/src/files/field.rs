//! A place in an object: its value, if there is one, and the path that leads there.
//!
//! Asking for the wrong type gives nothing and leaves a note; so does what is larger than the
//! limits. A reader therefore never fails in the middle of an object.

use super::limits;
use crate::facts::Labels;
use mesh::Str;
use serde_json::Value;
use std::{cell::RefCell, str::FromStr};

/// What could not be understood so far.
#[derive(Debug)]
pub(super) struct Notes {
    /// (path, reason)
    notes: RefCell<Vec<(String, String)>>,
    /// Of what was understood and is not done.
    remarks: RefCell<Vec<(String, String)>>,
    /// The object counts whole or not at all, so nothing of it is left out.
    whole: bool,
}

impl Notes {
    /// No notes yet, on an object of which parts count or not.
    pub(super) fn new(whole: bool) -> Self {
        Self { notes: RefCell::default(), remarks: RefCell::default(), whole }
    }

    /// What was understood and is not done, by field.
    pub(super) fn unheeded(&self) -> Vec<Str> {
        self.remarks.borrow().iter().map(shown).collect()
    }

    /// What was understood and is not done: (path, reason).
    pub(super) fn remarks(&self) -> Vec<(String, String)> {
        self.remarks.borrow().clone()
    }

    pub(super) fn take(self) -> Vec<(String, String)> {
        self.notes.into_inner()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.notes.borrow().is_empty()
    }

    /// The notes so far, each with its field.
    pub(super) fn listed(&self) -> Vec<Str> {
        self.notes.borrow().iter().map(shown).collect()
    }
}

/// A place in an object.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    value: Option<&'a Value>,
    path: String,
    notes: &'a Notes,
}

impl<'a> Field<'a> {
    pub(super) fn root(value: &'a Value, notes: &'a Notes) -> Self {
        Self { value: Some(value), path: String::new(), notes }
    }

    /// A field of this one. `null` counts as absent, as it does in Kubernetes.
    pub(super) fn at(&self, key: &str) -> Self {
        let value = self.object().and_then(|map| map.get(key)).filter(|value| !value.is_null());
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Self { value, path, notes: self.notes }
    }

    /// As `at`, for keys with dots and slashes in them.
    pub(super) fn key(&self, key: &str) -> Self {
        let path = format!("{}[{key:?}]", self.path);
        Self { path, ..self.at(key) }
    }

    pub(super) fn is_there(&self) -> bool {
        self.value.is_some()
    }

    /// The path that leads here.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Notes that something here could not be understood.
    pub(super) fn note(&self, reason: impl Into<String>) {
        let mut notes = self.notes.notes.borrow_mut();
        if notes.len() < limits::PROBLEMS_PER_OBJECT {
            notes.push((self.path.clone(), reason.into()));
        }
    }

    /// Remarks that this is understood and not done. The object counts all the same.
    pub(super) fn remark(&self, reason: impl Into<String>) {
        let mut remarks = self.notes.remarks.borrow_mut();
        if remarks.len() < limits::PROBLEMS_PER_OBJECT {
            remarks.push((self.path.clone(), reason.into()));
        }
    }

    /// Notes that this cannot be understood, and is left out.
    fn left_out(&self, reason: String) {
        self.note(if self.notes.whole { reason } else { reason + "; it is left out" });
    }

    fn object(&self) -> Option<&'a serde_json::Map<String, Value>> {
        match self.value? {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    fn wrong<T>(&self, expected: &str) -> Option<T> {
        let found = match self.value? {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        };
        self.left_out(format!("should be {expected} and is {found}"));
        None
    }

    /// Notes the keys here that are none of these. It gives their names.
    pub(super) fn unknown(&self, known: &[&str]) -> Vec<Str> {
        if self.object().is_none() {
            let _: Option<()> = self.wrong("a map");
        }
        let keys = self.object().into_iter().flatten().filter(|(_, value)| !value.is_null()).map(|(key, _)| key);
        keys.filter(|key| !known.contains(&key.as_str())).map(|key| shorten(key).into()).collect()
    }

    pub(super) fn text(&self) -> Option<Str> {
        match self.value? {
            Value::String(text) => self.short(text),
            _ => self.wrong("a text"),
        }
    }

    /// A text; numbers and booleans that somebody forgot to quote are taken for it.
    pub(super) fn loose_text(&self) -> Option<Str> {
        match self.value? {
            Value::String(text) => self.short(text),
            Value::Number(number) => Some(number.to_string().into()),
            Value::Bool(flag) => Some(flag.to_string().into()),
            _ => self.wrong("a text"),
        }
    }

    fn short(&self, text: &str) -> Option<Str> {
        if text.len() <= limits::TEXT_BYTES {
            return Some(text.into());
        }
        self.left_out(format!("is {} bytes long and may be {}", text.len(), limits::TEXT_BYTES));
        None
    }

    /// A text that may be as long as a bundle of certificates.
    pub(super) fn long_text(&self) -> Option<Str> {
        match self.value? {
            Value::String(text) if text.len() <= limits::LONG_TEXT_BYTES => Some(text.as_str().into()),
            Value::String(text) => {
                self.left_out(format!("is {} bytes long and may be {}", text.len(), limits::LONG_TEXT_BYTES));
                None
            }
            _ => self.wrong("a text"),
        }
    }

    /// A text that must parse; `what` says as what.
    pub(super) fn parsed<T: FromStr>(&self, what: &str) -> Option<T> {
        let text = self.text()?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.left_out(format!("{:?} is not {what}", shorten(&text)));
        }
        parsed
    }

    /// A choice by name.
    pub(super) fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(name, _)| *name == &*text).map(|(_, choice)| *choice);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
            self.left_out(format!("{:?} is none of {}", shorten(&text), names.join(", ")));
        }
        found
    }

    /// A port: a number from 1 to 65535, quoted or not.
    pub(super) fn port(&self) -> Option<u16> {
        let number = match self.value? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => return self.wrong("a port"),
        };
        let port = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0);
        if port.is_none() {
            self.left_out("is not a port from 1 to 65535".into());
        }
        port
    }

    pub(super) fn number(&self) -> Option<u32> {
        match self.value? {
            Value::Number(number) => match number.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(number) => Some(number),
                None => self.wrong("a number from 0 to 4294967295"),
            },
            _ => self.wrong("a number"),
        }
    }

    /// A number with a fraction.
    pub(super) fn float(&self) -> Option<f64> {
        match self.value? {
            Value::Number(number) => number.as_f64(),
            _ => self.wrong("a number"),
        }
    }

    pub(super) fn flag(&self) -> Option<bool> {
        match self.value? {
            Value::Bool(flag) => Some(*flag),
            _ => self.wrong("true or false"),
        }
    }

    /// Whether something is `"true"`, as labels and annotations say it.
    pub(super) fn is_true(&self) -> bool {
        self.loose_text().as_deref() == Some("true")
    }

    /// The members of a list; none when it is absent.
    pub(super) fn list(&self) -> Vec<Self> {
        let items = match self.value {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(_) => return self.wrong("a list").unwrap_or_default(),
        };
        if items.len() > limits::LIST_ITEMS {
            self.left_out(format!("has {} items and may have {}", items.len(), limits::LIST_ITEMS));
            return Vec::new();
        }
        let item = |(at, value)| Self { value: Some(value), path: format!("{}[{at}]", self.path), notes: self.notes };
        items.iter().enumerate().map(item).collect()
    }

    /// The members of a list, or nothing at all if it is not there.
    pub(super) fn list_if_there(&self) -> Option<Vec<Self>> {
        self.is_there().then(|| self.list())
    }

    /// The members of a map.
    pub(super) fn members(&self) -> Vec<(Str, Self)> {
        let map = match self.value {
            None => return Vec::new(),
            Some(Value::Object(map)) => map,
            Some(_) => return self.wrong("a map").unwrap_or_default(),
        };
        if map.len() > limits::LIST_ITEMS {
            self.left_out(format!("has {} members and may have {}", map.len(), limits::LIST_ITEMS));
            return Vec::new();
        }
        let keys = map.keys().filter(|key| key.len() <= limits::TEXT_BYTES);
        keys.map(|key| (key.as_str().into(), self.key(key))).collect()
    }

    /// A map of texts.
    pub(super) fn labels(&self) -> Labels {
        let members = self.members();
        let mut labels = Labels::with_capacity(members.len());
        for (key, value) in members {
            if let Some(text) = value.loose_text() {
                labels.insert(key, text);
            }
        }
        labels
    }
}

fn shown((path, reason): &(String, String)) -> Str {
    format!("{path}: {reason}").into()
}

/// So that a note stays readable whatever it quotes.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}
