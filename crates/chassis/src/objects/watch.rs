//! Watches the directory: a thread of its own gathers what the kernel tells, reads files, and
//! hands over what changed. The only part of this room that waits.

use super::{
    ObjectEvent, Part, Problem,
    scan::{self, Difference, Files},
    set::{Content, Set},
};
use crate::limits;
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// A watched directory.
#[derive(Debug)]
pub struct Directory {
    parts: mpsc::Receiver<Part>,
    queue: Arc<Queue>,
}

/// Why a directory cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, or is no directory.
    #[error("{} is not a readable directory: create it, or name another", path.display())]
    NotReadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel gives no more watches.
    #[error("cannot watch {}: raise fs.inotify.max_user_watches and fs.inotify.max_user_instances", path.display())]
    NotWatchable {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Directory {
    /// Begins to watch.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, OpenError> {
        let path = path.into();
        let root = fs::canonicalize(&path).and_then(|root| fs::read_dir(&root).map(|_| root));
        let root = root.map_err(|source| OpenError::NotReadable { path: path.clone(), source })?;
        let queue = Arc::new(Queue::default());
        // Watched before it is looked at, so that nothing falls between.
        let watcher = watch(&root, &queue).map_err(|source| OpenError::NotWatchable { path: path.clone(), source })?;
        let (sender, parts) = mpsc::channel(1);
        let reader =
            Reader { root, queue: queue.clone(), files: Files::new(), set: Set::default(), watcher, identity: None };
        std::thread::Builder::new()
            .name("objects".into())
            .spawn(move || reader.run(&sender))
            .map_err(|source| OpenError::NotWatchable { path, source })?;
        Ok(Self { parts, queue })
    }

    /// What changed since the last call. The first call returns everything that is there (which
    /// may be nothing); later ones wait for a change and are never empty. Cancel safe, after the first.
    pub async fn next(&mut self) -> Vec<ObjectEvent> {
        let mut part = self.next_part().await;
        let mut events = std::mem::take(&mut part.events);
        while part.more {
            part = self.next_part().await;
            events.append(&mut part.events);
        }
        events
    }

    /// The same for those who need not have everything at once: what is there comes in parts of some
    /// thousand objects, so that a large directory is never in memory as a whole. Cancel safe.
    pub async fn next_part(&mut self) -> Part {
        match self.parts.recv().await {
            Some(part) => part,
            // The thread ends only with us, unless it panicked; the panic is in the log.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

/// What is to be looked at, and when. Bounded: too many paths become one look at everything.
#[derive(Debug, Default)]
struct Queue {
    due: Mutex<Due>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Due {
    files: BTreeMap<PathBuf, Instant>,
    everything: BTreeSet<Instant>,
    closed: bool,
}

/// What one event of the kernel asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    /// Read this file: it is complete.
    File(PathBuf),
    /// Read this file, but its writer may not be done.
    Unfinished(PathBuf),
    /// Look at everything.
    Everything,
}

/// How long an unfinished file is left to its writer, should the writer never close it.
const UNFINISHED: Duration = Duration::from_millis(50);

/// A new directory's files may be written before the kernel watches it, so there is a second look.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// Events after which a part of what is read first goes on its way: some megabytes.
const PART_EVENTS: usize = 1000;

/// Paths that wait; more than that are looked for all together.
const FILES_DUE_MAX: usize = 4096;

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, asks: Vec<Ask>, now: Instant) {
        if asks.is_empty() {
            return;
        }
        let mut due = self.lock();
        for ask in asks {
            match ask {
                // One that is asked for again is read when it was due: what changed first is told first.
                Ask::File(path) => {
                    let at = due.files.entry(path).or_insert(now + limits::OBJECT_SETTLE);
                    *at = (*at).min(now + limits::OBJECT_SETTLE);
                }
                Ask::Unfinished(path) => drop(due.files.insert(path, now + UNFINISHED)),
                Ask::Everything => due.everything = [now + limits::OBJECT_SETTLE, now + SECOND_LOOK].into(),
            }
        }
        if due.files.len() > FILES_DUE_MAX {
            due.files.clear();
            due.everything.insert(now + limits::OBJECT_SETTLE);
        }
        drop(due);
        self.changed.notify_all();
    }

    /// Waits until something is due. `None`: closed. Otherwise the files, and whether to look at everything.
    fn wait(&self, next_rescan: Instant) -> Option<(Vec<PathBuf>, bool)> {
        let mut due = self.lock();
        loop {
            if due.closed {
                return None;
            }
            let now = Instant::now();
            let everything = now >= next_rescan || due.everything.first().is_some_and(|at| *at <= now);
            if everything {
                // A look at everything reads every file that is waiting, too.
                due.everything.retain(|at| *at > now);
                return Some((std::mem::take(&mut due.files).into_keys().collect(), true));
            }
            let ready: Vec<PathBuf> = due.files.iter().filter(|(_, at)| **at <= now).map(|(p, _)| p.clone()).collect();
            if !ready.is_empty() {
                due.files.retain(|_, at| *at > now);
                return Some((ready, false));
            }
            let soonest = due.files.values().chain(due.everything.first()).min().copied().unwrap_or(next_rescan);
            let timeout = soonest.min(next_rescan).saturating_duration_since(now);
            due = self.changed.wait_timeout(due, timeout).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// What an event asks for. Reading, opening and temporary files ask for nothing.
fn asks(root: &Path, event: &notify::Event) -> Vec<Ask> {
    if event.need_rescan() {
        return vec![Ask::Everything];
    }
    let unfinished = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => return Vec::new(),
        EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => return vec![Ask::Everything],
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => true,
        EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Any | EventKind::Other => false,
    };
    let ask = |path: &PathBuf| {
        let name = path.file_name()?.as_encoded_bytes();
        match () {
            () if scan::is_object_file(root, path) && unfinished => Some(Ask::Unfinished(path.clone())),
            () if scan::is_object_file(root, path) => Some(Ask::File(path.clone())),
            // The swap of a ConfigMap mount: `..data` is renamed.
            () if name.starts_with(b"..") => Some(Ask::Everything),
            // A directory that came or went by a rename has no kind in the event.
            () if !name.starts_with(b".") && path.extension().is_none() && !unfinished => Some(Ask::Everything),
            () => None,
        }
    };
    event.paths.iter().filter_map(ask).collect()
}

fn watch(root: &Path, queue: &Arc<Queue>) -> io::Result<RecommendedWatcher> {
    let (base, queue) = (root.to_owned(), queue.clone());
    let handler = move |event: notify::Result<notify::Event>| {
        // An error of the watch itself means that we no longer know: look at everything.
        let asks = event.map_or_else(|_| vec![Ask::Everything], |event| asks(&base, &event));
        queue.ask(asks, Instant::now());
    };
    let mut watcher = notify::recommended_watcher(handler).map_err(io::Error::other)?;
    watcher.watch(root, RecursiveMode::Recursive).map_err(io::Error::other)?;
    Ok(watcher)
}

/// The thread that reads.
struct Reader {
    root: PathBuf,
    queue: Arc<Queue>,
    files: Files,
    set: Set,
    watcher: RecommendedWatcher,
    identity: Option<(u64, u64)>,
}

impl Reader {
    fn run(mut self, parts: &mpsc::Sender<Part>) {
        if self.read_all(parts).is_none() {
            return;
        }
        let mut next_rescan = Instant::now() + limits::OBJECT_RESCAN;
        while let Some((files, everything)) = self.queue.wait(next_rescan) {
            let events = if everything {
                next_rescan = Instant::now() + limits::OBJECT_RESCAN;
                self.rescan(&files.into_iter().collect())
            } else {
                self.reread(files)
            };
            if !events.is_empty() && parts.blocking_send(Part { events, more: false }).is_err() {
                return;
            }
        }
    }

    /// Reads everything for the first time. `None`: nobody listens.
    fn read_all(&mut self, parts: &mpsc::Sender<Part>) -> Option<()> {
        let (mut events, files) = self.look(&BTreeSet::new());
        for file in files {
            events.extend(self.reread([file]));
            if events.len() >= PART_EVENTS {
                parts.blocking_send(Part { events: std::mem::take(&mut events), more: true }).ok()?;
            }
        }
        parts.blocking_send(Part { events, more: false }).ok()
    }

    /// Looks at everything, and reads what differs or is `asked` for.
    fn rescan(&mut self, asked: &BTreeSet<PathBuf>) -> Vec<ObjectEvent> {
        let (mut events, files) = self.look(asked);
        events.extend(self.reread(files));
        events
    }

    /// Looks at everything. What is wrong with it, and the files that differ or are `asked` for: stamps are not
    /// enough for the latter, two writes within one tick of the clock look alike.
    fn look(&mut self, asked: &BTreeSet<PathBuf>) -> (Vec<ObjectEvent>, BTreeSet<PathBuf>) {
        let (after, problems) = match scan::scan(&self.root) {
            Ok(found) => found,
            Err(error) => {
                let reason = format!("cannot be read: {error}; what it held before is kept");
                let problem = Problem { file: self.root.clone(), line: 0, reason };
                return (vec![ObjectEvent::Problem(problem)], BTreeSet::new());
            }
        };
        self.rewatch();
        self.files.retain(|file, _| !asked.contains(file));
        let differing = scan::diff(&self.files, &after).into_iter().map(|difference| match difference {
            Difference::Read(file) | Difference::Gone(file) => file,
        });
        let files = differing.chain(asked.iter().cloned()).collect();
        (problems.into_iter().map(ObjectEvent::Problem).collect(), files)
    }

    /// A directory that was removed and made again needs a new watch.
    fn rewatch(&mut self) {
        let identity = fs::metadata(&self.root).ok().map(|m| (m.dev(), m.ino()));
        if self.identity.is_some() && identity != self.identity {
            match watch(&self.root, &self.queue) {
                Ok(watcher) => self.watcher = watcher,
                Err(error) => tracing::warn!(%error, "cannot watch {}, looking from time to time", self.root.display()),
            }
        }
        self.identity = identity;
    }

    fn reread(&mut self, files: impl IntoIterator<Item = PathBuf>) -> Vec<ObjectEvent> {
        let mut found: Vec<(PathBuf, Option<Content>)> = Vec::new();
        for file in files {
            let read = scan::read(&self.root, &file);
            match &read {
                Some((stamp, _)) => self.files.insert(file.clone(), *stamp),
                None => self.files.remove(&file),
            };
            found.push((file, read.map(|(_, content)| content)));
        }
        // Gone files first, so that an object that moved is not described twice for a moment.
        found.sort_by_key(|(_, content)| content.is_some());
        coalesce(found.into_iter().flat_map(|(file, content)| self.set.apply(&file, content)).collect())
    }
}

/// Keeps the last thing that was said of each object: one that moves from file to file is never gone.
fn coalesce(events: Vec<ObjectEvent>) -> Vec<ObjectEvent> {
    let mut told = BTreeSet::new();
    let mut kept: Vec<ObjectEvent> = events
        .into_iter()
        .rev()
        .filter(|event| match event {
            ObjectEvent::Applied(object) => told.insert(object.key()),
            ObjectEvent::Removed(key) => told.insert(key.clone()),
            ObjectEvent::Problem(_) => true,
        })
        .collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_first_is_read_first_however_often_it_changes() {
        let (queue, start) = (Queue::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let (a, b, c) = (PathBuf::from("a"), PathBuf::from("b"), PathBuf::from("c"));
        queue.ask(vec![Ask::Unfinished(c.clone())], at(0));
        queue.ask(vec![Ask::File(a.clone())], at(0));
        queue.ask(vec![Ask::File(b.clone()), Ask::File(c.clone())], at(1));
        queue.ask(vec![Ask::File(a.clone())], at(4));
        let settled = |ms| at(ms) + limits::OBJECT_SETTLE;
        let due = |path: &PathBuf| queue.lock().files.get(path).copied();
        assert_eq!([due(&a), due(&b), due(&c)], [Some(settled(0)), Some(settled(1)), Some(settled(1))]);
        // But what is being written waits for its writer.
        queue.ask(vec![Ask::Unfinished(a.clone())], at(4));
        assert_eq!(due(&a), Some(at(4) + UNFINISHED));
    }
}
