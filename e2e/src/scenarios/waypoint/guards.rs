//! Policies over requests: tricks with paths and hosts find no way around them, and somebody else can
//! be asked.

use super::{CLIENT, GUEST, ask};
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};

/// `/admin` is for nobody, and only `/public` and what is in it is for all.
const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: not-admin, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store }]
  action: DENY
  rules: [{ to: [{ operation: { paths: [/admin, /admin/*] } }] }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: only-public, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  action: ALLOW
  rules: [{ to: [{ operation: { paths: [/public, /public/*], methods: [GET] } }] }]
";

/// Ways to write `/admin`, and ways out of `/public`.
const TRICKS: &[&str] = &[
    "/admin",
    "/admin/",
    "/admin/x",
    "//admin",
    "/./admin",
    "/x/../admin",
    "/x//../admin",
    "/%61dmin",
    "/%61%64%6d%69%6e",
    "/%2561dmin",
    "/%2e/admin",
    "/x/%2e%2e/admin",
    "/x%2f..%2fadmin",
    "/x/..%2fadmin",
    "/x/..;/admin",
    "/x\\..\\admin",
    "/admin%00",
    "/admin%20",
    "/admin;x=1",
    "/admin?x=1",
    "/admin#x",
    "/admin/.",
    "/admin/..",
    "/admin%2f",
    "/public/../admin",
    "/public/%2e%2e/admin",
    "/public/..%2fadmin",
    "/public/%252e%252e/admin",
    "/public//..//admin",
    "/public/../../admin",
    "/public/./../admin",
    "/public%2f..%2fadmin",
    "/publicx",
    "/public%2e%2e/admin",
];

/// Whether whoever reads a path in the laxest way there is would end in a folder: encodings taken off (once, as
/// RFC 3986 has it), backslashes for slashes, no parameters, dots followed.
fn reaches(path: &str, forbidden: &str) -> bool {
    let text = decoded(path).replace('\\', "/");
    let mut elements: Vec<&str> = Vec::new();
    for element in text.split('/') {
        match element.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(elements.pop()),
            // What a parameter means is the application's affair: `/admin;x=1` is not `/admin`.
            _ => elements.push(element),
        }
    }
    elements.first().is_some_and(|first| *first == forbidden)
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|two| u8::from_str_radix(two, 16).ok());
        match hex.filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    tricks(stage, seen)?;
    odd_headers(stage, seen)?;
    asked(stage, seen)
}

fn tricks(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(POLICIES)?;
    stage.wait("the policies are in force", super::RULES_DEADLINE, |stage| {
        let of = |host: &str| ask(stage, CLIENT, &format!("http://{host}.mall/admin"), &[]).map(|answer| answer.status);
        Ok(of("store")? == 403 && of("store-v1")? == 403)
    })?;
    let public = ask(stage, CLIENT, "http://store-v1.mall/public/x", &[])?;
    ensure!(public.status == 200, "/public is for all: {public:?}");
    let (mut refused, mut passed) = (0, 0);
    for host in ["store", "store-v1"] {
        for trick in TRICKS {
            // As it is, with the whole URL as the target, and with a method that has another name for it.
            let target = format!("http://{host}.mall{trick}");
            let plain: &[&str] = &["--request-target", trick];
            let absolute: &[&str] = &["--request-target", &target];
            let overridden: &[&str] =
                &["--request-target", trick, "-H", "X-Original-URL: /public", "-H", "X-Rewrite-URL: /public"];
            for options in [plain, absolute, overridden] {
                let answer = ask(stage, CLIENT, &format!("http://{host}.mall/"), options)
                    .with_context(|| format!("{host}: {options:?}"))?;
                if answer.status >= 400 {
                    refused += 1;
                    continue;
                }
                passed += 1;
                let arrived = answer.arrived()?;
                ensure!(!reaches(&arrived.path, "admin"), "{host}: {options:?} arrived as {}", arrived.path);
                ensure!(
                    host == "store" || reaches(&arrived.path, "public"),
                    "{host}: {options:?} is not in /public: it arrived as {}",
                    arrived.path
                );
            }
        }
    }
    for (options, what) in [
        (&["-X", "POST"][..], "another method"),
        (&["-X", "get"], "a method in other letters"),
        (&["-X", "OPTIONS", "--request-target", "*"], "the target *"),
        (&["-X", "POST", "-H", "X-HTTP-Method-Override: GET"], "a header that overrides the method"),
    ] {
        let answer = ask(stage, CLIENT, "http://store-v1.mall/public", options)?;
        ensure!(answer.status >= 400, "{what}: {answer:?}");
    }
    stage.delete(POLICIES)?;
    seen.push(format!(
        "{} tricks with a path, three ways each, two policies: {refused} refused, {passed} passed as what they are",
        TRICKS.len()
    ));
    Ok(())
}

/// Only `x-role: user` for this host passes.
const ROLES: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: only-users, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store-v1 }]
  action: ALLOW
  rules:
    - to: [{ operation: { hosts: [store-v1.mall] } }]
      when: [{ key: 'request.headers[x-role]', values: [user] }]
";

/// (request line, further lines, statuses that are no way around).
const ODD: &[(&str, &str, &[u16])] = &[
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nX-Role: user", &[200]),
    ("GET / HTTP/1.1", "HOST: store-v1.mall\r\nX-ROLE: \t user \t", &[200]),
    ("GET / HTTP/1.1", "Host: STORE-V1.mall\r\nx-role: user", &[200]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nx-role: user\r\nx-role: admin", &[403]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nx-role: admin\r\nX-Role: user", &[403]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nx-role: user\r\nx-role: user", &[403]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nx-role: user,admin", &[403]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nx-role: User", &[403]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nx-role:", &[403]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nx_role: user", &[400, 403]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nx-role : user", &[400]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nx-role: us\r\n er", &[400]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nx-role: admin\rx-role: user", &[400]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nConnection: x-role\r\nx-role: admin", &[403]),
    ("GET / HTTP/1.1", "Host: store.mall\r\nx-role: user", &[403]),
    ("GET / HTTP/1.1", "Host: store-v1.mall.\r\nx-role: admin", &[400, 403]),
    ("GET / HTTP/1.1", "Host: store.mall\r\nHost: store-v1.mall\r\nx-role: user", &[400]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nHost: store-v1.mall\r\nx-role: user", &[400]),
    ("GET / HTTP/1.1", "x-role: user", &[400]),
    ("GET / HTTP/1.1", "Host: store.mall, store-v1.mall\r\nx-role: user", &[400, 403]),
    ("GET / HTTP/1.1", "Host: store-v1.mall\r\nX-Forwarded-Host: store-v1.mall\r\nx-role: admin", &[403]),
    ("GET http://store.mall/ HTTP/1.1", "Host: store-v1.mall\r\nx-role: user", &[400, 403]),
    ("GET http://store-v1.mall/ HTTP/1.1", "Host: store-v1.mall\r\nx-role: user", &[200]),
    ("GET http://store-v1.mall@store.mall/ HTTP/1.1", "Host: store-v1.mall\r\nx-role: user", &[400, 403]),
    ("GET http://store.mall@store-v1.mall/ HTTP/1.1", "Host: store.mall\r\nx-role: admin", &[400, 403]),
    ("GET store-v1.mall/ HTTP/1.1", "Host: store-v1.mall\r\nx-role: user", &[400]),
    ("GET * HTTP/1.1", "Host: store-v1.mall\r\nx-role: user", &[400]),
    ("OPTIONS * HTTP/1.1", "Host: store-v1.mall\r\nx-role: admin", &[403]),
];

/// Sends a request byte by byte as it is written, and reads the first status.
fn raw(stage: &Stage, line: &str, lines: &str) -> Result<u16> {
    let program = "import socket, sys\ns = socket.create_connection(('store-v1.mall', 80), 5)\n\
                   s.sendall((sys.argv[1] + '\\r\\n' + sys.argv[2] + '\\r\\nConnection: close\\r\\n\\r\\n').encode())\n\
                   print(s.makefile('rb').readline().decode())";
    let out = stage.exec(CLIENT, &["/usr/bin/python3", "-c", program, line, lines])?.ok()?;
    let status = out.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.with_context(|| format!("{line} {lines:?}: no status: {out:?}"))
}

/// Headers that are repeated or odd, and targets of every form, find no way around either.
fn odd_headers(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(ROLES)?;
    stage.wait("the policy is in force", super::RULES_DEADLINE, |stage| {
        Ok(ask(stage, CLIENT, "http://store-v1.mall/", &[])?.status == 403)
    })?;
    for (line, lines, wanted) in ODD {
        let status = raw(stage, line, lines)?;
        ensure!(wanted.contains(&status), "{line} {lines:?}: {status}, not {wanted:?}");
    }
    stage.delete(ROLES)?;
    seen.push(format!("{} requests with repeated and odd headers, hosts and targets: no way around", ODD.len()));
    Ok(())
}

/// An authorizer: a backend that says 200 or 403.
const AUTHORIZER: &str = "
apiVersion: v1
kind: Pod
metadata: { name: authorizer, namespace: mall, labels: { app: authorizer } }
spec:
  nodeName: node2
  containers: [{ name: backend, command: [E2E, app, backend, --name, authorizer] }]
---
apiVersion: v1
kind: Service
metadata: { name: authorizer, namespace: mall, labels: { istio.io/use-waypoint: none } }
spec: { selector: { app: authorizer }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
";

/// Who can be asked.
const DOOR: &str = "
extensionProviders:
  - name: door
    envoyExtAuthzHttp:
      service: authorizer.mall.svc.cluster.local
      port: 80
      timeout: 1s
      headersToUpstreamOnAllow: [x-backend]
";

const ASKED: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ask-at-the-door, namespace: mall }
spec:
  targetRefs: [{ group: '', kind: Service, name: store }]
  action: CUSTOM
  provider: { name: door }
  rules: [{ to: [{ operation: { paths: [/door/*] } }] }]
";

/// A policy that asks somebody else: yes, no, and no answer.
fn asked(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    stage.apply(AUTHORIZER)?;
    stage.mesh(DOOR)?;
    stage.ready(&["mall/authorizer"])?;
    stage.apply(ASKED)?;
    let door = "http://store.mall/door/x";
    stage.wait("who is let in is told by whom", super::RULES_DEADLINE, |stage| {
        let answer = ask(stage, GUEST, door, &[])?;
        Ok(answer.status == 200 && answer.arrived()?.header("x-backend") == "authorizer")
    })?;
    super::set_mode(stage, "mall/authorizer", "status=403")?;
    ensure!(ask(stage, GUEST, door, &[])?.status == 403, "the authorizer refuses");
    ensure!(ask(stage, GUEST, "http://store.mall/", &[])?.status == 200, "nobody is asked about other paths");
    super::set_mode(stage, "mall/authorizer", "delay_ms=5000")?;
    let answer = ask(stage, GUEST, door, &[])?;
    ensure!(answer.status == 403, "an authorizer that does not answer closes: {answer:?}");
    stage.delete(ASKED)?;
    stage.mesh("")?;
    stage.delete(AUTHORIZER)?;
    seen.push(
        "an external authorizer: yes passes, no and no answer are refused, other paths are not asked about".into(),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::reaches;

    #[test]
    fn the_laxest_reader_finds_the_way() {
        for path in ["/admin", "//admin/x", "/x/../admin", "/%61dmin", "/x/..%2fadmin", "/x/..;/admin"] {
            assert!(reaches(path, "admin"), "{path}");
        }
        assert!(!reaches("/public/admin", "admin"));
    }
}
