//! What processes hold and have written, by the kernel's word.

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

/// What a process has had written to disks, in bytes.
pub fn written(pid: i32) -> Result<u64> {
    field(pid, "io", "write_bytes:")
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
