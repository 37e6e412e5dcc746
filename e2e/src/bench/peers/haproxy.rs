//! haproxy, as a proxy of HTTP, and as a relay of TCP.

use super::Way;
use std::net::SocketAddr;

/// One route to one server, without TLS, on two threads; in HTTP/2 on both sides, or in HTTP/1.1.
pub fn http(port: u16, to: SocketAddr, http2: bool) -> String {
    let spoken = if http2 { " proto h2" } else { "" };
    format!(
        "{COMMON}  mode http\n  http-reuse always\n\
         frontend front\n  bind *:{port}{spoken}\n  default_backend back\n\
         backend back\n  server one {to}{spoken}\n"
    )
}

/// TCP passed on as it is, without TLS, on two threads.
pub fn tcp(ways: &[Way]) -> String {
    let listens = ways.iter().map(|Way { port, to }| format!("listen on{port}\n  bind *:{port}\n  server one {to}\n"));
    format!("{COMMON}  mode tcp\n{}", listens.collect::<String>())
}

/// What they have in common.
const COMMON: &str = "global\n  nbthread 2\n  maxconn 9000\n\
    defaults\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n";
