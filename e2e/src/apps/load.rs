//! An open-loop load: connections start on a fixed schedule, whether or not earlier ones are done,
//! so that a stall is seen as the latency and the failures it causes, not as a lower rate.

use clap::Args;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

/// Connections open at once; above it the load says `overrun` instead of hiding a stall in memory.
const CONNECTIONS_OPEN_MAX: usize = 4000;
/// An answer is a few hundred bytes; this bounds a broken server's.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// Where to: host:port.
    pub target: String,
    /// New connections a second.
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// For how many seconds.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// How long one connection may take from connect to the end of the answer, in seconds.
    #[arg(long, default_value_t = 5.0)]
    pub deadline: f64,
    /// Path of the request.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// It ends early when this file is there.
    #[arg(long)]
    pub until: Option<std::path::PathBuf>,
    /// A file that is written when the first connection was answered.
    #[arg(long)]
    pub ready_file: Option<std::path::PathBuf>,
}

/// What happened.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Connections with a whole 200 answer.
    pub ok: u64,
    /// How the others failed, and how often.
    pub failed: BTreeMap<String, u64>,
    /// Median of the good ones, in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile of the good ones, in milliseconds.
    pub p99_ms: f64,
    /// Slowest good one, in milliseconds.
    pub max_ms: f64,
    /// When failures happened, in milliseconds since the start (the first hundred).
    pub failed_at_ms: Vec<u64>,
}

impl Report {
    /// Number of connections that failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// Runs the load to its end and reports it.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let target: std::net::SocketAddr = tokio::net::lookup_host(&options.target)
        .await?
        .next()
        .ok_or_else(|| anyhow::anyhow!("{} has no address", options.target))?;
    let request: Arc<[u8]> =
        format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", options.path, options.target)
            .into_bytes()
            .into();
    let deadline = Duration::from_secs_f64(options.deadline);
    let total = (options.rate * options.seconds) as u64;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_OPEN_MAX));
    let samples: Arc<Mutex<(Vec<Duration>, Report)>> = Arc::default();
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..total {
        if options.until.as_ref().is_some_and(|file| file.exists()) {
            break;
        }
        let due = start + Duration::from_secs_f64(n as f64 / options.rate);
        tokio::time::sleep_until(due.into()).await;
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            record(&samples, start, due, Err("overrun".into()));
            continue;
        };
        let (request, samples) = (request.clone(), samples.clone());
        let ready_file = options.ready_file.clone();
        tasks.spawn(async move {
            let end = match tokio::time::timeout(deadline, one(target, &request)).await {
                Ok(end) => end,
                Err(_) => Err("deadline".into()),
            };
            if end.is_ok() {
                super::tell(ready_file.as_deref());
            }
            record(&samples, start, due, end);
            drop(slot);
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    let (mut times, mut report) = std::mem::take(&mut *samples.lock().expect("no holder panics"));
    times.sort();
    let at = |q: f64| super::quantile(&times, q).map_or(0.0, super::millis);
    (report.p50_ms, report.p99_ms, report.max_ms) = (at(0.5), at(0.99), at(1.0));
    Ok(report)
}

fn record(samples: &Mutex<(Vec<Duration>, Report)>, start: Instant, due: Instant, end: Result<(), String>) {
    let mut samples = samples.lock().expect("no holder panics");
    match end {
        Ok(()) => {
            samples.0.push(due.elapsed());
            samples.1.ok += 1;
        }
        Err(kind) => {
            *samples.1.failed.entry(kind).or_default() += 1;
            if samples.1.failed_at_ms.len() < 100 {
                samples.1.failed_at_ms.push(start.elapsed().as_millis() as u64);
            }
        }
    }
}

async fn one(target: std::net::SocketAddr, request: &[u8]) -> Result<(), String> {
    let name = |stage: &str, error: &std::io::Error| format!("{stage}: {}", short(error.kind()));
    let mut stream = TcpStream::connect(target).await.map_err(|e| name("connect", &e))?;
    stream.write_all(request).await.map_err(|e| name("write", &e))?;
    let mut answer = Vec::with_capacity(1024);
    let mut limited = (&mut stream).take(ANSWER_BYTES_MAX as u64);
    limited.read_to_end(&mut answer).await.map_err(|e| name("read", &e))?;
    if answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200") {
        Ok(())
    } else if answer.is_empty() {
        Err("closed without an answer".into())
    } else {
        Err(format!("answer: {}", String::from_utf8_lossy(answer.split(|b| *b == b'\r').next().unwrap_or_default())))
    }
}

fn short(kind: ErrorKind) -> String {
    format!("{kind:?}")
}
