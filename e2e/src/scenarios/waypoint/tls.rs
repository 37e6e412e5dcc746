//! TLS of the application's own: connections that pass by their server name (TLSRoute, VirtualService),
//! and TLS that the waypoint begins (BackendTLSPolicy, DestinationRule).

use super::{CLIENT, GUEST, ask, mistakes::wait_until_told};
use crate::stage::Stage;
use anyhow::{Result, ensure};
use std::fmt::Write as _;

/// The name that certificates of the servers are for, besides everything below `inner.example`.
const NAME: &str = "secure.example";

/// Runs the scenario.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    super::open(stage)?;
    let (server, certificate) = servers()?;
    stage.apply(&server)?;
    stage.ready(&["mall/secure-a", "mall/secure-b"])?;
    passed_by_name(stage, seen)?;
    of_virtual_services(stage, seen)?;
    begun_by_policy(stage, seen, &certificate)?;
    begun_by_rule(stage, seen)?;
    stage.delete(&server)
}

/// Two servers of HTTPS with one certificate, and that of its authority.
fn servers() -> Result<(String, String)> {
    // An authority and a server of it: what is an authority may not serve.
    let authority_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut wanted = rcgen::CertificateParams::new(Vec::new())?;
    wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = wanted.self_signed(&authority_key)?.pem();
    let authority = rcgen::Issuer::new(wanted, authority_key);
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let wanted = rcgen::CertificateParams::new(vec![NAME.to_owned(), "*.inner.example".to_owned()])?;
    let server = wanted.signed_by(&key, &authority)?.pem();
    let identity = indented(&format!("{server}{}", key.serialize_pem()));
    let program = indented(include_str!("tls_server.py"));
    let mut objects = String::new();
    for name in ["secure-a", "secure-b"] {
        let _ = write!(
            objects,
            "apiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: mall, labels: {{ app: {name} }} }}\nspec:\n  \
             nodeName: node2\n  containers:\n    - name: python\n      command: [/usr/bin/python3, -c]\n      args:\n        \
             - |\n{program}        - {name}\n        - |\n{identity}---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{ name: {name}, namespace: mall }}\nspec:\n  selector: {{ app: {name} }}\n  \
             ports: [{{ name: tls, port: 443, targetPort: 8443 }}, {{ name: http, port: 80, targetPort: 8443 }}]\n---\n"
        );
    }
    Ok((objects, certificate))
}

/// A text as a block of the YAML of a pod's arguments.
pub(super) fn indented(text: &str) -> String {
    text.lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "          {line}");
        all
    })
}

/// Who answers a pod that asks `secure-a` for a server name with TLS of its own; "-": nobody.
fn answering(stage: &Stage, pod: &str, name: &str) -> String {
    let to = format!("{name}:443:secure-a.mall:443");
    let answer = ask(stage, pod, &format!("https://{name}/"), &["-k", "--connect-to", &to]);
    answer.map_or_else(|_| "-".into(), |answer| answer.header("x-backend").to_owned())
}

/// Waits until server names lead where they should.
fn lead(stage: &mut Stage, what: &str, rows: &[(&str, &str, &str)]) -> Result<()> {
    for (pod, name, wanted) in rows {
        let mut found = String::new();
        let waited = stage.wait(what, super::RULES_DEADLINE, |stage| {
            found = answering(stage, pod, name);
            Ok(found == *wanted)
        });
        ensure!(waited.is_ok(), "{what}: {pod} asked for {name}: {found:?}, not {wanted:?}");
    }
    Ok(())
}

