//! What processes hold, and what their disk was given to write, by the kernel's word.

use std::path::Path;

use anyhow::{Context, Result};

/// Memory and disk of one node, the largest of three.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Figures {
    /// Resident memory, in bytes.
    pub rss: u64,
    /// Bytes that its files take.
    pub disk: u64,
}

/// A process's resident memory, in bytes.
pub fn rss(pid: i32) -> Result<u64> {
    field(pid, "status", "VmRSS:").map(|kib| kib * 1024)
}

/// What the disk below a directory has been given to write since the machine's start, in bytes; none where the file system
/// is on no disk of its own. Everything on it counts. (What the kernel says of a process counts each touch of a page cache's
/// folio as all of it.)
pub fn written(dir: &Path) -> Option<u64> {
    nix::unistd::sync();
    let disk = nix::sys::stat::stat(dir).ok()?.st_dev;
    let numbers = [nix::sys::stat::major(disk).to_string(), nix::sys::stat::minor(disk).to_string()];
    let all = std::fs::read_to_string("/proc/diskstats").ok()?;
    let mut disks = all.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let fields = disks.find(|fields| fields.iter().take(2).eq(&numbers))?;
    fields.get(9)?.parse::<u64>().ok().map(|sectors| sectors * 512)
}

fn field(pid: i32, file: &str, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("{path} has no {name}"))?;
    line.split_whitespace().next().unwrap_or_default().parse().with_context(|| format!("{path}: {line}"))
}

/// What the files below a directory take on disk, in bytes.
pub fn disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => disk(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
