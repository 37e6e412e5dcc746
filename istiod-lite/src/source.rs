//! Where facts come from. Whoever reads Kubernetes, or files, sends what it learned here, in order;
//! behind this line nobody knows which of them it was.

#[cfg(feature = "kubernetes")]
pub mod kinds;

use crate::{
    facts::{Fact, FactKey},
    files, ledger,
    problems::{Problem, Subject},
};
use chassis::objects::{Directory, Object, ObjectEvent, OpenError};
use std::{path::Path, sync::Arc, time::Instant};
use tokio::sync::mpsc;

/// What was learned at one moment. The first moment holds everything that was there.
#[derive(Debug)]
pub struct Told {
    /// When.
    pub at: Instant,
    /// What, in order.
    pub news: Vec<News>,
    /// There is more of this moment.
    pub more: bool,
}

/// One thing that was learned.
#[derive(Debug)]
pub enum News {
    /// How an object is now.
    Fact(Fact),
    /// Nothing is wrong with this any more; problems that follow are new ones.
    Clear(Subject),
    /// Something could not be understood.
    Problem(Problem),
    /// How an object stands, for those who write to it.
    Seen(FactKey, Arc<Object>),
    /// It does not stand any more.
    Gone(FactKey),
}

/// Moments that wait to be taken in. A slow index makes the source wait, and a source that waits
/// merges what happens meanwhile.
const TOLD_QUEUED_MAX: usize = 4;

/// A line between a source and the index.
pub fn line() -> (mpsc::Sender<Told>, mpsc::Receiver<Told>) {
    mpsc::channel(TOLD_QUEUED_MAX)
}

/// Reads a directory of YAML for as long as somebody listens.
pub async fn read_directory(path: &Path, line: mpsc::Sender<Told>) -> Result<(), OpenError> {
    let mut directory = Directory::open(path)?;
    loop {
        let part = tokio::select! {
            part = directory.next_part() => part,
            () = line.closed() => return Ok(()),
        };
        let told = Told { at: Instant::now(), news: news(part.events), more: part.more };
        if line.send(told).await.is_err() {
            return Ok(());
        }
    }
}

/// Reads a cluster for as long as somebody listens.
#[cfg(feature = "kubernetes")]
pub async fn read_cluster(client: &cluster::Client, line: mpsc::Sender<Told>) {
    let mut watches = cluster::watch::Watches::open(client, kinds::all());
    loop {
        let events = tokio::select! {
            events = watches.next() => events,
            () = line.closed() => return,
        };
        let told = Told { at: Instant::now(), news: news(events), more: false };
        if line.send(told).await.is_err() {
            return;
        }
    }
}

fn news(events: Vec<ObjectEvent>) -> Vec<News> {
    let mut news = Vec::new();
    // A file whose objects changed was read well, unless one of these says otherwise.
    for event in &events {
        if let ObjectEvent::Applied(object) = event
            && object.origin.line > 0
        {
            news.push(News::Clear(Subject::File(object.origin.file.to_path_buf())));
        }
    }
    for event in events {
        match event {
            ObjectEvent::Applied(object) => {
                let reading = files::read(&object);
                news.push(News::Clear(Subject::Object(object.key())));
                news.extend(reading.problems.into_iter().map(|problem| News::Problem(problem.into())));
                news.extend(reading.fact.map(News::Fact));
                news.extend(ledger::key(&object.key()).map(|key| News::Seen(key, object)));
            }
            ObjectEvent::Removed(key) => {
                news.extend(files::removed(&key).map(News::Fact));
                news.extend(ledger::key(&key).map(News::Gone));
                news.push(News::Clear(Subject::Object(key)));
            }
            ObjectEvent::Problem(problem) => news.push(News::Problem(problem.into())),
        }
    }
    news
}
