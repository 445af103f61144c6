//! The machine's watchdog, petted by the keeper: softdog and an emulated i6300esb. The machine is really reset, so this
//! scenario runs three times in one guest and keeps on a disk how far it has come.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pkgctl::lab::{Moment, Place, wait_until};

use crate::bench::{self, Bench};
use crate::disk::Disk;
use crate::facts::Facts;
use crate::machine::load;

/// What the agents of this scenario are told, and how long the keeper may stand still by it.
const CONFIG: &str = "watchdog = \"/dev/watchdog\"\nwatchdog_timeout = \"4s\"\n";
const TIMEOUT: Duration = Duration::from_secs(4);
/// The machine is reset by then, or it never will be.
const RESET_LIMIT: Duration = Duration::from_secs(20);

/// Blocks of the disk: how far the scenario has come, and for how many milliseconds a keeper had been frozen.
const STAGE: u64 = 0;
const FROZEN_MS: u64 = 1;

/// Runs the part that comes next on this machine.
pub fn run(facts: &Facts) {
    let disk = Disk::open(Path::new("/dev/vda"));
    match disk.read(STAGE) {
        0 => frozen(&orderly(facts), &disk),
        1 => {
            was_frozen(facts, &disk);
            hung(facts, &disk);
        }
        _ => facts.shown("a machine whose kernel hung (panic without restart) was reset by its i6300esb"),
    }
}

/// A node in the lab with a package, by an agent that uses the watchdog of this driver.
fn node(driver: &str) -> Bench {
    load(driver, &[]);
    let bench = Bench::founded_with(&["n1"], "default", agent).expect("a lab");
    bench.run_package(&["n1"]);
    bench.until("the watchdog is armed", armed);
    bench
}

fn agent(place: &Place) -> Vec<String> {
    let etc = place.disk.join("etc/pkgctl");
    fs::create_dir_all(&etc).unwrap();
    fs::write(etc.join("agent.toml"), CONFIG).unwrap();
    bench::agent(place)
}

fn armed() -> bool {
    fs::read_to_string("/sys/class/watchdog/watchdog0/state").unwrap().trim() == "active"
}

/// Lets so much time pass that an armed watchdog that nobody pets would have reset the machine.
fn outlive() {
    assert_eq!(wait_until(TIMEOUT * 3 / 2, || None::<()>), None);
}

fn orderly(facts: &Facts) -> Bench {
    let bench = node("softdog");
    let status = bench.ctl("n1", &["cluster", "status"]);
    assert!(status.contains("4s"), "{status}");
    facts.shown("a keeper with a watchdog arms softdog, and cluster status shows it");

    // The node's init would start another agent, and that another keeper.
    let init = Pid::from_raw(bench.lab.init_pid("n1").unwrap());
    kill(init, Signal::SIGSTOP).unwrap();
    bench.kill_role("n1", "agent");
    bench.signal_role("n1", "keeper", Signal::SIGTERM);
    bench.until("the watchdog is stopped", || !armed());
    outlive();
    facts.shown("a keeper that is told to end disarms it (magic close): the machine runs on");

    kill(init, Signal::SIGCONT).unwrap();
    bench.until("the next keeper arms it", armed);
    bench.whole();
    let at = bench.kill_role("n1", "keeper");
    bench.until("a next keeper petted it", || keepers(&bench) == 1 && Moment::now().since(at) > TIMEOUT * 3 / 2);
    assert!(armed());
    facts.shown("a keeper that was killed is followed by one that pets on: the machine runs on");
    bench
}

fn keepers(bench: &Bench) -> usize {
    bench.lab.processes("n1").unwrap().iter().filter(|process| process.role() == Some("keeper")).count()
}

/// Freezes the keeper and writes down for how long, until the machine is reset.
fn frozen(bench: &Bench, disk: &Disk) -> ! {
    disk.write(STAGE, 1).unwrap();
    bench.freeze_role("n1", "keeper");
    let at = Moment::now();
    wait_until(RESET_LIMIT, || {
        disk.write(FROZEN_MS, u64::try_from(Moment::now().since(at).as_millis()).unwrap()).unwrap();
        None::<()>
    });
    panic!("the keeper is frozen, and the machine is not reset after {RESET_LIMIT:?}");
}

fn was_frozen(facts: &Facts, disk: &Disk) {
    let frozen = Duration::from_millis(disk.read(FROZEN_MS));
    assert!(frozen >= TIMEOUT / 2, "reset after {frozen:?}: that was not the watchdog");
    facts.shown(format_args!("a machine whose keeper was frozen (SIGSTOP) was reset by softdog after {frozen:?}"));
}

/// Hangs the kernel itself: no driver in software helps any more.
fn hung(facts: &Facts, disk: &Disk) -> ! {
    let _bench = node("i6300esb");
    facts.noted("a keeper arms the i6300esb; now the kernel hangs");
    disk.write(STAGE, 2).unwrap();
    fs::write("/proc/sys/kernel/panic", "0").unwrap();
    fs::write("/proc/sysrq-trigger", "c").unwrap();
    unreachable!("the kernel has crashed");
}
