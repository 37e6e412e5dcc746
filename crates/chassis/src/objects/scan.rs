//! What is in the directory: which files there are, and which differ from the last look.

use super::{Problem, document, set::Content};
use crate::limits;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Enough of a file's metadata to see that it was changed or exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified_ns: i128,
    pub(super) changed_ns: i128,
}

/// Every file of objects that was seen, by path.
pub(super) type Files = BTreeMap<PathBuf, Stamp>;

/// What to do about one file after a look at the whole directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    /// It is new or not as it was.
    Read(PathBuf),
    /// It is gone.
    Gone(PathBuf),
}

/// What differs between two looks. Gone files come first, so that an object which moved from one file to
/// another is described once.
pub(super) fn diff(before: &Files, after: &Files) -> Vec<Difference> {
    let gone = before.keys().filter(|path| !after.contains_key(*path)).cloned().map(Difference::Gone);
    let read = after.iter().filter(|(path, stamp)| before.get(*path) != Some(*stamp));
    gone.chain(read.map(|(path, _)| Difference::Read(path.clone()))).collect()
}

/// Whether a path below `root` names a file of objects. Dot names are writers' temporary files,
/// and the inner workings of a ConfigMap mount.
pub(super) fn is_object_file(root: &Path, path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(root) else { return false };
    let hidden = inside.iter().any(|part| part.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|e| e.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Whether the documents of a file are overlays.
pub(super) fn is_overlay(root: &Path, path: &Path) -> bool {
    path.strip_prefix(root).is_ok_and(|inside| inside.starts_with("status"))
}

/// Looks at the whole directory. Parts that cannot be looked at are problems.
pub(super) fn scan(root: &Path) -> io::Result<(Files, Vec<Problem>)> {
    let mut found = (Files::new(), Vec::new());
    let mut seen = BTreeSet::new();
    fs::read_dir(root)?;
    descend(root, root, 0, &mut seen, &mut found);
    Ok(found)
}

fn descend(root: &Path, at: &Path, depth: usize, seen: &mut BTreeSet<(u64, u64)>, found: &mut (Files, Vec<Problem>)) {
    let mut problem = |reason: String| found.1.push(Problem { file: at.into(), line: 0, reason });
    // A directory that links to its own parent is looked into once.
    match fs::metadata(at) {
        Ok(m) if !seen.insert((m.dev(), m.ino())) => return,
        Ok(_) => {}
        Err(error) => return problem(format!("cannot be read: {error}")),
    }
    if depth > limits::OBJECT_DIRECTORY_DEPTH_MAX {
        return problem(format!("nested deeper than {} directories: not read", limits::OBJECT_DIRECTORY_DEPTH_MAX));
    }
    let entries = match fs::read_dir(at) {
        Ok(entries) => entries,
        Err(error) => return problem(format!("cannot be read: {error}")),
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            descend(root, &path, depth + 1, seen, found);
        } else if metadata.is_file() && is_object_file(root, &path) {
            if found.0.len() == limits::OBJECT_FILES_MAX {
                let reason = format!("more than {} files: the rest is not read", limits::OBJECT_FILES_MAX);
                found.1.push(Problem { file: at.into(), line: 0, reason });
                return;
            }
            found.0.insert(path, stamp(&metadata));
        }
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    let ns = |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// Reads one file; `None` when it is not there (any more).
pub(super) fn read(root: &Path, path: &Path) -> Option<(Stamp, Content)> {
    let overlay = is_overlay(root, path);
    let refused = |reason: String| {
        let problems = vec![Problem { file: path.into(), line: 0, reason }];
        Content { overlay, objects: Vec::new(), problems }
    };
    let nothing = Stamp { device: 0, inode: 0, size: 0, modified_ns: 0, changed_ns: 0 };
    // Not blocking, so that a pipe somebody put there cannot hold us up.
    let opened =
        fs::OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            return Some((nothing, refused(format!("cannot be opened: {error}; what it held before is kept"))));
        }
    };
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let stamp = stamp(&metadata);
    let mut text = String::new();
    let content = match file.take(limits::OBJECT_FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Err(error) => refused(format!("cannot be read: {error}; what it held before is kept")),
        Ok(size) if size as u64 > limits::OBJECT_FILE_BYTES_MAX => refused(format!(
            "larger than {} bytes: split it; what it held before is kept",
            limits::OBJECT_FILE_BYTES_MAX
        )),
        Ok(_) => {
            let (objects, problems) = document::parse(path, &text);
            Content { overlay, objects, problems }
        }
    };
    Some((stamp, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(text: &str) -> Files {
        text.split_whitespace()
            .map(|word| {
                let (name, version) = word.split_once('=').expect("name=version");
                let size = version.parse().expect("a number");
                (name.into(), Stamp { device: 1, inode: 1, size, modified_ns: 0, changed_ns: 0 })
            })
            .collect()
    }

    fn check(before: &str, after: &str, expected: &str) {
        let differences: Vec<String> = diff(&files(before), &files(after))
            .iter()
            .map(|difference| match difference {
                Difference::Read(path) => format!("read {}", path.display()),
                Difference::Gone(path) => format!("gone {}", path.display()),
            })
            .collect();
        assert_eq!(differences.join(", "), expected, "{before} -> {after}");
    }

    #[test]
    fn two_looks_differ_in_what_came_went_and_changed() {
        check("", "", "");
        check("", "a=1 b=1", "read a, read b");
        check("a=1 b=1", "a=1 b=1", "");
        check("a=1 b=1", "a=2 b=1", "read a");
        check("a=1 b=1", "b=1", "gone a");
        check("a=1 z=1", "b=1 z=2", "gone a, read b, read z");
    }

    #[test]
    fn only_visible_yaml_and_json_counts() {
        for (path, expected) in [
            ("/c/a.yaml", true),
            ("/c/a.yml", true),
            ("/c/sub/a.json", true),
            ("/c/a.txt", false),
            ("/c/a", false),
            ("/c/.a.yaml", false),
            ("/c/..data/a.yaml", false),
            ("/c/.git/a.yaml", false),
            ("/other/a.yaml", false),
        ] {
            assert_eq!(is_object_file(Path::new("/c"), Path::new(path)), expected, "{path}");
        }
        assert!(is_object_file(Path::new("/home/x/.config/c"), Path::new("/home/x/.config/c/a.yaml")));
    }

    #[test]
    fn overlays_are_what_is_below_status() {
        for (path, expected) in [("/c/status/k/a.yaml", true), ("/c/a.yaml", false), ("/c/x/status/a.yaml", false)] {
            assert_eq!(is_overlay(Path::new("/c"), Path::new(path)), expected, "{path}");
        }
    }
}
