//! The lab itself, around a bare program and no cluster: it must measure what is there, and do what it says.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::geteuid;
use pkgctl::lab::verdict::{Fault, Verdict, judge};
use pkgctl::lab::{
    Cable, Direction, Lab, LabError, LabSpec, Moment, Observer, PROBE_EVERY, Place, Probe, ProbeResult,
    floating_address, wait_until,
};

const PKGCTL: &str = env!("CARGO_BIN_EXE_pkgctl");
const PORT: u16 = 8080;
/// Far more than anything here takes, even on a loaded machine: these tests assert order and absence, not speed.
const LONG: Duration = Duration::from_secs(60);
/// Set for a copy of this test binary that holds a lab until it is killed.
const HOLD: &str = "PKGCTL_TEST_HOLD_LAB";

/// Builds a lab, or says why the test is skipped. Written past the test harness's capture: a skip must be seen.
fn built(spec: LabSpec) -> Option<Lab> {
    match Lab::build(spec) {
        Ok(lab) => Some(lab),
        Err(LabError::NotPermitted { reason }) => {
            let _ = writeln!(std::io::stderr(), "skipped 1 test of the lab: {reason}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// The demo program on `listen`, as a node's command.
fn program(place: &Place, listen: Ipv4Addr) -> Vec<String> {
    let beats = place.beats.to_string_lossy().into_owned();
    let listen = format!("{listen}:{PORT}");
    [PKGCTL, "demo-program", "--listen", &listen, "--beats", &beats, "--name", &place.name].map(str::to_owned).to_vec()
}

fn shell(script: String) -> Vec<String> {
    ["/bin/sh", "-c", &script].map(str::to_owned).to_vec()
}

fn on(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, PORT))
}

fn answered(observer: &Observer, since: Moment, node: &str) -> Probe {
    let answer = observer.wait_for_answer(since, LONG, |reply| reply.node == node);
    answer.unwrap_or_else(|| panic!("no answer from {node} to a probe sent after {since:?}: {:?}", tail(observer)))
}

fn tail(observer: &Observer) -> Vec<Probe> {
    observer.probes().into_iter().rev().take(3).collect()
}

/// Waits until `count` probes sent after `since` have failed, and panics if one of them was answered.
fn all_fail(observer: &Observer, since: Moment, count: usize) {
    let failed = observer.wait_for(LONG, |probes| {
        let after = probes.iter().filter(|p| p.sent >= since);
        let answered = after.clone().filter(|p| matches!(p.result, ProbeResult::Answered(_))).count();
        assert_eq!(answered, 0, "a probe was answered across a cut");
        (after.count() >= count).then_some(())
    });
    assert!(failed.is_some(), "the observer stopped probing");
}

fn verdict(lab: &Lab, observer: Observer, owner: &str, from: Moment, to: Moment) -> Verdict {
    let probes = observer.finish();
    let fault = Fault { at: from, owner: owner.to_owned(), from, to };
    let verdict = judge(&fault, &probes, &lab.lives().unwrap(), PROBE_EVERY);
    eprintln!("{verdict:?}");
    verdict
}

/// A window of time in which `count` more probes were answered.
fn window(observer: &Observer, count: usize) -> (Moment, Moment) {
    let from = Moment::now();
    let enough = observer.wait_for(LONG, |probes| {
        let after = probes.iter().filter(|p| p.sent >= from && matches!(p.result, ProbeResult::Answered(_)));
        (after.count() >= count).then_some(())
    });
    assert!(enough.is_some(), "no answers: {:?}", tail(observer));
    (from, Moment::now())
}

#[test]
fn two_nodes_with_one_address_are_seen_acting_at_once_and_one_alone_is_not() {
    let shared = floating_address(0);
    let spec = LabSpec::new(PKGCTL, &["n1", "n2"]).alias("n1", shared).alias("n2", shared);
    let Some(lab) = built(spec.command(move |place| program(place, shared))) else { return };
    let both = wait_until(LONG, || (lab.lives().unwrap().len() == 2).then_some(()));
    both.unwrap_or_else(|| panic!("{}\n{}", lab.console("n1"), lab.console("n2")));

    let observer = Observer::start(&lab, on(shared)).unwrap();
    let (from, to) = window(&observer, 100);
    let seen = observer.probes();
    let name = |probe: &Probe| match &probe.result {
        ProbeResult::Answered(reply) => Some(reply.node.clone()),
        ProbeResult::Failed(_) => None,
    };
    let answering = seen.iter().rev().find_map(name).expect("the window holds answers");
    let nodes: BTreeSet<String> = seen.iter().filter_map(name).collect();
    let both = verdict(&lab, observer, &answering, from, to);
    assert!(both.double_activity <= to.since(from), "more double activity than time");
    assert!(both.double_activity > to.since(from) / 4, "both programs ran all the time, yet only {both:?}");
    // Why beats are needed at all: the client's answers alone usually come from one node.
    eprintln!("the client saw answers of {nodes:?}");

    let other = if answering == "n1" { "n2" } else { "n1" };
    lab.power_off(other).unwrap();
    let observer = Observer::start(&lab, on(shared)).unwrap();
    let (from, to) = window(&observer, 100);
    let alone = verdict(&lab, observer, &answering, from, to);
    assert_eq!(alone.double_activity, Duration::ZERO, "{alone:?}");
    assert_eq!(alone.first_other, None);
    assert!(alone.answered >= 100, "{alone:?}");
}

/// Peers from which `node` has half-open connections: their SYN arrived, the answer to our SYN-ACK did not.
fn half_open(lab: &Lab, node: &str) -> BTreeSet<Ipv4Addr> {
    const SYN_RECV: &str = "03";
    let output = lab.run_in(node, &["/bin/cat", "/proc/net/tcp"], LONG).unwrap();
    assert!(output.success(), "{output:?}");
    let peers = output.stdout.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(2);
        let (peer, state) = (fields.next()?, fields.next()?);
        let address = u32::from_str_radix(peer.split_once(':')?.0, 16).ok()?;
        (state == SYN_RECV).then(|| Ipv4Addr::from(address.to_ne_bytes()))
    });
    peers.collect()
}

