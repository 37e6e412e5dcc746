//! Nonsense on the socket by which node agent and node proxy speak: whoever hears it says what is wrong and does
//! nothing else. The real agent hears it from a false proxy; a proxy of our own hears it from a false agent.

use super::attacks;
use crate::stage::Stage;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

/// A complaint is in the log this soon.
const NOTICED: Duration = Duration::from_secs(10);
/// The agent whose socket is abused, and the pods of its node that must not notice.
const AGENT: &str = "istio-system/istio-cni-node-node1";
/// What a false proxy says: python for the message, and what the agent's log says of it then.
const TO_AGENT: [(&str, &str, &str); 6] = [
    ("a greeting of a version that nobody knows", "m(b'\\x08\\x09')", "the ZDS greeting is of version 9"),
    ("garbage for a greeting", "m(b'\\xff' * 40)", "a ZDS message does not decode"),
    ("an oversized greeting", "m(b'\\x08\\x01' * 4000)", "refused a ztunnel connection"),
    ("a greeting with a descriptor", "m(HELLO, [0])", "a ZDS hello came with 1 descriptors, expected 0"),
    ("an answer that is none", "m(HELLO); s.recv(4096); m(b'\\xff' * 40)", "it speaks another protocol"),
    ("an answer to nothing", "m(HELLO); answer_all(); m(ACK)", "it spoke unasked"),
];
/// What a false agent says, and what the proxy says of it at its end. `ends` is whether it can go on: what it
/// believes of its pods cannot be trusted any more when the agent speaks nonsense.
const TO_PROXY: [(&str, &str, &str, bool); 7] = [
    ("garbage", "m(b'\\xff' * 40)", "a ZDS message does not decode", true),
    ("a truncated message", "m(b'\\x0a\\x20\\x0a\\x03abc')", "a ZDS message does not decode", true),
    ("an oversized message", "m(b'\\x0a' + bytes(9000))", "a message of more than 1024 bytes", false),
    ("nothing that is known", "m(b'\\x7a\\x00')", "a ZDS message has no payload that is known here", true),
    ("a pod without its namespace", "m(ADD)", "a ZDS add came with 0 descriptors, expected 1", true),
    ("a pod whose namespace is a pipe", "m(ADD, [pipe]); expect(b'failure to start proxy')", "", false),
    (
        "the end of a pod that nobody knows",
        "m(SENT); expect(b''); m(b'\\x12\\x06\\x12\\x04none'); expect(b'')",
        "",
        false,
    ),
];

/// Runs this part of the scenario; `target` is called by `client` all the time.
pub fn run(stage: &mut Stage, seen: &mut Vec<String>, client: &str, target: &str) -> Result<()> {
    false_proxy(stage, seen, client, target)?;
    false_agent(stage, seen)
}

fn false_proxy(stage: &mut Stage, seen: &mut Vec<String>, client: &str, target: &str) -> Result<()> {
    let socket = stage.lab().run_dir().join("agents/node1/ztunnel.sock");
    ensure!(socket.exists(), "there is no {}", socket.display());
    for (what, says, complaint) in TO_AGENT {
        let before = stage.logs(AGENT)?.matches(complaint).count();
        let script = format!(
            "{PRELUDE}\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(5); s.connect(sys.argv[1])\n\
             {says}\ntry: s.recv(100)\nexcept OSError: pass"
        );
        let out = Command::new("python3").args(["-c", &script]).arg(&socket).output()?;
        ensure!(out.status.success(), "{what}: the false proxy failed: {}", String::from_utf8_lossy(&out.stderr));
        stage
            .wait(&format!("the agent says of {what}: {complaint}"), NOTICED, |s| {
                Ok(s.logs(AGENT)?.matches(complaint).count() > before)
            })
            .with_context(|| stage.logs(AGENT).unwrap_or_default())?;
        ensure!(stage.answers(client, target), "{what} disturbed the traffic");
    }
    seen.push(format!(
        "{} messages of a false ztunnel: each named in the agent's log, traffic goes on",
        TO_AGENT.len()
    ));
    Ok(())
}

/// How the proxy of one case ended.
#[derive(Debug, Deserialize)]
struct End {
    /// What went wrong with the conversation.
    trouble: String,
    /// Exit code; none while it runs.
    code: Option<i32>,
    /// What it printed.
    said: String,
}

