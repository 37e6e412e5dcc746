//! What an expression is of a request.

use super::{Comparison, Field, Function, Node};
use std::{borrow::Cow, cmp::Ordering};

/// What is known of a request and its response.
pub trait Facts {
    /// A field of it; [`Value::Nothing`] where it has none.
    fn field(&self, field: &Field) -> Value<'_>;
}

/// What a part of an expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A number.
    Number(f64),
    /// True or false.
    Truth(bool),
    /// There is no such thing.
    Nothing,
}

/// The depth of an expression was limited when it was read, and with it that of this recursion.
pub(super) fn evaluate<'a>(node: &'a Node, facts: &'a impl Facts) -> Value<'a> {
    match node {
        Node::Text(text) => Value::Text(text.into()),
        Node::Number(number) => Value::Number(*number),
        Node::Truth(truth) => Value::Truth(*truth),
        Node::Field(field) => facts.field(field),
        Node::Has(field) => Value::Truth(facts.field(field) != Value::Nothing),
        Node::Not(inner) => match evaluate(inner, facts) {
            Value::Truth(truth) => Value::Truth(!truth),
            _ => Value::Nothing,
        },
        Node::And(all) => first(all, false, facts),
        Node::Or(any) => first(any, true, facts),
        Node::Compare(how, left, right) => compare(*how, &evaluate(left, facts), &evaluate(right, facts)),
        Node::In(wanted, list) => match evaluate(wanted, facts) {
            Value::Nothing => Value::Nothing,
            wanted => Value::Truth(list.iter().any(|one| evaluate(one, facts) == wanted)),
        },
        Node::Call(function, text, part) => match (evaluate(text, facts), evaluate(part, facts)) {
            (Value::Text(text), Value::Text(part)) => Value::Truth(match function {
                Function::StartsWith => text.starts_with(&*part),
                Function::EndsWith => text.ends_with(&*part),
                Function::Contains => text.contains(&*part),
            }),
            _ => Value::Nothing,
        },
        Node::Matches(text, regex) => match evaluate(text, facts) {
            Value::Text(text) => Value::Truth(regex.is_match(&text)),
            _ => Value::Nothing,
        },
    }
}

/// `deciding` if one of them is that; else its opposite if all have an answer.
fn first<'a>(nodes: &'a [Node], deciding: bool, facts: &'a impl Facts) -> Value<'a> {
    let mut answered = true;
    for node in nodes {
        match evaluate(node, facts) {
            Value::Truth(truth) if truth == deciding => return Value::Truth(deciding),
            Value::Truth(_) => {}
            _ => answered = false,
        }
    }
    if answered { Value::Truth(!deciding) } else { Value::Nothing }
}

fn compare<'a>(how: Comparison, left: &Value<'_>, right: &Value<'_>) -> Value<'a> {
    if *left == Value::Nothing || *right == Value::Nothing {
        return Value::Nothing;
    }
    let ordering = match (left, right) {
        (Value::Text(left), Value::Text(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left.partial_cmp(right),
        (Value::Truth(left), Value::Truth(right)) => Some(left.cmp(right)),
        _ => None,
    };
    match (how, ordering) {
        (Comparison::Equal, ordering) => Value::Truth(ordering == Some(Ordering::Equal)),
        (Comparison::Unequal, ordering) => Value::Truth(ordering != Some(Ordering::Equal)),
        (_, None) => Value::Nothing,
        (Comparison::Less, Some(ordering)) => Value::Truth(ordering.is_lt()),
        (Comparison::AtMost, Some(ordering)) => Value::Truth(ordering.is_le()),
        (Comparison::More, Some(ordering)) => Value::Truth(ordering.is_gt()),
        (Comparison::AtLeast, Some(ordering)) => Value::Truth(ordering.is_ge()),
    }
}
