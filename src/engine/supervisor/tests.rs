//! A package on one node, step by step.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Action, Duty, Input, Settled, Supervisor};
use crate::engine::command::ReleaseOutcome;
use crate::engine::state::Phase;
use crate::engine::{SessionId, Token, VoterTime};
use crate::package::{IpResource, Kind, Millis, Package, PackageName, ProgramResource, Resource, ResourceName};

const SESSION: SessionId = SessionId(7);
const TOKEN: Token = Token(20);

fn name(text: &str) -> ResourceName {
    ResourceName::new(text).unwrap()
}

fn resource(text: &str, kind: Kind) -> Resource {
    Resource { name: name(text), start_timeout: Millis(1000), stop_timeout: Millis(1000), kind }
}

fn package(restarts: u32) -> Arc<Package> {
    let program = ProgramResource {
        command: vec!["/bin/true".into()],
        user: None,
        working_directory: None,
        environment: Default::default(),
        stop_signal: 15,
        restarts,
        restart_window: Millis::from_secs(600),
    };
    let ip = IpResource { address: "10.0.0.1".parse().unwrap(), prefix: 24, device: "eth0".into() };
    Arc::new(Package {
        name: PackageName::new("p").unwrap(),
        description: String::new(),
        nodes: vec![],
        resources: vec![resource("ip", Kind::Ip(ip)), resource("web", Kind::Program(program))],
    })
}

fn own(definition: &Arc<Package>) -> Duty {
    Duty::Own { token: TOKEN, session: SESSION, definition: definition.clone() }
}

fn yielding(definition: &Arc<Package>) -> Duty {
    Duty::Yield { token: TOKEN, session: SESSION, definition: definition.clone(), why: "moving".into() }
}

/// A supervisor with its clock at a fixed reading that tests move by hand.
struct Bench {
    supervisor: Supervisor,
    now: VoterTime,
}

impl Bench {
    fn new(duty: Duty) -> Self {
        let mut bench = Self { supervisor: Supervisor::default(), now: VoterTime::from_millis(1000) };
        bench.give(Input::Duty(duty));
        bench
    }

    fn give(&mut self, input: Input) {
        self.supervisor.handle(input, self.now);
    }

    fn done(&mut self) {
        self.give(Input::Settled(Settled::Done { detail: String::new() }));
    }

    /// The action due, as a word and a name.
    fn due(&mut self) -> String {
        match self.supervisor.next(self.now) {
            None => "nothing".into(),
            Some(Action::Start { resource, .. }) => format!("start {}", resource.name),
            Some(Action::Open { resource, .. }) => format!("open {}", resource.name),
            Some(Action::Stop { resource, .. }) => format!("stop {}", resource.name),
            Some(Action::Release { outcome: ReleaseOutcome::Stopped, .. }) => "release".into(),
            Some(Action::Release { outcome: ReleaseOutcome::Failed { reason }, .. }) => format!("release: {reason}"),
        }
    }

    /// The address may answer.
    fn opened(&mut self) {
        self.open_ends(Settled::Done { detail: String::new() });
    }

    fn open_ends(&mut self, settled: Settled) {
        self.give(Input::Opened { resource: name("ip"), token: TOKEN, settled });
    }

    /// The start of the address, up to the first thing that goes on beside its opening.
    fn set_address(&mut self) {
        assert_eq!(self.due(), "start ip");
        self.done();
        assert_eq!(self.due(), "open ip");
    }

    /// Carries out every action until nothing is due; openings end at once.
    fn settle(&mut self) -> Vec<String> {
        let mut actions = vec![];
        loop {
            match self.due().as_str() {
                "nothing" => return actions,
                "open ip" => {
                    self.opened();
                    continue;
                }
                action => actions.push(action.to_owned()),
            }
            assert!(actions.len() < 20, "it never settles: {actions:?}");
            self.done();
        }
    }

    fn exit(&mut self) {
        self.give(Input::Exited { resource: name("web"), token: TOKEN, how: "signal 9".into() });
    }

