//! Starting processes in other process namespaces.
//!
//! A process can only be *born* into a process namespace, and which one its
//! children are born into is a property of the thread that starts them. So
//! each start is done by a thread of its own, which ends right after: the
//! supervisor's other threads never change where they are.

use std::io;
use std::process::Stdio;

use nix::sched::{CloneFlags, setns, unshare};
use tokio::process::{Child, Command};

/// Where a process is to be born.
#[derive(Debug)]
pub(crate) enum Birthplace {
    /// A new process namespace, of which it is process 1.
    New,
    /// The process namespace of a running process, by number.
    Of(u32),
}

/// Starts `command` there. It is killed when the returned handle is dropped.
pub(crate) async fn spawn(mut command: Command, place: Birthplace) -> io::Result<Child> {
    command.kill_on_drop(true);
    let runtime = tokio::runtime::Handle::current();
    let mut start = move || {
        let _in_runtime = runtime.enter();
        match place {
            Birthplace::New => unshare(CloneFlags::CLONE_NEWPID)?,
            Birthplace::Of(number) => {
                let pid = i32::try_from(number).ok().and_then(rustix::process::Pid::from_raw);
                let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
                let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
                setns(handle, CloneFlags::CLONE_NEWPID)?;
            }
        }
        command.spawn()
    };
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("birth".to_owned()).spawn(move || drop(done.send(start())))?;
    result.await.unwrap_or_else(|_| Err(io::Error::other("the thread that starts a process panicked")))
}

/// A command whose output is read by us and which has no input.
pub(crate) fn captured(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
