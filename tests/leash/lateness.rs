//! How long after its deadline a leash's namespace acts for the last time, and how long it takes to be gone: idle and
//! with every CPU busy. A measurement; what it finds is compared with the margins of rule 22.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pkgctl::engine::BootTime;
use pkgctl::host::clock::boot_now;
use pkgctl::host::sched::{KEEPER_PRIORITY, prefer_fifo};
use pkgctl::keeper::leash::leash_margin;

use super::bench::{Bench, PATIENCE, after, parent, until};

const ROUNDS: usize = 100;
/// Programs in the namespace that act as often as they can.
const BEATERS: u64 = 3;
/// Where a beating program writes, and that it is meant to.
const BEAT_FILE: &str = "PKGCTL_TEST_BEAT_FILE";
const BEAT_SLOT: &str = "PKGCTL_TEST_BEAT_SLOT";

/// The program: writes down the time, over and over.
pub fn beat() {
    let Some(path) = std::env::var_os(BEAT_FILE) else {
        println!("only for the measurement; nothing done");
        return;
    };
    let slot: u64 = std::env::var(BEAT_SLOT).unwrap().parse().unwrap();
    let file = File::options().write(true).open(path).unwrap();
    loop {
        file.write_all_at(&boot_now().0.to_le_bytes(), slot * 8).unwrap();
    }
}

fn beats(path: &std::path::Path) -> Vec<BootTime> {
    let bytes = fs::read(path).unwrap();
    bytes.chunks_exact(8).map(|slot| BootTime(u64::from_le_bytes(slot.try_into().unwrap()))).collect()
}

/// Processes that keep every CPU busy, two for each.
struct Load(Vec<Child>);

impl Load {
    fn start() -> Self {
        let cpus = std::thread::available_parallelism().map_or(4, usize::from);
        let spin = || Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        Self((0..2 * cpus).map(|_| spin()).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last act after the deadline, and the end of the namespace after it, in milliseconds; and whether with
/// SCHED_FIFO.
fn round() -> Option<(f64, f64, bool)> {
    let mut bench = Bench::new(after(600_000))?;
    let file = bench.dir.path().join("beats");
    File::create(&file).unwrap().set_len(8 * BEATERS).unwrap();
    let exe = std::env::current_exe().unwrap();
    let exe = exe.to_str().unwrap();
    let mut pid = 0;
    for slot in 0..BEATERS {
        let mut spec = bench.spec(&[exe, "--exact", "beating_program", "--ignored", "--test-threads=1"]);
        spec.environment.insert(BEAT_FILE.into(), file.display().to_string());
        spec.environment.insert(BEAT_SLOT.into(), slot.to_string());
        pid = bench.start(&spec).1;
    }
    until(|| beats(&file).iter().all(|beat| beat.0 > 0));
    let deadline = after(100);
    bench.leash.arm(deadline).unwrap();
    kill(Pid::from_raw(parent(pid)), Signal::SIGSTOP).unwrap();
    let gone = bench.leash.gone_fd().unwrap();
    let mut fds = [PollFd::new(gone.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::try_from(PATIENCE).unwrap()), Ok(1), "it never ended");
    let ms = |at: BootTime| at.since(deadline).as_secs_f64() * 1000.0;
    let end = ms(boot_now());
    Some((beats(&file).into_iter().map(ms).fold(0.0, f64::max), end, bench.leash.fifo()))
}

/// Prints the distribution of many rounds.
pub fn measure() {
    // So that the end is seen when it comes, where that can be had, and not when this process has its turn.
    println!("measured with scheduling {}", prefer_fifo(KEEPER_PRIORITY));
    for loaded in [false, true] {
        let load = loaded.then(Load::start);
        let rounds: Option<Vec<_>> = (0..ROUNDS).map(|_| round()).collect();
        drop(load);
        let Some(rounds) = rounds else { return };
        let fifo = rounds.iter().all(|(_, _, fifo)| *fifo);
        let margin: Duration = leash_margin(fifo);
        println!("leashes with SCHED_FIFO: {fifo} (margin {margin:?}); every CPU busy: {loaded}");
        print_line("last act", rounds.iter().map(|(act, _, _)| *act).collect());
        print_line("gone", rounds.iter().map(|(_, gone, _)| *gone).collect());
    }
}

fn print_line(what: &str, mut late: Vec<f64>) {
    late.sort_by(f64::total_cmp);
    let (min, median, max) = (late[0], late[late.len() / 2], late[late.len() - 1]);
    println!("  {what:8} after the deadline, ms: min {min:.2} median {median:.2} max {max:.2}");
}
