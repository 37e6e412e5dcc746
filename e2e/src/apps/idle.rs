//! Many connections that stay open and do nothing: each was answered once, or asked for more than it reads.

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Connections that are being opened at the same moment: servers and proxies have queues for that many.
const OPENING_MAX: usize = 64;
/// The head and the body of an answer are in the first so many bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// An HTTP server that keeps connections: host:port.
    pub target: SocketAddr,
    /// How many connections.
    #[arg(long, default_value_t = 1000)]
    pub connections: usize,
    /// What to ask for.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// Do not read the answers.
    #[arg(long)]
    pub unread: bool,
    /// A file that is created when all are open and asked for.
    #[arg(long)]
    pub ready_file: PathBuf,
}

/// Printed if it ever ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// How many connections there were.
    pub connections: usize,
}

/// Opens them and stays until it is stopped.
pub async fn run(options: Options) -> Result<Report> {
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", options.path, options.target);
    let opening = (0..options.connections).map(|_| open(&options, &request));
    let opened: Vec<Result<TcpStream>> = stream::iter(opening).buffer_unordered(OPENING_MAX).collect().await;
    let open = opened.into_iter().collect::<Result<Vec<_>>>()?;
    std::fs::write(&options.ready_file, "ready").context("cannot say that all are open")?;
    std::future::pending::<()>().await;
    Ok(Report { connections: open.len() })
}

async fn open(options: &Options, request: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(options.target).await.context("connect")?;
    stream.write_all(request.as_bytes()).await.context("ask")?;
    if !options.unread {
        let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
        while !whole(&answer) {
            let read = stream.read_buf(&mut answer).await.context("read")?;
            ensure!(read > 0 && answer.len() < ANSWER_BYTES_MAX, "no answer: {:?}", String::from_utf8_lossy(&answer));
        }
    }
    Ok(stream)
}

/// Whether an answer is there to the end of its body.
fn whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    answer.len() >= head + 4 + length.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_body() {
        for (answer, want) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", false),
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\n", false),
        ] {
            assert_eq!(whole(answer.as_bytes()), want, "{answer}");
        }
    }
}
