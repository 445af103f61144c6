//! The `pkgctl` binary: arguments, logging, dispatch, exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

/// A process of ours that no operator starts: chosen by the first argument, before the command line is parsed.
type Inner = (&'static str, fn(&[OsString]) -> ExitCode);

const INNER: &[Inner] = &[("leash", pkgctl::keeper::leash::run)];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let inner = arguments.first().and_then(|first| INNER.iter().find(|(name, _)| first == name));
    match inner {
        Some((_, run)) => run(&arguments[1..]),
        None => ExitCode::from(2),
    }
}
