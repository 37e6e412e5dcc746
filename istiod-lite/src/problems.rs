//! What could not be understood, until it can be. Each problem is logged once, when it appears,
//! and stands on `/debug/problems` until what it is about is read well or is gone.

use crate::files;
use chassis::objects::{self, ObjectKey};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// What a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A whole file, or a document in it that is no object.
    File(PathBuf),
    /// One object.
    Object(ObjectKey),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Object(key) => key.fmt(f),
        }
    }
}

/// Something that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub subject: Subject,
    /// Where it stands.
    pub file: PathBuf,
    /// Line, from 1; 0 when it concerns the whole file.
    pub line: usize,
    /// Which field; "" when it is not about one.
    pub field: String,
    /// What is wrong, and what was done instead.
    pub reason: String,
}

impl From<objects::Problem> for Problem {
    fn from(problem: objects::Problem) -> Self {
        let objects::Problem { file, line, reason } = problem;
        Self { subject: Subject::File(file.clone()), file, line, field: String::new(), reason }
    }
}

impl From<files::Problem> for Problem {
    fn from(problem: files::Problem) -> Self {
        Self {
            file: problem.origin.file.to_path_buf(),
            line: problem.origin.line,
            subject: Subject::Object(problem.object),
            field: problem.field,
            reason: problem.reason,
        }
    }
}

impl Problem {
    fn resource(&self) -> String {
        match &self.subject {
            Subject::File(_) => String::new(),
            Subject::Object(key) => key.to_string(),
        }
    }
}

/// Most problems that are remembered: enough for every object of a mesh that somebody works on, and
/// small enough for a directory full of garbage. What is beyond is logged and not remembered.
const PROBLEMS_MAX: usize = 1000;

/// The problems of the moment.
#[derive(Debug, Default)]
pub struct Problems {
    standing: Mutex<Standing>,
}

#[derive(Debug, Default)]
struct Standing {
    by_subject: BTreeMap<Subject, Vec<Problem>>,
    count: usize,
    /// What stood a moment ago for subjects that are being read again.
    earlier: BTreeMap<Subject, Vec<Problem>>,
}

impl Problems {
    /// Nothing is wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was wrong with `subject` is over, or will be told again in the same moment.
    pub fn clear(&self, subject: &Subject) {
        self.lock().clear(subject);
    }

    /// Something is wrong. It is logged unless it was wrong in the same way before. Returns whether
    /// it is new.
    pub fn add(&self, problem: Problem) -> bool {
        let mut standing = self.lock();
        let known = |list: Option<&Vec<Problem>>| list.is_some_and(|list| list.iter().any(|p| p.same_as(&problem)));
        if known(standing.by_subject.get(&problem.subject)) {
            return false;
        }
        let new = !known(standing.earlier.get(&problem.subject));
        if new {
            tracing::warn!(
                file = %problem.file.display(),
                line = problem.line,
                resource = problem.resource(),
                field = problem.field,
                reason = problem.reason,
                "cannot use part of the configuration"
            );
        }
        if standing.count < PROBLEMS_MAX {
            standing.count += 1;
            standing.by_subject.entry(problem.subject.clone()).or_default().push(problem);
        }
        new
    }

    /// One moment has been taken in whole.
    pub fn settle(&self) {
        self.lock().settle();
    }

    /// Looks again at files that had problems. A mistake that is taken back leaves the objects as
    /// they were, and of objects that did not change nobody hears.
    pub fn look_again(&self) {
        let mut standing = self.lock();
        let files = standing.by_subject.keys().filter(|subject| match subject {
            Subject::File(file) => readable(file),
            Subject::Object(_) => false,
        });
        for subject in files.cloned().collect::<Vec<_>>() {
            standing.clear(&subject);
        }
        standing.settle();
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().count
    }

    /// All of them, for people.
    pub fn show(&self) -> Value {
        let standing = self.lock();
        let shown = standing.by_subject.values().flatten().map(|problem| {
            json!({
                "file": problem.file.display().to_string(),
                "line": problem.line,
                "resource": problem.resource(),
                "field": problem.field,
                "reason": problem.reason,
            })
        });
        Value::Array(shown.collect())
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn clear(&mut self, subject: &Subject) {
        if let Some(gone) = self.by_subject.remove(subject) {
            self.count -= gone.len();
            self.earlier.insert(subject.clone(), gone);
        }
    }

    fn settle(&mut self) {
        for subject in std::mem::take(&mut self.earlier).keys() {
            if !self.by_subject.contains_key(subject) {
                tracing::info!(%subject, "the configuration is understood again");
            }
        }
    }
}

/// There is nothing wrong with a file, or it is gone.
fn readable(file: &Path) -> bool {
    match std::fs::read_to_string(file) {
        Ok(text) => objects::parse(file, &text).1.is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

impl Problem {
    /// A problem that only moved to another line is the same.
    fn same_as(&self, other: &Self) -> bool {
        (&self.subject, &self.field, &self.reason) == (&other.subject, &other.field, &other.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(file: &str, reason: &str) -> Problem {
        objects::Problem { file: file.into(), line: 3, reason: reason.into() }.into()
    }

    #[test]
    fn a_problem_is_told_once_and_stands_until_it_is_over() {
        let problems = Problems::new();
        let subject = Subject::File("a.yaml".into());
        assert!(problems.add(problem("a.yaml", "broken")));
        assert!(!problems.add(problem("a.yaml", "broken")), "it was told already");
        problems.settle();
        problems.clear(&subject);
        assert!(!problems.add(problem("a.yaml", "broken")), "read again, and still broken");
        assert!(problems.add(problem("a.yaml", "broken elsewhere too")));
        problems.settle();
        assert_eq!(problems.count(), 2);
        problems.clear(&subject);
        problems.settle();
        assert_eq!(problems.count(), 0);
        assert!(problems.add(problem("a.yaml", "broken")), "it is new again");
    }

    #[test]
    fn garbage_without_end_is_not_remembered_without_end() {
        let problems = Problems::new();
        for n in 0..3 * PROBLEMS_MAX {
            problems.add(problem(&format!("{n}.yaml"), "broken"));
        }
        assert_eq!(problems.count(), PROBLEMS_MAX);
    }
}
