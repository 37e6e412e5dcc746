//! What each field means, what is left out, and what is refused.

mod policies;
mod reach;
mod traffic;

use crate::{
    facts::Fact,
    files::{Reading, read},
};
use std::path::Path;

pub(super) fn reading(text: &str) -> Reading {
    let (objects, problems) = chassis::objects::parse(Path::new("shop.yaml"), text);
    assert!(problems.is_empty(), "{problems:?} in\n{text}");
    read(&objects[0])
}

/// The fact of an object that is understood, and what is not honoured of it.
pub(super) fn good(text: &str) -> (Fact, Vec<String>) {
    let Reading { fact, problems } = reading(text);
    let fact = fact.unwrap_or_else(|| panic!("no fact of\n{text}"));
    assert!(!matches!(fact, Fact::Otherwise(_)), "{problems:?} in\n{text}");
    (fact, problems.iter().map(|it| format!("{}: {}", it.field, it.reason)).collect())
}

/// That an object is refused, and which fields are named.
pub(super) fn check_refused(text: &str, fields: &[&str]) -> Fact {
    let Reading { fact, problems } = reading(text);
    let Some(Fact::Otherwise(fact)) = fact else { panic!("taken:\n{text}") };
    let found: Vec<&str> = problems.iter().map(|it| &*it.field).filter(|field| *field != "spec").collect();
    assert!(found.starts_with(fields), "{problems:#?} in\n{text}");
    assert_eq!(fact.refused().len(), found.len(), "{:?}", fact.refused());
    *fact
}

pub(super) fn object(api: &str, kind: &str, spec: &str) -> String {
    format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: it, namespace: shop}}\nspec: {spec}\n")
}