    fn runs_for(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// The note of the newest report.
    fn last_note(&mut self) -> String {
        self.supervisor.reports().pop().map(|r| r.note).unwrap_or_default()
    }

    /// How long the program that has just ended is not restarted.
    fn pause(&mut self) -> Duration {
        let mut pause = Duration::ZERO;
        if self.due() == "nothing" {
            let wake = self.supervisor.wake().expect("it asks to be woken");
            (pause, self.now) = (wake - self.now, wake);
            assert_eq!(self.due(), "start web");
        }
        self.done();
        pause
    }

    fn last_phase(&mut self) -> Option<Phase> {
        self.supervisor.reports().pop().map(|r| r.phase)
    }
}

#[test]
fn resources_start_in_order_and_then_it_runs() {
    let mut bench = Bench::new(own(&package(3)));
    assert_eq!(bench.settle(), ["start ip", "start web"]);
    assert_eq!(bench.last_phase(), Some(Phase::Running));
}

#[test]
fn resources_stop_in_reverse_and_then_the_ownership_is_released_once() {
    let definition = package(3);
    let mut bench = Bench::new(own(&definition));
    bench.settle();
    bench.give(Input::Duty(yielding(&definition)));
    assert_eq!(bench.settle(), ["stop web", "stop ip", "release"]);
    assert_eq!(bench.due(), "nothing");
    bench.give(Input::Duty(Duty::None));
    assert_eq!(bench.due(), "nothing");
    assert!(bench.supervisor.is_idle());
}

#[test]
fn a_duty_that_turns_while_starting_takes_down_only_what_may_be_up() {
    let definition = package(3);
    let mut bench = Bench::new(own(&definition));
    assert_eq!(bench.due(), "start ip");
    bench.give(Input::Duty(yielding(&definition)));
    assert_eq!(bench.due(), "nothing", "one action at a time");
    bench.done();
    assert_eq!(bench.settle(), ["stop ip", "release"]);
}

#[test]
fn a_failed_start_stops_what_is_up_and_hands_the_package_back_with_the_reason() {
    let mut bench = Bench::new(own(&package(3)));
    bench.set_address();
    assert_eq!(bench.due(), "start web");
    bench.give(Input::Settled(Settled::Failed { why: "no such file".into() }));
    assert_eq!(bench.settle(), ["stop web", "stop ip", "release: web did not start: no such file"]);
}

#[test]
fn what_comes_after_an_address_starts_while_it_is_asked_for_and_it_runs_when_both_are_up() {
    for address_first in [true, false] {
        let mut bench = Bench::new(own(&package(3)));
        bench.set_address();
        assert_eq!(bench.due(), "start web");
        if address_first {
            bench.opened()
        } else {
            bench.done()
        }
        assert_eq!(bench.due(), "nothing");
        assert_eq!(bench.last_phase(), Some(Phase::Starting));
        if address_first {
            bench.done()
        } else {
            bench.opened()
        }
        assert_eq!(bench.due(), "nothing");
        assert_eq!(bench.last_phase(), Some(Phase::Running));
    }
}

#[test]
fn an_address_that_is_claimed_meanwhile_takes_everything_down_again() {
    let mut bench = Bench::new(own(&package(3)));
    bench.set_address();
    assert_eq!(bench.due(), "start web");
    bench.open_ends(Settled::Failed { why: "in use by 02:00:00:00:00:01".into() });
    assert_eq!(bench.due(), "nothing", "the start of the program is under way");
    bench.done();
    assert_eq!(bench.settle(), ["stop web", "stop ip", "release: ip did not start: in use by 02:00:00:00:00:01"]);
}

#[test]
fn an_opening_that_was_overtaken_by_a_stop_or_a_lapse_changes_nothing() {
    let definition = package(3);
    let mut bench = Bench::new(own(&definition));
    bench.set_address();
    bench.give(Input::Duty(yielding(&definition)));
    assert_eq!(bench.due(), "stop ip");
    bench.open_ends(Settled::Failed { why: "it was stopped before it was up".into() });
    bench.done();
    assert_eq!(bench.settle(), ["release"]);

    let mut bench = Bench::new(own(&definition));
    bench.set_address();
    bench.give(Input::Lapsed { resource: name("ip"), token: TOKEN });
    bench.open_ends(Settled::Refused { why: "its element ran out".into() });
    bench.now = bench.supervisor.wake().unwrap();
    assert_eq!(bench.settle(), ["start ip", "start web"]);
}

#[test]
fn a_refused_opening_is_started_anew_and_marks_nobody() {
    let mut bench = Bench::new(own(&package(3)));
    bench.set_address();
    bench.open_ends(Settled::Refused { why: "the link to the keeper broke".into() });
    assert_eq!(bench.due(), "nothing");
    bench.now = bench.supervisor.wake().unwrap();
    assert_eq!(bench.settle(), ["start ip", "start web"]);
}

#[test]
fn a_start_that_takes_longer_than_its_timeout_has_failed_and_is_stopped() {
    let mut bench = Bench::new(own(&package(3)));
    bench.set_address();
    bench.opened();
    assert_eq!(bench.due(), "start web");
    assert_eq!(bench.due(), "nothing");
    bench.now = bench.supervisor.wake().unwrap();
    assert_eq!(bench.due(), "stop web");
    bench.done();
    assert_eq!(bench.settle(), ["stop ip", "release: web did not start: it was not up within 1s"]);

    let mut bench = Bench::new(own(&package(3)));
    bench.set_address();
    assert_eq!(bench.due(), "start web");
    bench.done();
    bench.now = bench.supervisor.wake().unwrap();
    assert_eq!(bench.settle(), ["stop web", "stop ip", "release: ip did not start: it was not up within 1s"]);
}

#[test]
fn a_refused_start_is_tried_again_and_marks_nobody() {
    let mut bench = Bench::new(own(&package(3)));
    assert_eq!(bench.due(), "start ip");
    bench.give(Input::Settled(Settled::Refused { why: "no lease".into() }));
    assert_eq!(bench.due(), "nothing");
    bench.now = bench.supervisor.wake().unwrap();
    assert_eq!(bench.settle(), ["start ip", "start web"]);
}

#[test]
fn a_program_that_ends_is_restarted_alone_until_its_window_is_used_up() {
    let mut bench = Bench::new(own(&package(2)));
    bench.settle();
    for _ in 0..2 {
        bench.runs_for(Duration::from_secs(1));
        bench.exit();
        assert_eq!(bench.settle(), ["start web"]);
    }
    bench.exit();
    let last = bench.settle();
    assert_eq!(last[0], "stop ip", "what has ended needs no stop");
    assert!(last[1].starts_with("release: web ended with signal 9"), "{last:?}");
}

#[test]
fn a_program_that_keeps_ending_is_restarted_after_pauses_that_grow_and_at_once_after_a_good_run() {
    let ms = Duration::from_millis;
    let mut bench = Bench::new(own(&package(1000)));
    bench.settle();
    let mut pauses = vec![];
    for _ in 0..10 {
        bench.runs_for(ms(3));
        bench.exit();
        pauses.push(bench.pause().as_millis());
    }
    assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    bench.runs_for(ms(9_999));
    bench.exit();
    assert_eq!(bench.pause(), ms(10_000), "no longer up than down");
    bench.runs_for(ms(10_000));
    bench.exit();
    assert_eq!(bench.pause(), Duration::ZERO);
    bench.runs_for(ms(3));
    bench.exit();
    assert_eq!(bench.pause(), ms(100));
}

#[test]
fn a_pause_is_said_with_its_length_and_nothing_is_reported_while_it_lasts() {
    let mut bench = Bench::new(own(&package(1000)));
    bench.settle();
    bench.exit();
    assert_eq!(bench.settle(), ["start web"]);
    bench.exit();
    let note = bench.last_note();
    assert!(note.contains("signal 9") && note.contains("restarted in place in 100ms"), "{note}");
    for _ in 0..3 {
        assert_eq!(bench.due(), "nothing");
        bench.give(Input::Tick);
    }
    assert!(bench.supervisor.reports().is_empty());
}

#[test]
fn whatever_ends_the_ownership_does_not_wait_for_a_pause() {
    let definition = package(1000);
    let paused = || {
        let mut bench = Bench::new(own(&definition));
        bench.settle();
        bench.exit();
        assert_eq!(bench.settle(), ["start web"]);
        bench.exit();
        assert_eq!(bench.due(), "nothing");
        bench
    };
    let mut bench = paused();
    bench.give(Input::Duty(yielding(&definition)));
    assert_eq!(bench.settle(), ["stop ip", "release"]);
    let mut bench = paused();
    bench.give(Input::SessionOver { session: SESSION });
    assert_eq!(bench.due(), "nothing");
    assert!(bench.supervisor.is_idle() && bench.supervisor.wake().is_none());
    let mut bench = paused();
    bench.give(Input::Lapsed { resource: name("ip"), token: TOKEN });
    bench.now = bench.supervisor.wake().unwrap();
    assert_eq!(bench.due(), "start ip", "the address comes back by itself");
    bench.done();
    assert_eq!(bench.settle(), ["start web"]);
}

#[test]
fn a_pause_that_ends_while_something_else_is_under_way_asks_for_no_wake_any_more() {
    let definition = package(1000);
    let mut bench = Bench::new(own(&definition));
    bench.settle();
    for _ in 0..2 {
        bench.exit();
        bench.due();
        bench.done();
    }
    bench.give(Input::Duty(yielding(&definition)));
    assert_eq!(bench.due(), "stop ip");
    bench.runs_for(Duration::from_secs(60));
    assert_eq!(bench.due(), "nothing", "the stop is under way");
    assert_eq!(bench.supervisor.wake(), None);
}

#[test]
fn an_end_heard_before_the_start_is_known_counts_once_it_is() {
    let mut bench = Bench::new(own(&package(1)));
    bench.set_address();
    bench.opened();
    for _ in 0..2 {
        assert_eq!(bench.due(), "start web");
        bench.exit();
        assert_eq!(bench.due(), "nothing", "the start is still under way");
        bench.done();
    }
    let last = bench.settle();
    assert!(last[1].starts_with("release: web ended with signal 9"), "{last:?}");
}

#[test]
fn an_end_of_a_start_that_failed_is_forgotten() {
    let mut bench = Bench::new(own(&package(3)));
    assert_eq!(bench.due(), "start ip");
    bench.give(Input::Lapsed { resource: name("ip"), token: TOKEN });
    bench.give(Input::Settled(Settled::Refused { why: "no lease".into() }));
    bench.now = bench.supervisor.wake().unwrap();
    assert_eq!(bench.settle(), ["start ip", "start web"]);
}

#[test]
fn old_restarts_are_forgotten() {
    let mut bench = Bench::new(own(&package(1)));
    bench.settle();
    for _ in 0..5 {
        bench.exit();
        assert_eq!(bench.settle(), ["start web"]);
        bench.now = bench.now + Duration::from_secs(601);
    }
}

#[test]
fn an_exit_under_an_older_ownership_changes_nothing() {
    let mut bench = Bench::new(own(&package(0)));
    bench.settle();
    bench.give(Input::Exited { resource: name("web"), token: Token(19), how: "code 0".into() });
    assert_eq!(bench.due(), "nothing");
}

#[test]
fn a_failed_stop_holds_the_package_and_is_tried_again_before_any_release() {
    let definition = package(3);
    let mut bench = Bench::new(own(&definition));
    bench.settle();
    bench.give(Input::Duty(yielding(&definition)));
    assert_eq!(bench.due(), "stop web");
    bench.give(Input::Settled(Settled::Failed { why: "it hangs".into() }));
    let held = bench.supervisor.reports().pop().unwrap();
    assert_eq!(held.phase, Phase::Held);
    // What it says stands behind that word.
    assert!(held.note.starts_with("web did not stop: it hangs"), "{}", held.note);
    assert!(held.line().starts_with("held: web did not stop: it hangs"), "{}", held.line());
    assert_eq!(bench.due(), "nothing");
    bench.now = bench.supervisor.wake().unwrap();
    assert_eq!(bench.settle(), ["stop web", "stop ip", "release"]);
}

#[test]
fn what_a_restarted_agent_finds_running_is_not_started_again() {
    let definition = package(3);
    let mut bench = Bench::new(own(&definition));
    bench.give(Input::Adopt {
        token: TOKEN,
        up: BTreeSet::from([name("ip"), name("web")]),
        said: Some(Phase::Running),
    });
    assert_eq!((bench.due().as_str(), bench.last_phase()), ("nothing", None), "there is nothing new to say");
    bench.exit();
    assert_eq!(bench.settle(), ["start web"]);
}

#[test]
fn what_an_earlier_agent_did_not_live_to_say_is_said_by_the_next_one() {
    for said in [None, Some(Phase::Starting), Some(Phase::Stopping)] {
        let mut bench = Bench::new(own(&package(3)));
        bench.give(Input::Adopt { token: TOKEN, up: BTreeSet::from([name("ip"), name("web")]), said });
        assert_eq!((bench.due().as_str(), bench.last_phase()), ("nothing", Some(Phase::Running)), "{said:?}");
    }
}

#[test]
fn what_a_restarted_agent_finds_half_up_is_completed() {
    let mut bench = Bench::new(own(&package(3)));
    bench.give(Input::Adopt { token: TOKEN, up: BTreeSet::from([name("ip")]), said: None });
    assert_eq!(bench.settle(), ["start web"]);
}

#[test]
fn what_a_restarted_agent_finds_and_should_yield_is_stopped_first() {
    let mut bench = Bench::new(yielding(&package(3)));
    bench.give(Input::Adopt {
        token: TOKEN,
        up: BTreeSet::from([name("ip"), name("web")]),
        said: Some(Phase::Running),
    });
    assert_eq!(bench.settle(), ["stop web", "stop ip", "release"]);
}

#[test]
fn what_a_restarted_agent_cannot_see_may_be_on_its_way_and_is_stopped_before_a_release() {
    let definition = package(0);
    let mut bench = Bench::new(yielding(&definition));
    bench.give(Input::Adopt { token: TOKEN, up: BTreeSet::from([name("ip")]), said: None });
    assert_eq!(bench.settle(), ["stop web", "stop ip", "release"]);
    assert_eq!(Bench::new(yielding(&definition)).settle(), ["stop web", "stop ip", "release"]);
}

#[test]
fn once_a_release_has_begun_the_ownership_is_never_acted_on_again() {
    let definition = package(3);
    let mut bench = Bench::new(own(&definition));
    bench.settle();
    bench.give(Input::Duty(yielding(&definition)));
    assert_eq!(bench.due(), "stop web");
    bench.done();
    assert_eq!(bench.due(), "stop ip");
    bench.done();
    assert_eq!(bench.due(), "release");
    bench.give(Input::Duty(own(&definition)));
    bench.give(Input::Settled(Settled::Failed { why: "no leader".into() }));
    bench.now = bench.supervisor.wake().unwrap();
    assert_eq!(bench.due(), "release");
}

#[test]
fn a_lapse_of_the_guard_alone_brings_the_address_back_by_a_full_start() {
    let mut bench = Bench::new(own(&package(3)));
    bench.settle();
    bench.give(Input::Lapsed { resource: name("ip"), token: TOKEN });
    assert_eq!(bench.due(), "nothing");
    bench.now = bench.supervisor.wake().unwrap();
    assert_eq!(bench.settle(), ["start ip"]);
}

#[test]
fn the_end_of_the_session_leaves_nothing_to_do() {
    let mut bench = Bench::new(own(&package(3)));
    bench.settle();
    bench.give(Input::Lapsed { resource: name("web"), token: TOKEN });
    bench.give(Input::SessionOver { session: SESSION });
    assert_eq!(bench.due(), "nothing");
    assert!(bench.supervisor.is_idle());
}

#[test]
fn a_changed_resource_restarts_the_package_in_order_under_the_same_ownership() {
    let mut bench = Bench::new(own(&package(3)));
    bench.settle();
    let mut other = package(3).as_ref().clone();
    other.resources[0].kind =
        Kind::Ip(IpResource { address: "10.0.0.2".parse().unwrap(), prefix: 24, device: "eth0".into() });
    bench.give(Input::Duty(own(&Arc::new(other))));
    assert_eq!(bench.settle(), ["stop web", "stop ip", "start ip", "start web"]);
}

#[test]
fn a_changed_limit_counts_from_then_on_and_restarts_nothing() {
    let mut bench = Bench::new(own(&package(3)));
    bench.settle();
    bench.give(Input::Duty(own(&package(0))));
    assert_eq!(bench.due(), "nothing");
    bench.exit();
    assert_eq!(bench.settle()[0], "stop ip");
}

#[test]
fn a_changed_node_list_disturbs_nothing() {
    let mut bench = Bench::new(own(&package(3)));
    bench.settle();
    let mut other = package(3).as_ref().clone();
    other.description = "changed".into();
    bench.give(Input::Duty(own(&Arc::new(other))));
    assert_eq!(bench.due(), "nothing");
}