#[test]
fn a_cut_stops_what_it_says_and_a_heal_brings_it_back() {
    let spec = LabSpec::new(PKGCTL, &["n1", "n2"]).command(|place| program(place, Ipv4Addr::UNSPECIFIED));
    let Some(lab) = built(spec) else { return };
    let (one, two) = (lab.address("n1"), lab.address("n2"));
    let to_two = Observer::start_in(&lab, "n1", on(two)).unwrap();
    let to_one = Observer::start_in(&lab, "n2", on(one)).unwrap();
    let whole = |since: Moment| {
        answered(&to_two, since, "n2");
        answered(&to_one, since, "n1");
        let quiet = || (half_open(&lab, "n1").is_empty() && half_open(&lab, "n2").is_empty()).then_some(());
        wait_until(LONG, quiet).expect("connections of the last cut stay half open");
    };
    let arrives = |at: &str, from: Ipv4Addr| wait_until(LONG, || half_open(&lab, at).contains(&from).then_some(()));
    let silence = |since: Moment| {
        all_fail(&to_two, since, 50);
        all_fail(&to_one, since, 50);
    };
    whole(Moment::now());

    lab.cut("n1", Direction::Both).unwrap();
    silence(Moment::now());
    assert!(half_open(&lab, "n1").is_empty() && half_open(&lab, "n2").is_empty(), "something crossed a full cut");
    lab.heal("n1").unwrap();
    whole(Moment::now());

    // n1 is not heard, but hears.
    lab.cut("n1", Direction::Out).unwrap();
    silence(Moment::now());
    arrives("n1", two).expect("n1 should still hear n2");
    assert!(half_open(&lab, "n2").is_empty(), "n2 heard n1");
    lab.heal("n1").unwrap();
    whole(Moment::now());

    // n1 hears nothing, but is heard.
    lab.cut("n1", Direction::In).unwrap();
    silence(Moment::now());
    arrives("n2", one).expect("n2 should still hear n1");
    assert!(half_open(&lab, "n1").is_empty(), "n1 heard n2");
    // One cut replaces another, and a heal takes back whatever is there.
    lab.cut("n1", Direction::Both).unwrap();
    lab.cut("n1", Direction::Out).unwrap();
    silence(Moment::now());
    lab.heal("n1").unwrap();
    lab.heal("n1").unwrap();
    whole(Moment::now());
}

