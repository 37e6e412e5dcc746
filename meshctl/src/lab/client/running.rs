//! Commands in a lab's pods: how one is started, what it is given to read, what
//! it prints, and how it ends.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::{Lab, LabError};
use crate::lab::control::dial::Call;
use crate::lab::control::protocol::{Reply, Request};

/// What a command in a pod printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + signal number if a signal ended it.
    pub code: i32,
    /// Everything it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// Everything it wrote to its standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    pub fn error_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl Lab {
    /// Runs a command in a pod (`name`, `namespace/name`, or the name of the
    /// workload that owns it) and waits for its end.
    pub fn exec(&self, pod: &str, argv: &[&str]) -> Result<Output, LabError> {
        self.spawn(pod, argv)?.wait()
    }

    /// Runs a command in a pod with something to read.
    pub fn exec_with_input(&self, pod: &str, argv: &[&str], input: &[u8]) -> Result<Output, LabError> {
        let mut running = self.spawn_piped(pod, argv, true)?;
        if let Some(mut stdin) = running.stdin.take() {
            let input = input.to_vec();
            // A command that does not read must not stop us.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        running.wait()
    }

    /// Starts a command in a pod and returns at once. Its output is collected.
    pub fn spawn(&self, pod: &str, argv: &[&str]) -> Result<Running, LabError> {
        self.spawn_piped(pod, argv, false)
    }

    fn spawn_piped(&self, pod: &str, argv: &[&str], with_input: bool) -> Result<Running, LabError> {
        let request = Request::Exec {
            pod: pod.to_owned(),
            container: None,
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            tty: false,
        };
        let failed = |source| self.unreachable(source);
        let (out_read, out_write) = io::pipe().map_err(failed)?;
        let (error_read, error_write) = io::pipe().map_err(failed)?;
        let (in_read, in_write) = io::pipe().map_err(failed)?;
        let files = [in_read.as_fd(), out_write.as_fd(), error_write.as_fd()];
        let mut call = Call::make(&self.run_dir, &request, &files).map_err(failed)?;
        match call.reply().map_err(failed)? {
            Reply::Started => {}
            Reply::Refused { reason } => return Err(LabError::Refused(reason)),
            _ => return Err(LabError::Confused),
        }
        let stdin = with_input.then_some(in_write);
        Ok(Running { call, stdin, stdout: collect(out_read), stderr: collect(error_read) })
    }
}

/// Reads a stream to its end, beside whatever else happens.
fn collect(mut from: io::PipeReader) -> Stream {
    let bytes: Arc<Mutex<Vec<u8>>> = Arc::default();
    let into = bytes.clone();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            into.lock().expect("no holder panics").extend_from_slice(&buffer[..length]);
        }
    });
    Stream { bytes, reader }
}

/// What has been read of a stream, and who reads.
#[derive(Debug)]
struct Stream {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Stream {
    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().expect("no holder panics").clone()
    }

    fn end(self) -> Vec<u8> {
        let _ = self.reader.join();
        std::mem::take(&mut *self.bytes.lock().expect("no holder panics"))
    }
}

/// A command running in a pod.
#[derive(Debug)]
pub struct Running {
    call: Call,
    stdin: Option<io::PipeWriter>,
    stdout: Stream,
    stderr: Stream,
}

impl Running {
    /// Waits for its end.
    pub fn wait(mut self) -> Result<Output, LabError> {
        drop(self.stdin.take());
        let code = match self.call.reply() {
            Ok(Reply::Exited { code }) => code,
            Ok(Reply::Refused { reason }) => return Err(LabError::Refused(reason)),
            Ok(_) => return Err(LabError::Confused),
            Err(source) => return Err(LabError::Unreachable { name: String::new(), source }),
        };
        Ok(Output { code, stdout: self.stdout.end(), stderr: self.stderr.end() })
    }

    /// What it has written to its standard output so far.
    pub fn stdout_so_far(&self) -> Vec<u8> {
        self.stdout.so_far()
    }

    /// Sends it a signal, by number.
    pub fn signal(&self, number: i32) -> Result<(), LabError> {
        let failed = |source| LabError::Unreachable { name: String::new(), source };
        self.call.add(&Request::Signal { number }).map_err(failed)
    }

    /// Ends it.
    pub fn kill(&mut self) {
        let _ = self.signal(9);
    }
}