fn passed_by_name(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let route = |name: &str, hosts: &str, backend: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1alpha3\nkind: TLSRoute\nmetadata: {{ name: {name}, namespace: mall }}\n\
             spec:\n  parentRefs: [{{ group: '', kind: Service, name: secure-a, port: 443 }}]\n  hostnames: {hosts}\n  \
             rules: [{{ backendRefs: [{{ name: {backend}, port: 443 }}] }}]\n---\n"
        )
    };
    let routes = [
        route("b", "[b.example]", "secure-b"),
        route("wild", "['*.wild.example']", "secure-b"),
        route("nothing", "[nothing.example]", "nothing"),
    ]
    .concat();
    lead(stage, "without a route the service answers", &[(CLIENT, "b.example", "secure-a")])?;
    stage.apply(&routes)?;
    let rows = [
        (CLIENT, "b.example", "secure-b"),
        (CLIENT, "x.wild.example", "secure-b"),
        (CLIENT, "nothing.example", "-"),
        (CLIENT, "a.example", "-"),
        (CLIENT, "wild.example", "-"),
    ];
    lead(stage, "TLSRoute", &rows)?;
    stage.apply(&routes.replacen("port: 443 }] }]", "port: 443, weight: heavy }] }]", 1))?;
    let reason = wait_until_told(stage, "TLSRoute", "b", &["spec.rules[0].backendRefs[0].weight"])?;
    ensure!(answering(stage, CLIENT, "b.example") == "secure-b", "the last good version stays");
    seen.push(format!("TLSRoute: {reason}, spec.rules[0].backendRefs[0].weight; the last good rules stay"));
    stage.delete(&routes)?;
    lead(stage, "without routes it answers again", &[(CLIENT, "b.example", "secure-a")])?;
    seen.push(format!("TLSRoute: {} server names, exact, below a suffix, unknown, without a backend", rows.len()));
    Ok(())
}

fn of_virtual_services(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let rule = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: secure, namespace: mall }
spec:
  hosts: [secure-a]
  tls:
    - match: [{ port: 443, sniHosts: [b.example], sourceNamespace: mall }]
      route: [{ destination: { host: secure-b, port: { number: 443 } } }]
    - match: [{ sniHosts: [c.example, '*.c.example'] }]
      route:
        - { destination: { host: secure-a }, weight: 0 }
        - { destination: { host: secure-b }, weight: 100 }
    - match: [{ sniHosts: [b.example] }]
      route: [{ destination: { host: secure-a } }]
";
    stage.apply(rule)?;
    let rows = [
        (CLIENT, "b.example", "secure-b"),
        (GUEST, "b.example", "secure-a"),
        (CLIENT, "x.c.example", "secure-b"),
        (CLIENT, "c.example", "secure-b"),
    ];
    lead(stage, "tls of a VirtualService", &rows)?;
    stage.delete(rule)?;
    lead(stage, "without it all is as before", &[(CLIENT, "c.example", "secure-a")])?;
    seen.push(format!("VirtualService tls: {} connections, by server name, caller's namespace and weight", rows.len()));
    Ok(())
}

/// What a request that the waypoint sends on with TLS of its own gives: status and the name it asked for.
fn originated(stage: &Stage) -> Result<(u16, String)> {
    let answer = ask(stage, CLIENT, "http://secure-a.mall/", &[])?;
    Ok((answer.status, answer.header("x-server-name").to_owned()))
}

fn wait_for(stage: &mut Stage, what: &str, status: u16, name: &str) -> Result<()> {
    let mut last = (0, String::new());
    let waited = stage.wait(what, super::RULES_DEADLINE, |stage| {
        last = originated(stage)?;
        Ok(last == (status, name.to_owned()))
    });
    ensure!(waited.is_ok(), "{what}: {last:?}, not {status} and {name:?}");
    Ok(())
}

