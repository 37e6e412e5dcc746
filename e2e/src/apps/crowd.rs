//! Many connections that are all open at the same moment: each is connected and answered before any
//! closes, and each is answered again after the last was answered for the first time.

use clap::Args;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
    time::timeout_at,
};

/// An answer is a few hundred bytes; this bounds a broken server's.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// An HTTP server that keeps connections open: host:port.
    pub target: String,
    /// How many connections.
    #[arg(long, default_value_t = 1000)]
    pub connections: usize,
    /// How long all of it may take, in seconds.
    #[arg(long, default_value_t = 30.0)]
    pub deadline: f64,
}

/// What happened.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Connections that were answered while every other was open, and again after that.
    pub ok: u64,
    /// How the others failed, and how often.
    pub failed: BTreeMap<String, u64>,
    /// From the first connect to the moment at which all were open and answered, in milliseconds.
    pub gathered_ms: f64,
}

/// Gathers the crowd and reports it.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let target: SocketAddr = tokio::net::lookup_host(&options.target)
        .await?
        .next()
        .ok_or_else(|| anyhow::anyhow!("{} has no address", options.target))?;
    let start = Instant::now();
    let deadline = tokio::time::Instant::from_std(start) + Duration::from_secs_f64(options.deadline);
    let connected = Arc::new(Barrier::new(options.connections));
    let answered = Arc::new(Barrier::new(options.connections));
    let mut tasks = JoinSet::new();
    for _ in 0..options.connections {
        let (connected, answered) = (connected.clone(), answered.clone());
        tasks.spawn(async move {
            // A member that fails leaves the others waiting at a barrier: they say so at the deadline.
            let mut stage = "connect";
            let visit = visit(target, start, &connected, &answered, &mut stage);
            match timeout_at(deadline, visit).await {
                Ok(Ok(gathered)) => Ok(gathered),
                Ok(Err(error)) => Err(format!("{stage}: {:?}", error.kind())),
                Err(_) => Err(format!("{stage}: deadline")),
            }
        });
    }
    let mut report = Report::default();
    while let Some(end) = tasks.join_next().await {
        match end? {
            Ok(gathered) => {
                report.ok += 1;
                report.gathered_ms = report.gathered_ms.max(gathered.as_secs_f64() * 1000.0);
            }
            Err(how) => *report.failed.entry(how).or_default() += 1,
        }
    }
    Ok(report)
}

/// One connection; returns when all were answered.
async fn visit(
    target: SocketAddr,
    start: Instant,
    connected: &Barrier,
    answered: &Barrier,
    stage: &mut &'static str,
) -> std::io::Result<Duration> {
    let mut stream = TcpStream::connect(target).await?;
    *stage = "all connected";
    connected.wait().await;
    *stage = "first answer";
    ask(&mut stream).await?;
    *stage = "all answered";
    answered.wait().await;
    let gathered = start.elapsed();
    *stage = "second answer";
    ask(&mut stream).await?;
    Ok(gathered)
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: crowd\r\n\r\n").await?;
    let mut answer = Vec::with_capacity(512);
    while !whole(&answer) {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if answer.len() > ANSWER_BYTES_MAX || !b"HTTP/1.1 200".starts_with(&answer[..answer.len().min(12)]) {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
    }
    Ok(())
}

/// Whether an answer of our own server is there to its end, which is the end of a line after the head.
fn whole(answer: &[u8]) -> bool {
    let head = answer.windows(4).position(|w| w == b"\r\n\r\n");
    head.is_some_and(|head| answer.len() > head + 4 && answer.ends_with(b"\n"))
}
