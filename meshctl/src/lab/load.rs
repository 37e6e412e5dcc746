//! Reading the manifests a person names: a file, or a directory with
//! everything below it.

use std::io;
use std::path::{Path, PathBuf};

use super::control::protocol::Problem;
use super::manifest::{self, Objects};

/// Directories are followed this deep; deeper is a loop of links.
const DEPTH_MAX: usize = 16;

/// Everything in a file or below a directory.
pub(crate) fn read(path: &Path) -> io::Result<(Objects, Vec<Problem>)> {
    let (mut objects, mut problems) = (Objects::new(), Vec::new());
    for file in files(path)? {
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                let (found, trouble) = manifest::read(&file, &text);
                objects.extend(found);
                problems.extend(trouble);
            }
            Err(error) => {
                let reason = format!("cannot be read: {error}");
                problems.push(Problem { file: file.display().to_string(), line: 0, reason });
            }
        }
    }
    Ok((objects, problems))
}

/// The manifests at a path, in order.
pub(crate) fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    collect(path, 0, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        // Named directly, or found with a name that tells.
        if depth == 0 || is_manifest(path) {
            path.metadata()?;
            files.push(path.to_owned());
        }
        return Ok(());
    }
    if depth == DEPTH_MAX {
        return Ok(());
    }
    for entry in std::fs::read_dir(path)? {
        let entry = entry?.path();
        let hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden {
            collect(&entry, depth + 1, files)?;
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}
