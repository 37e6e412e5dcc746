//! A node proxy whose control plane is a false one: what it makes of resources and responses that are broken.
//!
//! The proxy is started here and ends with this program. It has no node agent and no pods, so nothing but its
//! answers and its config dump tells what it believes.

use anyhow::{Context, Result, ensure};
use clap::Args;
use mesh::fixture;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};
use testkit::control_plane::{Content, FalseControlPlane, FalseStream, Heard, response};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// The proxy starts, connects and answers in less than a second each, unless the machine is busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// The name by which the proxy knows its control plane.
const HOSTNAME: &str = "istiod.istio-system.svc";
/// Where the proxy's admin page is.
const DUMP: &str = "http://127.0.0.1:15000/config_dump";

/// A mesh of which some is said well first, some well beside nonsense, and some is always broken before it is good.
const MESH: &str = "
pod kept ns=shop sa=kept ip=10.0.0.1
pod beside ns=shop sa=beside ip=10.0.0.2
pod truncated ns=shop sa=web ip=10.0.0.3
pod unknown ns=shop sa=web ip=10.0.0.4
pod address ns=shop sa=web ip=10.0.0.5
pod large ns=shop sa=web ip=10.0.0.6
deny kept-policy ns=shop source-ip=10.9.0.0/16
deny beside-policy ns=shop source-ip=10.8.0.0/16
deny range ns=shop source-ip=10.7.0.0/16
deny cut ns=shop source-ip=10.6.0.0/16
";
/// How much a resource is made too large by.
const LARGE: usize = 11 << 20;

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// The program that has the proxy in it.
    pub meshctl: PathBuf,
}

/// What the proxy knows, as its config dump says.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Names of workloads.
    pub workloads: BTreeSet<String>,
    /// Names of policies.
    pub policies: BTreeSet<String>,
}

/// What happened.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The NACK of the workloads, and that of the policies.
    pub refusals: [String; 2],
    /// What was known after good responses.
    pub before: Known,
    /// After broken resources, and some good ones beside them.
    pub beside: Known,
    /// After the response that was cut.
    pub cut: Known,
    /// Names that the proxy says it has on the stream after that: workloads.
    pub resumed: BTreeSet<String>,
    /// After a good response.
    pub after: Known,
    /// What the proxy printed.
    pub said: String,
}

/// Starts the proxy, says good and bad things, and reports.
pub async fn run(options: Options) -> Result<Report> {
    let plane = FalseControlPlane::listen(([127, 0, 0, 1], 0).into(), HOSTNAME).await?;
    let log = std::env::temp_dir().join("misled.log");
    let mut proxy = start(&options, &plane, &log)?;
    let report = speak(&plane, &mut proxy).await;
    let ended = proxy.try_wait()?;
    proxy.kill().await?;
    let said = fs::read_to_string(&log)?;
    let report = report.with_context(|| format!("the proxy says: {said}"))?;
    ensure!(ended.is_none(), "the proxy ended with {ended:?}: {said}");
    Ok(Report { said, ..report })
}

fn start(options: &Options, plane: &FalseControlPlane, log: &std::path::Path) -> Result<Child> {
    let log = fs::File::create(log)?;
    let mut command = Command::new(&options.meshctl);
    command.args(["ztunnel", "proxy", "ztunnel"]).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    command.env("XDS_ADDRESS", format!("https://{}", plane.address()?)).env("XDS_ROOT_CA", plane.roots());
    command.env("ALT_XDS_HOSTNAME", HOSTNAME).env("AUTH_TOKEN", "nobody looks at it");
    command.env("POD_NAME", "ztunnel-node1").env("NODE_NAME", "node1").env("INPOD_UDS", "/tmp/no-agent.sock");
    command.spawn().with_context(|| options.meshctl.display().to_string())
}

