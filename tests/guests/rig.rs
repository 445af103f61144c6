//! The rig itself: one LUN, two initiators, what one writes the other reads.

use std::fs;

use crate::disk::Disk;
use crate::facts::Facts;
use crate::lun::Lun;

/// Runs the scenario.
pub fn run(facts: &Facts) {
    let lun = Lun::get();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    facts.noted(format_args!("kernel {}", kernel.trim()));
    let serial = |disk: &str| fs::read(format!("/sys/block/{disk}/device/vpd_pg80")).unwrap();
    assert_eq!(serial("sda"), serial("sdb"), "two disks must be one unit");
    facts.shown("sda and sdb are one unit (the same serial number), by two initiators");
    let (first, second) = (Disk::open(&lun.first), Disk::open(&lun.second));
    first.write(0, 7).unwrap();
    assert_eq!((second.read(0), fs::read(Lun::image()).unwrap()[0]), (7, 7));
    facts.shown("what one writes the other reads, and it is in the unit's own file");
}
