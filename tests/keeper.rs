//! The keeper as a real process, with no cluster: the test plays its agent and the other voters, so that it feeds the
//! lease by hand. Each test has network namespaces of its own: a keeper takes away what it finds of an earlier one. What
//! needs namespaces says so and passes where they are refused.

#[path = "keeper/bench.rs"]
mod bench;
#[path = "keeper/processes.rs"]
mod processes;
#[path = "guard/scene.rs"]
#[allow(dead_code, reason = "shared with another test, which uses all of it")]
mod scene;

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use bench::{Agent, Bench, Keeper, TTL, introduce};
use nix::sys::signal::Signal;
use pkgctl::engine::lease::Message;
use pkgctl::engine::{BootTime, NodeId};
use pkgctl::host::clock::boot_now;
use pkgctl::keeper::protocol::{Exit, FromKeeper, Op, Outcome, Running, RunningKind, ToKeeper};
use pkgctl::package::Millis;
use processes::{await_end, children, eventually, family, freeze, is_alive, open, thaw, try_open};
use scene::scene;

/// Writes the uptime, which is CLOCK_BOOTTIME, to a file again and again.
const BEATS: &str = "while :; do read up idle </proc/uptime; echo $up >>beats; sleep 0.004; done";

/// The last beat: the program ran then.
fn last_beat(bench: &Bench) -> BootTime {
    let beats = bench.read("beats");
    let last = beats.lines().last().expect("a beat");
    let seconds: f64 = last.parse().expect("an uptime");
    BootTime((seconds * 1e9) as u64)
}

#[test]
fn with_everything_frozen_a_program_is_dead_before_any_voters_promise_ends_and_the_thawed_keeper_finds_its_place() {
    scene(
        "with_everything_frozen_a_program_is_dead_before_any_voters_promise_ends_and_the_thawed_keeper_finds_its_place",
        |_| {
            let mut b = Bench::leased();
            let place = b.place("program", 100);
            let Some(pid) = b.start(&place, BEATS, "frozen keeper") else { return };
            let program = open(pid);
            eventually("a beat", || b.read("beats").contains('.').then_some(()));
            let leash = children(b.keeper.pid())[0];
            let init = children(leash)[0];
            for frozen in [b.keeper.pid(), leash, init] {
                freeze(frozen);
            }
            await_end(&program, "the program of a frozen keeper");
            let promise = b.voter.promise_ends();
            let beat = last_beat(&b);
            println!("last beat {:?} before the promise's end", promise - beat);
            assert!(beat < promise, "{beat:?} is after the promise's end {promise:?}");
            assert!(is_alive(b.keeper.pid()), "it is frozen, not dead");

            b.voter.stop_acking();
            thaw(b.keeper.pid());
            let lapsed =
                |frame: &FromKeeper| matches!(frame, FromKeeper::Lapsed { place: p, .. } if *p == place).then_some(());
            b.agent.hear(lapsed);
            let session = b.session;
            b.agent.over_session(session);
            b.voter.heard();
            b.voter.ack_again();
            assert!(matches!(
                b.agent.ask(Op::StartProgram { place, program: b.script("true") }),
                Outcome::Refused { .. }
            ));

            // A new session, superseding the old one: everything works again.
            let (next, registered) = b.log.register(1, b.agent.welcome.nonce);
            b.agent.say(&registered);
            b.agent.leased(next);
            let renewed = b.voter.heard();
            let of_old = |m: &&Message| matches!(m, Message::Renew { session: s, .. } if *s == session);
            assert_eq!(renewed.iter().filter(of_old).count(), 0, "rule 8a: {renewed:?}");
            b.session = next;
            let place = b.place("program", 101);
            assert!(b.start(&place, "sleep 1000", "frozen keeper").is_some());
        },
    );
}

#[test]
fn without_a_majority_the_lease_ends_and_with_it_the_program_although_nothing_is_frozen() {
    scene("without_a_majority_the_lease_ends_and_with_it_the_program_although_nothing_is_frozen", |_| {
        let mut b = Bench::leased();
        let place = b.place("program", 100);
        let Some(pid) = b.start(&place, BEATS, "no majority") else { return };
        let program = open(pid);
        eventually("a beat", || b.read("beats").contains('.').then_some(()));
        b.voter.stop_acking();
        await_end(&program, "the program");
        assert!(last_beat(&b) < b.voter.promise_ends());
        let session = b.session;
        b.agent.over_session(session);
        let heard = b.voter.heard();
        assert!(heard.iter().any(|m| matches!(m, Message::Query { .. })), "rule 8a");
    });
}

