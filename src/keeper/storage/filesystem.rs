//! Mounting a filesystem and unmounting it. It has stopped when it is unmounted *and* its device is free: a mount that
//! another namespace keeps, or a frozen filesystem, would go on being written.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::claims::Others;
use super::holders;
use crate::host::block;
use crate::host::mounts::{self, Mounted};
use crate::package::FilesystemResource;

/// Where the checkers are.
const CHECKERS: [&str; 2] = ["/sbin", "/usr/sbin"];
/// What fsck's exit code means from here on: errors are left.
const ERRORS_LEFT: i32 = 4;
/// What a checker has said that a message repeats, in characters.
const SAID_MAX_CHARS: usize = 300;

/// Mounts it.
///
/// # Errors
/// Why not, and what to do. Something of it may be left, for [`stop`] to undo.
pub fn start(filesystem: &FilesystemResource, others: &Others) -> Result<(), String> {
    let FilesystemResource { device, mount, .. } = filesystem;
    let named = |why: String| format!("{device} on {mount}: {why}");
    others.leave_device(device).and_then(|()| others.admit_place(mount))?;
    let path = Path::new(device);
    block::number(path).map_err(|e| named(absent(&e)))?;
    holders::device_is_free(path).map_err(|why| format!("{device}: {why}. It was not mounted"))?;
    let directory = directory(mount).map_err(&named)?;
    if filesystem.fsck {
        check(filesystem).map_err(&named)?;
    }
    share(&directory).map_err(|e| named(format!("its mount point cannot be shared: {}", e.desc())))?;
    mounts::mount_device(device, &directory, &filesystem.filesystem, &filesystem.options)
        .map_err(|errno| named(refusal(errno, filesystem)))
}

fn absent(e: &io::Error) -> String {
    match block::is_absence(e) {
        true => "there is no such device on this node; see lsblk".to_owned(),
        false => e.to_string(),
    }
}

/// The mount point, made if it is not there, with nothing mounted on it.
fn directory(mount: &str) -> Result<String, String> {
    fs::create_dir_all(mount).map_err(|e| format!("the mount point cannot be made: {e}"))?;
    let directory = fs::canonicalize(mount).map_err(|e| e.to_string())?.to_string_lossy().into_owned();
    let table = mounts::of_process(None).map_err(|e| e.to_string())?;
    match table.iter().rev().find(|mounted| mounted.point == directory) {
        None => Ok(directory),
        Some(there) => Err(format!(
            "{} is mounted there already; unmount it, and take it out of /etc/fstab if it stands there",
            there.source
        )),
    }
}

/// Makes sure that the mount reaches namespaces made later, and goes from them when it goes from here.
fn share(directory: &str) -> Result<(), Errno> {
    let table = mounts::of_process(None).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
    match mounts::covering(&table, directory) {
        Some(below) if below.is_shared => Ok(()),
        Some(_) | None => mounts::share(directory),
    }
}

/// Has the filesystem's own checker repair what can be repaired without asking. It dies with this process.
fn check(filesystem: &FilesystemResource) -> Result<(), String> {
    let name = format!("fsck.{}", filesystem.filesystem);
    let paths = CHECKERS.iter().map(|dir| PathBuf::from(dir).join(&name));
    let Some(checker) = paths.into_iter().find(|path| path.exists()) else {
        return Err(format!("there is no {name} on this node; install it, or write fsck = false"));
    };
    let mut command = Command::new(checker);
    command.args(["-p", &filesystem.device]).stdin(Stdio::null());
    // SAFETY: one system call, between fork and exec.
    unsafe { command.pre_exec(|| prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)) };
    let run = command.output().map_err(|e| format!("{name} cannot be run: {e}"))?;
    match run.status.code() {
        Some(code) if code < ERRORS_LEFT => Ok(()),
        code => {
            let said = [run.stdout, run.stderr].concat();
            let said: String = String::from_utf8_lossy(&said).chars().take(SAID_MAX_CHARS).collect();
            let ended = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
            let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
            Err(format!(
                "{name} ended with {ended} and left errors: {said}. Repair it by hand, then run the package again"
            ))
        }
    }
}

fn refusal(errno: Errno, filesystem: &FilesystemResource) -> String {
    let FilesystemResource { filesystem: word, options, .. } = filesystem;
    let remedy = match errno {
        Errno::ENODEV => format!("this kernel knows no filesystem '{word}'; see /proc/filesystems"),
        Errno::EINVAL => {
            format!("no {word} is on it, or it does not know one of its options ({}); see dmesg", options.join(","))
        }
        Errno::EBADE => "the LUN refuses this node's writes: a newer owner has it".to_owned(),
        Errno::EBUSY => "it is in use already".to_owned(),
        _ => "see the kernel's log (dmesg)".to_owned(),
    };
    format!("mount: {}; {remedy}", errno.desc())
}

/// Unmounts it, and whatever a start that was ended on its way has left. What another package had here first is never
/// touched: then this one has never been mounted.
///
/// # Errors
/// Who keeps it. Nothing was forced.
pub fn stop(filesystem: &FilesystemResource, others: &Others) -> Result<(), String> {
    let FilesystemResource { device, mount, .. } = filesystem;
    // Another node must not mount it either as long as that package has it here.
    others.leave_device(device)?;
    if others.leave_place(mount).is_ok() {
        take_away(device, mount)?;
    }
    holders::device_is_free(Path::new(device)).map_err(|why| format!("{device}, unmounted from {mount}: {why}"))
}

fn take_away(device: &str, mount: &str) -> Result<(), String> {
    let table = mounts::of_process(None).map_err(|e| e.to_string())?;
    let directory = fs::canonicalize(mount).map_or_else(|_| mount.to_owned(), |p| p.to_string_lossy().into_owned());
    let there = table.iter().filter(|mounted| mounted.point == directory);
    // The last is on top. Below it is at most what `share` has made.
    for mounted in there.rev() {
        let ours = is_of(mounted, device) || is_share(mounted, &table, &directory);
        if !ours {
            return Err(format!("{} is mounted over it at {mount}; unmount that first", mounted.source));
        }
        unmount(&directory)?;
    }
    Ok(())
}

fn unmount(directory: &str) -> Result<(), String> {
    let attempt = || match mounts::unmount(directory) {
        Err(Errno::EBUSY) => None,
        // Somebody else has unmounted it meanwhile.
        Ok(()) | Err(Errno::EINVAL) => Some(Ok(())),
        Err(errno) => Some(Err(errno)),
    };
    match holders::patiently(attempt) {
        Some(Ok(())) => Ok(()),
        Some(Err(errno)) => Err(format!("{directory} cannot be unmounted: {}; see dmesg", errno.desc())),
        None => {
            let who = holders::told(&holders::of_mount(directory));
            Err(format!("{directory} is in use and stays mounted{who}. End them"))
        }
    }
}

/// Whether a mount is of this device.
fn is_of(mounted: &Mounted, device: &str) -> bool {
    let path = Path::new(device);
    let same_node = || fs::canonicalize(path).is_ok_and(|node| node == Path::new(&mounted.source));
    mounted.source == device || block::number(path).is_ok_and(|number| number == mounted.device) || same_node()
}

/// Whether a mount is a directory bound onto itself.
fn is_share(mounted: &Mounted, table: &[Mounted], directory: &str) -> bool {
    let below: Vec<Mounted> = table.iter().filter(|other| other.point != directory).cloned().collect();
    mounted.is_shared && mounts::covering(&below, directory).is_some_and(|parent| parent.device == mounted.device)
}