fn begun_by_policy(stage: &mut Stage, seen: &mut Vec<String>, certificate: &str) -> Result<()> {
    let authorities = |text: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: authorities, namespace: mall }}\ndata:\n  ca.crt: |\n{}",
            text.lines().fold(String::new(), |all, line| all + "    " + line + "\n")
        )
    };
    let policy = |target: &str, validation: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{ name: secure, namespace: mall }}\n\
             spec:\n  targetRefs: [{{ group: '', kind: Service, name: secure-a{target} }}]\n  validation: {{ {validation} }}\n"
        )
    };
    let ours = "caCertificateRefs: [{ group: '', kind: ConfigMap, name: authorities }]";
    ensure!(originated(stage)?.0 >= 500, "a server of HTTPS does not understand HTTP");
    stage.apply(&authorities(certificate))?;
    stage.apply(&policy(", sectionName: http", &format!("hostname: {NAME}, {ours}")))?;
    wait_for(stage, "BackendTLSPolicy: the waypoint speaks TLS", 200, NAME)?;
    stage.apply(&policy("", &format!("hostname: x.inner.example, {ours}")))?;
    wait_for(stage, "BackendTLSPolicy: another name", 200, "x.inner.example")?;
    stage.apply(&policy("", &format!("hostname: other.example, {ours}")))?;
    wait_for(stage, "BackendTLSPolicy: a name that the certificate is not for", 503, "-")?;
    let names = format!("hostname: other.example, {ours}, subjectAltNames: [{{ type: Hostname, hostname: {NAME} }}]");
    stage.apply(&policy("", &names))?;
    wait_for(stage, "BackendTLSPolicy: names that may stand for it", 200, "other.example")?;
    stage.apply(&policy("", &format!("hostname: {NAME}, wellKnownCACertificates: System")))?;
    wait_for(stage, "BackendTLSPolicy: an authority that the system does not know", 503, "-")?;
    stage.apply(&policy("", &format!("hostname: {NAME}, {ours}")))?;
    wait_for(stage, "BackendTLSPolicy: good again", 200, NAME)?;
    stage.apply(&policy("", &format!("hostname: [none], {ours}")))?;
    let reason = wait_until_told(stage, "BackendTLSPolicy", "secure", &["spec.validation.hostname"])?;
    wait_for(stage, "BackendTLSPolicy: the last good version stays", 200, NAME)?;
    seen.push(format!("BackendTLSPolicy: {reason}, spec.validation.hostname; the last good rules stay"));
    of_an_entry(stage, &policy("", &format!("hostname: {NAME}, {ours}")))?;
    stage.delete(&authorities(""))?;
    wait_for(stage, "BackendTLSPolicy: without authorities nobody is trusted", 503, "-")?;
    stage.delete(&policy("", ""))?;
    seen.push("BackendTLSPolicy: by name, names, authorities of our own and of the system; else no connection".into());
    Ok(())
}

/// The same policy for a ServiceEntry whose endpoint is the same pod.
fn of_an_entry(stage: &mut Stage, policy: &str) -> Result<()> {
    let entry = outer!(8443, "app: secure-a");
    let policy = policy.replace("name: secure, namespace", "name: outer, namespace").replace(
        "group: '', kind: Service, name: secure-a",
        "group: networking.istio.io, kind: ServiceEntry, name: outer",
    );
    stage.apply(&format!("{entry}{policy}"))?;
    let to = ["--resolve", "outer.example:80:240.241.9.9"];
    stage.wait("BackendTLSPolicy: a ServiceEntry", super::RULES_DEADLINE, |stage| {
        Ok(ask(stage, CLIENT, "http://outer.example/", &to).is_ok_and(|answer| answer.header("x-server-name") == NAME))
    })?;
    stage.delete(&format!("{entry}{policy}"))
}

fn begun_by_rule(stage: &mut Stage, seen: &mut Vec<String>) -> Result<()> {
    let rule = |tls: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: secure, namespace: mall }}\nspec:\n  \
             host: secure-a\n  trafficPolicy:\n    portLevelSettings: [{{ port: {{ number: 80 }}, tls: {{ {tls} }} }}]\n"
        )
    };
    stage.apply(&rule(&format!("mode: SIMPLE, sni: {NAME}, insecureSkipVerify: true")))?;
    wait_for(stage, "DestinationRule: TLS that believes everybody", 200, NAME)?;
    stage.apply(&rule(&format!("mode: SIMPLE, sni: {NAME}")))?;
    wait_for(stage, "DestinationRule: TLS by the system's authorities", 503, "-")?;
    stage.apply(&rule("mode: MUTUAL, credentialName: none"))?;
    wait_for(stage, "DestinationRule: what cannot be done lets no connection come about", 503, "-")?;
    stage.apply(&rule(&format!("mode: SIMPLE, sni: x.{NAME}, insecureSkipVerify: true")))?;
    wait_for(stage, "DestinationRule: TLS again", 200, &format!("x.{NAME}"))?;
    for mode in ["DISABLE", "ISTIO_MUTUAL"] {
        stage.apply(&rule(&format!("mode: {mode}")))?;
        stage.wait("DestinationRule: no TLS of the waypoint's own", super::RULES_DEADLINE, |stage| {
            let (status, name) = originated(stage)?;
            Ok(status >= 500 && name == "-")
        })?;
        stage.apply(&rule(&format!("mode: SIMPLE, sni: {NAME}, insecureSkipVerify: true")))?;
        wait_for(stage, "DestinationRule: TLS once more", 200, NAME)?;
    }
    stage.delete(&rule(""))?;
    seen.push("DestinationRule tls: SIMPLE with and without verifying, and MUTUAL that closes, for one port".into());
    Ok(())
}
