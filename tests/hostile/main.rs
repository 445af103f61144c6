//! Hostile input without a fuzzer: every reader of bytes from outside is fed well-formed inputs, the kept ones of
//! `corpus/`, and what a seeded mutation loop makes of both. `tests/fuzz` has the same readers under cargo-fuzz.
//!
//! `PKGCTL_HOSTILE_ROUNDS=N` mutates N times instead of [`ROUNDS`] per input.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

mod inputs;
mod mutation;

use inputs::{ALL, Input, named};
use mutation::Mutation;

const ROUNDS: u64 = 3000;

fn corpus(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/corpus").join(name)
}

/// The kept inputs of a reader, each with its file's name.
fn kept(name: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(found) = std::fs::read_dir(corpus(name)) else { return Vec::new() };
    let files = found.map(|entry| entry.unwrap().path());
    let mut kept: Vec<_> = files.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect();
    kept.sort();
    kept
}

/// Runs one input and says whether it was understood; on a failure, which bytes they were.
fn feed(input: &Input, what: &str, bytes: &[u8]) -> bool {
    catch_unwind(AssertUnwindSafe(|| (input.run)(bytes))).unwrap_or_else(|panic| {
        eprintln!("{}: {what} failed on {}", input.name, bytes.escape_ascii());
        std::panic::resume_unwind(panic)
    })
}

fn stand(name: &str) {
    let input = named(name);
    let seeds = (input.seeds)().into_iter().enumerate().map(|(at, seed)| (format!("seed {at}"), seed));
    let known: Vec<_> = seeds.chain(kept(name)).collect();
    let understood = known.iter().filter(|(what, bytes)| feed(input, what, bytes)).count();
    eprintln!("{name}: {understood} of {} known inputs are understood", known.len());
    assert!(4 * understood >= known.len().max(1), "only {understood} of {} were understood at all", known.len());
    let known = known.into_iter().map(|(_, bytes)| bytes).collect();
    let rounds = std::env::var("PKGCTL_HOSTILE_ROUNDS").map_or(ROUNDS, |given| given.parse().unwrap());
    let mut mutation = Mutation::new(known);
    for round in 0..rounds {
        let bytes = mutation.next();
        feed(input, &format!("round {round}"), &bytes);
    }
}

macro_rules! inputs {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            stand($name);
        })*

        const TESTED: &[&str] = &[$($name),*];
    };
}

inputs! {
    any_datagram_is_borne: "datagram",
    any_frame_and_message_is_borne_by_the_keeper: "keeper",
    any_packet_is_borne_by_a_leash: "leash",
    any_call_of_a_member_is_borne: "peer",
    any_word_of_a_joiner_is_borne: "join",
    any_word_of_a_stranger_without_the_secret_is_borne: "introduction",
    any_token_is_borne: "token",
    any_certificate_and_request_is_borne: "certificate",
    any_bytes_are_borne_by_the_api: "http",
    any_request_is_borne_by_the_api: "request",
    any_package_file_is_read_or_refused_with_its_places: "package",
    any_configuration_is_read_or_refused_with_its_places: "config",
    any_command_leaves_the_state_consistent: "command",
    any_record_is_borne: "record",
    any_snapshot_is_borne: "snapshot",
    any_damage_of_a_store_is_refused_or_changes_nothing: "store",
    any_word_of_the_kernel_is_borne: "netlink",
    any_frame_of_a_neighbour_is_borne: "neighbour",
}

#[test]
fn every_input_is_a_test_here_and_a_fuzz_target() {
    let names: Vec<&str> = ALL.iter().map(|input| input.name).collect();
    assert_eq!(TESTED, names);
    let manifest = include_str!("../fuzz/Cargo.toml");
    let manifest: toml::Table = manifest.parse().unwrap();
    let targets = manifest["bin"].as_array().unwrap().iter().map(|bin| bin["name"].as_str().unwrap());
    assert_eq!(targets.collect::<Vec<_>>(), names, "tests/fuzz/Cargo.toml");
}

#[test]
fn kept_inputs_belong_to_an_input_and_are_small() {
    const BYTES_MAX: usize = 4 << 10;
    for folder in std::fs::read_dir(corpus("")).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(ALL.iter().any(|input| input.name == name), "corpus/{name} belongs to nothing");
        for (file, bytes) in kept(&name) {
            assert!(bytes.len() <= BYTES_MAX, "{file} has {} bytes", bytes.len());
        }
    }
}

/// `tests/fuzz/run` begins with these; not a test.
#[test]
#[ignore = "writes the seeds to PKGCTL_SEEDS, for tests/fuzz/run"]
fn write_the_seeds() {
    let to = PathBuf::from(std::env::var("PKGCTL_SEEDS").expect("PKGCTL_SEEDS names a directory"));
    for input in ALL {
        let folder = to.join(input.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (at, seed) in (input.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{at}")), seed).unwrap();
        }
    }
}
