//! A terminal of its own for a command in a pod, so that shells have job
//! control and editors a screen. Ours is only passed through meanwhile.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

/// How long the last output of a command may take to arrive once it has
/// ended. A process it left behind may hold the terminal for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(300);

/// Whether a person sits at both ends of our standard streams.
pub(crate) fn at_hand() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// A terminal made for a command. Dropping it gives ours back its settings.
#[derive(Debug)]
pub(crate) struct Terminal {
    ours: OwnedFd,
    /// The command's side, until it has been handed over.
    theirs: Option<OwnedFd>,
    before: Termios,
    output_ended: Option<Receiver<()>>,
}

impl Terminal {
    /// Makes one of the size of ours, and passes on what is typed as it is.
    pub(crate) fn open() -> io::Result<Self> {
        let pair = nix::pty::openpty(None, None)?;
        let stdin = io::stdin();
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        let terminal = Self { ours: pair.master, theirs: Some(pair.slave), before, output_ended: None };
        terminal.take_size();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(terminal)
    }

    /// The command's three standard streams.
    pub(crate) fn streams(&self) -> Option<[BorrowedFd<'_>; 3]> {
        self.theirs.as_ref().map(|theirs| [theirs.as_fd(); 3])
    }

    /// Copies between the terminals from now on. Our hold on the command's
    /// side is given up, so that its end can be seen.
    pub(crate) fn connect(&mut self) -> io::Result<()> {
        drop(self.theirs.take());
        let (ended, output_ended) = mpsc::channel();
        let mut output = File::from(self.ours.try_clone()?);
        std::thread::spawn(move || {
            copy(&mut output, &mut io::stdout());
            let _ = ended.send(());
        });
        let mut input = File::from(self.ours.try_clone()?);
        std::thread::spawn(move || copy(&mut io::stdin(), &mut input));
        self.output_ended = Some(output_ended);
        Ok(())
    }

    /// Another handle on it, to change its size.
    pub(crate) fn handle(&self) -> io::Result<OwnedFd> {
        self.ours.try_clone()
    }

    fn take_size(&self) {
        take_size(self.ours.as_fd());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(ended) = &self.output_ended {
            let _ = ended.recv_timeout(LAST_OUTPUT);
        }
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Gives the command's terminal the size of ours.
pub(crate) fn take_size(terminal: BorrowedFd<'_>) {
    if let Ok(size) = tcgetwinsize(io::stdout()) {
        let _ = tcsetwinsize(terminal, size);
    }
}

/// Copies as it comes, until one side ends.
fn copy(from: &mut impl Read, to: &mut impl Write) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
