//! The `pkgctl` binary: arguments, logging, dispatch, exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

use pkgctl::cli::args::{Args, Node, Verb};
use pkgctl::{cli, keeper, lab, service};

/// What one hidden role does with the arguments after its name.
type Role = fn(&[OsString]) -> ExitCode;

/// Roles of the binary that no person types: processes that pkgctl starts for itself. They come before all parsing for
/// people, because they must start fast and their arguments are nobody's interface.
const ROLES: &[(&str, Role)] = &[
    ("leash", keeper::leash::run),
    ("storage", keeper::storage::role::run),
    ("keeper", keeper::daemon::command::main),
    ("lab-bed", |words| lab::bed_main(&texts(words))),
    ("lab-init", |words| lab::init_main(&texts(words))),
    ("lab-enter", |words| lab::enter_main(&texts(words))),
    ("lab-observe", |words| lab::observe_main(&texts(words))),
    ("lab-unleased", |words| lab::unleased_main(&texts(words))),
    ("demo-program", |words| lab::program_main(&texts(words))),
];

fn texts(words: &[OsString]) -> Vec<String> {
    words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let [role, rest @ ..] = arguments.as_slice()
        && let Some((_, run)) = ROLES.iter().find(|(name, _)| role == name)
    {
        return run(rest);
    }
    let args = match cli::parse(cli::alias::spelled_out(std::env::args_os())) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match &args.verb {
        Verb::Agent(verb) => service::run(&args, verb),
        Verb::Serve(verb) => service::home::run(&args, verb),
        Verb::FirstBoot(verb) => service::home::first_boot(&args, verb),
        Verb::Node(Node::Start) => service::home::start(&args),
        Verb::Node(Node::Stop) => service::home::stop(&args),
        Verb::Demo(verb) => lab::demo::run(verb, args.json),
        _ => talk(args),
    }
}

/// A verb for an agent; one thread is enough.
fn talk(args: Args) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(cli::run_verb(args)),
        Err(error) => {
            eprintln!("pkgctl: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
