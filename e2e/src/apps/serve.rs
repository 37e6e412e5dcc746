//! A server with nothing to go wrong in it: HTTP that says who answered whom, and a TCP echo.

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

/// Connections that may wait to be accepted: more than any scenario opens at once.
const BACKLOG: u32 = 4096;

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// What to call itself.
    #[arg(long)]
    pub name: String,
    /// Port of HTTP.
    #[arg(long, default_value_t = 8081)]
    pub http: u16,
    /// Port of the echo.
    #[arg(long, default_value_t = 7777)]
    pub echo: u16,
}

/// Printed if it ever ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// Why.
    pub end: String,
}

/// Serves until it is stopped.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let name: &'static str = options.name.leak(); // one per process, for its whole life
    let http = accept(listen(options.http)?, move |stream| answer(stream, name));
    let echo = accept(listen(options.echo)?, echo);
    tokio::select! { end = http => end?, end = echo => end? }
    Ok(Report { end: "a listener closed".into() })
}

fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    socket.set_reuseaddr(true)?;
    socket.bind((std::net::Ipv6Addr::UNSPECIFIED, port).into())?;
    Ok(socket.listen(BACKLOG)?)
}

async fn accept<F, A>(listener: TcpListener, serve: F) -> std::io::Result<()>
where
    F: Fn(TcpStream) -> A,
    A: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        tasks.spawn(serve(stream));
        while tasks.try_join_next().is_some() {}
    }
}

async fn answer(mut stream: TcpStream, name: &'static str) -> std::io::Result<()> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        while !request.windows(4).any(|w| w == b"\r\n\r\n") {
            let n = stream.read(&mut chunk).await?;
            if n == 0 || request.len() > 64 << 10 {
                return Ok(());
            }
            request.extend_from_slice(&chunk[..n]);
        }
        let close = request.windows(17).any(|w| w.eq_ignore_ascii_case(b"connection: close"));
        request.clear();
        let body = format!("{name} {peer}\n");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n", body.len());
        let end = if close { "Connection: close\r\n\r\n" } else { "\r\n" };
        stream.write_all(format!("{head}{end}{body}").as_bytes()).await?;
        if close {
            return stream.shutdown().await;
        }
    }
}

async fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut chunk = vec![0; 16 << 10];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return stream.shutdown().await,
            n => stream.write_all(&chunk[..n]).await?,
        }
    }
}
