//! Asking a container whether it is well: an HTTP GET, a TCP connection, or a
//! command. The first two come from the pod's node, as kubelet's do.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use ztunnel::net::netns::Netns;

/// The head of an HTTP answer; a status line has to fit.
const HEAD_BYTES_MAX: usize = 1024;
/// What is read of the body of an answer, for messages.
const BODY_BYTES_MAX: usize = 4096;

/// Connects from inside a network namespace.
pub(crate) async fn connect_from(netns: &Netns, to: SocketAddr) -> io::Result<TcpStream> {
    // The socket belongs to the namespace it is made in, for life; waiting
    // for the connection happens outside.
    let socket = netns.run(|| if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() })??;
    socket.connect(to).await
}

/// Whether the port takes connections.
pub(crate) async fn tcp(netns: &Netns, address: IpAddr, port: u16, timeout: Duration) -> bool {
    let connecting = connect_from(netns, SocketAddr::new(address, port));
    matches!(tokio::time::timeout(timeout, connecting).await, Ok(Ok(_)))
}

/// Whether a GET answers 200 to 399.
pub(crate) async fn http(
    netns: &Netns,
    address: IpAddr,
    port: u16,
    path: &str,
    headers: &[(String, String)],
    timeout: Duration,
) -> bool {
    let asking = async {
        let stream = connect_from(netns, SocketAddr::new(address, port)).await?;
        let host = SocketAddr::new(address, port).to_string();
        request(stream, "GET", path, &host, headers, b"").await
    };
    matches!(tokio::time::timeout(timeout, asking).await, Ok(Ok((200..=399, _))))
}

/// One HTTP/1.1 exchange: the status and the beginning of the body. The
/// caller gives the deadline.
pub(crate) async fn request(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    host: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> io::Result<(u16, String)> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = Vec::new();
    let mut limited = stream.take((HEAD_BYTES_MAX + BODY_BYTES_MAX) as u64);
    loop {
        let mut buffer = [0; 512];
        match limited.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            // Whoever answers and closes in one go may reset what we still send.
            Err(_) if !answer.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP/1"))?;
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(answer: &'static [u8]) -> io::Result<(u16, String)> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let server = async move {
            let mut buffer = [0; 1024];
            let _ = theirs.read(&mut buffer).await;
            let _ = theirs.write_all(answer).await;
        };
        let (result, ()) = tokio::join!(request(ours, "GET", "/", "host", &[], b""), server);
        result
    }

    #[tokio::test]
    async fn an_answer_is_read_as_far_as_it_goes() {
        assert_eq!(ask(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap(), (204, String::new()));
        assert_eq!(ask(b"HTTP/1.0 500 X\r\nA: b\r\n\r\nbroken").await.unwrap(), (500, "broken".to_owned()));
        for nonsense in [&b""[..], b"SSH-2.0-x\r\n", b"HTTP/1.1 \xff\xff\xff", b"HTTP/1."] {
            assert!(ask(nonsense).await.is_err());
        }
    }
}
