//! The CNI plugin `istio-cni`: a container runtime runs it for each new pod, last in the chain, and
//! the pod starts only if it agrees.
//!
//! It decides nothing. The node agent is asked about every pod, and a pod starts when the agent
//! says so: it is in the mesh, or does not belong into it. Without an agent no pod starts, apart
//! from those of excluded namespaces and the agent's own. What the plugins before it made is passed
//! on unchanged.
//!
//! It is one short run without threads or a runtime: [`call`] (what it is asked; pure) ·
//! [`ask`](mod@ask) (the agent's answer, within a deadline).

pub mod ask;
pub mod call;

use std::io::{Read, Write};
use std::process::ExitCode;

use chassis::env::{ProcessEnvironment, Strings};

use self::call::{Call, CniError, Command, Decision};

/// Longest configuration that a runtime gives. Usual ones have a few thousand bytes.
const INPUT_BYTES_MAX: u64 = 1 << 20;

/// Runs the plugin once, as a container runtime does.
pub fn main() -> ExitCode {
    let mut input = String::new();
    let read = std::io::stdin().lock().take(INPUT_BYTES_MAX).read_to_string(&mut input);
    let outcome = match read {
        Ok(_) => run(&ProcessEnvironment, &input),
        Err(error) => Err(CniError::io("cannot read the configuration from the standard input", &error)),
    };
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (error.text(call::version_of(&input).as_deref()), ExitCode::FAILURE),
    };
    // A runtime that does not read has no use for the answer, and takes our code.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    code
}

fn run(environment: &dyn Strings, input: &str) -> Result<String, CniError> {
    let command = Command::read(environment)?;
    let add = match command {
        Command::Version => return Ok(call::versions(input)),
        // What was done in a pod's namespace goes with it, and the agent looks after its own rules.
        Command::Del | Command::Check | Command::Status | Command::Gc => return Ok(String::new()),
        Command::Add(add) => add,
    };
    let call = Call::read(add, input)?;
    if let Decision::Ask(request) = call.decide()? {
        ask::ask(&call.socket(), &request)?;
    }
    Ok(call.result())
}