#[test]
fn a_keeper_whose_socket_is_removed_keeps_its_agent_and_is_found_by_the_next() {
    scene("a_keeper_whose_socket_is_removed_keeps_its_agent_and_is_found_by_the_next", |_| {
        let mut b = Bench::leased();
        let path = b.keeper.places.keeper_socket();
        std::fs::remove_file(&path).unwrap();
        let noted = |frame: &FromKeeper| match frame {
            FromKeeper::Note { text, .. } if text.contains("was taken away") => Some(text.clone()),
            _ => None,
        };
        let text = b.agent.hear(noted);
        assert!(text.contains("it is there again"), "{text}");
        assert!(path.exists());

        // What a live process has is left to it.
        std::fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        let text = b.agent.hear(noted);
        assert!(text.contains("another process listens there"), "{text}");
        drop(other);
        let text = b.agent.hear(noted);
        assert!(text.contains("it is there again"), "{text}");
        assert!(matches!(b.agent.ask(Op::Announce), Outcome::Ok), "the agent stays attached");
        let next = Agent::attach(&mut b.keeper);
        assert_eq!(next.welcome.nonce, b.agent.welcome.nonce, "the same keeper");
    });
}

#[test]
fn another_agent_finds_the_program_running_with_the_same_pid() {
    scene("another_agent_finds_the_program_running_with_the_same_pid", |_| {
        let mut b = Bench::leased();
        let place = b.place("program", 100);
        let Some(pid) = b.start(&place, "sleep 1000", "agent restart") else { return };
        let nonce = b.agent.welcome.nonce;
        b.agent = Agent::attach(&mut b.keeper);
        let welcome = &b.agent.welcome;
        let what = RunningKind::Program { pid, exited: None };
        assert_eq!(welcome.running, [Running { place: place.clone(), what }]);
        assert_eq!((welcome.nonce, welcome.lease.session), (nonce, Some(b.session)));
        assert!(welcome.lease.left > Millis(0) && !welcome.lease.over);
        assert_eq!(welcome.largest.get(&place.package), Some(&place.token));
        assert_eq!(b.start(&place, "sleep 1000", "agent restart"), Some(pid), "it is found, not started again (L18)");
        assert!(is_alive(pid));
    });
}

#[test]
fn an_exit_without_an_agent_is_handed_over_to_the_next_one() {
    scene("an_exit_without_an_agent_is_handed_over_to_the_next_one", |_| {
        let mut b = Bench::leased();
        let place = b.place("program", 100);
        let Some(pid) = b.start(&place, "while ! [ -e go ]; do sleep 0.01; done; exit 7", "exit kept") else { return };
        let program = open(pid);
        drop(std::mem::replace(&mut b.agent, Agent::attach(&mut b.keeper)));
        b.agent.hang_up();
        std::fs::write(b.dir.join("go"), "").unwrap();
        await_end(&program, "the program");
        eventually("its leash to end", || children(b.keeper.pid()).is_empty().then_some(()));
        b.agent = Agent::attach(&mut b.keeper);
        let what = RunningKind::Program { pid, exited: Some(Exit::Code(7)) };
        assert_eq!(b.agent.welcome.running, [Running { place, what }]);
    });
}

#[test]
fn a_programs_end_takes_its_leftovers_along_and_is_told_only_then() {
    scene("a_programs_end_takes_its_leftovers_along_and_is_told_only_then", |_| {
        let mut b = Bench::leased();
        let place = b.place("program", 100);
        let text = "setsid sleep 1000 & echo $! >left; while ! [ -e go ]; do sleep 0.01; done; exit 3";
        if b.start(&place, text, "leftovers").is_none() {
            return;
        }
        eventually("the leftover", || b.read("left").contains('\n').then_some(()));
        let leash = children(b.keeper.pid())[0];
        // A short sleep among them may have ended meanwhile.
        let all: Vec<_> = family(leash).into_iter().filter_map(try_open).collect();
        assert!(all.len() >= 4, "leash, init, shell, leftover");
        std::fs::write(b.dir.join("go"), "").unwrap();
        let exit = b.agent.hear(|frame| match frame {
            FromKeeper::Exited { place: p, exit } if *p == place => Some(*exit),
            _ => None,
        });
        assert_eq!(exit, Exit::Code(3));
        assert!(all.iter().all(|process| process.ended()), "everything of it is gone when its end is told");
        assert!(b.start(&place, "sleep 1000", "leftovers").is_some(), "it starts again in place");
    });
}

