//! Writes a file of objects whole: readers see the old content or the new one, never a part.

use std::{
    fs, io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// Writes `content` to `path` through a temporary file beside it. Parent directories are made.
/// Content that is the same is not written again.
pub fn write(path: &Path, content: &str) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
    };
    if fs::read(path).is_ok_and(|old| old == content.as_bytes()) {
        return Ok(());
    }
    fs::create_dir_all(parent)?;
    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    // Processes of different PID namespaces write here, so the number alone would not be unique.
    let random: u64 = rand::random();
    let temporary = parent.join(format!(".{}.{random:x}.{unique}.tmp", name.to_string_lossy()));
    let written = fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _left_behind = fs::remove_file(&temporary);
    }
    written
}