#[test]
fn two_nodes_apart_are_heard_by_a_third_and_loss_takes_a_share() {
    let spec = LabSpec::new(PKGCTL, &["n1", "n2", "n3"]).command(|place| program(place, Ipv4Addr::UNSPECIFIED));
    let Some(lab) = built(spec) else { return };
    let target = on(lab.address("n1"));
    let (by_two, by_three) =
        (Observer::start_in(&lab, "n2", target).unwrap(), Observer::start_in(&lab, "n3", target).unwrap());
    answered(&by_two, Moment::now(), "n1");
    let apart = Cable { apart_from: ["n2".to_owned()].into(), ..Cable::default() };
    lab.cable("n1", apart.clone()).unwrap();
    let since = Moment::now();
    all_fail(&by_two, since, 50);
    answered(&by_three, since, "n1");

    // Half of the packets: many probes still get through, and many do not.
    lab.cable("n1", Cable { loss_percent: 50, ..Cable::default() }).unwrap();
    let since = Moment::now();
    let both = by_two.wait_for(LONG, |probes| {
        let after = probes.iter().filter(|p| p.sent >= since);
        let lost = after.clone().filter(|p| matches!(p.result, ProbeResult::Failed(_))).count();
        (lost >= 20 && after.count() >= lost + 5).then_some(())
    });
    assert!(both.is_some(), "{:?}", tail(&by_two));

    // A cable that is changed while something is wrong with it, and whole in the end.
    lab.cable("n1", Cable { loss_percent: 30, ..apart }).unwrap();
    all_fail(&by_two, Moment::now(), 50);
    lab.heal("n1").unwrap();
    answered(&by_two, Moment::now(), "n1");
    assert!(lab.cable("n1", Cable { apart_from: ["nonesuch".to_owned()].into(), ..Cable::default() }).is_err());
}

#[test]
fn a_small_disk_holds_so_much_and_keeps_it_without_power() {
    let spec = LabSpec::new(PKGCTL, &["n1"]).small("n1", "state", 1 << 20);
    let Some(lab) = built(spec) else { return };
    let file = lab.place("n1").disk.join("state/file").display().to_string();
    let write = |count: &str| {
        let words = ["dd", "if=/dev/zero", &format!("of={file}"), "bs=65536", &format!("count={count}")];
        lab.run_in("n1", &words, LONG).unwrap().success()
    };
    assert!(!write("32"), "two megabytes do not fit");
    assert!(write("2"));
    lab.power_off("n1").unwrap();
    lab.power_on("n1").unwrap();
    assert!(lab.run_in("n1", &["test", "-s", &file], LONG).unwrap().success());
}