#[test]
fn a_stop_asks_first_and_kills_after_the_grace() {
    scene("a_stop_asks_first_and_kills_after_the_grace", |_| {
        let mut b = Bench::leased();
        let kind = b.place("kind", 100);
        if b.start(&kind, "trap 'echo bye >bye; exit 0' TERM; touch up1; while :; do sleep 0.01; done", "stop")
            .is_none()
        {
            return;
        }
        eventually("the trap to be set", || b.dir.join("up1").exists().then_some(()));
        let stop = |place, grace| Op::StopProgram { place, signal: Signal::SIGTERM as i32, grace };
        assert_eq!(b.agent.ask(stop(kind, Millis::from_secs(60))), Outcome::Ok);
        assert_eq!(b.read("bye"), "bye\n");
        let stubborn = b.place("stubborn", 100);
        let pid =
            b.start(&stubborn, "trap '' TERM; touch up2; while :; do sleep 0.01; done", "stop").expect("as before");
        eventually("the trap to be set", || b.dir.join("up2").exists().then_some(()));
        assert_eq!(b.agent.ask(stop(stubborn.clone(), Millis(50))), Outcome::Ok);
        assert!(!is_alive(pid));
        assert_eq!(b.agent.ask(Op::Release { package: stubborn.package.clone(), token: stubborn.token }), Outcome::Ok);
        let again = Op::StartProgram { place: stubborn, program: b.script("true") };
        assert!(matches!(b.agent.ask(again), Outcome::Refused { .. }), "rule 20");
    });
}

#[test]
fn a_program_that_cannot_be_executed_fails_its_start_with_a_reason_and_leaves_nothing() {
    scene("a_program_that_cannot_be_executed_fails_its_start_with_a_reason_and_leaves_nothing", |_| {
        let mut b = Bench::leased();
        let place = b.place("program", 100);
        let mut program = b.script("");
        program.command = vec!["/no/such/program".to_owned()];
        let Outcome::Failed { why } = b.agent.ask(Op::StartProgram { place, program }) else { panic!("it must fail") };
        println!("{why}");
        assert!(why.contains("/no/such/program") || why.contains("namespace"), "{why}");
        assert_eq!(children(b.keeper.pid()), [0; 0]);
    });
}

#[test]
fn a_killed_keeper_takes_everything_along_and_the_next_one_resumes_no_session() {
    scene("a_killed_keeper_takes_everything_along_and_the_next_one_resumes_no_session", |_| {
        let mut b = Bench::leased();
        let place = b.place("program", 100);
        let Some(_) = b.start(&place, "setsid sleep 1000 & sleep 1000", "killed keeper") else { return };
        let leash = children(b.keeper.pid())[0];
        let family: Vec<_> = family(leash).into_iter().filter_map(try_open).collect();
        let nonce = b.agent.welcome.nonce;
        b.keeper.signal(Signal::SIGKILL);
        for process in &family {
            await_end(process, "a process of a killed keeper");
        }
        b.keeper.wait();
        b.voter.heard();
        b.keeper = Keeper::start(&b.dir);
        b.agent = Agent::attach(&mut b.keeper);
        let welcome = b.agent.welcome.clone();
        assert_ne!(welcome.nonce, nonce);
        assert!(welcome.clean && welcome.running.is_empty());
        assert_eq!(welcome.lease.session, None);
        // It is told of the old session, which is still live in the log, and must not touch it (rule 4).
        let old = b.session;
        b.agent.say(&ToKeeper::Configure(b.log.configuration(1)));
        b.log = replayed(&mut b, nonce);
        let (session, registered) = b.log.register(1, welcome.nonce);
        b.agent.say(&registered);
        b.agent.leased(session);
        let of_old = |m: &&Message| matches!(m, Message::Renew { session, .. } if *session == old);
        assert_eq!(b.voter.heard().iter().filter(of_old).count(), 0);
    });
}

