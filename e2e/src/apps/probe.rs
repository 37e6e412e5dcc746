//! Asks the same question again and again, a new connection each time, and notes when the answer changes.

use clap::Args;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// An HTTP server: host:port.
    pub target: String,
    /// For how many seconds.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Milliseconds between two questions.
    #[arg(long, default_value_t = 2)]
    pub interval_ms: u64,
    /// A file that is created after the first answer, for the scenario to wait for.
    #[arg(long)]
    pub ready_file: Option<std::path::PathBuf>,
}

/// One change of the answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Turn {
    /// When the question with the new answer was asked, in microseconds since the Unix epoch.
    pub asked_at_us: u64,
    /// When the new answer was there.
    pub answered_at_us: u64,
    /// Whether the server answered 200.
    pub ok: bool,
}

/// What happened.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Questions asked.
    pub asked: u64,
    /// The first answer and each change of it.
    pub turns: Vec<Turn>,
}

/// Asks until the time is over.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let stop = Instant::now() + Duration::from_secs_f64(options.seconds);
    let mut report = Report::default();
    while Instant::now() < stop {
        let asked_at_us = now()?;
        let answer = tokio::time::timeout(Duration::from_secs(1), ask(&options.target)).await;
        let ok = matches!(answer, Ok(Ok(true)));
        report.asked += 1;
        if report.turns.last().is_none_or(|turn| turn.ok != ok) {
            report.turns.push(Turn { asked_at_us, answered_at_us: now()?, ok });
        }
        if report.asked == 1
            && let Some(file) = &options.ready_file
        {
            std::fs::write(file, "ready")?;
        }
        tokio::time::sleep(Duration::from_millis(options.interval_ms)).await;
    }
    Ok(report)
}

fn now() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as u64)
}

async fn ask(target: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(target).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n").await?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    Ok(&head[9..12] == b"200")
}
