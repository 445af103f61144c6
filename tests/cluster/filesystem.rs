//! A filesystem moves with its package. All nodes of a lab are on one kernel: a device that one of them still has
//! mounted can be mounted by no other, so that a move that works shows that it was free before the release.

use std::fs::File;
use std::path::Path;
use std::process::Command;

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

#[test]
fn a_filesystem_moves_with_its_package_and_is_free_before_the_release() {
    let Some(bench) = Bench::founded(&["n1", "n2", "n3"]) else { return };
    let device = match Loop::make(&bench.lab.scratch().join("image")) {
        Ok(device) => device,
        Err(why) => {
            return println!("skipped 1 test of a filesystem: it needs root, mkfs.ext4 and a loop device: {why}");
        }
    };
    bench.join("n2");
    bench.join("n3");
    let point = bench.lab.scratch().join("srv").display().to_string();
    let filesystem = format!(
        "[[resource]]\nkind = \"filesystem\"\ndevice = {:?}\nmount = {point:?}\ntype = \"ext4\"\nunfenced = true\n\n",
        device.0
    );
    let whole = definition(&bench.lab, &["n1", "n2"]).replacen("[[resource]]", &format!("{filesystem}[[resource]]"), 1);
    bench.run_definition(&whole);
    assert_eq!(bench.owner(), "n1");
    let shown = bench.ctl("n2", &["status", "testpkg1"]);
    let line = shown.lines().find(|line| line.starts_with("filesystem")).expect("its line").to_owned();
    assert!(line.contains("none") && line.contains(&point), "{line}");

    let watch = bench.watch();
    let run = |node: &str, script: &str| bench.lab.run_in(node, &["/bin/sh", "-c", script], PATIENCE).unwrap();
    assert_eq!(run("n1", &format!("echo by-n1 >{point}/file")).code, Some(0));
    bench.ctl("n3", &["move", "testpkg1", "--to", "n2"]);
    assert_eq!(bench.owner(), "n2");
    assert_eq!(run("n2", &format!("cat {point}/file")).stdout, "by-n1\n");
    assert_eq!(run("n1", &format!("grep -c {} /proc/self/mountinfo", device.0)).stdout, "0\n");
    bench.ctl("n3", &["stop", "testpkg1", "--everywhere"]);
    assert_eq!(run("n2", &format!("grep -c {} /proc/self/mountinfo", device.0)).stdout, "0\n");
    assert!(pkgctl::host::block::is_free(Path::new(&device.0)).unwrap());
    bench.no_double_activity(watch);
}
