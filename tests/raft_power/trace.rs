//! The child's system calls, as strace recorded them: what was written where, what was synced, what was said.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One call that matters, in the order in which the calls began.
#[derive(Debug)]
pub struct Call {
    /// When it began, microseconds.
    pub began: u64,
    /// When it returned, microseconds.
    pub ended: u64,
    /// What it did.
    pub what: What,
}

/// What a call did.
#[derive(Debug)]
pub enum What {
    /// Bytes at an offset; none means at the file's end.
    Write(PathBuf, Option<u64>, Vec<u8>),
    /// A new length.
    SetLength(PathBuf, u64),
    /// A file's contents, or the names in a directory, are durable once this returns.
    Sync(PathBuf),
    /// A file was opened with O_CREAT; whether also with O_TRUNC.
    Create(PathBuf, bool),
    /// From, to.
    Rename(PathBuf, PathBuf),
    /// A file was removed.
    Remove(PathBuf),
    /// A line to the parent.
    Said(String),
}

impl What {
    /// In a few words, without the bytes.
    pub fn describe(&self) -> String {
        match self {
            What::Write(path, offset, bytes) => format!("write of {} to {path:?} at {offset:?}", bytes.len()),
            What::SetLength(..)
            | What::Sync(_)
            | What::Create(..)
            | What::Rename(..)
            | What::Remove(_)
            | What::Said(_) => format!("{self:?}"),
        }
    }
}

const CALLS: &str = "openat,pwrite64,write,fdatasync,fsync,ftruncate,rename,renameat,renameat2,unlink,unlinkat";

/// Whether strace is here and may trace.
pub fn available() -> Result<(), String> {
    let tried = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    let tried = tried.map_err(|e| format!("strace: {e} (Debian package strace)"))?;
    if tried.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&tried.stderr).into_owned()) }
}

/// Runs a command under strace and reads what it did to files below `dir`.
pub fn record(command: &Command, dir: &Path, scratch: &Path) -> Vec<Call> {
    let mut traced = Command::new("strace");
    traced.args(["-ff", "-y", "-xx", "-s", "16777216", "-ttt", "-T", "-e"]).arg(format!("trace={CALLS}"));
    traced.arg("-o").arg(scratch.join("calls")).arg(command.get_program()).args(command.get_args());
    traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    traced.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    assert!(traced.status().unwrap().success(), "the writer failed under strace");
    let mut calls = Vec::new();
    for file in std::fs::read_dir(scratch).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        calls.extend(text.lines().filter_map(|line| parse(line, dir)));
    }
    calls.sort_by_key(|call| call.began);
    calls
}

/// `1700000000.123456 name(args) = result <0.000123>`
fn parse(line: &str, dir: &Path) -> Option<Call> {
    let (time, rest) = line.split_once(' ')?;
    let (name, rest) = rest.split_once('(')?;
    let (args, result) = rest.rsplit_once(") = ")?;
    let (result, took) = result.rsplit_once(" <")?;
    let began = micros(time)?;
    let ended = began + micros(took.trim_end_matches('>'))?;
    let result: i64 = result.split(['<', ' ']).next()?.parse().ok()?;
    if result < 0 {
        return None;
    }
    let what = match name {
        "write" => written(args, None, result, dir),
        "pwrite64" => {
            let (head, offset) = args.rsplit_once(", ")?;
            written(head, Some(offset.parse().ok()?), result, dir)
        }
        "fdatasync" | "fsync" => Some(What::Sync(file_of(args, dir)?)),
        "ftruncate" => {
            let (fd, length) = args.split_once(", ")?;
            Some(What::SetLength(file_of(fd, dir)?, length.parse().ok()?))
        }
        "openat" if args.contains("O_CREAT") => {
            let path = strings(args).next().and_then(|bytes| String::from_utf8(bytes).ok())?;
            below(path.into(), dir).map(|path| What::Create(path, args.contains("O_TRUNC")))
        }
        "rename" | "renameat" | "renameat2" => {
            let mut paths = strings(args).filter_map(|bytes| String::from_utf8(bytes).ok());
            let (from, to) = (paths.next()?, paths.next()?);
            Some(What::Rename(below(from.into(), dir)?, below(to.into(), dir)?))
        }
        "unlink" | "unlinkat" => {
            let path = strings(args).next().and_then(|bytes| String::from_utf8(bytes).ok())?;
            Some(What::Remove(below(path.into(), dir)?))
        }
        _ => None,
    };
    Some(Call { began, ended, what: what? })
}

fn micros(seconds: &str) -> Option<u64> {
    let (whole, part) = seconds.split_once('.')?;
    Some(whole.parse::<u64>().ok()? * 1_000_000 + part.parse::<u64>().ok()?)
}

fn written(args: &str, offset: Option<u64>, result: i64, dir: &Path) -> Option<What> {
    let mut bytes = strings(args).next()?;
    bytes.truncate(usize::try_from(result).ok()?);
    if args.starts_with("1<") {
        return Some(What::Said(String::from_utf8(bytes).ok()?));
    }
    Some(What::Write(file_of(args, dir)?, offset, bytes))
}

/// The path that `-y` prints after a descriptor. It is not hexadecimal, or is, depending on strace's version.
fn file_of(args: &str, dir: &Path) -> Option<PathBuf> {
    let (_, rest) = args.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    let path = if path.starts_with("\\x") { String::from_utf8(unescape(path)).ok()? } else { path.to_owned() };
    below(path.into(), dir)
}

fn below(path: PathBuf, dir: &Path) -> Option<PathBuf> {
    path.strip_prefix(dir).ok().map(Path::to_path_buf)
}

/// The quoted strings among the arguments.
fn strings(args: &str) -> impl Iterator<Item = Vec<u8>> + '_ {
    args.split('"').skip(1).step_by(2).map(unescape)
}

fn unescape(hex: &str) -> Vec<u8> {
    hex.split("\\x").skip(1).filter_map(|pair| u8::from_str_radix(pair.get(..2)?, 16).ok()).collect()
}
