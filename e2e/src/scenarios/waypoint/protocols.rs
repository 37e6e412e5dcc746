//! HTTP as others speak it: h2spec, gRPC's own library, WebSocket, and requests that servers read differently.

use super::{CLIENT, ask, counts};
use crate::{apps::ambiguous, scenarios::tunnel_protocol, stage::Stage};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;

/// Requests that can be read in more than one way.
const AMBIGUOUS: u64 = 10_000;

/// A server's log is written this soon.
const LOGGED: std::time::Duration = std::time::Duration::from_secs(20);

/// Two servers that others wrote: each writes a line with the name of each request that it sees.
const SERVERS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: nginx, namespace: mall, labels: { app: nginx } }
spec:
  nodeName: node1
  containers:
    - name: nginx
      command: [sh, -c]
      args:
        - >-
          rm -rf /tmp/nginx && mkdir /tmp/nginx && cd /tmp/nginx && printf '%s'
          'user root; pid /tmp/nginx/pid; daemon off; error_log /dev/null; events {} http { log_format name "seen=$http_x_request_id."; access_log /tmp/nginx/seen name;
          client_body_temp_path /tmp/nginx/body; proxy_temp_path /tmp/nginx/proxy; fastcgi_temp_path /tmp/nginx/f; uwsgi_temp_path /tmp/nginx/u; scgi_temp_path /tmp/nginx/s;
          server { listen [::]:8080 ipv6only=off; location / { return 200; } } }' > conf && exec nginx -c /tmp/nginx/conf
---
apiVersion: v1
kind: Service
metadata: { name: nginx, namespace: mall }
spec: { selector: { app: nginx }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: lighttpd, namespace: mall, labels: { app: lighttpd } }
spec:
  nodeName: node2
  containers:
    - name: lighttpd
      command: [sh, -c]
      args:
        - >-
          rm -rf /tmp/lighttpd && mkdir /tmp/lighttpd && cd /tmp/lighttpd && printf '%s\n' 'server.modules = ("mod_accesslog")' 'server.port = 8080'
          'server.document-root = "/tmp/lighttpd"' 'accesslog.filename = "/tmp/lighttpd/seen"' 'accesslog.format = "seen=%{X-Request-Id}i. %r %s"' > conf
          && exec lighttpd -D -f conf
---
apiVersion: v1
kind: Service
metadata: { name: lighttpd, namespace: mall }
spec: { selector: { app: lighttpd }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
"#;

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    h2spec(stage, seen)?;
    grpc(stage, seen)?;
    upgrade(stage, seen)?;
    ambiguous(stage, seen)
}

fn h2spec(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let (out, summary) = tunnel_protocol::h2spec(stage, CLIENT, "store.mall", "90")?;
    ensure!(out.code == 0, "h2spec: {summary}: {}", out.stdout);
    seen.push(format!("h2spec: {summary}"));
    Ok(())
}

fn grpc(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let server = include_str!("grpc_server.py").lines().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "          {line}");
        text
    });
    let objects = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: grpc, namespace: mall, labels: {{ app: grpc }} }}\nspec:\n  nodeName: \
         node2\n  containers:\n    - name: python\n      command: [/usr/bin/python3, -c]\n      args:\n        - |\n{server}---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{ name: grpc, namespace: mall }}\nspec: {{ selector: {{ app: grpc }}, \
         ports: [{{ name: grpc, port: 9000 }}] }}\n"
    );
    stage.apply(&objects)?;
    stage.ready(&["mall/grpc"])?;
    let client = include_str!("grpc_client.py");
    let call = ["/usr/bin/python3", "-c", client, "grpc.mall:9000"];
    let mut last = String::new();
    stage
        .wait("gRPC's library is content", std::time::Duration::from_secs(60), |stage| {
            let out = stage.exec(CLIENT, &call)?;
            last = format!("{}{}", out.stdout, out.stderr);
            Ok(out.code == 0)
        })
        .with_context(|| last.clone())?;
    seen.push(format!("gRPC's own library: {}", last.trim().replace('\n', ", ")));
    stage.delete(&objects)
}

fn upgrade(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let call = "printf 'GET /ws HTTP/1.1\\r\\nHost: store.mall\\r\\nConnection: upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\nping over it' \
                | timeout 3 /usr/bin/python3 -c '\nimport socket, sys\ns = socket.create_connection((\"store.mall\", 80))\n\
                data = sys.stdin.buffer.read(); head, _, rest = data.partition(b\"\\r\\n\\r\\n\")\ns.sendall(head + b\"\\r\\n\\r\\n\")\n\
                print(s.recv(4096).split(b\"\\r\\n\")[0].decode())\ns.sendall(rest); print(s.recv(4096).decode())'";
    let out = stage.exec(CLIENT, &["sh", "-c", call])?.ok()?;
    ensure!(out.contains(" 101 ") && out.contains("ping over it"), "an upgrade gives {out:?}");
    let old = ask(stage, CLIENT, "http://store.mall/", &["--http1.0"])?;
    ensure!(old.status == 200, "HTTP/1.0 gives {}", old.status);
    let told = ask(stage, CLIENT, "http://store.mall/sink", &["-H", "Expect: 100-continue", "-d", "hello"])?;
    ensure!(told.status == 200 && told.body.trim() == "5", "100-continue gives {told:?}");
    seen.push("a connection that is upgraded carries bytes both ways; HTTP/1.0 and 100-continue are answered".into());
    Ok(())
}

fn ambiguous(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(SERVERS)?;
    stage.ready(&["mall/nginx", "mall/lighttpd"])?;
    counts(stage, "mall/store-v1")?;
    for (n, service) in ["nginx", "lighttpd", "store-v1"].into_iter().enumerate() {
        stage.wait(&format!("{service} is served"), super::RULES_DEADLINE, |stage| {
            Ok(ask(stage, CLIENT, &format!("http://{service}.mall/"), &[])?.status < 500)
        })?;
        let target = format!("{service}.mall:80");
        let (count, seed) = ((AMBIGUOUS / 3 + 1).to_string(), (n + 1).to_string());
        let report: ambiguous::Report =
            stage.app(CLIENT, &["ambiguous", &target, "--count", &count, "--seed", &seed])?.report()?;
        ensure!(report.unsent == 0, "{service}: {report:?}");
        let unnamed = match service {
            "store-v1" => counts(stage, "mall/store-v1")?.unnamed,
            server => {
                let file = format!("/tmp/{server}/seen");
                // The waypoint's own answers are 400 and 501.
                let others = report.statuses.iter().filter(|(status, _)| !matches!(status, 0 | 400 | 501));
                let answered = others.map(|(_, count)| count).sum::<u64>() as usize;
                let read = |stage: &Stage| stage.exec(&format!("mall/{server}"), &["cat", &file])?.ok();
                // A server writes its log now and then.
                stage.wait(&format!("{server} has logged its answers"), LOGGED, |stage| {
                    Ok(read(stage)?.lines().count() >= answered)
                })?;
                let log = read(stage)?;
                ensure!(log.lines().count() > 100, "{server} was hardly asked: {} lines", log.lines().count());
                log.lines().filter(|line| line.contains("seen=-.")).count() as u64
            }
        };
        ensure!(unnamed == 0, "{service} saw {unnamed} requests that the waypoint did not: {report:?}");
        seen.push(format!(
            "{service}: {count} ambiguous requests: {:?}; none seen that the waypoint had not",
            report.statuses
        ));
    }
    stage.delete(SERVERS)
}
