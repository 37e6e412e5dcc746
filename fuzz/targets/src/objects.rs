//! Kubernetes objects of users: any text, and what the control plane makes of it.

use crate::text;
use istiod_lite::files;
use std::path::Path;

/// Every document is read or is a problem that names its line; none stops the others.
pub(crate) fn objects(input: &[u8]) {
    let (objects, problems) = chassis::objects::parse(Path::new("fuzz.yaml"), text(input));
    for object in &objects {
        let reading = files::read(object);
        for problem in &reading.problems {
            assert!(!problem.to_string().is_empty());
        }
        let _ = files::removed(&object.key());
    }
    let lines = text(input).lines().count().max(1);
    assert!(problems.iter().all(|problem| problem.line <= lines + 1), "a problem beyond the end");
}
