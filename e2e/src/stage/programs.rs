//! The programs that scenarios need on this machine.

use anyhow::{Context, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Builds `meshctl` with the profile this program was built with, and says where it is.
pub fn meshctl() -> Result<PathBuf> {
    let this = this_program()?;
    let folder = this.parent().context("a program is in a folder")?;
    let meshctl = folder.join("meshctl");
    if let Some(cargo) = option_env!("CARGO") {
        let mut build = Command::new(cargo);
        // Both packages, into the folder this program came from: the same features, so nothing is built twice.
        build.args(["build", "--quiet", "-p", "meshctl", "-p", "e2e"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        build.arg("--target-dir").arg(folder.parent().context("a target folder has profiles in it")?);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        ensure!(build.status().context("cargo does not start")?.success(), "meshctl does not build");
    }
    ensure!(meshctl.exists(), "{} is missing: build it with `cargo build -p meshctl`", meshctl.display());
    Ok(meshctl)
}

/// Builds a program with one of cargo's profiles, beside whatever this program was built with, and says where it is.
/// `what` is what cargo is asked for, `path` where it puts it.
pub fn built(profile: &str, what: &[&str], path: &str) -> Result<PathBuf> {
    let this = this_program()?;
    let target = this.ancestors().nth(2).context("a target folder has profiles in it")?;
    let program = target.join(if profile == "dev" { "debug" } else { profile }).join(path);
    if let Some(cargo) = option_env!("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--profile", profile]).args(what).arg("--target-dir").arg(target);
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().context("cargo does not start")?;
        ensure!(built.success(), "{} does not build with the profile {profile}", what.join(" "));
    }
    ensure!(
        program.exists(),
        "{} is missing: build it with `cargo build --profile {profile} {}`",
        program.display(),
        what.join(" ")
    );
    Ok(program)
}

/// The path of this program as it was at first: the build below may replace the file.
pub(super) fn this_program() -> Result<&'static Path> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    let first = std::env::current_exe()?;
    Ok(PATH.get_or_init(|| first))
}

/// Fails with the program's name if it is not installed.
pub fn require(program: &str) -> Result<()> {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status()?;
    ensure!(found.success(), "the program `{program}` is needed and is not installed (.ci/run installs it)");
    Ok(())
}
