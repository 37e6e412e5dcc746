//! Every target survives its seeds and a few thousand mutations of them. Not a search for faults,
//! which is the fuzzer's, but a watch that none comes back, on every commit and on stable.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use fuzz_targets::{TARGETS, Target};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

const MUTATIONS: usize = 3_000;
/// A target may not take longer in all; a slow one does fewer mutations, and at least its seeds.
const TIME: Duration = Duration::from_secs(6);
/// One input of a few kilobytes that takes longer is an attack, even unoptimised.
const INPUT_TIME: Duration = Duration::from_secs(5);

/// xorshift64*: the same numbers on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let mut seeds = (target.seeds)();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seeds").join(target.name);
    let mut files: Vec<_> = folder.read_dir().into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(
        !files.is_empty(),
        "no seeds in {}: run `cargo run -p fuzz-targets --example write-seeds`",
        folder.display()
    );
    seeds.extend(files.into_iter().map(|file| std::fs::read(file).unwrap()));
    seeds
}

fn mutate(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    const TELLING: [&[u8]; 8] =
        [b"\0", b"\xff\xff\xff\xff", b"\x80", b"%", b"\n", b"-1", b"\xc3\x28", b"9999999999999999999"];
    let mut input = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len() + 1);
        let until = (at + dice.below(16)).min(input.len());
        match dice.below(7) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 if at < input.len() => input[at] = dice.below(256) as u8,
            2 => input.truncate(at),
            3 => drop(input.drain(at..until)),
            4 => drop(input.splice(at..at, TELLING[dice.below(TELLING.len())].iter().copied())),
            5 => {
                let again = input[at..until].to_vec();
                drop(input.splice(at..at, again));
            }
            _ => {
                let other = &seeds[dice.below(seeds.len())];
                input.truncate(at);
                input.extend(&other[dice.below(other.len() + 1)..]);
            }
        }
    }
    input
}

fn survive(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = seeds(target);
    let mut dice = Dice(0x6d65_7368);
    let begun = Instant::now();
    let mutations = std::iter::repeat_with(|| mutate(&seeds, &mut dice)).take(MUTATIONS);
    for input in seeds.clone().into_iter().chain(mutations) {
        let fed = Instant::now();
        let survived = catch_unwind(AssertUnwindSafe(|| (target.run)(&input)));
        assert!(survived.is_ok(), "{name} does not survive {}", input.escape_ascii());
        assert!(fed.elapsed() < INPUT_TIME, "{name} takes {:?} for {}", fed.elapsed(), input.escape_ascii());
        if begun.elapsed() > TIME {
            break;
        }
    }
}

macro_rules! smoke {
    ($($name:ident)*) => {
        $(#[test] fn $name() { survive(stringify!($name)); })*

        #[test]
        fn every_target_is_tried_and_has_a_fuzzer() {
            let tried = [$(stringify!($name)),*];
            let fuzzers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
            for target in TARGETS {
                assert!(tried.contains(&target.name), "{} is missing in this file", target.name);
                assert!(fuzzers.join(format!("{}.rs", target.name)).exists(), "{} has no fuzzer", target.name);
            }
        }
    };
}

smoke! {
    hbone_head hbone_server hbone_client hbone_engine xds_response xds_request zds socks5 local_state cni dns_query dns_answer resolv_conf
    certificate_chain certificate_request token identity objects
    request_target request_head request_token first_bytes key_set expression
}
