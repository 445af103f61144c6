//! One LUN behind two initiators: a fileio backstore of the kernel's SCSI target, exported twice by tcm_loop.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use pkgctl::lab::wait_until;

use crate::machine::load;

const CONFIGFS: &str = "/sys/kernel/config";
/// How large the LUN is.
pub const BYTES: u64 = 64 << 20;
/// Until the kernel has looked at a new disk.
const SCAN_LIMIT: Duration = Duration::from_secs(20);

/// The two ways to a LUN: disks of this kernel, each with an initiator of its own.
pub struct Lun {
    pub first: PathBuf,
    pub second: PathBuf,
}

impl Lun {
    /// The LUN of this guest, made when it is asked for first.
    pub fn get() -> Self {
        Self::numbered(0)
    }

    /// Another one, for what may break it.
    pub fn spare() -> Self {
        Self::numbered(1)
    }

    fn numbered(number: u8) -> Self {
        let target = Path::new(CONFIGFS).join("target");
        if !target.exists() {
            ["target_core_mod", "target_core_file", "tcm_loop", "sd_mod"].iter().for_each(|module| load(module, &[]));
            mount(Some("configfs"), CONFIGFS, Some("configfs"), MsFlags::empty(), None::<&str>).unwrap();
            // Where the target keeps registrations that outlive a power loss (APTPL), as IOC_PR_REGISTER wants them.
            fs::create_dir_all("/var/target/pr").unwrap();
        }
        let backstore = backstore(&target, number);
        let disk = |side: u8| disk(&target, &backstore, 2 * number + side);
        Self { first: disk(1), second: disk(2) }
    }

    /// What lies behind it, past both disks.
    pub fn image() -> &'static Path {
        Path::new("/lun0.img")
    }
}

fn backstore(target: &Path, number: u8) -> PathBuf {
    let backstore = target.join(format!("core/fileio_{number}/lun"));
    if !backstore.exists() {
        fs::create_dir_all(&backstore).unwrap();
        write(&backstore.join("control"), &format!("fd_dev_name=/lun{number}.img,fd_dev_size={BYTES}"));
        write(&backstore.join("wwn/vpd_unit_serial"), &format!("pkgctl-guests-{number}"));
        write(&backstore.join("enable"), "1");
    }
    backstore
}

/// The disk of the `number`th initiator of the guest, from 1; each is a host bus adapter of its own.
fn disk(target: &Path, backstore: &Path, number: u8) -> PathBuf {
    let portal = target.join(format!("loopback/naa.600140500000000{number}/tpgt_1"));
    if !portal.exists() {
        fs::create_dir_all(&portal).unwrap();
        write(&portal.join("nexus"), &format!("naa.600140500000001{number}"));
        let lun = portal.join("lun/lun_0");
        fs::create_dir(&lun).unwrap();
        symlink(backstore, lun.join("backstore")).unwrap();
    }
    // The kernel names disks in the order they come in.
    let name = format!("sd{}", char::from(b'a' + number - 1));
    let size = Path::new("/sys/block").join(&name).join("size");
    let sectors = || fs::read_to_string(&size).ok().filter(|size| size.trim() == (BYTES / 512).to_string());
    assert!(wait_until(SCAN_LIMIT, sectors).is_some(), "no /dev/{name}");
    Path::new("/dev").join(name)
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
