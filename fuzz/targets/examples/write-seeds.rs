//! Writes what each target begins with to `fuzz/seeds/`, where the fuzzer and the smoke test look.
//! Files that are there already stay: they may be inputs that once broke something.
#![allow(clippy::unwrap_used, reason = "a tool for those who work on the targets")]

use std::{fs, path::Path};

fn main() {
    for target in fuzz_targets::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds").join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in (target.seeds)().iter().enumerate() {
            let file = folder.join(format!("{number:02}"));
            if !file.exists() {
                fs::write(file, seed).unwrap();
            }
        }
    }
}