#[test]
fn a_node_without_power_is_gone_and_comes_back_over_its_disk() {
    let spec = LabSpec::new(PKGCTL, &["n1"]).command(|place| {
        let serve = program(place, Ipv4Addr::UNSPECIFIED).join(" ");
        shell(format!("echo started >> {}/starts; exec {serve}", place.disk.display()))
    });
    let Some(lab) = built(spec) else { return };
    let starts = || std::fs::read_to_string(lab.place("n1").disk.join("starts")).unwrap_or_default().lines().count();
    let observer = Observer::start(&lab, on(lab.address("n1"))).unwrap();
    answered(&observer, Moment(0), "n1");
    assert_eq!(starts(), 1);

    let running = lab.processes("n1").unwrap();
    assert_eq!(running.iter().filter_map(|p| p.role()).collect::<Vec<_>>(), ["demo-program"]);
    lab.power_off("n1").unwrap();
    let off = Moment::now();
    assert!(running.iter().all(|p| p.again().is_none()), "a process outlived the power");
    assert!(matches!(lab.processes("n1"), Err(LabError::NotRunning { .. })));
    all_fail(&observer, off, 50);

    lab.power_on("n1").unwrap();
    answered(&observer, Moment::now(), "n1");
    assert_eq!(starts(), 2, "the disk was not the same");

    // As systemd would, init starts again what has ended.
    let before = lab.processes("n1").unwrap();
    lab.kill(&before[0]).unwrap();
    wait_until(LONG, || before[0].again().is_none().then_some(())).expect("a killed process should end");
    answered(&observer, Moment::now(), "n1");
    assert_eq!(starts(), 3);
    assert_ne!(lab.processes("n1").unwrap(), before);
}

#[test]
fn the_frozen_stand_still_and_freezing_ours_leaves_the_program_alone() {
    // Something called pkgctl that is neither the lab's nor the user's stands for an agent.
    let spec = LabSpec::new(PKGCTL, &["n1"]).command(|place| {
        let (disk, serve) = (place.disk.display(), program(place, Ipv4Addr::UNSPECIFIED).join(" "));
        shell(format!("cp /bin/sleep {disk}/pkgctl; {disk}/pkgctl 100000 & exec {serve}"))
    });
    let Some(lab) = built(spec) else { return };
    let observer = Observer::start(&lab, on(lab.address("n1"))).unwrap();
    answered(&observer, Moment(0), "n1");
    let ours = wait_until(LONG, || lab.processes("n1").unwrap().into_iter().find(|p| p.is_ours()));
    let ours = ours.expect("the stand-in for an agent should run");

    let (_, frozen) = lab.freeze_ours("n1").unwrap();
    assert_eq!(frozen.iter().map(|p| p.pid).collect::<Vec<_>>(), [ours.pid]);
    assert_eq!(ours.again().map(|p| p.state), Some('T'));
    answered(&observer, Moment::now(), "n1");
    lab.thaw(&frozen).unwrap();
    wait_until(LONG, || (ours.again()?.state != 'T').then_some(())).expect("a thawed process should go on");

    let processes = lab.processes("n1").unwrap();
    let program: Vec<_> = processes.into_iter().filter(|p| p.role() == Some("demo-program")).collect();
    assert_eq!(program.len(), 1);
    lab.freeze(&program).unwrap();
    let frozen_at = Moment::now();
    let failed = |p: &&Probe| p.sent >= frozen_at && matches!(p.result, ProbeResult::Failed(_));
    observer.wait_for(LONG, |probes| probes.iter().find(failed).map(|_| ())).expect("the frozen should not answer");
    let thawed_at = Moment::now();
    lab.thaw(&program).unwrap();
    answered(&observer, thawed_at, "n1");
    let lives = lab.lives().unwrap();
    assert_eq!(lives.len(), 1, "the program was to be frozen, not restarted");
    let beats_within = lives[0].beats.iter().filter(|b| frozen_at < **b && **b < thawed_at).count();
    assert_eq!(beats_within, 0, "a frozen program recorded that it lived");
    assert!(lives[0].beats.iter().any(|b| *b > thawed_at));
}