fn false_agent(stage: &Stage, seen: &mut Vec<String>) -> Result<()> {
    let cases: BTreeMap<&str, &str> = TO_PROXY.iter().map(|(what, says, ..)| (*what, *says)).collect();
    // The program that the lab's own proxies are is beside this one.
    let meshctl = Path::new(&Stage::e2e()?).with_file_name("meshctl").display().to_string();
    let (script, cases) = (format!("{PRELUDE}{FALSE_AGENT}"), serde_json::to_string(&cases)?);
    // A proxy asks its agent for pods only when it knows the mesh, so it is told of that by the real control plane.
    let (roots, token) = (attacks::state(stage, "root-cert.pem")?, attacks::token(stage, "ztunnel-node1")?);
    let env = BTreeMap::from([
        ("XDS_ADDRESS", attacks::authority(stage)?),
        ("ALT_XDS_HOSTNAME", "istiod.istio-system.svc".into()),
        ("XDS_ROOT_CA", roots),
        ("AUTH_TOKEN", token),
        ("POD_NAME", "ztunnel-node1".into()),
        ("NODE_NAME", "node1".into()),
    ]);
    let env = serde_json::to_string(&env)?;
    let out = stage.exec("outside/client", &["python3", "-c", &script, &cases, &meshctl, &env])?.ok()?;
    let ends: BTreeMap<String, End> = serde_json::from_str(&out).with_context(|| format!("no report: {out}"))?;
    for (what, _, complaint, ends_it) in TO_PROXY {
        let end = ends.get(what).with_context(|| format!("{what} was not tried"))?;
        ensure!(end.trouble.is_empty(), "{what}: {}: {}", end.trouble, end.said);
        ensure!(end.said.contains(complaint), "{what}: ztunnel does not say {complaint:?}: {}", end.said);
        ensure!(!end.said.contains("panicked"), "{what}: {}", end.said);
        ensure!(
            end.code.is_some() == ends_it && end.code != Some(0),
            "{what}: ended with {:?}: {}",
            end.code,
            end.said
        );
    }
    seen.push(format!("{} messages of a false node agent to a ztunnel: each named, none a crash", TO_PROXY.len()));
    Ok(())
}

/// Messages, and how to send them with descriptors.
const PRELUDE: &str = r#"
import array, json, os, socket, subprocess, sys, time
HELLO, ACK, SENT = b'\x08\x01', b'\x0a\x00', b'\x1a\x00'
ADD = b'\x0a\x16\x0a\x05uid-x\x12\x0d\x0a\x03pod\x12\x02ns\x1a\x02sa'
pipe = os.pipe()[0]
def m(data, descriptors=[]):
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', descriptors))] if descriptors else []
    s.sendmsg([data], rights)
def answer_all():
    s.settimeout(1)
    try:
        while socket.recv_fds(s, 4096, 4)[0]: m(ACK)
    except TimeoutError: pass
    s.settimeout(5)
def expect(text):
    answer = s.recv(4096)
    assert answer[:1] == b'\x0a' and text in answer, answer
"#;

/// Starts a proxy for each case, says it, and waits for what the proxy does.
const FALSE_AGENT: &str = r#"
def case(says):
    global s
    path = '/tmp/false-agent.sock'
    if os.path.exists(path): os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); listener.bind(path); listener.listen(4)
    listener.settimeout(10)
    env = dict(os.environ, INPOD_UDS=path, **json.loads(sys.argv[3]))
    with open('/tmp/false-agent.log', 'w+') as log:
        proxy = subprocess.Popen([sys.argv[2], 'ztunnel', 'proxy', 'ztunnel'], env=env, stdout=log, stderr=log)
        trouble = ''
        try:
            s, _ = listener.accept()
            s.settimeout(5)
            hello = s.recv(100)
            assert hello == HELLO, hello
            exec(says)
            try: proxy.wait(3)
            except subprocess.TimeoutExpired: pass
        except Exception as error:
            trouble = repr(error)
        code = proxy.poll()
        proxy.kill(); proxy.wait()
        log.seek(0)
        return dict(trouble=trouble, code=code, said=log.read())
print(json.dumps({what: case(says) for what, says in json.loads(sys.argv[1]).items()}))
"#;
