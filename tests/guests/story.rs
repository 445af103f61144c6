//! The whole story on real SCSI: three nodes in the lab, two of them with an initiator each, and a package whose program
//! writes to a filesystem on the LUN.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::libc;
use pkgctl::lab::{Moment, floating_address, wait_until};

use crate::bench::{self, Bench, PATIENCE};
use crate::disk::{BLOCK, Disk};
use crate::facts::Facts;
use crate::lun::Lun;
use crate::writers::{FILESYSTEM_BLOCKS, RAW_BLOCK, Rogue};

/// The LUN by the name that both nodes know it by.
const DEVICE: &str = "/dev/pkgctl-lun";
const MOUNT: &str = "/srv/testpkg1";
const FILE: &str = "/srv/testpkg1/lines";
/// Writes of each rogue that must have been refused before it is believed.
const REFUSALS: usize = 20;
/// The exit code of a verb that found no leader, and changed nothing.
const NO_LEADER: i32 = 3;
/// How a raw write is refused: EBADE, or EIO where it was on its way to the device when its writer froze.
const RAW_REFUSED: &[&str] = &["error 52 ", "error 5 "];

/// The cluster, and where the program records what it has on the disk.
struct Story<'a> {
    facts: &'a Facts,
    bench: Bench,
    lun: Lun,
    record: PathBuf,
}

/// Runs the scenario.
pub fn run(facts: &Facts) {
    let story = Story::begin(facts);
    story.owner_is_frozen();
    story.package_moves();
    story.mount_is_busy();
    story.owner_thaws_after_the_end();
    story.end();
}

impl<'a> Story<'a> {
    fn begin(facts: &'a Facts) -> Self {
        let lun = Lun::get();
        let size = FILESYSTEM_BLOCKS.to_string();
        let made =
            Command::new("mkfs.ext4").args(["-q", "-F", "-b", &BLOCK.to_string()]).arg(&lun.first).arg(size).status();
        assert!(made.unwrap().success(), "mkfs.ext4");
        // An emulated machine is too slow for the default profile's elections.
        let bench = Bench::founded_with(&["n1", "n2", "n3"], "wan", bench::agent).expect("a lab");
        assert!(bench.lab.realtime(), "pid 1's children may have SCHED_FIFO");
        ["n2", "n3"].iter().for_each(|node| bench.join(node));
        let story = Self { facts, record: bench.lab.scratch().join("program.record"), bench, lun };
        fs::File::create(DEVICE).unwrap();
        story.attach("n1", &story.lun.first);
        story.attach("n2", &story.lun.second);
        story.bench.run_definition(&story.definition());
        story.grows("n1");
        let said = story.ask("n1", &["status", "testpkg1"]);
        let kept = |kind: &str| said.lines().any(|line| line.contains(kind) && line.contains("storage"));
        assert!(kept(" lun ") && kept(" filesystem "), "{said}");
        let other = Disk::open(&story.lun.second);
        assert_eq!(other.write(RAW_BLOCK, 1).unwrap_err().raw_os_error(), Some(libc::EBADE));
        facts.shown("a package with address, lun, ext4 and two programs runs; the standby's initiator cannot write");
        story
    }

    /// Runs a verb that must succeed. An emulated machine on a loaded host may find no leader in time; then nothing was changed
    /// (exit code 3), and it is asked again.
    fn ask(&self, node: &str, words: &[&str]) -> String {
        let answered = wait_until(PATIENCE, || {
            let (code, said) = self.bench.try_ctl(node, words);
            assert!(code == 0 || code == NO_LEADER, "pkgctl {words:?} on {node}: {code}: {said}");
            (code == 0).then_some(said)
        });
        answered.unwrap_or_else(|| panic!("no leader in time: pkgctl {words:?} on {node}"))
    }

    /// Lets a node see its own disk under the name that all nodes use.
    fn attach(&self, node: &str, disk: &Path) {
        let words = ["/bin/mount", "--bind", disk.to_str().unwrap(), DEVICE];
        let mounted = self.bench.lab.run_in(node, &words, PATIENCE).unwrap();
        assert!(mounted.success(), "{mounted:?}");
    }

    fn definition(&self) -> String {
        let own = std::env::current_exe().unwrap();
        let pkgctl = self.bench.lab.place("n1").binary.clone();
        let (beats, ip) = (self.bench.lab.place("n1").beats.clone(), floating_address(0));
        format!(
            "name = \"testpkg1\"\nnodes = [\"n1\", \"n2\"]\n\n[[resource]]\nkind = \"ip\"\naddress = \"{ip}/24\"\ndevice = \
             \"eth0\"\n\n[[resource]]\nkind = \"program\"\ncommand = [{pkgctl:?}, \"demo-program\", \"--listen\", \
             \"{ip}:8080\", \"--beats\", {beats:?}]\n\n[[resource]]\nkind = \"lun\"\ndevice = {DEVICE:?}\nabort = \
             false\n\n[[resource]]\nkind = \"filesystem\"\ndevice = {DEVICE:?}\nmount = {MOUNT:?}\ntype = \
             \"ext4\"\nstop_timeout = \"15s\"\n\n[[resource]]\nkind = \"program\"\nname = \"writer\"\ncommand = [{own:?}, \
             \"writer\", \"program\", {FILE:?}, {record:?}]\n",
            record = self.record
        )
    }