#[test]
fn a_command_in_a_node_gives_its_output_and_its_code_and_is_killed_when_it_takes_too_long() {
    let Some(lab) = built(LabSpec::new(PKGCTL, &["n1"])) else { return };
    let run = |script: &str, limit| lab.run_in("n1", &["/bin/sh", "-c", script], limit);
    let output = run("cat /proc/sys/kernel/hostname; echo oh >&2; exit 7", LONG).unwrap();
    assert_eq!((output.code, output.stdout.as_str(), output.stderr.as_str()), (Some(7), "n1\n", "oh\n"));
    // A daemon left behind keeps the outputs open; the command has ended all the same.
    assert!(run("sleep 100000 & echo started", LONG).unwrap().success());
    let late = run("echo begun; sleep 100000", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(&late, LabError::TimedOut { printed, .. } if printed == "begun\n"), "{late}");
    assert!(matches!(lab.run_in("n1", &["/no/such/program"], LONG), Ok(output) if output.code == Some(127)));
    assert!(matches!(lab.power_on("n1"), Err(LabError::Refused { .. })), "on twice");
    lab.power_off("n1").unwrap();
    assert!(matches!(lab.power_off("n1"), Err(LabError::Refused { .. })), "off twice");
    assert!(matches!(lab.run_in("n1", &["/bin/true"], LONG), Err(LabError::NotRunning { .. })));
}

/// Not a test by itself: the process that the next one kills.
#[test]
fn holds_a_lab_when_told_to() {
    if std::env::var_os(HOLD).is_none() {
        return;
    }
    let spec = LabSpec::new(PKGCTL, &["n1"]).command(|place| program(place, Ipv4Addr::UNSPECIFIED));
    let Some(lab) = built(spec) else { return };
    let scratch = lab.scratch().display().to_string();
    let beats = lab.place("n1").beats.display().to_string();
    let pids = [lab.init_pid("n1").unwrap(), lab.init_pid("client").unwrap()];
    let mut out = std::io::stdout();
    writeln!(out, "\nHOLDING {} {} {scratch} {beats}", pids[0], pids[1]).unwrap();
    out.flush().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn when_the_owner_of_a_lab_is_killed_nothing_of_the_lab_remains() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holds_a_lab_when_told_to", "--nocapture"])
        .env(HOLD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let holding = lines.filter_map(|line| line.strip_prefix("HOLDING ").map(str::to_owned)).next();
    let Some(holding) = holding else {
        owner.wait().unwrap();
        return;
    };
    let [one, client, scratch, beats] = holding.split(' ').collect::<Vec<_>>()[..] else { panic!("{holding}") };
    let inits = [one, client].map(|pid| format!("/proc/{pid}"));
    assert!(inits.iter().all(|p| Path::new(p).exists()) && Path::new(scratch).exists() && Path::new(beats).exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    let gone = || {
        let paths = inits.iter().map(String::as_str).chain([scratch, beats]);
        paths.into_iter().all(|path| !Path::new(path).exists()).then_some(())
    };
    wait_until(LONG, gone).expect("a killed owner left something behind");
}

#[test]
fn another_user_than_root_gets_the_same_lab_without_real_time_scheduling() {
    const NOBODY: u32 = 65534;
    if !geteuid().is_root() {
        // Then all other tests here have just shown it.
        let Some(lab) = built(LabSpec::new(PKGCTL, &["n1"])) else { return };
        assert!(!lab.privileged());
        return;
    }
    let me = std::env::current_exe().unwrap();
    let as_nobody = |program: &Path| {
        let mut command = Command::new(program);
        command.uid(NOBODY).gid(NOBODY).current_dir("/").env_remove("TMPDIR").env_remove("HOME");
        command
    };
    let reachable = |program: &Path| {
        let list = as_nobody(program).arg("--list").stdout(Stdio::null()).stderr(Stdio::null()).status();
        list.is_ok()
    };
    if !reachable(&me) || !reachable(Path::new(PKGCTL)) {
        let _ = writeln!(std::io::stderr(), "skipped 1 test of the lab: uid {NOBODY} cannot run {}", me.display());
        return;
    }
    let output = as_nobody(&me).arg("--test-threads=2").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    eprintln!("as uid {NOBODY}:\n{printed}");
    assert!(output.status.success(), "as uid {NOBODY} it fails:\n{printed}");
}
