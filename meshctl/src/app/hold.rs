//! Opens a connection and says when it is closed by somebody else.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Hold a connection open and say when it is closed.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Hold {
    /// HOST:PORT.
    target: String,
    /// Ask this path over HTTP first: only an answer tells that the connection
    /// goes all the way.
    #[arg(long, value_name = "PATH")]
    get: Option<String>,
}

pub(crate) async fn run(hold: Hold) -> anyhow::Result<ExitCode> {
    let mut stream =
        TcpStream::connect(&hold.target).await.with_context(|| format!("cannot connect to {}", hold.target))?;
    let mut buffer = [0; 4096];
    if let Some(path) = &hold.get {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", hold.target);
        stream.write_all(request.as_bytes()).await?;
        anyhow::ensure!(stream.read(&mut buffer).await? > 0, "{} closed instead of answering", hold.target);
    }
    println!("open");
    let begun = Instant::now();
    let how = loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break "closed".to_owned(),
            Ok(_) => {}
            Err(error) => break format!("closed: {error}"),
        }
    };
    println!("{how} after {} ms", begun.elapsed().as_millis());
    Ok(ExitCode::SUCCESS)
}
