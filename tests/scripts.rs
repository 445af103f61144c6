//! The scripts beside the tests, as far as they need nothing: what they say of themselves, and where they cannot work.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

/// The user `nobody`, who owns nothing.
const NOBODY: u32 = 65_534;

fn run(script: &str, arguments: &[&str]) -> Output {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(script)).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[test]
fn help_says_how_a_script_is_used_and_what_there_is() {
    let fuzz = run("tests/fuzz/run", &["--help"]);
    let wanted = ["[SECONDS PER TARGET] [TARGET...]", "60 s each", "cargo install cargo-fuzz", "datagram", "leash"];
    assert_eq!(fuzz.status.code(), Some(0));
    wanted.iter().for_each(|part| assert!(said(&fuzz).contains(part), "{part}: {}", said(&fuzz)));
    let guests = run("tests/guests/run", &["--help"]);
    let wanted = ["every guest", "ACCEL=tcg", "exits 77", "watchdog"];
    assert_eq!(guests.status.code(), Some(0));
    wanted.iter().for_each(|part| assert!(said(&guests).contains(part), "{part}: {}", said(&guests)));
}

#[test]
fn what_there_is_not_is_refused_with_what_there_is() {
    for (script, arguments) in
        [("tests/fuzz/run", &["5", "leash", "zzz"][..]), ("tests/fuzz/run", &["zzz"]), ("tests/guests/run", &["zzz"])]
    {
        let output = run(script, arguments);
        assert_eq!(output.status.code(), Some(2), "{script}");
        let known = if script.contains("fuzz") { "datagram" } else { "story" };
        assert!(said(&output).contains("'zzz'") && said(&output).contains(known), "{}", said(&output));
    }
}

#[test]
fn where_nothing_can_be_written_the_guests_are_skipped_with_the_reason() {
    let checkout = tempfile::tempdir().unwrap();
    let place = checkout.path().join("tests/guests");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests/run"), place.join("run")).unwrap();
    // Others may read it, and nobody but root may write.
    let readable = std::fs::Permissions::from_mode(0o555);
    std::fs::set_permissions(checkout.path(), readable).unwrap();
    let mut script = Command::new("bash");
    script.arg(place.join("run"));
    if nix::unistd::geteuid().is_root() {
        script.uid(NOBODY).gid(NOBODY);
    }
    let output = script.current_dir("/").output().unwrap();
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    assert!(said(&output).contains("cannot write"), "{}", said(&output));
}
