//! Malformed and ambiguous HTTP/1 requests: where one ends, two readers may disagree.
//!
//! Each connection carries one request put together from pieces that servers have disagreed on, with
//! another request in what could be its body. The proxy before the servers names every request that
//! it forwards (`x-request-id`); a server that sees a request without a name saw one that the proxy
//! did not, and that is for the scenario to look for.

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use testkit::reference::Dice;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 32;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(400);
/// Of an answer only the beginning is looked at.
const ANSWER_BYTES_MAX: u64 = 1 << 16;

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// Where to: host:port.
    pub target: String,
    /// How many requests.
    #[arg(long, default_value_t = 1000)]
    pub count: u64,
    /// What they are made from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What happened.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// First answers by status; 0: the connection was closed, or nothing came.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that could not be sent.
    pub unsent: u64,
}

const LINES: [&str; 5] =
    ["POST /x HTTP/1.1", "POST /x HTTP/1.0", "GET /x HTTP/1.1", "POST http://HOST/x HTTP/1.1", "POST  /x HTTP/1.1"];

const FRAMING: [&str; 27] = [
    "Content-Length: N",
    "Content-Length: +N",
    "Content-Length: 0N",
    "Content-Length: N, N",
    "Content-Length: N, M",
    "Content-Length : N",
    "Content-Length: N\r\nContent-Length: M",
    "Content-Length: N\r\nContent-Length: N",
    "Content-Length: -1",
    "Content-Length: 0x10",
    "Content-Length: N;",
    "Content-Length:\tN",
    "Content-Length:",
    "Content_Length: N",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked",
    "X-Before: y\r\n Transfer-Encoding: chunked",
    "Transfer-Encoding: cHuNkEd",
    "Transfer-Encoding: \"chunked\"",
    "X-Bare: y\rTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Connection: Transfer-Encoding, Content-Length",
];

const CHUNKS: [&str; 13] = [
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\n0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    " 5\r\nhello\r\n0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "00000000000000000005\r\nhello\r\n0\r\n\r\n",
    "-1\r\nhello\r\n0\r\n\r\n",
    "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
    "5\r\nhelloX\r\n0\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n",
];

/// One request, and another where its body may be.
fn request(dice: &mut Dice, host: &str) -> Vec<u8> {
    let inner = format!("GET /inner HTTP/1.1\r\nHost: {host}\r\nX-Inner: 1\r\n\r\n");
    let chunked = if dice.once_in(2) { *dice.one(&CHUNKS) } else { "" };
    let body = format!("{chunked}{inner}");
    let end = if dice.once_in(8) { "\n" } else { "\r\n" };
    let mut text = format!("{}{end}Host: {host}{end}", dice.one(&LINES)).replace("HOST", host);
    for _ in 0..=dice.under(3) {
        let piece = *dice.one(&FRAMING);
        let lengths = [0, chunked.len(), body.len(), body.len() + 1];
        let (n, m) = (*dice.one(&lengths), *dice.one(&lengths));
        let piece = piece.replace("0N", &format!("0{n}")).replace(": N", &format!(": {n}"));
        text.push_str(
            &piece
                .replace("+N", &format!("+{n}"))
                .replace("\tN", &format!("\t{n}"))
                .replace(", N", &format!(", {n}"))
                .replace(" M", &format!(" {m}")),
        );
        text.push_str(end);
    }
    text.push_str(end);
    text.push_str(&body);
    text.into_bytes()
}

/// Sends them all.
pub async fn run(options: Options) -> Result<Report> {
    let target = tokio::net::lookup_host(&options.target).await?.next();
    let target = target.with_context(|| format!("{} has no address", options.target))?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut dice = Dice::seeded(options.seed);
    let mut tasks = tokio::task::JoinSet::new();
    let mut report = Report::default();
    for _ in 0..options.count {
        let slot = slots.clone().acquire_owned().await?;
        let bytes = request(&mut dice, options.target.split(':').next().unwrap_or_default());
        tasks.spawn(async move {
            let status = one(target, &bytes).await;
            drop(slot);
            status
        });
        while let Some(status) = tasks.try_join_next() {
            report.count(status?);
        }
    }
    while let Some(status) = tasks.join_next().await {
        report.count(status?);
    }
    Ok(report)
}

impl Report {
    fn count(&mut self, status: Option<u16>) {
        match status {
            Some(status) => *self.statuses.entry(status).or_default() += 1,
            None => self.unsent += 1,
        }
    }
}

/// The status of the first answer; none when the request could not be sent.
async fn one(target: SocketAddr, request: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(target).await.ok()?;
    // A server may answer and close before it has read everything; that is its right.
    let _sent = stream.write_all(request).await;
    let mut answer = Vec::new();
    let mut limited = (&mut stream).take(ANSWER_BYTES_MAX);
    let _patience = tokio::time::timeout(PATIENCE, limited.read_to_end(&mut answer)).await;
    let text = String::from_utf8_lossy(&answer);
    Some(text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0))
}