/// The log from its beginning, as a restarted keeper is told it.
fn replayed(b: &mut Bench, old_nonce: pkgctl::engine::Nonce) -> bench::Log {
    let mut log = bench::Log { index: 0, addresses: b.log.addresses.clone() };
    let steps = [log.lease_set(), log.voter_up(1, old_nonce), log.register(1, old_nonce).1];
    steps.iter().for_each(|step| b.agent.say(step));
    let up = log.voter_up(1, b.agent.welcome.nonce);
    b.agent.say(&up);
    log
}

#[test]
fn two_keepers_do_not_run_on_one_root() {
    scene("two_keepers_do_not_run_on_one_root", |_| {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Keeper::start(dir.path());
        let _agent = Agent::attach(&mut first);
        let second =
            std::process::Command::new(bench::EXE).arg("keeper").arg("--root").arg(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&second.stderr);
        assert!(!second.status.success() && text.contains("another keeper runs"), "{text}");
        assert!(text.contains(&first.pid().to_string()), "{text}");
        Agent::attach(&mut first);
    });
}

#[test]
fn the_socket_is_its_owners_alone() {
    scene("the_socket_is_its_owners_alone", |_| {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::start(dir.path());
        keeper.connect();
        let mode = std::fs::metadata(keeper.places.keeper_socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    });
}

#[test]
fn garbage_from_agent_and_network_harms_nothing() {
    scene("garbage_from_agent_and_network_harms_nothing", |_| {
        let mut b = Bench::leased();
        let mut seed = 12345u32;
        let mut noise = |bytes: usize| {
            let next = || {
                seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
                (seed >> 24) as u8
            };
            std::iter::repeat_with(next).take(bytes).collect::<Vec<u8>>()
        };
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        for round in 0..200 {
            let mut bytes = noise(round * 7 % 1500);
            if round % 2 == 0 && bytes.len() > 5 {
                bytes[..5].copy_from_slice(b"PKGD\x01");
            }
            stranger.send_to(&bytes, b.log.addresses[&NodeId(1)]).unwrap();
        }
        for _ in 0..20 {
            let mut stream = b.keeper.connect();
            // Whatever it makes of this, it closes the connection.
            let _ = stream.write_all(&noise(300));
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        }
        let before = b.agent.welcome.nonce;
        b.agent = Agent::attach(&mut b.keeper);
        assert_eq!(b.agent.welcome.nonce, before, "it has not restarted");
        assert_eq!(b.agent.welcome.lease.session, Some(b.session));
        assert!(!b.agent.welcome.lease.over);
    });
}

#[test]
fn told_to_end_with_no_agent_it_stops_what_runs_and_ends_well() {
    scene("told_to_end_with_no_agent_it_stops_what_runs_and_ends_well", |_| {
        let mut b = Bench::leased();
        let place = b.place("program", 100);
        let text = "trap 'echo bye >bye; exit 0' TERM; touch up; while :; do sleep 0.01; done";
        if b.start(&place, text, "orderly end").is_none() {
            return;
        }
        eventually("the trap to be set", || b.dir.join("up").exists().then_some(()));
        b.agent.hang_up();
        b.keeper.signal(Signal::SIGTERM);
        assert_eq!(b.keeper.wait(), Some(0));
        assert_eq!(b.read("bye"), "bye\n");
        assert!(!b.keeper.places.keeper_socket().exists());
    });
}

#[test]
fn told_to_end_with_an_agent_it_asks_the_agent_and_waits_for_it() {
    scene("told_to_end_with_an_agent_it_asks_the_agent_and_waits_for_it", |_| {
        let mut b = Bench::leased();
        b.keeper.signal(Signal::SIGTERM);
        b.agent.hear(|frame| matches!(frame, FromKeeper::Leaving { .. }).then_some(()));
        b.agent.say(&ToKeeper::Alive);
        assert!(b.keeper.child.try_wait().unwrap().is_none());
        b.agent.say(&ToKeeper::Retire { why: "told to end".to_owned() });
        assert_eq!(b.keeper.wait(), Some(0));
    });
}

#[test]
fn three_keepers_hold_each_others_leases_and_agree_to_expire_a_frozen_one() {
    scene("three_keepers_hold_each_others_leases_and_agree_to_expire_a_frozen_one", |_| {
        let mut log = bench::Log::new();
        let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
        let mut keepers: Vec<_> = dirs.iter().map(|dir| Keeper::start(dir.path())).collect();
        let mut agents: Vec<_> = keepers.iter_mut().map(Agent::attach).collect();
        let nonces: Vec<_> = agents.iter().map(|agent| agent.welcome.nonce).collect();
        let mut steps = vec![log.lease_set()];
        steps.extend((1..=3).map(|node| log.voter_up(node, nonces[node as usize - 1])));
        let (session, registered) = log.register(1, nonces[0]);
        steps.push(registered);
        for (node, agent) in (1..).zip(&mut agents) {
            agent.say(&ToKeeper::Configure(log.configuration(node)));
            steps.iter().for_each(|step| agent.say(step));
        }
        agents[0].leased(session);
        let reached = agents[1].ask(Op::Reach { nodes: vec![NodeId(1), NodeId(2), NodeId(3)] });
        let all = [1, 2, 3].map(|n| (NodeId(n), true)).into();
        assert_eq!(reached, Outcome::Reached(all), "every keeper reaches every other");

        // One of the others goes: two of three uphold the lease, for longer than a ttl.
        drop((agents.pop(), keepers.pop()));
        agents[0].forget();
        let begun = boot_now();
        while boot_now() - begun < 2 * TTL.duration() {
            let left =
                agents[0].hear(|frame| if let FromKeeper::Lease(view) = frame { Some(view.clone()) } else { None });
            assert!(!left.over && left.left > Millis(0), "{left:?}");
        }

        // A third one again, and the holder is frozen: the other two agree, once its promise has run out.
        let mut third = Keeper::start(dirs[2].path());
        let mut agent = Agent::attach(&mut third);
        agent.say(&ToKeeper::Configure(log.configuration(3)));
        steps.push(log.voter_up(3, agent.welcome.nonce));
        steps.iter().for_each(|step| agent.say(step));
        agents[1].say(steps.last().unwrap());
        freeze(keepers[0].pid());
        let frozen_at = boot_now();
        agents[1].hear(|frame| matches!(frame, FromKeeper::Silent { session: s, .. } if *s == session).then_some(()));
        agents[1].say(&ToKeeper::Collect { session, ttl: TTL, voters: vec![NodeId(1), NodeId(2), NodeId(3)] });
        let mut agreed: Vec<u64> = (0..2)
            .map(|_| {
                agents[1].hear(|frame| if let FromKeeper::Agreed { voter, .. } = frame { Some(voter.0) } else { None })
            })
            .collect();
        let after = boot_now() - frozen_at;
        agreed.sort_unstable();
        assert_eq!(agreed, [2, 3]);
        println!("agreed {after:?} after the freeze");
        assert!(after > TTL.duration() / 2, "a promise of {TTL} cannot have run out after {after:?}");
        thaw(keepers[0].pid());
    });
}

#[test]
fn an_agent_that_falls_silent_costs_the_lease_and_one_that_is_fit_again_gets_a_new_one() {
    scene("an_agent_that_falls_silent_costs_the_lease_and_one_that_is_fit_again_gets_a_new_one", |_| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = std::process::Command::new(bench::EXE);
        command.arg("keeper").arg("--root").arg(dir.path()).args(["--agent-grace", "300ms"]);
        let child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        let mut keeper = Keeper { child, places: pkgctl::config::Places::under(Some(dir.path())) };
        let mut agent = Agent::attach(&mut keeper);
        let mut log = bench::Log::new();
        let voter = bench::Voter::start(&log);
        agent.say(&ToKeeper::Alive);
        let session = introduce(&mut agent, &mut log);
        agent.leased(session);
        agent.over_session(session);
        agent.say(&ToKeeper::Alive);
        let (next, registered) = log.register(1, agent.welcome.nonce);
        agent.say(&registered);
        agent.leased(next);
        drop(voter);
    });
}
