//! The way into a lab: three processes, each with one duty.
//!
//! - *outside* ([`enter`]): makes new user (unless root), process, IPC and
//!   host-name namespaces, starts the first process inside, passes signals
//!   on, and removes the lab's directory when all is over.
//! - *first* ([`first`]): process 1 of the lab. It makes the lab's own
//!   network and mounts, starts the supervisor, and reaps orphans. When it ends, by whatever cause, the kernel ends every process
//!   of the lab, and with them every namespace, link and rule.
//! - *supervisor*: everything else.
//!
//! None of them needs to clean up for the lab to leave nothing behind.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid};

use super::rundir::RunDir;

/// Why a lab cannot be entered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnterError {
    /// No namespaces for us.
    #[error(
        "cannot make {what}: {errno}; the lab needs user namespaces (see /proc/sys/user/max_user_namespaces, \
         and kernel.apparmor_restrict_unprivileged_userns on Ubuntu), or root with CAP_SYS_ADMIN"
    )]
    Namespaces {
        /// Which.
        what: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// The user of the lab could not be mapped.
    #[error("cannot map the user into the lab: {0}")]
    UserMap(io::Error),
    /// Something could not be mounted in the lab.
    #[error("cannot mount {what} in the lab: {errno}")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// A process could not be started.
    #[error("cannot start the lab's {what}: {source}")]
    Start {
        /// Which process.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// The arguments with which this program starts its next part.
pub(crate) fn own_part(name: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(name);
    Ok(command)
}

/// Enters a new lab and returns when it has ended. Must run before this
/// process has a second thread.
pub(crate) fn enter(run_dir: &RunDir) -> Result<ExitCode, EnterError> {
    let (uid, gid) = (geteuid(), getegid());
    let rest = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if uid.is_root() {
        unshare(rest).map_err(|errno| EnterError::Namespaces { what: "namespaces", errno })?;
    } else {
        unshare(CloneFlags::CLONE_NEWUSER)
            .map_err(|errno| EnterError::Namespaces { what: "a user namespace", errno })?;
        // Without giving up setgroups an ordinary user may not map a group.
        fs::write("/proc/self/setgroups", "deny").map_err(EnterError::UserMap)?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(EnterError::UserMap)?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(EnterError::UserMap)?;
        unshare(rest).map_err(|errno| EnterError::Namespaces { what: "namespaces", errno })?;
    }
    let start = |source| EnterError::Start { what: "first process", source };
    let mut command = own_part("lab-first").map_err(start)?;
    command.arg(run_dir.root());
    let log = fs::File::create(run_dir.log()).map_err(start)?;
    command.stdout(log.try_clone().map_err(start)?).stderr(log);
    run_and_forward(command, Duty::Outside).map_err(start)
}

/// Process 1 of the lab.
pub(crate) fn first(run_dir: &RunDir) -> Result<ExitCode, EnterError> {
    // If the outside process is killed, the lab must not go on without it.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| EnterError::Namespaces { what: "the tie to the outside process", errno })?;
    // Mounts are made in a namespace that ends with the lab: the outside
    // process could not remove the lab's directory while it saw them.
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| EnterError::Namespaces { what: "a network and mounts", errno })?;
    keep_mounts_to_ourselves()?;
    // Where a fresh /proc is forbidden (some containers) the old one serves:
    // nothing in the lab depends on process numbers read from it.
    let _ = mount_proc();
    pin_binary(run_dir)?;
    let start = |source| EnterError::Start { what: "supervisor", source };
    let mut command = Command::new(run_dir.bin().join("meshctl"));
    command.arg("lab-supervisor").arg(run_dir.root());
    run_and_forward(command, Duty::First).map_err(start)
}

/// Mounts made from here on are not seen outside, and the other way round.
pub(crate) fn keep_mounts_to_ourselves() -> Result<(), EnterError> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|errno| EnterError::Mount { what: "everything privately".to_owned(), errno })
}

/// Mounts a `/proc` that shows the processes of this process namespace.
pub(crate) fn mount_proc() -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
}

/// Binds `source` over `target`, which must exist.
pub(crate) fn bind(source: &Path, target: &Path, more: MsFlags) -> Result<(), EnterError> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | more, None::<&str>)
        .map_err(|errno| EnterError::Mount { what: format!("{} at {}", source.display(), target.display()), errno })
}

/// Makes this very binary reachable in the lab under one name, also after a
/// build has replaced the file it came from.
fn pin_binary(run_dir: &RunDir) -> Result<(), EnterError> {
    let start = |source| EnterError::Start { what: "supervisor", source };
    let name = run_dir.bin().join("meshctl");
    fs::File::create(&name).map_err(start)?;
    bind(&std::env::current_exe().map_err(start)?, &name, MsFlags::empty())
}

/// Who waits for a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// The outside process: for the first one inside.
    Outside,
    /// Process 1 of the lab: for the supervisor, and for orphans.
    First,
    /// Process 1 of a container: for a program of somebody else, and for
    /// orphans.
    Container,
}

/// Starts a child, passes signals on to it, and ends as it ends.
pub(crate) fn run_and_forward(mut command: Command, duty: Duty) -> io::Result<ExitCode> {
    let mut signals = SigSet::empty();
    for signal in FORWARDED.into_iter().chain([Signal::SIGCHLD]) {
        signals.add(signal);
    }
    // A child inherits what is blocked. Our own parts begin by unblocking
    // everything, so for them no signal is lost; a program of somebody else
    // would never be told to end, so it is started first. A request to end
    // that comes in between is lost, and the end by force follows it.
    let own_part = duty != Duty::Container;
    if own_part {
        signals.thread_block()?;
    }
    let child = command.spawn()?;
    if !own_part {
        signals.thread_block()?;
    }
    let pid = Pid::from_raw(child.id().cast_signed());
    let all = duty != Duty::Outside;
    loop {
        // Before the first wait too: the child may have ended already.
        if let Some(status) = reap(pid, all)? {
            return Ok(exit_code(status));
        }
        let signal = signals.wait()?;
        if signal != Signal::SIGCHLD {
            let _ = kill(pid, signal);
        }
    }
}

/// Takes all signals again. The first act of every part of a lab: what its
/// parent has blocked is blocked for it too.
pub(crate) fn unblock_signals() -> io::Result<()> {
    Ok(SigSet::all().thread_unblock()?)
}

/// What a child is told when we are.
const FORWARDED: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Collects the children that have ended; `Some` if ours was among them.
fn reap(ours: Pid, all: bool) -> io::Result<Option<ExitStatus>> {
    loop {
        let which = if all { None } else { Some(ours) };
        match waitpid(which, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == ours => return Ok(Some(ExitStatus::from_raw(code << 8))),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == ours => {
                return Ok(Some(ExitStatus::from_raw(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The exit code by which a shell would tell of this end.
pub(crate) fn shell_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    ExitCode::from(u8::try_from(shell_code(status)).unwrap_or(1))
}
