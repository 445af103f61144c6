//! A filesystem moves with its package. All nodes of a lab are on one kernel: a device that one of them still has
//! mounted can be mounted by no other, so that a move that works shows that it was free before the release.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use pkgctl::lab::Output;

use super::bench::{Bench, PATIENCE, definition};

/// A loop device; detached when dropped.
struct Loop(String);

impl Loop {
    fn make(image: &Path) -> Result<Self, String> {
        File::create(image).and_then(|file| file.set_len(32 << 20)).map_err(|e| e.to_string())?;
        said(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
        said(Command::new("losetup").args(["--find", "--show"]).arg(image)).map(|name| Self(name.trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = said(Command::new("losetup").args(["--detach", &self.0]));
    }
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

/// A cluster of three with a package on n1 whose first resource is a filesystem on a loop device.
struct Mounted {
    bench: Bench,
    device: Loop,
    point: String,
}

impl Mounted {
    fn make() -> Option<Self> {
        let bench = Bench::founded(&["n1", "n2", "n3"])?;
        let device = match Loop::make(&bench.lab.scratch().join("image")) {
            Ok(device) => device,
            Err(why) => {
                println!("skipped 1 test of a filesystem: it needs root, mkfs.ext4 and a loop device: {why}");
                return None;
            }
        };
        bench.join("n2");
        bench.join("n3");
        let point = bench.lab.scratch().join("srv").display().to_string();
        let filesystem = format!(
            "[[resource]]\nkind = \"filesystem\"\ndevice = {:?}\nmount = {point:?}\ntype = \"ext4\"\nunfenced = true\n\n",
            device.0
        );
        let first = format!("{filesystem}[[resource]]");
        bench.run_definition(&definition(&bench.lab, &["n1", "n2"]).replacen("[[resource]]", &first, 1));
        assert_eq!(bench.owner(), "n1");
        Some(Self { bench, device, point })
    }

    fn run(&self, node: &str, script: &str) -> Output {
        self.bench.lab.run_in(node, &["/bin/sh", "-c", script], PATIENCE).unwrap()
    }
}

#[lab]
fn a_filesystem_moves_with_its_package_and_is_free_before_the_release() {
    let Some(mounted) = Mounted::make() else { return };
    let (bench, device, point) = (&mounted.bench, &mounted.device.0, &mounted.point);
    let shown = bench.ctl("n2", &["status", "testpkg1"]);
    let line = shown.lines().find(|line| line.starts_with("filesystem")).expect("its line").to_owned();
    assert!(line.contains("none") && line.contains(point), "{line}");

    let watch = bench.watch();
    assert_eq!(mounted.run("n1", &format!("echo by-n1 >{point}/file")).code, Some(0));
    bench.ctl("n3", &["move", "testpkg1", "--to", "n2"]);
    assert_eq!(bench.owner(), "n2");
    assert_eq!(mounted.run("n2", &format!("cat {point}/file")).stdout, "by-n1\n");
    assert_eq!(mounted.run("n1", &format!("grep -c {device} /proc/self/mountinfo")).stdout, "0\n");
    bench.ctl("n3", &["stop", "testpkg1", "--everywhere"]);
    assert_eq!(mounted.run("n2", &format!("grep -c {device} /proc/self/mountinfo")).stdout, "0\n");
    assert!(pkgctl::host::block::is_free(Path::new(device)).unwrap());
    bench.no_double_activity(watch);
}

#[lab]
fn a_new_keeper_that_waits_for_a_busy_mount_of_the_killed_one_is_named_in_status_until_it_is_free() {
    let Some(mounted) = Mounted::make() else { return };
    let (bench, point) = (&mounted.bench, &mounted.point);
    let squatting = format!("cd {point} && (setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!)");
    let squatter = mounted.run("n1", &squatting).stdout.trim().to_owned();
    bench.kill_role("n1", "keeper");
    let warned = || {
        let (_, said) = bench.try_ctl("n1", &["status"]);
        said.lines().find(|line| line.contains("keeper is not ready yet")).map(str::to_owned)
    };
    bench.until("a status that names the mount and who keeps it", || {
        warned().is_some_and(|line| line.contains(point) && line.contains(&squatter))
    });
    assert_eq!(mounted.run("n1", &format!("kill {squatter}")).code, Some(0));
    bench.until("a keeper", || warned().is_none());
    bench.whole();
}
