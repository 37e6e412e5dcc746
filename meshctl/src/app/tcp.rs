//! A TCP server that sends back what comes, speaks first, or swallows
//! everything; and a client that says one thing and listens to the end.

use std::io::Write;
use std::net::Ipv6Addr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections at once; callers beyond that wait in the kernel's queue. More
/// than the thousand short connections of a load test.
const CONNECTIONS_MAX: usize = 4096;
/// What is read at once.
const READ_BYTES: usize = 16 << 10;

/// A TCP server.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Tcp {
    /// The port to listen on, IPv4 and IPv6.
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// What it does with a connection.
    #[arg(long, value_enum, default_value_t = Manner::Echo)]
    manner: Manner,
}

/// Say something over TCP, end our half, and print what comes back.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Talk {
    /// HOST:PORT.
    target: String,
    /// What to say.
    #[arg(long, default_value = "")]
    say: String,
}

pub(crate) async fn talk(talk: Talk) -> anyhow::Result<ExitCode> {
    let stream = TcpStream::connect(&talk.target).await;
    let mut stream = stream.with_context(|| format!("cannot connect to {}", talk.target))?;
    stream.write_all(talk.say.as_bytes()).await?;
    stream.shutdown().await?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&buffer[..length]).and_then(|()| out.flush())?;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Manner {
    /// Sends back what comes.
    Echo,
    /// Says who calls before it is told anything, then as echo.
    ServerFirst,
    /// Reads everything, then says how many bytes it was.
    Sink,
}

pub(crate) async fn run(options: Tcp) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, options.port)).await?;
    println!("tcp listens on {}", listener.local_addr()?);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        let place = room.clone().acquire_owned().await?;
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => return Ok(ExitCode::SUCCESS),
        };
        chassis::task::spawn("tcp connection", async move {
            // Whoever breaks off does not want to know of it.
            let _ = serve(stream, options.manner).await;
            drop(place);
        })
        .detach();
    }
}

async fn serve(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    if manner == Manner::ServerFirst {
        let peer = stream.peer_addr()?.ip().to_canonical();
        stream.write_all(format!("hello {peer}\n").as_bytes()).await?;
    }
    let mut buffer = vec![0; READ_BYTES];
    let mut total = 0_u64;
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        total += length as u64;
        if manner != Manner::Sink {
            stream.write_all(&buffer[..length]).await?;
        }
    }
    if manner == Manner::Sink {
        stream.write_all(format!("{total}\n").as_bytes()).await?;
    }
    stream.shutdown().await
}
