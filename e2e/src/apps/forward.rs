//! Mutual TLS with an identity of the mesh, for programs that cannot make it: what connects here in plaintext speaks with a
//! proxy's port for tunnels.

use anyhow::{Context, Result};
use clap::Args;
use mesh::Identity;
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};
use testkit::authority::{Caller, Credential, Place};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The proxy's port for tunnels.
    pub to: SocketAddr,
    /// Who is expected there.
    #[arg(long)]
    pub expect: Identity,
    /// Who we are.
    #[arg(long)]
    pub identity: Identity,
    /// The authority that says so: `https://host:port`.
    #[arg(long)]
    pub authority: String,
    /// Its root certificates, in PEM.
    #[arg(long, allow_hyphen_values = true)]
    pub roots: String,
    /// Our token.
    #[arg(long)]
    pub token: String,
    /// A file that is created when connections are taken.
    #[arg(long)]
    pub ready_file: PathBuf,
}

/// Printed if it ever ends.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {}

/// Carries connections until it is stopped.
pub async fn run(options: Options) -> Result<Report> {
    let place = Place { address: options.authority, roots: options.roots };
    let caller = Caller::for_itself(&place, &options.token, "Kubernetes").map_err(anyhow::Error::msg)?;
    let credential = Arc::new(caller.credential(&options.identity).await.map_err(anyhow::Error::msg)?);
    let expected = Arc::new([options.expect]);
    let listener = TcpListener::bind(options.listen).await.context("listen")?;
    super::tell(Some(&options.ready_file));
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        let (credential, expected) = (credential.clone(), expected.clone());
        super::go_on(async move {
            if let Err(error) = carry(stream, options.to, &credential, &*expected).await {
                eprintln!("{error:#}");
            }
        });
    }
}

async fn carry(stream: TcpStream, to: SocketAddr, credential: &Credential, expected: &[Identity]) -> Result<()> {
    stream.set_nodelay(true)?;
    let proxy = TcpStream::connect(to).await.context("connect")?;
    proxy.set_nodelay(true)?;
    let proxy = credential.connect(proxy, expected).await.context("handshake")?;
    let (mut asked, mut answers) = tokio::io::split(stream);
    let (mut answered, mut questions) = tokio::io::split(proxy);
    // A proxy that has ended may have said why, and what is still asked must not keep that from being heard.
    let there = async {
        let _has_ended = tokio::io::copy(&mut asked, &mut questions).await;
        let _has_ended = questions.shutdown().await;
        tokio::io::copy(&mut asked, &mut tokio::io::sink()).await
    };
    let back = async {
        let _has_ended = tokio::io::copy(&mut answered, &mut answers).await;
        answers.shutdown().await
    };
    let _have_ended = tokio::join!(there, back);
    Ok(())
}
