//! The directory of configurations and that of programs: read, and written file by file so that
//! who reads sees the old or the new, never a part.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::plan::{Act, Files, counts};
use crate::agent::limits::{CNI_CONF_BYTES_MAX, CNI_CONFS_MAX};

/// Reads the directory of configurations.
pub(super) fn read(dir: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !counts(&name) || !entry.path().is_file() {
            continue;
        }
        if files.len() == CNI_CONFS_MAX {
            return Err(io::Error::other(format!("there are more than {CNI_CONFS_MAX} configurations")));
        }
        // One that is removed meanwhile is told of again.
        match text(&entry.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => drop(files.insert(name, read.map_err(|error| error.to_string()))),
        }
    }
    Ok(files)
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(CNI_CONF_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CNI_CONF_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {CNI_CONF_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// Does one act.
pub(super) fn act(dir: &Path, act: &Act) -> io::Result<()> {
    let path = dir.join(act.name());
    match act {
        Act::Write { text, .. } => {
            // Configurations may hold secrets; a new one is for the runtime alone.
            let mode = fs::metadata(&path).map_or(0o600, |there| there.permissions().mode() & 0o777);
            replace(&path, text.as_bytes(), mode)
        }
        Act::Remove { .. } => remove(&path),
    }
}

/// What tells a file from the one that was there before, without reading it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    bytes: u64,
    mode: u32,
    changed: (i64, i64),
}

impl Stamp {
    /// That of the file at a path, if there is one.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let now = fs::symlink_metadata(path).ok()?;
        let changed = (now.ctime(), now.ctime_nsec());
        Some(Self { inode: now.ino(), bytes: now.len(), mode: now.mode(), changed })
    }
}

/// Puts a program in place, unless it is there already. One that runs goes on.
pub(super) fn install_program(program: &Path, path: &Path) -> io::Result<()> {
    let content = fs::read(program)?;
    if fs::read(path).is_ok_and(|there| there == content) {
        return fs::set_permissions(path, Permissions::from_mode(0o755));
    }
    replace(path, &content, 0o755)
}

/// Removes a file; fine when it is not there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    // There is one agent on a node, so one name is enough; what a killed one left is overwritten.
    let temporary = parent.join(format!(".{}.tmp", name.to_string_lossy()));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        // A node that loses power must not come back with an empty configuration: its pods would
        // start around the mesh, or not at all.
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        let _left_behind = fs::remove_file(&temporary);
    }
    written
}
