//! The `pkgctl` binary: arguments, logging, dispatch, exit codes.

fn main() {}
