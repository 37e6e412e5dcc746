//! A thousand node proxies in one process, and a mesh that changes: how long until the last of them has heard of it.
//!
//! The changes are made here, in files that the control plane reads, so that one clock times both ends.

mod churn;
pub mod mesh;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use testkit::{
    audience::{Listener, Opening, Versions},
    authority::Place,
    tokens::{Holder, Signer, claims},
};
use tokio::{sync::mpsc, task::JoinSet};

/// So many connect at once: each is told everything first, which is held in memory until it is read.
const OPENING_MAX: usize = 8;
/// Who has not connected again by then gives up.
const AGAIN_DEADLINE: Duration = Duration::from_secs(180);
/// How often the file to wait for is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// A change that is not everywhere by then never will be.
const DEADLINE: Duration = Duration::from_secs(60);

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// The control plane: `https://host:port`.
    pub address: String,
    /// The directory of its state, with its roots and its key for tokens.
    #[arg(long)]
    pub state: PathBuf,
    /// The directory that it reads.
    #[arg(long)]
    pub config: PathBuf,
    /// How many proxies.
    #[arg(long, default_value_t = 1000)]
    pub proxies: usize,
    /// How many changes, one after the other.
    #[arg(long, default_value_t = 100)]
    pub changes: usize,
    /// How many changes a second after those: pods that come and go.
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// For how many seconds.
    #[arg(long, default_value_t = 0.0)]
    pub seconds: f64,
    /// Have all connect again at once, with what they know.
    #[arg(long)]
    pub reconnect: bool,
    /// A file that is created when all are connected and know everything.
    #[arg(long)]
    pub ready_file: PathBuf,
    /// A file whose coming is waited for before the first change.
    #[arg(long)]
    pub go_file: PathBuf,
}

/// What happened.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Bytes of everything, as one proxy is told it.
    pub all_bytes: usize,
    /// From each change until the last proxy had heard of it, in milliseconds.
    pub last_ms: Vec<f64>,
    /// Until half of them had.
    pub median_ms: Vec<f64>,
    /// How late the pods were heard of that come and go at a rate.
    pub stale: churn::Stale,
    /// Until all had connected again and had an answer, in seconds.
    pub again_seconds: Option<f64>,
    /// Bytes that all of them were told then.
    pub again_bytes: usize,
    /// Attempts that failed then.
    pub again_refused: usize,
}

/// Connects, changes, and reports.
pub async fn run(options: Options) -> Result<Report> {
    let read = |name: &str| {
        let path = options.state.join(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    let place = Place { address: options.address.clone(), roots: read("root-cert.pem")? };
    let proxy = Holder {
        namespace: "istio-system",
        pod: "ztunnel-1",
        uid: "uid-ztunnel-1",
        account: "ztunnel",
        node: "node1",
        neighbour: None,
    };
    let token = Signer::new(&read("token-key.pem")?).sign(&claims(&proxy));
    let churn = Arc::new(churn::Tally::new(options.proxies, (options.rate * options.seconds) as usize));
    if options.seconds > 0.0 {
        churn::begin(&options.config)?;
    }
    let nothing = Opening::of("ztunnel-1", &Versions::new());
    let mut report = Report::default();

    let (heard, mut hearing) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();

    // What is there, and in which versions, is asked of the first: all are told the same.
    let (first, bytes, known) = synced(&place, &token, &nothing, true).await?;
    report.all_bytes = bytes;
    tasks.spawn(listen(first, heard.clone(), churn.clone()));
    let opening = (1..options.proxies).map(|_| synced(&place, &token, &nothing, false));
    let mut opening = stream::iter(opening).buffer_unordered(OPENING_MAX);
    while let Some((listener, ..)) = opening.try_next().await? {
        tasks.spawn(listen(listener, heard.clone(), churn.clone()));
    }
    drop(opening);
    std::fs::write(&options.ready_file, "ready")?;
    while !options.go_file.exists() {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    for number in 0..options.changes {
        let times = moved(&options, number, &mut hearing).await?;
        report.median_ms.push(times[times.len() / 2]);
        report.last_ms.push(times[times.len() - 1]);
    }
    report.stale = churn::run(&options.config, options.rate, &churn, DEADLINE).await?;
    std::fs::write(options.go_file.with_added_extension("done"), "done")?;
    tasks.shutdown().await;
    if options.reconnect {
        // The changes were all of one workload.
        let (known, began) = (Opening::of("ztunnel-1", &known), Instant::now());
        let opening = (0..options.proxies).map(|_| again(&place, &token, &known, began));
        let mut all = stream::iter(opening).buffer_unordered(options.proxies);
        let mut open = Vec::new();
        while let Some((listener, bytes, refused)) = all.try_next().await? {
            report.again_bytes += bytes;
            report.again_refused += refused;
            open.push(listener);
        }
        report.again_seconds = Some(began.elapsed().as_secs_f64());
    }
    Ok(report)
}

/// Moves the one pod, and waits until all have heard: milliseconds, sorted.
async fn moved(options: &Options, number: usize, hearing: &mut mpsc::UnboundedReceiver<Instant>) -> Result<Vec<f64>> {
    let changed = Instant::now();
    mesh::move_it(&options.config, number)?;
    let mut times = Vec::with_capacity(options.proxies);
    while times.len() < options.proxies {
        let at: Instant = tokio::time::timeout(DEADLINE, hearing.recv())
            .await
            .with_context(|| format!("change {number}: only {} proxies heard of it", times.len()))?
            .context("no proxy listens any more")?;
        times.push((at - changed).as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// One that has connected and was told all that there is; with the versions, if they are wanted.
async fn synced(place: &Place, token: &str, opening: &Opening, wanted: bool) -> Result<(Listener, usize, Versions)> {
    let mut listener = Listener::open(place, token, opening).await.map_err(|error| anyhow!(error))?;
    let (mut bytes, mut versions, mut kinds) = (0, Versions::new(), 0);
    while kinds < 2 {
        let told = listener.next().await.map_err(|error| anyhow!(error))?;
        kinds += 1;
        bytes += told.bytes;
        if wanted && told.is_address() {
            versions = told.resources.into_iter().collect();
        }
    }
    Ok((listener, bytes, versions))
}

/// The same for one that tries until it is let in, as proxies do; with how often it was not.
async fn again(place: &Place, token: &str, opening: &Opening, began: Instant) -> Result<(Listener, usize, usize)> {
    let mut refused = 0;
    loop {
        match synced(place, token, opening, false).await {
            Ok((listener, bytes, _)) => return Ok((listener, bytes, refused)),
            Err(error) if began.elapsed() > AGAIN_DEADLINE => return Err(error),
            Err(_refused) => refused += 1,
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn listen(mut listener: Listener, heard: mpsc::UnboundedSender<Instant>, churn: Arc<churn::Tally>) -> Result<()> {
    let moving = mesh::moving();
    loop {
        let told = listener.next().await.map_err(|error| anyhow!(error))?;
        if told.names().any(|name| name == moving) {
            heard.send(Instant::now())?;
        }
        churn.told(&told);
    }
}
