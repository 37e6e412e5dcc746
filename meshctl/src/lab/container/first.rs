//! Process 1 of a container, and the way into a container that runs.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sched::{CloneFlags, setns, unshare};

use super::{Root, Spec, rootfs};
use crate::lab::enter::{self, Duty, EnterError};

/// Exit code for a container that could not be set up, as `docker run`.
const SETUP_FAILED: u8 = 125;
/// Exit code for a command that cannot be found or run, as a shell.
const NO_COMMAND: u8 = 127;

/// Runs a container from the description in a file. Called as process 1 of a
/// new process namespace.
pub(crate) fn run(spec: &Path) -> ExitCode {
    let prepared = std::fs::read(spec)
        .map_err(|error| format!("cannot read {}: {error}", spec.display()))
        .and_then(|text| serde_json::from_slice::<Spec>(&text).map_err(|error| error.to_string()))
        .and_then(|spec| prepare(&spec).map_err(|error| error.to_string()).map(|()| spec));
    let spec = match prepared {
        Ok(spec) => spec,
        Err(reason) => {
            eprintln!("meshctl lab: cannot set up the container: {reason}");
            return ExitCode::from(SETUP_FAILED);
        }
    };
    let Some((program, args)) = spec.argv.split_first() else {
        eprintln!("meshctl lab: the container has no command");
        return ExitCode::from(NO_COMMAND);
    };
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .envs(&spec.env)
        .current_dir(spec.working_dir.as_deref().unwrap_or_else(|| Path::new("/")));
    match enter::run_and_forward(command, Duty::Container) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("meshctl lab: cannot run `{program}`: {error}");
            ExitCode::from(NO_COMMAND)
        }
    }
}

fn prepare(spec: &Spec) -> Result<(), EnterError> {
    enter_network(&spec.netns)?;
    let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    match spec.root {
        Root::Node => Ok(()),
        Root::Copy => {
            unshare(own).map_err(|errno| EnterError::Namespaces { what: "a container's namespaces", errno })?;
            nix::unistd::sethostname(&spec.hostname)
                .map_err(|errno| EnterError::Namespaces { what: "a host name", errno })?;
            enter::keep_mounts_to_ourselves()?;
            rootfs::build(spec)
        }
    }
}

fn enter_network(netns: &Path) -> Result<(), EnterError> {
    let file = File::open(netns).map_err(|source| EnterError::Start { what: "container in its network", source })?;
    setns(file, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| EnterError::Namespaces { what: "the way into a pod's network", errno })
}

/// Becomes `argv` inside the container whose process 1 is ours too: called
/// as a new process in the container's process namespace, with the
/// environment and the standard streams the command shall have.
pub(crate) fn join(tty: bool, argv: &[String]) -> ExitCode {
    let Some((program, args)) = argv.split_first() else {
        eprintln!("meshctl lab: no command given");
        return ExitCode::from(NO_COMMAND);
    };
    if let Err(errno) = join_namespaces() {
        eprintln!("meshctl lab: cannot enter the container: {errno}");
        return ExitCode::from(SETUP_FAILED);
    }
    if tty && let Err(error) = take_terminal() {
        eprintln!("meshctl lab: no job control: {error}");
    }
    let error = Command::new(program).args(args).current_dir("/").exec();
    eprintln!("meshctl lab: cannot run `{program}`: {error}");
    ExitCode::from(if error.kind() == io::ErrorKind::PermissionDenied { NO_COMMAND - 1 } else { NO_COMMAND })
}

fn join_namespaces() -> nix::Result<()> {
    let first = rustix::process::Pid::INIT;
    let handle = rustix::process::pidfd_open(first, rustix::process::PidfdFlags::empty())
        .map_err(|errno| nix::errno::Errno::from_raw(errno.raw_os_error()))?;
    setns(
        handle,
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWNET,
    )
}

/// Makes standard input, a terminal made for this command, its controlling
/// terminal: the first terminal that a session's leader opens becomes that.
fn take_terminal() -> io::Result<()> {
    nix::unistd::setsid()?;
    let name = rustix::termios::ttyname(io::stdin(), Vec::new())?;
    let by_name = name.to_str().map_err(io::Error::other).and_then(File::open);
    by_name.or_else(|_| File::open("/proc/self/fd/0")).map(drop)
}
