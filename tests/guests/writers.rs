//! Processes that write, each in its own way, and keep a record of what they were told: the package's program, and two
//! that nothing ends with the lease.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{Result, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use pkgctl::lab::{Lab, Process, wait_until};

use crate::disk::Disk;

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(5);
/// The block that `raw` writes, past the end of the filesystem that [`FILESYSTEM_BLOCKS`] leaves room behind.
pub const RAW_BLOCK: u64 = FILESYSTEM_BLOCKS + 16;
/// How large the filesystem is, in blocks of the disk.
pub const FILESYSTEM_BLOCKS: u64 = 12 << 10;

/// A record: one line for each write, on the machine's own memory.
struct Record(File);

impl Record {
    fn append(path: &str) -> Self {
        Self(OpenOptions::new().append(true).create(true).open(path).unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    fn line(&mut self, text: impl Display) {
        self.0.write_all(format!("{text}\n").as_bytes()).expect("write the record");
    }
}

/// What the binary does as one of the writers.
pub fn main(words: &[&str]) -> ExitCode {
    match words {
        ["program", file, record] => program(Path::new(file), record),
        ["raw", device, record] => {
            let disk = Disk::open(Path::new(device));
            rogue(record, |number| disk.write(RAW_BLOCK, number))
        }
        ["file", file, record] => {
            let open = OpenOptions::new().append(true).create(true).open(file);
            let mut file = open.unwrap_or_else(|e| panic!("{file}: {e}"));
            rogue(record, |number| write_synced(&mut file, &format!("{number}\n")))
        }
        _ => {
            eprintln!("no writer: {words:?}");
            ExitCode::FAILURE
        }
    }
}

fn write_synced(file: &mut File, line: &str) -> Result<()> {
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

fn pause() {
    let _ = wait_until(PAUSE, || None::<()>);
}

/// The package's program: appends `TOKEN NUMBER` to the file, counting on from what is there, and records each line once
/// it is on the disk. The first error ends it.
fn program(path: &Path, record: &str) -> ExitCode {
    let token = std::env::var("PKG_TOKEN").expect("a token");
    let before = fs::read_to_string(path).unwrap_or_default();
    let last = before.lines().last().and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("the file");
    let mut record = Record::append(record);
    for number in last + 1.. {
        let line = format!("{token} {number}");
        if let Err(e) = write_synced(&mut file, &format!("{line}\n")) {
            eprintln!("line {number}: {e}");
            return ExitCode::FAILURE;
        }
        record.line(line);
        pause();
    }
    ExitCode::SUCCESS
}

/// Writes number after number, whatever it is told, and records each: `ok NUMBER` or `error ERRNO NUMBER`.
fn rogue(record: &str, mut write: impl FnMut(u64) -> Result<()>) -> ExitCode {
    let mut record = Record::append(record);
    for number in 1.. {
        match write(number) {
            Ok(()) => record.line(format_args!("ok {number}")),
            Err(e) => record.line(format_args!("error {} {number}", e.raw_os_error().unwrap_or(0))),
        }
        pause();
    }
    ExitCode::SUCCESS
}

/// A writer on a node that belongs to no package.
pub struct Rogue {
    child: Child,
    record: PathBuf,
    kind: &'static str,
}

impl Rogue {
    /// Starts one on a node; returns once it has written.
    pub fn start(lab: &Lab, node: &str, kind: &'static str, target: &str) -> Self {
        let record = lab.scratch().join(format!("{kind}.record"));
        // That of an earlier one.
        let _ = fs::remove_file(&record);
        let own = std::env::current_exe().unwrap();
        let words = [own.to_str().unwrap(), "writer", kind, target, record.to_str().unwrap()];
        let child = lab.command_in(node, &words).unwrap().stdin(Stdio::null()).spawn().unwrap();
        let rogue = Self { child, record, kind };
        rogue.until("it writes", |told| told.iter().any(|line| line.starts_with("ok ")));
        rogue
    }

    /// What it was told so far.
    pub fn told(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.record).unwrap_or_default();
        // The last line may be half there.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// Waits until its record is so.
    pub fn until(&self, what: &str, condition: impl Fn(&[String]) -> bool) {
        let came = wait_until(crate::bench::PATIENCE * 2, || condition(&self.told()).then_some(()));
        assert!(
            came.is_some(),
            "waited in vain for the {} writer: {what}; it was told {:?}",
            self.kind,
            self.told().last()
        );
    }

    /// Its processes on the node.
    pub fn processes(&self, lab: &Lab, node: &str) -> Vec<Process> {
        let record = self.record.to_str().unwrap();
        let mut all = lab.processes(node).unwrap();
        all.retain(|process| process.role().is_none() && process.argv.iter().any(|word| word == record));
        assert!(!all.is_empty(), "the {} writer has ended", self.kind);
        all
    }

    /// Ends it.
    pub fn end(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