async fn speak(plane: &FalseControlPlane, proxy: &mut Child) -> Result<Report> {
    let all: Vec<Content> = fixture::changes(MESH).iter().filter_map(Content::of).collect();
    let named = |name: &str| all.iter().find(|content| content.name.ends_with(name)).context("not in the mesh");
    let first = [named("kept")?.clone(), named("kept-policy")?.clone()];
    let nonsense = [
        // The good one is in the middle: neither what comes before it nor what comes after it may harm it.
        named("kept")?.changed(cut),
        named("truncated")?.changed(cut),
        named("beside")?.clone(),
        named("unknown")?.changed(|bytes| bytes.extend(field(1, &[WORKLOAD_TYPE << 3, 99]))),
        named("address")?.changed(|bytes| bytes.extend(field(1, &field(ADDRESSES, &[10, 0, 0, 1, 2])))),
        named("large")?.changed(|bytes| bytes.extend(vec![0; LARGE])),
        named("kept-policy")?.changed(cut),
        named("beside-policy")?.clone(),
        named("cut")?.changed(cut),
        named("range")?.changed(|bytes| bytes.extend(rule_for_source(&[10, 0, 0, 0], 99))),
    ];

    let mut stream = open(plane, proxy).await?.0;
    let [workloads, policies] = exchange(&mut stream, "first", &first).await?;
    ensure!(workloads.refusal.is_none() && policies.refusal.is_none(), "good ones are refused: {workloads:?}");
    let before = known().await?;
    let refusals = exchange(&mut stream, "nonsense", &nonsense).await?.map(|heard| heard.refusal.unwrap_or_default());
    let beside = known().await?;

    let mut whole = response("cut", &all[0].type_url, &all[..1]);
    whole.pop();
    stream.say(&whole).await;
    let end = timeout(PATIENCE, stream.hear()).await.context("a response that was cut does not end the stream")?;
    ensure!(end.is_none(), "a response that was cut is answered: {end:?}");
    let (mut stream, asked) = open(plane, proxy).await?;
    let cut = known().await?;

    let [workloads, policies] = exchange(&mut stream, "good", &all).await?;
    ensure!(workloads.refusal.is_none() && policies.refusal.is_none(), "refused: {workloads:?} {policies:?}");
    let resumed = asked.into_iter().flat_map(|heard| heard.has.into_keys()).collect();
    Ok(Report { refusals, before, beside, cut, resumed, after: known().await?, said: String::new() })
}

/// Waits for a stream and for what is asked on it, which is of two kinds.
async fn open(plane: &FalseControlPlane, proxy: &mut Child) -> Result<(FalseStream, [Heard; 2])> {
    let mut stream = tokio::select! {
        stream = plane.stream() => stream?,
        ended = proxy.wait() => anyhow::bail!("the proxy ended: {ended:?}"),
        () = tokio::time::sleep(PATIENCE) => anyhow::bail!("the proxy does not connect"),
    };
    let asked = hear_two(&mut stream).await?;
    Ok((stream, asked))
}

/// Says what is there of each kind, workloads first, and hears the answers in that order.
async fn exchange(stream: &mut FalseStream, nonce: &str, contents: &[Content]) -> Result<[Heard; 2]> {
    let (workloads, policies): (Vec<Content>, _) =
        contents.iter().cloned().partition(|content| content.type_url == contents[0].type_url);
    for of_kind in [workloads, policies] {
        stream.say(&response(nonce, &of_kind.first().context("something of each kind")?.type_url, &of_kind)).await;
    }
    let answers = hear_two(stream).await?;
    ensure!(answers.iter().all(|heard| heard.nonce == nonce), "{answers:?} do not answer {nonce}");
    Ok(answers)
}

async fn hear_two(stream: &mut FalseStream) -> Result<[Heard; 2]> {
    let two = async { Some([stream.hear().await?, stream.hear().await?]) };
    timeout(PATIENCE, two).await.context("the proxy is silent")?.context("the proxy ended the stream")
}

async fn known() -> Result<Known> {
    let dump = Command::new("curl").args(["-sS", "-f", "--max-time", "10", DUMP]).output().await?;
    ensure!(dump.status.success(), "no config dump: {}", String::from_utf8_lossy(&dump.stderr));
    let dump: serde_json::Value = serde_json::from_slice(&dump.stdout)?;
    let names = |of: &str| {
        let all = dump[of].as_array().into_iter().flatten();
        all.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect()
    };
    Ok(Known { workloads: names("workloads"), policies: names("policies") })
}

/// Numbers of fields of the wire: those of a workload.
const WORKLOAD_TYPE: u8 = 12;
const ADDRESSES: u8 = 3;

/// Takes the last byte away, which leaves the last field shorter than it says.
fn cut(bytes: &mut Vec<u8>) {
    bytes.pop();
}

/// A field of a message that is text, bytes or a message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

/// A rule with one clause with one match with one source range, as a further rule of a policy.
fn rule_for_source(address: &[u8], length: u8) -> Vec<u8> {
    let range = [field(1, address), vec![2 << 3, length]].concat();
    field(5, &field(1, &field(2, &field(5, &range))))
}
