//! Files of the state directory: written whole or not at all, secrets readable by the owner only.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Replaces a file with something that others may not read.
pub(crate) fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    fs::rename(beside(path, text, 0o600)?, path)
}

/// Replaces a file with something that everybody may read.
pub(crate) fn write_public(path: &Path, text: &str) -> io::Result<()> {
    fs::rename(beside(path, text, 0o644)?, path)
}

/// Makes a secret file that must not exist yet.
pub(crate) fn create_secret(path: &Path, text: &str) -> io::Result<()> {
    let written = beside(path, text, 0o600)?;
    // Unlike a rename, a link never replaces what somebody else made meanwhile.
    let linked = fs::hard_link(&written, path);
    fs::remove_file(&written)?;
    linked
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A file's text, or nothing if there is no such file.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(other),
    }
}

/// The text in a new file in the same directory, safely on the disk.
fn beside(path: &Path, text: &str, mode: u32) -> io::Result<PathBuf> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not a file's path");
    let (directory, name) = (path.parent().ok_or_else(wrong)?, path.file_name().ok_or_else(wrong)?);
    fs::create_dir_all(directory)?;
    let unique = rand::random::<u64>();
    let written = directory.join(format!(".{}.{unique:016x}", name.to_string_lossy()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&written)?;
    let done = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    match done {
        Ok(()) => Ok(written),
        Err(error) => {
            drop::<File>(file);
            let _ = fs::remove_file(&written);
            Err(error)
        }
    }
}
