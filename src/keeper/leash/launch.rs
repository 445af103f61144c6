//! From init's fork to the program's exec: what an ordinary process starts with, and a precise word if it does not.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fork, pipe2, setgid, setgroups,
    setsid, setuid,
};

use super::fault::{ExecFault, ExecStep};
use super::process::os_error;
use super::wire::ExecRequest;
use crate::host::process::{close_on_exec_from, reset_signals};
use crate::host::sched;
use crate::resource::Credentials;

/// Where a command without a slash is looked for if its environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A failed step on its way out of the child: its number, then errno, little-endian.
const REPORT_BYTES: usize = 5;

/// A child between fork and exec.
pub struct Launch {
    /// The operation.
    pub op: u64,
    /// The child.
    pub pid: Pid,
    /// Closed by a successful exec; readable before that if a step failed.
    pipe: File,
    program: String,
    directory: String,
}

/// What the kernel wants to have, made before the fork.
struct Prepared {
    /// The executable, or where it may be, in order.
    candidates: Vec<CString>,
    argv: Vec<CString>,
    environment: Vec<CString>,
    directory: CString,
    credentials: Option<Credentials>,
}

/// Forks the child; [`Launch::settle`] tells how it went once [`Launch::pipe`] is readable.
pub fn launch(request: ExecRequest, stdio: &[OwnedFd]) -> Result<Launch, ExecFault> {
    let program = request.argv.first().cloned().unwrap_or_default();
    let directory = request.directory.clone();
    let op = request.op;
    let fault = |step: ExecStep, errno: Errno| ExecFault {
        program: program.clone(),
        directory: directory.clone(),
        step,
        errno: errno as i32,
    };
    let Some(prepared) = prepare(request) else { return Err(fault(ExecStep::Request, Errno::EINVAL)) };
    let [input, output, error] = stdio else { return Err(fault(ExecStep::Descriptors, Errno::EBADF)) };
    let (from_child, to_parent) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| fault(ExecStep::Fork, errno))?;
    // SAFETY: init has one thread, so that the child may do what any process may.
    match unsafe { fork() }.map_err(|errno| fault(ExecStep::Fork, errno))? {
        ForkResult::Child => {
            let Err((step, errno)) = become_program(&prepared, [input, output, error]);
            report(to_parent, step, errno)
        }
        ForkResult::Parent { child } => {
            drop(to_parent);
            Ok(Launch { op, pid: child, pipe: File::from(from_child), program, directory })
        }
    }
}

impl Launch {
    /// The descriptor to watch: readable once the exec has succeeded or something has failed.
    pub fn pipe(&self) -> impl AsFd + '_ {
        &self.pipe
    }

    /// How it went. Waits for the child if it is not that far yet.
    pub fn settle(mut self) -> Result<(), ExecFault> {
        let mut bytes = Vec::with_capacity(REPORT_BYTES);
        let read = self.pipe.read_to_end(&mut bytes);
        let (step, errno) = match (read, bytes.as_slice()) {
            (Ok(_), []) => return Ok(()),
            (Ok(_), [step, errno @ ..]) => {
                let step = ExecStep::ALL.get(usize::from(*step)).copied().unwrap_or(ExecStep::Exec);
                (step, errno.try_into().map_or(libc::EIO, i32::from_le_bytes))
            }
            (Err(e), _) => (ExecStep::Fork, os_error(e) as i32),
        };
        Err(ExecFault { program: self.program, directory: self.directory, step, errno })
    }
}

fn prepare(request: ExecRequest) -> Option<Prepared> {
    let path = request.environment.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let program = request.argv.first()?;
    let candidates = match program.contains('/') {
        true => vec![CString::new(program.as_str()).ok()?],
        false => path.split(':').map(|dir| CString::new(format!("{dir}/{program}")).ok()).collect::<Option<_>>()?,
    };
    let environment = request.environment.iter().map(|(key, value)| {
        let proper = !key.is_empty() && !key.contains('=');
        proper.then(|| CString::new(format!("{key}={value}")).ok()).flatten()
    });
    Some(Prepared {
        candidates,
        environment: environment.collect::<Option<_>>()?,
        argv: request.argv.iter().map(|word| CString::new(word.as_str()).ok()).collect::<Option<_>>()?,
        directory: CString::new(request.directory).ok()?,
        credentials: request.credentials,
    })
}

