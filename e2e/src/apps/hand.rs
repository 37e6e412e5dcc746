//! A hand inside a pod: runs the commands that it is told, one line each, and says how each ended. On a cluster a
//! process that enters a pod costs a fifth of a second of a core, and scenarios run thousands of commands.

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::{
    io::{BufRead, Write},
    process::{Command, Stdio},
};

/// What a shell says of a program that is not there.
const NOT_FOUND: i32 = 127;

/// How a command ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Done {
    /// Its exit code; 128 + signal if it was killed.
    pub code: i32,
    /// What it printed, in base64.
    pub stdout: String,
    /// What it complained about, in base64.
    pub stderr: String,
}

impl Done {
    /// What it printed, and what it complained about.
    pub fn bytes(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let read = |text: &str| STANDARD.decode(text).context("what a command printed is base64");
        Ok((read(&self.stdout)?, read(&self.stderr)?))
    }
}

/// Obeys until nobody speaks any more.
pub fn run() -> Result<()> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let argv: Vec<String> = serde_json::from_str(&line?).context("a command is a list of words")?;
        serde_json::to_writer(&mut out, &done(&argv))?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

fn done(argv: &[String]) -> Done {
    use std::os::unix::process::ExitStatusExt;
    let (program, arguments) = argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(ended) => Done {
            code: ended.status.code().unwrap_or_else(|| 128 + ended.status.signal().unwrap_or(0)),
            stdout: STANDARD.encode(ended.stdout),
            stderr: STANDARD.encode(ended.stderr),
        },
        Err(error) => {
            Done { code: NOT_FOUND, stdout: String::new(), stderr: STANDARD.encode(format!("{program}: {error}")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_does_is_told() {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let told = done(&argv(&["sh", "-c", "printf a; printf b >&2; exit 3"]));
        assert_eq!((told.code, told.bytes().unwrap()), (3, (b"a".to_vec(), b"b".to_vec())));
        assert_eq!(done(&argv(&["no-such-program"])).code, NOT_FOUND);
        assert_eq!(done(&argv(&["sh", "-c", "kill -9 $$"])).code, 137);
    }
}
