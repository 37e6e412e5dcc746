//! `meshctl lab …`: what a person types.

use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};

use super::client::{Lab, LabError, StartOptions, component_variable, conditions};
use super::control::dial::Call;
use super::control::protocol::{Reply, Request};
use super::terminal::{self, Terminal};
use super::{show, tour};

/// The whole mesh on one machine: the mesh, the sample shop, and a tour.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct LabCommand {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    start: Start,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Start a lab (what `meshctl lab` alone does).
    Start(Start),
    /// Run a command in a pod.
    Exec(Exec),
    /// Add or replace objects.
    Apply(Change),
    /// Remove objects.
    Delete(Change),
    /// Say how many pods a waypoint has.
    Scale(Scale),
    /// Show nodes, pods and services, and what is not well.
    Status(Status),
    /// Show what a pod has printed.
    Logs(Logs),
    /// End a lab, running or crashed.
    Down(Which),
}

#[derive(Clone, Debug, Args)]
struct Which {
    /// The lab's name; several labs at once do not see each other.
    #[arg(long, default_value = "lab", value_name = "NAME")]
    name: String,
}

#[derive(Debug, Args)]
struct Start {
    #[command(flatten)]
    which: Which,
    /// Directories or files of Kubernetes manifests; the sample shop if none
    /// is given.
    #[arg(value_name = "DIR")]
    manifests: Vec<PathBuf>,
    /// Show what the mesh does, then end.
    #[arg(long)]
    tour: bool,
    /// Do not show what the mesh does.
    #[arg(long, conflicts_with = "tour")]
    no_tour: bool,
    /// How many nodes, when no manifest describes one.
    #[arg(long, default_value_t = 2, value_name = "N")]
    nodes: u16,
    /// Plain pods and networking, without the mesh.
    #[arg(long)]
    no_mesh: bool,
    /// How long to wait for every pod to be ready, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    ready_timeout: u64,
    /// Sets a variable of one of the mesh's programs: ztunnel, istiod, agent or
    /// waypoint.
    #[arg(long = "env", value_name = "PROGRAM:KEY=VALUE")]
    component_env: Vec<String>,
}

#[derive(Debug, Args)]
struct Exec {
    #[command(flatten)]
    which: Which,
    /// Which container; the first if absent.
    #[arg(long, short)]
    container: Option<String>,
    /// POD, NAMESPACE/POD, or the name of the workload that owns it.
    pod: String,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    argv: Vec<String>,
}

#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    which: Which,
    /// A file or directory of manifests; `-` reads standard input.
    #[arg(long, short, required = true)]
    filename: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    which: Which,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Scale {
    #[command(flatten)]
    which: Which,
    /// What kind it is.
    #[arg(value_parser = ["gateway"])]
    kind: String,
    /// NAME or NAMESPACE/NAME.
    gateway: String,
    /// How many pods.
    #[arg(long)]
    replicas: u64,
}

#[derive(Debug, Args)]
struct Logs {
    #[command(flatten)]
    which: Which,
    /// Which container; the first if absent.
    #[arg(long, short)]
    container: Option<String>,
    /// Go on as more is printed.
    #[arg(long, short)]
    follow: bool,
    /// POD, NAMESPACE/POD, or the name of the workload that owns it.
    pod: String,
}

/// Carries out a command.
pub(crate) fn run(command: LabCommand) -> anyhow::Result<ExitCode> {
    match command.what.unwrap_or(What::Start(command.start)) {
        What::Start(start) => begin(start),
        What::Exec(exec) => run_in_pod(exec),
        What::Apply(change) => apply(&change, false),
        What::Delete(change) => apply(&change, true),
        What::Status(status) => {
            let lab = Lab::attach(&status.which.name)?;
            let report = lab.status()?;
            let text = if status.json { serde_json::to_string_pretty(&report)? } else { show::status(&report) };
            let mut text = format!("{}\n", text.trim_end());
            if !status.json && report.pods.iter().any(|pod| pod.name == "istiod-0" && pod.is_ready) {
                text = format!("{text}\n{}", conditions::table(&lab.conditions()?));
            }
            // Whoever reads may stop in the middle.
            let _closed =
                io::stdout().write_all(text.trim_end().as_bytes()).and_then(|()| io::stdout().write_all(b"\n"));
            Ok(ExitCode::SUCCESS)
        }
        What::Scale(scale) => {
            Lab::attach(&scale.which.name)?.scale_gateway(&scale.gateway, scale.replicas)?;
            println!("{}/{} scaled", scale.kind, scale.gateway);
            Ok(ExitCode::SUCCESS)
        }
        What::Logs(wanted) => logs(&wanted),
        What::Down(which) => {
            let lab = Lab::attach(&which.name)?;
            let existed = lab.dir().exists();
            lab.down()?;
            println!("{}", if existed { "the lab has ended" } else { "there is no lab of this name" });
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn begin(start: Start) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let mut options = StartOptions::new(std::env::current_exe()?, &start.which.name);
    options.shop = start.manifests.is_empty();
    options.manifests = start.manifests;
    options.nodes = start.nodes;
    options.mesh = !start.no_mesh;
    options.ready_timeout = Duration::from_secs(start.ready_timeout);
    for setting in &start.component_env {
        options.component_env.push(component_variable(setting).map_err(anyhow::Error::msg)?);
    }
    // The tour needs the shop, and shows it to whoever asks for nothing else.
    let wanted = start.tour || !start.no_tour && options.shop && options.mesh;
    anyhow::ensure!(
        !wanted || options.shop && options.mesh && options.nodes > 1,
        "the tour needs the sample shop on two nodes"
    );
    if wanted {
        options.component_env.splice(0..0, tour::settings());
    }
    println!("Starting the lab `{}` ({} nodes)…", start.which.name, start.nodes);
    let lab = Lab::start(options)?;
    let report = lab.status()?;
    println!("Ready after {:.1} s.\n\n{}", begun.elapsed().as_secs_f64(), show::status(&report));
    let mut well = true;
    if wanted {
        well = tour::run(&lab);
    }
    if start.tour {
        lab.down()?;
        return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    stay(lab)
}

/// Stays until Ctrl-C, or until the lab is ended from elsewhere.
fn stay(mut lab: Lab) -> anyhow::Result<ExitCode> {
    let name = match lab.name() {
        "lab" => String::new(),
        other => format!(" --name {other}"),
    };
    println!("\nThe lab stays up until Ctrl-C. From another terminal:");
    println!("  meshctl lab exec{name} curl -- meshctl app get http://productpage:9080/");
    println!("  meshctl lab status{name}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let mut look = tokio::time::interval(Duration::from_millis(200));
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return io::Result::Ok(false),
                _ = terminate.recv() => return Ok(false),
                _ = look.tick() => if lab.has_ended() { return Ok(true) },
            }
        }
    })?;
    println!("\n{}", if ended { "The lab was ended." } else { "Ending the lab…" });
    lab.down()?;
    Ok(ExitCode::SUCCESS)
}

