//! LUNs and filesystems on a real keeper process, with loop devices: the test plays its agent and the other voters. Each
//! test has network and mount namespaces of its own. What needs root and loop devices says so and passes without.
//!
//! Loop devices have no reservations; those are shown in tests/guests, and on a LUN in memory in the library's tests.

#[path = "keeper/bench.rs"]
#[allow(dead_code, reason = "shared with another test, which uses all of it")]
mod bench;
#[path = "storage/disk.rs"]
mod disk;
#[path = "keeper/processes.rs"]
#[allow(dead_code, reason = "shared with another test, which uses all of it")]
mod processes;
#[path = "guard/scene.rs"]
#[allow(dead_code, reason = "shared with another test, which uses all of it")]
mod scene;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use bench::{Agent, Bench, Keeper};
use disk::{Disk, Root, run};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use pkgctl::engine::Token;
use pkgctl::keeper::protocol::{FromKeeper, Op, Outcome, Place, Running, RunningKind, Storage};
use pkgctl::package::{Millis, PackageName};
use processes::eventually;
use scene::scene;

const WITHIN: Millis = Millis(20_000);
const TOKEN: u64 = 100;

fn start(b: &mut Bench, place: &Place, storage: Storage) -> Outcome {
    b.agent.ask(Op::StartStorage { place: place.clone(), storage })
}

fn stop(b: &mut Bench, place: &Place) -> Outcome {
    b.agent.ask(Op::StopStorage { place: place.clone(), within: WITHIN })
}

fn release(b: &mut Bench) -> Outcome {
    b.agent.ask(Op::Release { package: PackageName::new("p").unwrap(), token: Token(TOKEN) })
}

fn failed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { why } => why,
        other => panic!("{other:?}"),
    }
}

/// A mounted filesystem under a lease.
fn mounted(root: Root, test: &str) -> Option<(Bench, Disk, Place)> {
    let disk = Disk::make(root, test)?;
    let mut b = Bench::leased();
    let place = b.place("filesystem", TOKEN);
    assert_eq!(start(&mut b, &place, disk.filesystem()), Outcome::Ok);
    assert_eq!(disk.mounts(), 1);
    Some((b, disk, place))
}

/// A process that sits in a directory.
struct Squatter(Child);

impl Squatter {
    fn in_dir(dir: &Path) -> Self {
        Self(Command::new("/bin/sleep").arg("1000").current_dir(dir).spawn().unwrap())
    }

    /// One that has a copy of every mount, which nothing takes away from it.
    fn in_a_namespace_of_its_own() -> Self {
        let mut command = Command::new("/bin/sleep");
        // SAFETY: two system calls between fork and exec.
        unsafe {
            command.arg("1000").pre_exec(|| {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let private = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
                nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
                Ok(())
            })
        };
        Self(command.spawn().unwrap())
    }

    fn named(&self) -> String {
        format!("process {} (sleep)", self.0.id())
    }

    fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What every kind of host must show: as systemd sets one up, and as a container finds it.
fn a_program_sees_it(root: Root, test: &str) {
    let Some((mut b, disk, filesystem)) = mounted(root, test) else { return };
    let program = b.place("program", TOKEN);
    let point = disk.mount_point();
    let script = format!("exec 3>{}/file; echo seen >&3; sleep 1000", point.display());
    if b.start(&program, &script, test).is_none() {
        return;
    }
    eventually("what the program writes", || point.join("file").exists().then_some(()));
    // Another package's program, started later, has a copy of the mount that must not keep it.
    let other = b.start(&b.place("bystander", TOKEN), "sleep 1000", test).unwrap();
    eventually("its view", || {
        std::fs::read_to_string(format!("/proc/{other}/mountinfo")).ok()?.contains("srv/x").then_some(())
    });
    let why = failed(stop(&mut b, &filesystem));
    assert!(why.contains("is in use and stays mounted") && why.contains("has a file open there"), "{why}");

    let stopped = b.agent.ask(Op::StopProgram { place: program, signal: 15, grace: Millis(5000) });
    assert_eq!(stopped, Outcome::Ok);
    assert_eq!(stop(&mut b, &filesystem), Outcome::Ok);
    assert_eq!((disk.mounts(), disk.layers(), disk.is_free()), (0, 0, true));
    let seen = std::fs::read_to_string(format!("/proc/{other}/mountinfo")).unwrap();
    assert!(!seen.contains(&disk.device), "unmounted there too: {seen}");
    assert!(matches!(release(&mut b), Outcome::Refused { .. }), "the bystander is of the same package here");

    // And again, under the next ownership; what was written is there.
    let next = b.place("filesystem", TOKEN + 1);
    assert_eq!(start(&mut b, &next, disk.filesystem()), Outcome::Ok);
    assert_eq!(std::fs::read_to_string(point.join("file")).unwrap(), "seen\n");
    assert_eq!(stop(&mut b, &next), Outcome::Ok);
    assert!(disk.is_free());
}

#[test]
fn a_program_sees_what_was_mounted_before_it_and_an_unmount_reaches_every_leash() {
    scene("a_program_sees_what_was_mounted_before_it_and_an_unmount_reaches_every_leash", |_| {
        a_program_sees_it(Root::Shared, "a program sees the mount");
    });
}

#[test]
fn the_same_where_the_hosts_mounts_are_private() {
    scene("the_same_where_the_hosts_mounts_are_private", |_| {
        a_program_sees_it(Root::Private, "a program sees the mount, private");
    });
}

#[test]
fn a_busy_filesystem_is_held_with_its_holder_named_and_goes_when_that_does() {
    scene("a_busy_filesystem_is_held_with_its_holder_named_and_goes_when_that_does", |_| {
        let Some((mut b, disk, place)) = mounted(Root::Shared, "busy") else { return };
        let squatter = Squatter::in_dir(&disk.mount_point());
        let why = failed(stop(&mut b, &place));
        assert!(why.contains(&format!("{} has its working directory there", squatter.named())), "{why}");
        assert_eq!(disk.mounts(), 1, "never lazily");
        assert!(matches!(release(&mut b), Outcome::Refused { .. }));
        let refused = b.agent.ask(Op::StartProgram { place: b.place("program", TOKEN), program: b.script("true") });
        assert!(matches!(refused, Outcome::Refused { .. }), "{refused:?}");
        squatter.end();
        eventually("an unmount by itself", || disk.is_free().then_some(()));
        assert_eq!(stop(&mut b, &place), Outcome::Ok);
        assert_eq!(release(&mut b), Outcome::Ok);
    });
}

#[test]
fn a_mount_that_another_namespace_keeps_is_not_taken_for_gone() {
    scene("a_mount_that_another_namespace_keeps_is_not_taken_for_gone", |_| {
        let Some((mut b, disk, place)) = mounted(Root::Shared, "another namespace") else { return };
        let squatter = Squatter::in_a_namespace_of_its_own();
        let why = failed(stop(&mut b, &place));
        let expected = format!("mounted at {} as {} sees it", disk.mount_point().display(), squatter.named());
        assert!(why.contains(&expected), "{why}");
        assert!(matches!(release(&mut b), Outcome::Refused { .. }));
        squatter.end();
        eventually("a free device", || matches!(stop(&mut b, &place), Outcome::Ok).then_some(()));
        assert!(disk.is_free());
    });
}

#[test]
fn a_frozen_filesystem_is_never_reported_as_stopped() {
    scene("a_frozen_filesystem_is_never_reported_as_stopped", |_| {
        let Some((mut b, disk, place)) = mounted(Root::Shared, "frozen") else { return };
        if let Err(why) = run(Command::new("fsfreeze").arg("--freeze").arg(disk.mount_point())) {
            println!("skipped: 1 (frozen: {why})");
            return;
        }
        let why = failed(stop(&mut b, &place));
        assert!(why.contains("fsfreeze -u"), "the remedy: {why}");
        assert!(matches!(release(&mut b), Outcome::Refused { .. }));
        assert!(!disk.is_free());
        // The remedy works.
        let elsewhere = disk.mount_at("elsewhere");
        run(Command::new("fsfreeze").arg("--unfreeze").arg(&elsewhere)).unwrap();
        pkgctl::host::mounts::unmount(elsewhere.to_str().unwrap()).unwrap();
        eventually("a free device", || matches!(stop(&mut b, &place), Outcome::Ok).then_some(()));
        assert_eq!(release(&mut b), Outcome::Ok);
    });
}

#[test]
fn with_the_lease_the_program_dies_and_the_filesystem_is_unmounted_by_the_keeper_alone() {
    scene("with_the_lease_the_program_dies_and_the_filesystem_is_unmounted_by_the_keeper_alone", |_| {
        let Some((mut b, disk, place)) = mounted(Root::Shared, "lapse") else { return };
        let script = format!("exec 3>{}/open; sleep 1000", disk.mount_point().display());
        if b.start(&b.place("program", TOKEN), &script, "lapse").is_none() {
            return;
        }
        let squatter = Squatter::in_dir(&disk.mount_point());
        b.voter.stop_acking();
        b.agent.hear(|frame| match frame {
            FromKeeper::Note { text, .. } if text.contains(&squatter.named()) => Some(()),
            _ => None,
        });
        assert_eq!(disk.mounts(), 1);
        squatter.end();
        let session = b.session;
        b.agent.over_session(session);
        assert!(disk.is_free(), "over only when nothing is left");
        let refused = start(&mut b, &place, disk.filesystem());
        assert!(matches!(refused, Outcome::Refused { .. }), "{refused:?}");
    });
}

#[test]
fn an_agent_that_comes_back_finds_the_mount_and_the_next_keepers_life_unmounts_what_a_killed_one_left() {
    scene("an_agent_that_comes_back_finds_the_mount_and_the_next_keepers_life_unmounts_what_a_killed_one_left", |_| {
        let Some((mut b, disk, place)) = mounted(Root::Private, "next life") else { return };
        let again = Agent::attach(&mut b.keeper);
        let what = RunningKind::Storage(disk.filesystem());
        assert_eq!(again.welcome.running, [Running { place, what }]);

        let squatter = Squatter::in_dir(&disk.mount_point());
        b.keeper.signal(Signal::SIGKILL);
        b.keeper.wait();
        let mut next = Keeper::start(&b.dir);
        eventually("what prevents it", || {
            let log = b.read("keeper.log");
            (log.contains("left by an earlier keeper") && log.contains(&squatter.named())).then_some(())
        });
        assert!(std::os::unix::net::UnixStream::connect(next.places.keeper_socket()).is_err(), "it does not listen");
        let told = std::fs::read_to_string(next.places.keeper_waits()).unwrap();
        assert!(told.contains("left by an earlier keeper"), "{told}");
        squatter.end();
        let agent = Agent::attach(&mut next);
        assert!(!next.places.keeper_waits().exists());
        assert!(agent.welcome.clean && agent.welcome.running.is_empty());
        assert_eq!((disk.mounts(), disk.layers(), disk.is_free()), (0, 0, true));
    });
}

#[test]
fn a_full_run_directory_holds_nothing_it_fails_starts_and_keeps_no_filesystem_mounted() {
    scene("a_full_run_directory_holds_nothing_it_fails_starts_and_keeps_no_filesystem_mounted", |_| {
        let Some(disk) = Disk::make(Root::Shared, "full run directory") else { return };
        let mut b = Bench::leased_in(|run_dir| {
            let size = Some("size=64k,mode=700");
            nix::mount::mount(None::<&str>, run_dir, Some("tmpfs"), nix::mount::MsFlags::empty(), size).unwrap();
        });
        let filler = b.keeper.places.run_dir().join("filler");
        let fill = || assert!(std::fs::write(&filler, vec![1; 1 << 20]).is_err());
        let place = b.place("filesystem", TOKEN);
        fill();
        let why = failed(start(&mut b, &place, disk.filesystem()));
        assert!(why.contains("storage.new: No space left on device"), "{why}");
        assert_eq!((disk.mounts(), release(&mut b)), (0, Outcome::Ok), "nothing is held");

        std::fs::remove_file(&filler).unwrap();
        let place = b.place("filesystem", TOKEN + 1);
        assert_eq!(start(&mut b, &place, disk.filesystem()), Outcome::Ok);
        fill();
        assert_eq!(stop(&mut b, &place), Outcome::Ok, "what is mounted goes without any room");
        assert!(disk.is_free());
    });
}

#[test]
fn a_device_or_mount_point_of_another_package_is_refused_whatever_its_name_and_stays_untouched() {
    scene("a_device_or_mount_point_of_another_package_is_refused_whatever_its_name_and_stays_untouched", |_| {
        let Some((mut b, disk, place)) = mounted(Root::Shared, "aliases") else { return };
        let second = Disk::in_a_file().unwrap();
        let device_alias = disk.path("device").display().to_string();
        std::os::unix::fs::symlink(&disk.device, &device_alias).unwrap();
        let mount_alias = disk.path("alias");
        std::os::unix::fs::symlink(disk.path("srv"), &mount_alias).unwrap();
        let with = |disk: &Disk, device: &str, mount: &Path| match disk.filesystem() {
            Storage::Filesystem(filesystem) => Storage::Filesystem(pkgctl::package::FilesystemResource {
                device: device.to_owned(),
                mount: mount.display().to_string(),
                ..filesystem
            }),
            Storage::Lun(_) => unreachable!("it is a filesystem"),
        };
        let own = b.keeper.places.run_dir().join("x");
        let other = |token| Place { package: PackageName::new("other").unwrap(), token: Token(token), ..place.clone() };
        let cases = [
            (with(&second, &second.device, &mount_alias.join("x")), "where package 'p' has a filesystem"),
            (with(&second, &second.device, &mount_alias.join("x/below")), "where package 'p' has a filesystem"),
            (with(&second, &second.device, &own), "pkgctl itself needs"),
        ];
        for (token, (storage, words)) in (TOKEN + 1..).zip(cases) {
            let why = failed(start(&mut b, &other(token), storage));
            assert!(why.contains(words), "{why}");
            assert!(second.is_free());
            let given_back = Op::Release { package: other(token).package, token: Token(token) };
            assert_eq!(b.agent.ask(given_back), Outcome::Ok, "it may go elsewhere");
        }
        // Under both names at once: its undoing must not take the other's mount away.
        let late = other(TOKEN + 9);
        let why = failed(start(&mut b, &late, with(&disk, &device_alias, &mount_alias.join("x"))));
        assert!(why.contains("of package 'p'") && why.contains(&device_alias), "{why}");
        assert_eq!(disk.mounts(), 1);
        let release = Op::Release { package: late.package.clone(), token: late.token };
        assert!(matches!(b.agent.ask(release.clone()), Outcome::Refused { .. }), "no other node may get it meanwhile");
        assert_eq!(stop(&mut b, &place), Outcome::Ok);
        assert!(disk.is_free());
        eventually("the end of the other", || matches!(b.agent.ask(release.clone()), Outcome::Ok).then_some(()));
    });
}

#[test]
fn a_device_without_reservations_is_no_lun() {
    scene("a_device_without_reservations_is_no_lun", |_| {
        let Some(disk) = Disk::make(Root::Shared, "no lun") else { return };
        let mut b = Bench::leased();
        let place = b.place("lun", TOKEN);
        let why = failed(start(&mut b, &place, disk.lun()));
        assert!(why.starts_with(&disk.device) && why.contains("has no persistent reservations"), "{why}");
        assert_eq!(release(&mut b), Outcome::Ok, "nothing of it is left");
        let log = b.read("keeper.log");
        assert!(!log.contains("registration could not be ended"), "there was none: {log}");
    });
}

#[test]
fn what_cannot_be_mounted_is_said_and_leaves_nothing() {
    scene("what_cannot_be_mounted_is_said_and_leaves_nothing", |_| {
        let Some(disk) = Disk::make(Root::Private, "refusals") else { return };
        let mut b = Bench::leased();
        let place = b.place("filesystem", TOKEN);
        let other = |change: fn(&mut pkgctl::package::FilesystemResource)| match disk.filesystem() {
            Storage::Filesystem(mut filesystem) => {
                change(&mut filesystem);
                Storage::Filesystem(filesystem)
            }
            Storage::Lun(_) => unreachable!("it is a filesystem"),
        };
        let elsewhere = disk.mount_at("elsewhere");
        let why = failed(start(&mut b, &place, disk.filesystem()));
        assert!(why.contains("in use on this node") && why.contains("elsewhere"), "{why}");
        assert!(matches!(release(&mut b), Outcome::Refused { .. }), "another node must not mount it meanwhile");
        pkgctl::host::mounts::unmount(elsewhere.to_str().unwrap()).unwrap();
        eventually("a free device", || matches!(stop(&mut b, &place), Outcome::Ok).then_some(()));
        for (storage, words) in [
            (other(|f| f.filesystem = "pkgctlfs".to_owned()), "no fsck.pkgctlfs"),
            (other(|f| (f.filesystem, f.fsck) = ("pkgctlfs".to_owned(), false)), "knows no filesystem"),
            (other(|f| f.options = vec!["pkgctl=1".to_owned()]), "one of its options"),
            (other(|f| f.device = "/dev/pkgctl-none".to_owned()), "no such device"),
        ] {
            let why = failed(start(&mut b, &place, storage));
            assert!(why.contains(words), "{why}");
            assert_eq!((disk.mounts(), disk.layers(), disk.is_free()), (0, 0, true), "{why}");
        }
        assert_eq!(release(&mut b), Outcome::Ok);
    });
}
