//! Hands inside pods: in each pod where a scenario runs commands one `e2e app hand` waits for them, so that a command is
//! a line on a pipe, and not a process that enters the pod each time.

use super::{cluster::Cluster, manifest::E2E, play::apart, process::Ended};
use crate::apps::hand::Done;
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Stdio},
    sync::{Mutex, mpsc},
    time::Duration,
};

/// A hand is there as soon as a command would be.
const THERE_DEADLINE: Duration = Duration::from_secs(20);

/// Those that wait, by pod.
#[derive(Debug, Default)]
pub(super) struct Hands(Mutex<BTreeMap<String, Hand>>);

#[derive(Debug)]
struct Hand {
    child: Child,
    stdin: ChildStdin,
    answers: mpsc::Receiver<String>,
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Hand {
    fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    fn run(&mut self, argv: &[&str], deadline: Duration) -> Result<Ended> {
        let line = serde_json::to_string(argv)? + "\n";
        self.stdin.write_all(line.as_bytes()).context("the pod is gone")?;
        let answer = match self.answers.recv_timeout(deadline) {
            Ok(answer) => answer,
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("did not end within {} s", deadline.as_secs()),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the pod went while it ran"),
        };
        let done: Done = serde_json::from_str(&answer).context("a hand says how a command ended")?;
        let (stdout, stderr) = done.bytes()?;
        Ok(Ended { code: done.code, stdout, stderr })
    }
}

impl Cluster {
    /// Runs a command in a pod by the hand in it; `None` where there can be none, for want of the program.
    pub(super) fn by_hand(&self, pod: &str, argv: &[&str], deadline: Duration) -> Result<Option<Ended>> {
        let mut hands = self.hands().0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut hand = match hands.remove(pod).and_then(|mut hand| hand.alive().then_some(hand)) {
            Some(hand) => hand,
            None => match self.hand(pod)? {
                Some(hand) => hand,
                None => return Ok(None),
            },
        };
        // One that failed is not asked again: it may still be busy.
        let ended = hand.run(argv, deadline).with_context(|| format!("`{}` in {pod}", argv.join(" ")))?;
        hands.insert(pod.to_owned(), hand);
        Ok(Some(ended))
    }

    fn hand(&self, pod: &str) -> Result<Option<Hand>> {
        let (namespace, name) = apart(pod)?;
        let mut command =
            self.kubectl_command(&["exec", "--stdin", "--namespace", namespace, name, "--", E2E, "app", "hand"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("kubectl does not start")?;
        let stdin = child.stdin.take().context("its standard input is a pipe")?;
        let stdout = child.stdout.take().context("its standard output is a pipe")?;
        let (says, answers) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            for line in lines {
                if says.send(line).is_err() {
                    return;
                }
            }
        });
        let mut hand = Hand { child, stdin, answers };
        Ok(hand.run(&["true"], THERE_DEADLINE).is_ok().then_some(hand))
    }
}
