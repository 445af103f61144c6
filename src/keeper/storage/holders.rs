//! Who keeps a filesystem from being unmounted, or a device from being free: named, so that somebody can end it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollTimeout, poll};

use crate::host::block::{self, DeviceNumber};
use crate::host::mounts;

/// Holders that a message names; of the rest it says how many.
const NAMED_MAX: usize = 8;
/// How often it is looked again whether a device has become free: the kernel lets go of a mount a little after the
/// last process in its namespace is gone.
const LOOKS_MAX: u32 = 50;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Tries again and again, for a second, what others are about to let go of. `None` says: not yet.
pub fn patiently<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..LOOKS_MAX {
        if let Some(done) = attempt() {
            return Some(done);
        }
        // Nothing to be woken by: the kernel tells nobody when it lets go.
        let _ = poll(&mut [], PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::ZERO));
    }
    attempt()
}

/// Makes sure that nothing on this node claims a device.
///
/// # Errors
/// Who does, or what the system says.
pub fn device_is_free(path: &Path) -> Result<(), String> {
    let look = || match block::is_free(path) {
        Ok(false) => None,
        Ok(true) => Some(Ok(())),
        Err(e) => Some(Err(e)),
    };
    match patiently(look) {
        Some(Ok(())) => Ok(()),
        Some(Err(e)) if block::is_absence(&e) => Ok(()),
        Some(Err(e)) => Err(e.to_string()),
        None => Err(format!("it is in use on this node{}", told(&of_device(path)))),
    }
}

/// Who uses what is mounted at a point: processes, files of it that are devices, mounts below it.
pub fn of_mount(point: &str) -> Vec<String> {
    let mut found: Vec<String> = processes().filter_map(|process| process.uses(Path::new(point))).collect();
    let below = mounts::of_process(None).unwrap_or_default();
    let below = below.iter().filter(|m| m.point != point && Path::new(&m.point).starts_with(point));
    found.extend(below.map(|m| format!("a mount at {}", m.point)));
    found.extend(block::loops_below(point).into_iter().map(|(device, file)| format!("{device}, made of {file}")));
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    let files = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    found.extend(files.filter(|file| Path::new(file).starts_with(point)).map(|file| format!("swap on {file}")));
    found
}

/// Who claims a device: mounts of it in any namespace, devices stacked on it, processes that have it open.
pub fn of_device(path: &Path) -> Vec<String> {
    let Ok(number) = block::number(path) else { return Vec::new() };
    let mut found = mounts_of(number);
    found.extend(block::stacked_on(number).into_iter().map(|name| format!("{name}, stacked on it")));
    let node = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    found.extend(processes().filter_map(|process| process.has_open(&node)));
    if found.is_empty() {
        found.push(
            "the kernel itself, although nothing on this node is seen to use it: a filesystem that is frozen (mount it \
             again and thaw it: fsfreeze -u), an export, or a process in a container"
                .to_owned(),
        );
    }
    found
}

/// The end of a sentence that says who: `: A; B`, or nothing.
pub fn told(holders: &[String]) -> String {
    let mut words: Vec<String> = holders.iter().take(NAMED_MAX).cloned().collect();
    if holders.len() > NAMED_MAX {
        words.push(format!("{} more", holders.len() - NAMED_MAX));
    }
    if words.is_empty() { String::new() } else { format!(": {}", words.join("; ")) }
}

/// Every mount namespace once, through some process in it.
fn mounts_of(number: DeviceNumber) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for process in processes() {
        let Some(namespace) = process.link("ns/mnt") else { continue };
        if !seen.insert(namespace) {
            continue;
        }
        let table = mounts::of_process(Some(process.pid)).unwrap_or_default();
        let mounted = table.into_iter().filter(|m| m.device == number);
        found.extend(mounted.map(|m| format!("mounted at {} as {} sees it", m.point, process.name())));
    }
    found
}

struct Process {
    pid: i32,
}

fn processes() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(|pid| Process { pid })
}

impl Process {
    /// Where a link in its directory of /proc leads; nothing is opened or asked of the filesystem itself, which may hang.
    fn link(&self, name: &str) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/{name}", self.pid)).ok()
    }

    fn name(&self) -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        format!("process {} ({})", self.pid, name.trim_end())
    }

    fn descriptors(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid)).into_iter().flatten().flatten();
        entries.filter_map(|entry| fs::read_link(entry.path()).ok())
    }

    /// What it has there, if anything.
    fn uses(&self, point: &Path) -> Option<String> {
        let on = |path: Option<PathBuf>| path.is_some_and(|path| path.starts_with(point));
        let what = if on(self.link("cwd")) {
            "has its working directory there"
        } else if on(self.link("root")) {
            "has its root there"
        } else if on(self.link("exe")) {
            "is run from there"
        } else if self.descriptors().any(|path| path.starts_with(point)) {
            "has a file open there"
        } else if self.maps(point).unwrap_or(false) {
            "has a file of it in its memory"
        } else {
            return None;
        };
        Some(format!("{} {what}", self.name()))
    }

    fn maps(&self, point: &Path) -> io::Result<bool> {
        let maps = fs::read(format!("/proc/{}/maps", self.pid))?;
        let paths = String::from_utf8_lossy(&maps).into_owned();
        Ok(paths
            .lines()
            .filter_map(|line| line.find('/').map(|at| &line[at..]))
            .any(|p| Path::new(p).starts_with(point)))
    }

    fn has_open(&self, node: &Path) -> Option<String> {
        let is_self = u32::try_from(self.pid).is_ok_and(|pid| pid == std::process::id());
        let has = !is_self && self.descriptors().any(|path| path == node);
        has.then(|| format!("{} has it open", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_with_what_it_has_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(dir.path()).unwrap();
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").current_dir(&path).spawn().unwrap();
        let found = of_mount(path.to_str().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = format!("process {} (sleep) has its working directory there", child.id());
        assert!(found.contains(&expected), "{found:?}");
        let _open = fs::File::create(path.join("x")).unwrap();
        assert!(of_mount(path.to_str().unwrap()).iter().any(|who| who.contains("has a file open there")));
    }

    #[test]
    fn many_holders_are_counted() {
        assert_eq!(told(&[]), "");
        let many: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(told(&many), ": 0; 1; 2; 3; 4; 5; 6; 7; 2 more");
    }
}
