//! nginx, as a proxy of HTTP.

/// One route to one server, without TLS, by two processes; connections to the server are kept.
pub fn http(port: u16, to: std::net::SocketAddr) -> String {
    format!(
        "daemon off; worker_processes 2; pid /tmp/nginx-proxy.pid; error_log stderr;\n\
         events {{ worker_connections 4000; }}\n\
         http {{\n  access_log off; keepalive_timeout 1h; keepalive_requests 1000000000; tcp_nodelay on;\n\
         {}\
         \x20 upstream back {{ server {to}; keepalive 256; keepalive_requests 1000000000; }}\n\
         \x20 server {{\n    listen {port} backlog=8192 reuseport;\n\
         \x20   location / {{ proxy_pass http://back; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}\n  }}\n}}\n",
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("  {what}_temp_path /tmp/nginx-proxy-{what};\n"))
            .concat()
    )
}