    /// A path as the node sees it.
    fn on(&self, node: &str, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.bench.lab.init_pid(node).unwrap()))
    }

    fn mounted(&self, node: &str) -> bool {
        let pid = self.bench.lab.init_pid(node).unwrap();
        fs::read_to_string(format!("/proc/{pid}/mounts"))
            .unwrap()
            .lines()
            .any(|line| line.contains(&format!(" {MOUNT} ")))
    }

    /// Waits until the program has put more lines on the disk, as this node sees it.
    fn grows(&self, node: &str) {
        let lines = || fs::read_to_string(self.on(node, FILE)).map_or(0, |text| text.lines().count());
        let before = lines();
        self.bench.until("the program writes", || lines() > before + 5);
    }

    /// Every line that was recorded is in the file, in its order, once; tokens never fall.
    fn check_lines(&self, text: &str) -> usize {
        let mut last = (0, 0);
        for line in text.lines() {
            let (token, number) = line.split_once(' ').unwrap_or_else(|| panic!("a torn line: {line:?}"));
            let next: (u64, u64) = (token.parse().unwrap(), number.parse().unwrap());
            assert!(next.1 == last.1 + 1 && next.0 >= last.0, "{next:?} after {last:?}");
            last = next;
        }
        let record = fs::read_to_string(&self.record).unwrap();
        let (there, told): (BTreeSet<&str>, BTreeSet<&str>) = (text.lines().collect(), record.lines().collect());
        let missing: Vec<_> = told.difference(&there).collect();
        assert!(missing.is_empty(), "recorded and not in the file: {missing:?}");
        there.len()
    }

    fn owner_is_frozen(&self) {
        let (bench, lab) = (&self.bench, &self.bench.lab);
        let raw = Rogue::start(lab, "n1", "raw", DEVICE);
        let file = Rogue::start(lab, "n1", "file", "/srv/testpkg1/rogue");
        let watch = bench.watch();
        let rogues: Vec<_> = [&raw, &file].iter().flat_map(|rogue| rogue.processes(lab, "n1")).collect();
        lab.freeze(&rogues).unwrap();
        let (at, ours) = lab.freeze_ours("n1").unwrap();
        assert_eq!(bench.answered_elsewhere(&watch, at, "n1"), "n2");
        bench.until("the filesystem is mounted on n2", || self.mounted("n2"));
        self.grows("n2");
        let took = Moment::now().since(at).as_secs_f64();
        self.facts.shown(format_args!(
            "everything on the owner frozen: the standby has preempted, mounted and writes ({took:.1} s)"
        ));
        assert!(self.mounted("n1"), "the frozen node cannot have unmounted it");
        let left = Disk::open(&self.lun.second).read(RAW_BLOCK);

        lab.thaw(&rogues).unwrap();
        self.all_refused(&raw, RAW_REFUSED);
        assert_eq!(Disk::open(&self.lun.second).read(RAW_BLOCK), left, "written after the preemption");
        self.facts
            .shown("thawed, a raw write of the old owner's node is refused (EBADE) and nothing of it is on the LUN");
        self.all_refused(&file, &["error 52 ", "error 5 ", "error 30 "]);
        let rogue = fs::read_to_string(self.on("n2", "/srv/testpkg1/rogue")).unwrap_or_default();
        let acked = file.told().iter().filter(|line| line.starts_with("ok ")).count();
        assert!(rogue.lines().count() <= acked + 1, "more on the disk than was acknowledged");
        self.facts.shown("a write through its still mounted filesystem is refused too (EBADE, EIO or EROFS)");

        lab.thaw(&ours).unwrap();
        self.grows("n2");
        raw.end();
        file.end();
        bench.whole();
        bench.until("n1 has unmounted it", || !self.mounted("n1"));
        bench.no_double_activity(watch);
        self.facts.shown("the old owner comes back, lets go of its mount, and nobody acted twice");
    }

    /// Waits until a rogue has been refused often; from its first refusal on it was told nothing but these errors.
    fn all_refused(&self, rogue: &Rogue, errors: &[&str]) {
        let is_error = |line: &String| line.starts_with("error ");
        rogue.until("its writes are refused", |told| told.iter().filter(|line| is_error(line)).count() >= REFUSALS);
        let told = rogue.told();
        let mut after = told.iter().skip_while(|line| !is_error(line));
        let other = after.find(|line| !errors.iter().any(|error| line.starts_with(error)));
        assert_eq!(other, None, "of {told:?}");
    }

    /// Orders a move by a node that has no part in it.
    fn start_move(&self, to: &str) -> Child {
        let place = self.bench.lab.place("n3");
        let (pkgctl, disk) = (place.binary.to_str().unwrap(), place.disk.to_str().unwrap());
        let words = [pkgctl, "--root", disk, "move", "testpkg1", "--to", to];
        self.bench.lab.command_in("n3", &words).unwrap().stdin(Stdio::null()).spawn().unwrap()
    }

    fn package_moves(&self) {
        let bench = &self.bench;
        let watch = bench.watch();
        let (mut both, mut last_mounted) = (0, Moment::now());
        let mut moving = self.start_move("n1");
        let ended = wait_until(PATIENCE * 2, || {
            // The new owner first: if both had it in this order of looking, both had it at once.
            let (at, new) = (Moment::now(), self.mounted("n1"));
            if self.mounted("n2") {
                last_mounted = at;
                both += usize::from(new);
            }
            let ended = moving.try_wait().unwrap()?;
            if ended.code() == Some(NO_LEADER) {
                moving = self.start_move("n1");
                return None;
            }
            Some(ended)
        });
        assert!(ended.expect("the move ends").success());
        assert_eq!((both, self.mounted("n2"), bench.owner().as_str()), (0, false, "n1"));
        let released = self.released();
        assert!(last_mounted.wall() <= released, "mounted at {} and released at {released}", last_mounted.wall());
        let free = fs::OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&self.lun.second);
        assert!(free.is_ok(), "{free:?}");
        self.grows("n1");
        bench.no_double_activity(watch);
        self.facts
            .shown("a planned move: unmounted before its release was proposed, never mounted on both, free (O_EXCL)");
    }

    /// When the last release was proposed, in milliseconds since 1970.
    fn released(&self) -> f64 {
        let package = self.bench.package();
        let events = package["events"].as_array().expect("a ledger");
        let last = events.iter().rev().find(|event| event["what"] == "released");
        last.unwrap_or_else(|| panic!("no release in {events:?}"))["wall"].as_f64().expect("a time")
    }

    fn mount_is_busy(&self) {
        let bench = &self.bench;
        let token = bench.token();
        let rogue = Rogue::start(&bench.lab, "n1", "file", "/srv/testpkg1/rogue-2");
        let mut moving = self.start_move("n2");
        let says = || self.ask("n2", &["status", "testpkg1"]);
        let held = wait_until(PATIENCE, || {
            if moving.try_wait().unwrap().is_some_and(|ended| ended.code() == Some(NO_LEADER)) {
                moving = self.start_move("n2");
            }
            says().contains("held").then_some(())
        });
        held.expect("status says that it is held");
        let said = says();
        assert!(said.contains("has a file open there"), "status names the holder: {said}");
        assert_eq!(wait_until(Duration::from_secs(5), || self.mounted("n2").then_some(())), None, "mounted elsewhere");
        assert_eq!((bench.owner(), bench.token()), ("n1".to_owned(), token));
        self.facts.shown("a mount that is busy on planned work is held and its user named; nothing starts elsewhere");
        self.facts.noted(said.lines().find(|line| line.contains("held")).unwrap_or_default());
        rogue.end();
        bench.until("it runs on n2", || bench.owner() == "n2" && self.mounted("n2"));
        let _ = moving.wait();
        self.grows("n2");
        self.facts.shown("once it is let go of, the move is finished");
    }

    /// As before, but the old owner thaws when the new one has stopped in order already.
    fn owner_thaws_after_the_end(&self) {
        let (bench, lab) = (&self.bench, &self.bench.lab);
        let raw = Rogue::start(lab, "n2", "raw", DEVICE);
        let rogues = raw.processes(lab, "n2");
        lab.freeze(&rogues).unwrap();
        let (_, ours) = lab.freeze_ours("n2").unwrap();
        bench.until("it runs on n1", || bench.owner() == "n1" && self.mounted("n1"));
        self.ask("n3", &["stop", "testpkg1", "--everywhere"]);
        assert!(!self.mounted("n1"));
        let left = Disk::open(&self.lun.first).read(RAW_BLOCK);
        lab.thaw(&rogues).unwrap();
        self.all_refused(&raw, RAW_REFUSED);
        assert_eq!(Disk::open(&self.lun.first).read(RAW_BLOCK), left, "written while nobody owned it");
        raw.end();
        lab.thaw(&ours).unwrap();
        bench.whole();
        bench.until("n2 has unmounted it", || !self.mounted("n2"));
        self.facts.shown("an owner that thaws when the next one has stopped in order is refused still (EBADE)");
    }

    fn end(self) {
        let checked = Command::new("e2fsck").args(["-f", "-n"]).arg(&self.lun.first).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        self.facts.shown("halted, the filesystem is clean (e2fsck -f -n)");
        let at = Path::new("/mnt");
        nix::mount::mount(Some(&self.lun.first), at, Some("ext4"), nix::mount::MsFlags::MS_RDONLY, None::<&str>)
            .unwrap();
        let lines = self.check_lines(&fs::read_to_string("/mnt/lines").unwrap());
        nix::mount::umount(at).unwrap();
        self.facts.shown(format_args!("all {lines} lines are in the file, once, in order; tokens never fall"));
    }
}
