//! Entry point of all that runs on a node: the proxy, the agent and the CNI plugin are one program,
//! so that one image and one file on the node are enough.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let called = args.first().and_then(|path| Path::new(path).file_name()).and_then(|name| name.to_str());
    let word = args.get(1).and_then(|word| word.to_str());
    match (called, word) {
        // As the container runtime calls it, without arguments.
        (Some("istio-cni"), _) | (_, Some("cni-plugin")) => ztunnel::cni_plugin::main(),
        (Some("install-cni"), _) => ztunnel::agent::install_cni(args),
        (_, Some("install-cni")) => ztunnel::agent::install_cni(args.into_iter().skip(1)),
        (_, Some("agent")) => ztunnel::agent::main(args.into_iter().skip(1)),
        // `proxy ztunnel`, as Istio's charts say, or nothing.
        _ => ztunnel::main(args),
    }
}