/// In the child: every step to the program, the privileged ones before the user changes.
fn become_program(prepared: &Prepared, stdio: [&OwnedFd; 3]) -> Result<Infallible, (ExecStep, Errno)> {
    let at = |step| move |errno| (step, errno);
    setsid().map_err(at(ExecStep::Reset))?;
    reset_signals().map_err(at(ExecStep::Reset))?;
    sched::reset_for_program().map_err(at(ExecStep::Reset))?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let [input, output, error] = stdio;
    dup2_stdin(input).map_err(at(ExecStep::Descriptors))?;
    dup2_stdout(output).map_err(at(ExecStep::Descriptors))?;
    dup2_stderr(error).map_err(at(ExecStep::Descriptors))?;
    close_on_exec_from(3).map_err(at(ExecStep::Descriptors))?;
    if let Some(credentials) = &prepared.credentials {
        let groups: Vec<Gid> = credentials.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        setgroups(&groups).map_err(at(ExecStep::Groups))?;
        setgid(Gid::from_raw(credentials.gid)).map_err(at(ExecStep::Group))?;
        setuid(Uid::from_raw(credentials.uid)).map_err(at(ExecStep::User))?;
    }
    // As the user, so that a directory it may not enter is found now and not by the program.
    chdir(prepared.directory.as_c_str()).map_err(at(ExecStep::Directory))?;
    Err((ExecStep::Exec, exec(&prepared.candidates, &prepared.argv, &prepared.environment)))
}

/// Tries each candidate as a shell does: "not found" goes on to the next, "not allowed" is remembered.
fn exec(candidates: &[CString], argv: &[CString], environment: &[CString]) -> Errno {
    let mut worst = Errno::ENOENT;
    for candidate in candidates {
        let Err(errno) = execve::<&CStr, &CStr>(candidate, &refs(argv), &refs(environment));
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => worst = errno,
            other => return other,
        }
    }
    worst
}

fn refs(strings: &[CString]) -> Vec<&CStr> {
    strings.iter().map(CString::as_c_str).collect()
}

fn report(to_parent: OwnedFd, step: ExecStep, errno: Errno) -> ! {
    let number = ExecStep::ALL.iter().position(|known| *known == step).unwrap_or(ExecStep::ALL.len());
    let mut bytes = [u8::try_from(number).unwrap_or(u8::MAX), 0, 0, 0, 0];
    bytes[1..].copy_from_slice(&(errno as i32).to_le_bytes());
    // Init reads an empty report as success only from a closed pipe of a running child; it sees this exit as well.
    let _ = File::from(to_parent).write_all(&bytes);
    // SAFETY: ends the process without running what belongs to init.
    unsafe { libc::_exit(127) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn request(argv: &[&str], environment: &[(&str, &str)]) -> ExecRequest {
        ExecRequest {
            op: 1,
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            environment: environment
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            credentials: None,
            directory: "/".to_owned(),
        }
    }

    #[test]
    fn a_command_without_a_slash_is_looked_for_in_its_own_path() {
        let prepared = prepare(request(&["x"], &[("PATH", "/a:/b")])).unwrap();
        assert_eq!(prepared.candidates, [c"/a/x".to_owned(), c"/b/x".to_owned()]);
        let prepared = prepare(request(&["./x"], &[("PATH", "/a:/b")])).unwrap();
        assert_eq!(prepared.candidates, [c"./x".to_owned()]);
    }

    #[test]
    fn what_the_kernel_could_not_take_is_refused_before_the_fork() {
        assert!(prepare(request(&[], &[])).is_none());
        assert!(prepare(request(&["a\0b"], &[])).is_none());
        assert!(prepare(request(&["a"], &[("B=C", "d")])).is_none());
        assert!(prepare(request(&["a"], &[("", "d")])).is_none());
    }
}
