//! A caller that asks for WebSocket or for a tunnel (CONNECT), in either version of HTTP, and sees whether its bytes
//! come back.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{Method, Request, Response, Uri, header};
use http_body_util::Empty;
use hyper::{body::Incoming, client::conn, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, pin::pin, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::{interval, timeout},
};

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the settings of a server of HTTP/2.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// What is sent in one go; several make sure that bytes go both ways more than once.
const PIECE_BYTES: usize = 10_000;
/// The key of RFC 6455's example.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// `http://host:port/path`.
    pub url: Uri,
    /// What to ask for.
    #[arg(long, default_value = "websocket")]
    pub what: What,
    /// HTTP/2 without TLS.
    #[arg(long)]
    pub http2: bool,
    /// Whom a CONNECT is for.
    #[arg(long, default_value = "far.example:443")]
    pub authority: String,
    /// How often bytes are sent, and waited for.
    #[arg(long, default_value_t = 5)]
    pub times: u32,
}

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// WebSocket.
    Websocket,
    /// A tunnel.
    Connect,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Status of the answer.
    pub status: u16,
    /// Headers of the answer.
    pub headers: BTreeMap<String, String>,
    /// How often what was sent came back.
    pub echoed: u32,
}

/// Asks, and reports.
pub async fn run(options: Options) -> Result<Report> {
    let mut answer = timeout(PATIENCE, ask(&options)).await.context("no answer in time")??;
    let headers = answer.headers().iter();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut report = Report {
        status: answer.status().as_u16(),
        headers: headers.map(|(name, value)| (name.to_string(), text(value))).collect(),
        echoed: 0,
    };
    if answer.status().is_success() || answer.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await?);
        for turn in 0..options.times {
            let sent = vec![b'a' + (turn % 26) as u8; PIECE_BYTES];
            let mut back = vec![0; PIECE_BYTES];
            let both = async {
                stream.write_all(&sent).await?;
                stream.read_exact(&mut back).await
            };
            timeout(PATIENCE, both).await.context("nothing came back in time")??;
            if back != sent {
                bail!("something else came back in turn {turn}");
            }
            report.echoed += 1;
        }
    }
    Ok(report)
}

async fn ask(options: &Options) -> Result<Response<Incoming>> {
    let authority = options.url.authority().context("the URL names no host")?;
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let io = TokioIo::new(stream);
    if options.http2 {
        let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await?;
        let (told, mut extended) = watch::channel(false);
        super::go_on(async move {
            let mut connection = pin!(connection);
            let mut looks = interval(LOOK_INTERVAL);
            loop {
                tokio::select! {
                    end = connection.as_mut() => return end,
                    // Nobody wakes us when the settings come.
                    _ = looks.tick() => drop(told.send_replace(connection.is_extended_connect_protocol_enabled())),
                }
            }
        });
        if options.what == What::Websocket {
            extended.wait_for(|takes| *takes).await.context("no extended CONNECT is taken here")?;
        }
        return Ok(sender.send_request(request(options)?).await?);
    }
    let (mut sender, connection) = conn::http1::handshake(io).await?;
    super::go_on(connection.with_upgrades());
    Ok(sender.send_request(request(options)?).await?)
}

fn request(options: &Options) -> Result<Request<Empty<Bytes>>> {
    let host = options.url.authority().map_or("", |authority| authority.as_str());
    let builder = Request::builder();
    let request = match (options.what, options.http2) {
        (What::Connect, true) => builder.method(Method::CONNECT).uri(&options.authority),
        (What::Connect, false) => {
            builder.method(Method::CONNECT).uri(&options.authority).header(header::HOST, &options.authority)
        }
        (What::Websocket, true) => builder
            .method(Method::CONNECT)
            .uri(options.url.clone())
            .extension(Protocol::from_static("websocket"))
            .header(header::SEC_WEBSOCKET_VERSION, "13"),
        (What::Websocket, false) => builder
            .uri(options.url.path())
            .header(header::HOST, host)
            .header(header::UPGRADE, "websocket")
            .header(header::CONNECTION, "upgrade")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, KEY),
    };
    Ok(request.body(Empty::new())?)
}
