//! One connection that is kept open and watched: it sends a numbered line at an interval, expects each
//! back, and says when and how the connection ended.

use clap::Args;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// A TCP echo server: host:port.
    pub target: String,
    /// For how many seconds at most.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Milliseconds between two lines.
    #[arg(long, default_value_t = 10)]
    pub interval_ms: u64,
    /// A file that is created when the first line came back, for the scenario to wait for.
    #[arg(long)]
    pub ready_file: Option<std::path::PathBuf>,
}

/// What happened.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Lines that came back as they were sent.
    pub echoed: u64,
    /// How it ended: `time` (it lived to the end), `closed`, `reset`, `connect: …`, `wrong bytes`.
    pub end: String,
    /// Milliseconds since the Unix epoch when it ended.
    pub ended_at_ms: u128,
}

/// Holds the connection to its end and reports it.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let mut echoed = 0;
    let end = hold(&options, &mut echoed).await;
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(Report { echoed, end, ended_at_ms: since_epoch.as_millis() })
}

async fn hold(options: &Options, echoed: &mut u64) -> String {
    let stop = Instant::now() + Duration::from_secs_f64(options.seconds);
    let stream = match TcpStream::connect(&options.target).await {
        Ok(stream) => stream,
        Err(error) => return format!("connect: {:?}", error.kind()),
    };
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while Instant::now() < stop {
        let line = format!("line {echoed}");
        if let Err(error) = write.write_all(format!("{line}\n").as_bytes()).await {
            return ended(&error);
        }
        match tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await {
            Ok(Ok(Some(back))) if back == line => *echoed += 1,
            Ok(Ok(Some(back))) => return format!("wrong bytes: {back:?} for {line:?}"),
            Ok(Ok(None)) => return "closed".into(),
            Ok(Err(error)) => return ended(&error),
            Err(_) => return "silence for 30 s".into(),
        }
        if *echoed == 1
            && let Some(file) = &options.ready_file
            && let Err(error) = std::fs::write(file, "ready")
        {
            return format!("cannot write {}: {error}", file.display());
        }
        tokio::time::sleep(Duration::from_millis(options.interval_ms)).await;
    }
    "time".into()
}

fn ended(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => "reset".into(),
        kind => format!("{kind:?}"),
    }
}
