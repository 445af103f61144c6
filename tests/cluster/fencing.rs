//! A package whose end nothing enforces, on real processes: it waits until a real fence agent has switched its old owner
//! off, until the old owner is back, or until an operator confirms.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pkgctl::lab::Moment;

use super::bench::{self, Bench};

const AGENT: &str = "/usr/sbin/fence_dummy";
/// Where the package may run. All nodes of a lab share one kernel, and so one disk: one that was its owner can come back
/// only while nobody else has it mounted.
const OWNERS: [&str; 3] = ["n1", "n2", "n3"];
const IMAGE_BYTES: u64 = 16 << 20;

/// A disk with a filesystem, which every node of a lab sees; gone with its last user.
struct Disk(String);

impl Disk {
    fn make(image: &Path) -> Result<Self, String> {
        let file = std::fs::File::create(image).and_then(|file| file.set_len(IMAGE_BYTES));
        file.map_err(|e| e.to_string())?;
        let image = image.to_str().unwrap_or_default();
        tool("mkfs.ext4", &["-q", "-F", image])?;
        Ok(Self(tool("losetup", &["--find", "--show", image])?))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What cannot be detached now is when the last mount of it is gone.
        let _ = tool("losetup", &["--detach", &self.0]);
    }
}

fn tool(name: &str, words: &[&str]) -> Result<String, String> {
    let output = Command::new(name).args(words).output().map_err(|e| format!("{name}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(format!("{name}: {}", text(&output.stderr))) }
}

/// A cluster whose package has an unenforced filesystem, and whose owners have fence devices: the real agent
/// behind a gate. While the gate is shut, switching off fails.
struct Fenced {
    bench: Bench,
    scratch: PathBuf,
    _disk: Disk,
}

impl Fenced {
    fn new() -> Option<Self> {
        if !Path::new(AGENT).exists() {
            eprintln!("skipped 1 test of a cluster: {AGENT} is not there (apt install fence-agents)");
            return None;
        }
        let bench = Bench::founded(&["n1", "n2", "n3", "n4", "n5"])?;
        let scratch = bench.lab.scratch().to_path_buf();
        let disk = match Disk::make(&scratch.join("image")) {
            Ok(disk) => disk,
            Err(why) => {
                eprintln!("skipped 1 test of a cluster: it needs root, mkfs.ext4 and a loop device: {why}");
                return None;
            }
        };
        ["n2", "n3", "n4", "n5"].iter().for_each(|node| bench.join(node));
        let fenced = Self { bench, scratch, _disk: disk };
        fenced.devices();
        fenced.bench.run_definition(&fenced.definition());
        assert_eq!(fenced.bench.owner(), "n1");
        Some(fenced)
    }

    fn definition(&self) -> String {
        let (device, mount) = (&self._disk.0, self.scratch.join("mnt"));
        let filesystem = format!(
            "[[resource]]\nkind = \"filesystem\"\ndevice = {device:?}\nmount = {mount:?}\ntype = \"ext4\"\nunfenced = true\n"
        );
        bench::definition(&self.bench.lab, &OWNERS).replacen("[[resource]]", &format!("{filesystem}\n[[resource]]"), 1)
    }

    /// The gate stands before what ends a machine; the rest is the real agent's.
    fn devices(&self) {
        let gate = self.scratch.join("gate");
        let body = format!(
            "#!/bin/sh\noptions=$(cat)\ncase $options in *action=off*) [ -e {gate:?} ] || {{ echo 'the gate is shut' >&2; \
             exit 1; }};; esac\necho \"$options\" | {AGENT}\n"
        );
        let agent = self.scratch.join("fence_gated");
        std::fs::write(&agent, body).unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        for node in OWNERS {
            let option = format!("status_file={}", self.power_file(node).display());
            let words = ["fence", "set", node, "--agent", agent.to_str().unwrap(), "--option", &option];
            self.bench.ctl("n5", &words);
            self.bench.ctl("n5", &["fence", "on", node]);
        }
        let tried = self.bench.ctl("n5", &["fence", "test", "n1"]);
        assert_eq!(tried.lines().filter(|line| line.contains("ok") && line.ends_with("on")).count(), 5, "{tried}");
    }

    fn power_file(&self, node: &str) -> PathBuf {
        self.scratch.join(format!("{node}.power"))
    }

    fn power(&self, node: &str) -> String {
        std::fs::read_to_string(self.power_file(node)).unwrap_or_default().trim().to_owned()
    }

    /// A secret goes in by a file that nobody else can read, and is never shown.
    fn shows_no_secret(&self) {
        let file = self.scratch.join("secret");
        std::fs::write(&file, "# of n4\npasswd=hunter2\n").unwrap();
        let words = ["fence", "set", "n4", "--agent", AGENT, "--unchecked", "--option-file", file.to_str().unwrap()];
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let (code, said) = self.bench.try_ctl("n5", &words);
        assert!(code == 2 && said.contains("chmod 600"), "{said}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.bench.ctl("n5", &words);
        let unchecked = self.bench.ctl("n5", &["fence", "show", "n4"]);
        assert!(unchecked.contains("passwd"), "{unchecked}");
        let shown = [&["fence", "show", "n4", "--json"][..], &["fence", "list", "--json"], &["status", "--json"]];
        let all: String = shown.iter().map(|words| self.bench.ctl("n1", words)).chain([unchecked]).collect();
        assert!(!all.contains("hunter2"), "{all}");
        let checked: Vec<&str> = words.into_iter().filter(|word| *word != "--unchecked").collect();
        let (code, said) = self.bench.try_ctl("n5", &checked);
        assert!(code == 2 && said.contains("no option 'passwd'") && !said.contains("hunter2"), "{said}");
        self.bench.ctl("n5", &["fence", "delete", "n4"]);
    }

    fn open_the_gate(&self) {
        std::fs::write(self.scratch.join("gate"), "").unwrap();
    }

    /// Why the package is as it is.
    fn reason(&self) -> String {
        self.bench.package()["view"]["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the fencing of a node has failed; until then, and now, nobody owns the package.
    fn waits_for(&self, node: &str) {
        let words = format!("waiting until {node} is fenced (attempt");
        self.bench.until("an attempt to fence fails", || self.reason().starts_with(&words));
        let reason = self.reason();
        assert!(reason.contains("the gate is shut") && reason.contains(&format!("fence confirm {node}")), "{reason}");
        assert_eq!(self.bench.owner(), "", "nobody owns it meanwhile");
    }

    fn owned_by(&self, node: &str) {
        self.bench.until("the next owner", || self.bench.owner() == node);
        self.bench.until("it runs", || self.bench.package()["view"]["state"] == "running");
    }
}

#[lab]
fn an_unenforced_package_waits_for_a_real_fence_agent_a_confirmation_or_its_old_node() {
    let Some(fenced) = Fenced::new() else { return };
    let bench = &fenced.bench;
    let watch = bench.watch();
    let shown = bench.ctl("n5", &["status", "testpkg1"]);
    assert!(shown.lines().any(|line| line.contains("filesystem") && line.contains("none")), "{shown}");

    fenced.shows_no_secret();

    // Its old node comes back by itself.
    bench.lab.power_off("n1").unwrap();
    fenced.waits_for("n1");
    bench.lab.power_on("n1").unwrap();
    fenced.owned_by("n1");
    bench.whole();

    // An operator confirms.
    bench.lab.power_off("n1").unwrap();
    fenced.waits_for("n1");
    let (code, said) = bench.try_ctl("n5", &["cluster", "remove", "n1"]);
    assert!(code != 0 && said.contains("fence confirm n1"), "{said}");
    bench.ctl("n5", &["fence", "confirm", "n1"]);
    fenced.owned_by("n2");
    assert_eq!(fenced.power("n1"), "on", "nothing was done to it");

    // The agent switches it off, once the gate is open.
    let lost = Moment::now();
    bench.lab.power_off("n2").unwrap();
    fenced.waits_for("n2");
    assert_eq!(fenced.power("n2"), "on");
    fenced.open_the_gate();
    fenced.owned_by("n3");
    assert_eq!(fenced.power("n2"), "off");
    let told = bench.ledger_by("n3", lost);
    let of = |what: &str| told.iter().position(|told| told == what);
    assert!(of("unowned").is_some() && of("unowned") < of("assigned") && of("taken_over").is_none(), "{told:?}");
    bench.no_double_activity(watch);
}
