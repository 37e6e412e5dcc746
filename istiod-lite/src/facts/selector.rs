//! Kubernetes' label selectors, as data with one question.

use super::Labels;
use mesh::Str;
use std::collections::BTreeSet;

/// Asks for labels; an empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// Labels that must be there.
    pub labels: Labels,
    /// What else must hold.
    pub expressions: Vec<LabelExpression>,
}

/// One thing that must hold of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelExpression {
    /// The label.
    pub key: Str,
    /// What must hold of it.
    pub asks: LabelAsks,
}

/// What must hold of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelAsks {
    /// It is one of these.
    In(BTreeSet<Str>),
    /// It is none of these, or not there.
    NotIn(BTreeSet<Str>),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether these labels are what it asks for.
    pub fn selects(&self, labels: &Labels) -> bool {
        let named = self.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        named && self.expressions.iter().all(|expression| expression.holds(labels))
    }
}

impl LabelExpression {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.asks {
            LabelAsks::In(values) => value.is_some_and(|value| values.contains(value)),
            LabelAsks::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            LabelAsks::Exists => value.is_some(),
            LabelAsks::DoesNotExist => value.is_none(),
        }
    }
}