fn run_in_pod(exec: Exec) -> anyhow::Result<ExitCode> {
    let lab = Lab::attach(&exec.which.name)?;
    let mut terminal = if terminal::at_hand() { Some(Terminal::open()?) } else { None };
    let request = Request::Exec { pod: exec.pod, container: exec.container, argv: exec.argv, tty: terminal.is_some() };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let unreachable = |source| LabError::Unreachable { name: exec.which.name.clone(), source };
    let files = terminal.as_ref().and_then(Terminal::streams);
    let files = files.unwrap_or_else(|| [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
    let mut call = Call::make(lab.dir(), &request, &files).map_err(unreachable)?;
    let size = terminal.as_ref().map(Terminal::handle).transpose()?;
    pass_signals(call.try_clone().map_err(unreachable)?, size)?;
    loop {
        match call.reply().map_err(unreachable)? {
            Reply::Started => {
                if let Some(terminal) = &mut terminal {
                    terminal.connect()?;
                }
            }
            Reply::Exited { code } => return Ok(ExitCode::from(u8::try_from(code).unwrap_or(255))),
            Reply::Refused { reason } => anyhow::bail!(reason),
            _ => return Err(LabError::Confused.into()),
        }
    }
}

/// Passes requests to end on to the command, and to its terminal, if it has
/// one, the changes of ours.
fn pass_signals(call: Call, terminal: Option<OwnedFd>) -> anyhow::Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH] {
        signals.add(signal);
    }
    // Before any other thread is there, so that all have it.
    signals.thread_block()?;
    std::thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            if signal == Signal::SIGWINCH {
                if let Some(terminal) = &terminal {
                    terminal::take_size(terminal.as_fd());
                }
            } else if call.add(&Request::Signal { number: signal as i32 }).is_err() {
                return;
            }
        }
    });
    Ok(())
}

fn apply(change: &Change, remove: bool) -> anyhow::Result<ExitCode> {
    let lab = Lab::attach(&change.which.name)?;
    let mut refused = 0;
    for path in &change.filename {
        let yaml = text_of(path)?;
        let file = path.display().to_string();
        let request = if remove { Request::Delete { file, yaml } } else { Request::Apply { file, yaml } };
        let (lines, problems) = lab.change(request)?;
        for line in lines {
            println!("{line}");
        }
        refused += problems.len();
        for problem in problems {
            eprintln!("error: {problem}");
        }
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A file, standard input, or all manifests of a directory as one text.
fn text_of(path: &std::path::Path) -> anyhow::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text)?;
        return Ok(text);
    }
    let mut texts = Vec::new();
    for file in super::load::files(path).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))? {
        texts.push(std::fs::read_to_string(&file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?);
    }
    Ok(texts.join("\n---\n"))
}

fn logs(wanted: &Logs) -> anyhow::Result<ExitCode> {
    let lab = Lab::attach(&wanted.which.name)?;
    let paths = lab.log_files(&wanted.pod, wanted.container.clone())?;
    let mut out = io::stdout();
    let mut last = None;
    for path in paths {
        let mut file = std::fs::File::open(&path)?;
        io::copy(&mut file, &mut out)?;
        last = Some(file);
    }
    let Some(mut file) = last.filter(|_| wanted.follow) else { return Ok(ExitCode::SUCCESS) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        while lab.dir().exists() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if file.metadata()?.len() < file.stream_position()? {
                file.rewind()?;
            }
            io::copy(&mut file, &mut out)?;
            out.flush()?;
        }
        io::Result::Ok(())
    })?;
    Ok(ExitCode::SUCCESS)
}
