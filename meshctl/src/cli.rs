//! Which program of the multi-call binary is meant.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::lab::command::{self, LabCommand};
use crate::lab::rundir::RunDir;
use crate::lab::{container_first, enter, outside, supervise};
use crate::{app, zc};

/// The command line of the mesh, and the whole mesh on one machine.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole mesh on one machine: the mesh, the sample shop, and a tour.
    Lab(LabCommand),
    /// What a node proxy knows.
    #[command(visible_alias = "ztunnel-config")]
    Zc(zc::ZcCommand),
    /// Small programs to run in pods.
    #[command(subcommand)]
    App(app::App),
    /// The node proxy (as in its own image).
    #[command(disable_help_flag = true)]
    Ztunnel(Rest),
    /// The waypoint (as in its own image).
    #[command(disable_help_flag = true)]
    Waypoint(Rest),
    /// The node agent (as in its own image).
    #[command(disable_help_flag = true)]
    Agent(Rest),
    /// The control plane (as in its own image).
    #[command(disable_help_flag = true)]
    Istiod(Rest),
}

#[derive(Debug, clap::Args)]
struct Rest {
    /// Its own arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(args: Vec<OsString>) -> ExitCode {
    if let Some(code) = part_of_a_lab(&args) {
        return code;
    }
    let cli = Cli::parse_from(std::iter::once("meshctl".into()).chain(args));
    let named = |name: &str, rest: Rest| std::iter::once(name.into()).chain(rest.args).collect::<Vec<OsString>>();
    let result = match cli.command {
        Command::Lab(lab) => command::run(lab),
        Command::Zc(zc) => zc::run(zc),
        Command::App(app) => app::run(app),
        Command::Ztunnel(rest) => return ztunnel::main(named("ztunnel", rest)),
        Command::Waypoint(rest) => return waypoint::main(named("waypoint", rest)),
        Command::Agent(rest) => return ztunnel::agent::main(named("agent", rest)),
        Command::Istiod(rest) => return istiod_lite::main(named("istiod-lite", rest)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The parts of a lab start one another by names that people never type. They
/// are told apart before anything else, because some must not have a second
/// thread yet.
fn part_of_a_lab(args: &[OsString]) -> Option<ExitCode> {
    let texts: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let texts: Vec<_> = texts.iter().map(AsRef::as_ref).collect();
    if !texts.first().is_some_and(|name| name.starts_with("lab-")) {
        return None;
    }
    if let Err(error) = enter::unblock_signals() {
        eprintln!("cannot take signals: {error}");
        return Some(ExitCode::FAILURE);
    }
    let told = |result: Result<ExitCode, String>| {
        result.unwrap_or_else(|reason| {
            eprintln!("{reason}");
            ExitCode::FAILURE
        })
    };
    let code = match texts.as_slice() {
        ["lab-outside", name, options] => {
            let dir = RunDir::of(name).map_err(|error| error.to_string());
            told(dir.and_then(|dir| outside(&dir, options).map_err(|error| error.to_string())))
        }
        ["lab-first", dir] => told(enter::first(&RunDir::at(Path::new(dir))).map_err(|error| error.to_string())),
        ["lab-supervisor", dir] => told(supervise(RunDir::at(Path::new(dir))).map_err(|error| error.to_string())),
        ["lab-container", spec] => container_first::run(Path::new(spec)),
        ["lab-join", tty, argv @ ..] => {
            let argv: Vec<_> = argv.iter().map(|&word| word.to_owned()).collect();
            container_first::join(*tty == "--tty", &argv)
        }
        _ => return None,
    };
    Some(code)
}
