//! What a container prints, kept in files of limited size.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Size at which a log begins anew; the file before it is kept. Twice this
/// bounds what one container can put on disk, and an hour of an access log
/// at ten connections a second fits.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// What is read from a container at once.
const READ_BYTES: usize = 16 << 10;

/// The log of one container: `<name>.log`, and `<name>.log.1` before it.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    written: u64,
}

impl Log {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = File::options().create(true).append(true).open(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, written })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written >= LOG_BYTES_MAX {
            std::fs::rename(&self.path, earlier(&self.path))?;
            self.file = File::options().create(true).append(true).open(&self.path)?;
            self.written = 0;
        }
        self.written += bytes.len() as u64;
        self.file.write_all(bytes)
    }
}

/// The file a log goes to when it has grown too large.
pub(crate) fn earlier(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// Copies everything from a container's stream to its log, to the end.
pub(crate) async fn keep(mut from: impl AsyncRead + Unpin, log: Arc<Mutex<Log>>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                // A full disk must not stop the container: its output is lost.
                let _ = log.lock().expect("no holder panics").write(&buffer[..length]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_grows_too_large_begins_anew_and_keeps_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod/c.log");
        let mut log = Log::open(&path).unwrap();
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..40 {
            log.write(&chunk).unwrap();
        }
        let size = |path: &Path| path.metadata().unwrap().len();
        assert_eq!((size(&earlier(&path)), size(&path)), (LOG_BYTES_MAX, 8 << 20));
    }
}
