//! A loop device with an ext4 filesystem on it, in a mount namespace of the test's own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use pkgctl::host::{block, mounts};
use pkgctl::keeper::protocol::Storage;
use pkgctl::package::{FilesystemResource, LunResource};

const BYTES: u64 = 32 << 20;

/// How the mounts of the test's namespace reach others: as systemd sets a host up, or as a container finds it.
#[derive(Clone, Copy, Debug)]
pub enum Root {
    Shared,
    Private,
}

/// The device, and where it is to be mounted.
pub struct Disk {
    dir: tempfile::TempDir,
    pub device: String,
}

impl Disk {
    /// Takes this thread, and every process that it starts, into a mount namespace of its own. Says why it cannot.
    pub fn make(root: Root, test: &str) -> Option<Self> {
        let made = own_namespace(root).and_then(|()| Self::in_a_file());
        made.inspect_err(|why| println!("skipped: 1 ({test}: needs root, mkfs.ext4 and a loop device: {why})")).ok()
    }

    /// One in the mount namespace that is there already.
    pub fn in_a_file() -> Result<Self, String> {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let image = dir.path().join("image");
        File::create(&image).and_then(|file| file.set_len(BYTES)).map_err(|e| e.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let device = run(Command::new("losetup").args(["--find", "--show"]).arg(&image))?;
        Ok(Self { dir, device: device.trim().to_owned() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn mount_point(&self) -> PathBuf {
        self.path("srv/x")
    }

    pub fn filesystem(&self) -> Storage {
        Storage::Filesystem(FilesystemResource {
            device: self.device.clone(),
            mount: self.mount_point().display().to_string(),
            filesystem: "ext4".to_owned(),
            options: vec!["noatime".to_owned()],
            fsck: true,
            unfenced: true,
        })
    }

    pub fn lun(&self) -> Storage {
        Storage::Lun(LunResource { device: self.device.clone(), abort: true, preempt_foreign: false })
    }

    /// How often the device is mounted in this thread's namespace.
    pub fn mounts(&self) -> usize {
        let number = block::number(Path::new(&self.device)).unwrap();
        mounts::of_process(None).unwrap().iter().filter(|mounted| mounted.device == number).count()
    }

    /// How many mounts there are at the mount point, of whatever.
    pub fn layers(&self) -> usize {
        let point = self.mount_point();
        mounts::of_process(None).unwrap().iter().filter(|mounted| Path::new(&mounted.point) == point).count()
    }

    pub fn is_free(&self) -> bool {
        block::is_free(Path::new(&self.device)).unwrap()
    }

    /// Mounts it somewhere else, as an operator does.
    pub fn mount_at(&self, name: &str) -> PathBuf {
        let point = self.path(name);
        std::fs::create_dir_all(&point).unwrap();
        mounts::mount_device(&self.device, point.to_str().unwrap(), "ext4", &[]).unwrap();
        point
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The namespace goes with the test, and its mounts with it; the device is freed when the last one is gone.
        let _ = run(Command::new("losetup").args(["--detach", &self.device]));
    }
}

fn own_namespace(root: Root) -> Result<(), String> {
    let set = |flag| mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | flag, None::<&str>);
    let own = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| set(MsFlags::MS_PRIVATE));
    let own = own.and_then(|()| match root {
        Root::Private => Ok(()),
        Root::Shared => set(MsFlags::MS_SHARED),
    });
    own.map_err(|e| e.desc().to_owned())
}

pub fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|e| format!("{name}: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}
