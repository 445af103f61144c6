//! Pid 1 of a guest: mounts, the kernel's modules, one child that runs the scenarios; then the power goes off.

use std::fs;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::wait::waitpid;

/// On the kernel's command line, before the names of the scenarios.
const PARAMETER: &str = "pkgctl.scenarios=";

/// What is mounted where, in order.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/dev/shm"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// Modules that nothing asks the kernel for by itself.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk"];

/// Boots, runs, powers off. The child is there so that pid 1 can reap whatever is left to it.
pub fn boot() -> ExitCode {
    for (kind, at) in MOUNTS {
        fs::create_dir_all(at).unwrap();
        // The programs lie where they were built, which may be there.
        if *at == "/tmp" && env!("CARGO_MANIFEST_DIR").starts_with("/tmp/") {
            continue;
        }
        mount(Some(*kind), *at, Some(*kind), MsFlags::empty(), None::<&str>).unwrap_or_else(|e| panic!("{at}: {e}"));
    }
    MODULES.iter().for_each(|module| load(module, &[]));
    let line = fs::read_to_string("/proc/cmdline").unwrap();
    let wanted = line.split_whitespace().find_map(|word| word.strip_prefix(PARAMETER)).unwrap_or_default();
    #[expect(clippy::zombie_processes, reason = "reaped below, like everybody")]
    let child = Command::new("/proc/self/exe")
        .arg("scenarios")
        .args(wanted.split(','))
        .env_clear()
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .spawn()
        .unwrap();
    let child = Some(nix::unistd::Pid::from_raw(child.id().cast_signed()));
    loop {
        match waitpid(None, None) {
            Ok(status) if status.pid() == child => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => panic!("waiting for the scenarios: {errno}"),
        }
    }
    // SAFETY: a plain system call; nothing of this guest is wanted any more.
    unsafe { libc::reboot(libc::LINUX_REBOOT_CMD_POWER_OFF) };
    ExitCode::FAILURE
}

/// Loads a module of the kernel, with what it depends on.
pub fn load(module: &str, parameters: &[&str]) {
    let loaded = Command::new("/sbin/modprobe").arg(module).args(parameters).status().unwrap();
    assert!(loaded.success(), "modprobe {module}: {loaded}");
}
