//! haproxy, as a proxy of HTTP.

/// One route to one server, without TLS, on two threads.
pub fn http(port: u16, to: std::net::SocketAddr) -> String {
    format!(
        "global\n  nbthread 2\n  maxconn 9000\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 1m\n  timeout server 1m\n  http-reuse always\n\
         frontend front\n  bind *:{port}\n  default_backend back\n\
         backend back\n  server one {to}\n"
    )
}
