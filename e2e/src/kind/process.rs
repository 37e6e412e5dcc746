//! Running the programs that a person would type: each has a deadline, and its failure says what was typed.

use crate::stage::pause;
use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How often a running program is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; 128 + signal if it was killed.
    pub(crate) code: i32,
    /// What it printed.
    pub(crate) stdout: Vec<u8>,
    /// What it complained about.
    pub(crate) stderr: Vec<u8>,
}

impl Ended {
    /// What it complained about, as text.
    pub(crate) fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

/// Runs a program to its end, whatever that is; `input` is what it reads.
pub(crate) fn run(command: &mut Command, input: Option<&str>, deadline: Duration) -> Result<Ended> {
    let typed = typed(command);
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run `{typed}`"))?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        let text = text.to_owned();
        // A program that does not read to the end says so by its exit code.
        thread::spawn(move || drop(pipe.write_all(text.as_bytes())));
    }
    wait(child, deadline).with_context(|| format!("`{typed}`"))
}

/// Waits for a program's end and gathers what it prints; its pipes must be there.
pub(crate) fn wait(mut child: Child, deadline: Duration) -> Result<Ended> {
    let stdout = drain(child.stdout.take().context("its standard output is a pipe")?);
    let stderr = drain(child.stderr.take().context("its standard error is a pipe")?);
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > deadline {
            child.kill().ok();
            child.wait().ok();
            bail!("did not end within {} s", deadline.as_secs());
        }
        pause(LOOK_INTERVAL);
    };
    let whole = |thread: thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Ok(Ended { code: code(status), stdout: whole(stdout), stderr: whole(stderr) })
}

/// Runs a program that must succeed; what it printed.
pub(crate) fn ok(command: &mut Command, input: Option<&str>, deadline: Duration) -> Result<String> {
    let ended = run(command, input, deadline)?;
    ensure!(ended.code == 0, "`{}` failed with {}: {}", typed(command), ended.code, ended.complaint());
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        let _ = pipe.read_to_end(&mut all);
        all
    })
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The command as a person would type it.
fn typed(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program.into_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_fed_read_and_judged() {
        let second = Duration::from_secs(10);
        assert_eq!(ok(Command::new("cat").arg("-"), Some("fed"), second).unwrap(), "fed");
        let failed = ok(Command::new("sh").args(["-c", "echo no >&2; exit 3"]), None, second).unwrap_err().to_string();
        assert!(failed.contains("failed with 3: no"), "{failed}");
        let late = run(Command::new("sleep").arg("60"), None, Duration::from_millis(50)).unwrap_err();
        assert!(format!("{late:#}").contains("`sleep 60`: did not end within"), "{late:#}");
    }
}
