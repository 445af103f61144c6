//! A lap: one cluster, round after round of faults and healing, and in the end the power loss of all nodes at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pkgctl::lab::{Moment, Stalls, wait_until};

use crate::asker::Asker;
use crate::bell::Bell;
use crate::check::activity::{LOOK_EVERY, Start, Watch};
use crate::check::kept::Kept;
use crate::check::{alive, idle, linear};
use crate::clients::{ASK_WITHIN, CLIENTS, Stored, Values, read, registers, store_packages, use_registers};
use crate::fault::{Fault, Planned, plan};
use crate::field::{Field, NODES};
use crate::history::{Op, Value};
use crate::nemesis::{Nemesis, steps};
use crate::operators;
use crate::random::Random;
use crate::timeline::Timeline;
use crate::totals::{Failure, Totals};

/// A healed cluster answers one question by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How often a cluster is built at most.
const BUILDS_MAX: u32 = 3;

/// Which faults a round brings.
#[derive(Clone, Debug)]
pub enum Faults {
    /// What the seed draws, at most so long.
    Drawn {
        longest: Duration,
    },
    These(Vec<Planned>),
}

/// What a lap is like.
#[derive(Clone, Debug)]
pub struct Course {
    pub rounds: usize,
    /// No further round begins after it.
    pub time: Duration,
    pub faults: Faults,
    /// Whether leases end anything; without, the checks must see two nodes acting.
    pub leased: bool,
    /// Whether every step is printed as it is done.
    pub loud: bool,
}

/// One cluster under fire.
struct Lap<'a> {
    field: &'a Field,
    asker: &'a Asker,
    timeline: &'a Timeline,
    stalls: &'a Stalls,
    watches: &'a Mutex<Vec<Watch>>,
    totals: &'a mut Totals,
    values: Values,
    kept: Kept,
    /// By register: the value at the beginning of the next window, and open writes that may take effect in it.
    registers: BTreeMap<&'static str, (Value, Vec<Op>)>,
    /// The last window, for whoever reads a failure.
    history: Vec<Op>,
}

/// Runs one lap; `false` when no lab can be had here. A failure has kept its logs.
pub fn run(seed: u64, course: &Course, totals: &mut Totals) -> Result<bool, Failure> {
    let stalls = Stalls::watch();
    let timeline = Timeline::new(course.loud);
    let asker = Asker::new(ASK_WITHIN);
    let lab = |e: anyhow::Error| Failure::of("lab")(format!("seed {seed}: {e:#}"));
    let Some((field, mut random)) = healthy(seed, course, &asker, &timeline, &stalls)? else { return Ok(false) };
    timeline.say(format!("seed {seed}: {} packages run on {} nodes", field.targets.len(), NODES.len()));
    totals.laps += 1;
    let watch = |target| Watch::start(&field.lab, target).map_err(lab);
    let watches = Mutex::new(field.targets.iter().map(watch).collect::<Result<Vec<_>, _>>()?);
    let mut lap = Lap {
        field: &field,
        asker: &asker,
        timeline: &timeline,
        stalls: &stalls,
        watches: &watches,
        totals,
        values: Values::default(),
        kept: Kept::default(),
        registers: registers().into_iter().map(|register| (register, (0, Vec::new()))).collect(),
        history: Vec::new(),
    };
    let bell = Bell::default();
    let outcome = thread::scope(|scope| {
        let recorder = scope.spawn(|| record(&field, &watches, &bell));
        let outcome = lap.rounds(&mut random, course, &|| recorder.is_finished());
        bell.ring();
        // Double activity comes first: what else went wrong may be its consequence.
        recorder.join().expect("the recorder does not panic").and(outcome)
    });
    lap.totals.answered += look_at(&watches).iter().map(|watch| watch.answered).sum::<usize>();
    let history = std::mem::take(&mut lap.history);
    outcome.map(|()| true).map_err(|failure| kept_for_reading(&field, &timeline, &history, seed, failure))
}

/// A cluster in which everything runs, and what the seed draws from then on. One that a machine which stood still kept from
/// that is built anew, from the seed's beginning. `None` when no lab can be had here.
fn healthy(
    seed: u64,
    course: &Course,
    asker: &Asker,
    timeline: &Timeline,
    stalls: &Stalls,
) -> Result<Option<(Field, Random)>, Failure> {
    let lab = Failure::of("lab");
    for attempt in 1.. {
        let mut random = Random::new(seed);
        let built = Field::build(&mut random, course.leased).map_err(|e| lab(format!("seed {seed}: {e:#}")))?;
        let Some(field) = built else { return Ok(None) };
        stalls.forget();
        let Err(why) = field.found(asker) else { return Ok(Some((field, random))) };
        match stalls.take() {
            Some(stall) if attempt < BUILDS_MAX => {
                timeline.say(format!("built anew, because the machine stood still for {stall:?}: {why:#}"));
            }
            _ => return Err(kept_for_reading(&field, timeline, &[], seed, lab(format!("{why:#}")))),
        }
    }
    unreachable!("the last attempt answers")
}

/// Looks at what the programs and the observers have recorded, often enough that nothing is overwritten.
fn record(field: &Field, watches: &Mutex<Vec<Watch>>, bell: &Bell) -> Result<(), Failure> {
    loop {
        let last = bell.wait(LOOK_EVERY);
        judge(field, watches)?;
        if last {
            return Ok(());
        }
    }
}

fn judge(field: &Field, watches: &Mutex<Vec<Watch>>) -> Result<(), Failure> {
    for (watch, target) in look_at(watches).iter_mut().zip(&field.targets) {
        watch.look(&field.lab, target).map_err(|e| Failure {
            check: "activity",
            why: format!("{e:#}"),
            double_activity_ms: watch.double_activity.as_millis(),
            kept_in: None,
        })?;
    }
    Ok(())
}

fn look_at(watches: &Mutex<Vec<Watch>>) -> MutexGuard<'_, Vec<Watch>> {
    watches.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies what tells of a failure to a place that outlives the lab, and says where.
fn kept_for_reading(field: &Field, timeline: &Timeline, history: &[Op], seed: u64, failure: Failure) -> Failure {
    let to: PathBuf = std::env::temp_dir().join(format!("pkgctl-nemesis-{seed}-{}", std::process::id()));
    let lines: Vec<String> = history.iter().map(|op| serde_json::to_string(op).unwrap_or_default()).collect();
    let written = field
        .keep_logs(&to)
        .and_then(|()| Ok(std::fs::write(to.join("timeline"), timeline.text())?))
        .and_then(|()| Ok(std::fs::write(to.join("history"), lines.join("\n"))?));
    let place = match written {
        Ok(()) => format!("logs, timeline and history: {}", to.display()),
        Err(e) => format!("the logs could not be kept: {e:#}"),
    };
    let why = format!("check {}, seed {seed}: {}\n{place}\n{}", failure.check, failure.why, timeline.text());
    Failure { why, kept_in: Some(to), ..failure }
}

impl Lap<'_> {
    fn rounds(&mut self, random: &mut Random, course: &Course, broken: &dyn Fn() -> bool) -> Result<(), Failure> {
        let end = Moment::now().after(course.time);
        for number in 0..course.rounds {
            if Moment::now() >= end {
                break;
            }
            self.round(number, random, course)?;
            if broken() {
                return Ok(());
            }
        }
        let all = Planned { fault: Fault::PowerOff(NODES.to_vec()), begins: Duration::ZERO, ends: Duration::ZERO };
        self.totals.whole_power_losses += 1;
        let mut nemesis = Nemesis::new(self.field, self.asker, self.timeline);
        self.under_faults(&mut nemesis, &[all], &BTreeSet::new())?;
        self.kept.check(self.field, self.asker).map_err(|e| Failure::of("kept")(format!("{e:#}")))
    }

    fn round(&mut self, number: usize, random: &mut Random, course: &Course) -> Result<(), Failure> {
        let plan = match &course.faults {
            Faults::Drawn { longest } => plan(random, *longest),
            Faults::These(plan) => plan.clone(),
        };
        let commanded = operators::drawn(random);
        for planned in &plan {
            self.timeline.say(format!("round {number}: {planned:?}"));
        }
        self.totals.count_plan(&plan);
        self.stalls.forget();
        let before = self.running()?;
        let (ops, stored) = self.with_clients(number, random, &plan, &commanded)?;
        self.totals.count_ops(&ops);
        self.totals.acknowledged += stored.values().filter(|known| **known == Stored::Yes).count();
        self.linear(ops)?;
        self.kept.stored.extend(stored);
        self.kept.check(self.field, self.asker).map_err(|e| Failure::of("kept")(format!("{e:#}")))?;
        let after = self.running()?;
        match idle::check(self.field, &plan, &commanded, &before, &after) {
            Ok(undisturbed) => self.totals.undisturbed += undisturbed,
            Err(why) => self.disturbed(why)?,
        }
        self.totals.acknowledged += self.kept.delete_stored(self.field, self.asker);
        Ok(())
    }

    /// Lawful, but told, where a keeper may have been kept from renewing: by a busy machine if scheduling is best-effort, by
    /// one that stood still in any case.
    fn disturbed(&mut self, why: String) -> Result<(), Failure> {
        let by = match self.stalls.take() {
            _ if !self.field.lab.realtime() => "best-effort scheduling".to_owned(),
            Some(stall) => format!("the machine stood still for {stall:?}"),
            None => return Err(Failure::of("idle")(why)),
        };
        self.timeline.say(format!("{by}: {why}"));
        self.totals.disturbed_by_machine += 1;
        Ok(())
    }

    /// One window: clients at work, meanwhile faults and operators, then the healing, then the clients' end.
    fn with_clients(
        &mut self,
        number: usize,
        random: &mut Random,
        plan: &[Planned],
        commanded: &BTreeSet<usize>,
    ) -> Result<(Vec<Op>, BTreeMap<String, Stored>), Failure> {
        let (field, timeline) = (self.field, self.timeline);
        let values = std::mem::take(&mut self.values);
        let (bell, operators_bell) = (Bell::default(), Bell::default());
        let mut drawn = || Random::new(random.next());
        let mut nemesis = Nemesis::new(field, self.asker, timeline);
        let joined = thread::scope(|scope| {
            let (bell, operators_bell, values) = (&bell, &operators_bell, &values);
            let client = |client| {
                let random = drawn();
                scope.spawn(move || use_registers(field, client, values, random, bell))
            };
            let clients: Vec<_> = (0..CLIENTS).map(client).collect();
            let (of_storer, of_operator) = (drawn(), drawn());
            let storer = scope.spawn(move || store_packages(field, number, of_storer, bell));
            let operator =
                scope.spawn(move || operators::work(field, commanded, of_operator, operators_bell, timeline));
            let begun = Moment::now();
            for (at, act) in steps(plan) {
                wait_until(at.saturating_sub(Moment::now().since(begun)), || None::<()>);
                nemesis.act(&act);
            }
            operators_bell.ring();
            self.totals.commands += operator.join().expect("an operator does not panic");
            // Judged at once: what has been seen ends the lap, and nobody waits for a healing.
            let healed = judge(field, self.watches).and_then(|()| self.healed(&mut nemesis, commanded));
            bell.ring();
            let ops = clients.into_iter().flat_map(|client| client.join().expect("a client does not panic")).collect();
            let stored = storer.join().expect("a client does not panic");
            healed.map(|()| (ops, stored))
        });
        self.values = values;
        joined
    }

    fn under_faults(
        &mut self,
        nemesis: &mut Nemesis,
        plan: &[Planned],
        commanded: &BTreeSet<usize>,
    ) -> Result<(), Failure> {
        for (_, act) in steps(plan) {
            nemesis.act(&act);
        }
        self.healed(nemesis, commanded)
    }

    /// Takes everything back and waits until all is as it should be.
    fn healed(&mut self, nemesis: &mut Nemesis, commanded: &BTreeSet<usize>) -> Result<(), Failure> {
        nemesis.heal().map_err(|e| Failure::of("lab")(format!("{e:#}")))?;
        let healed = Moment::now();
        self.alive_since(healed, commanded, &nemesis.removed)?;
        let took = Moment::now().since(healed);
        self.timeline.say(format!("everything runs and is answered {took:?} after the heal"));
        self.totals.alive_ms.push(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        nemesis.joins_end().map_err(|e| Failure::of("lab")(format!("{e:#}")))?;
        let whole = alive::whole(self.field, self.asker, &mut nemesis.removed, self.timeline);
        whole.map_err(|e| Failure::of("alive")(format!("{e:#}")))?;
        self.timeline.say("every node is a member with a session");
        // Who has joined again may be the only one of somebody's list.
        self.alive_since(Moment::now(), &BTreeSet::new(), &BTreeSet::new())
    }

    /// Waits until every package that a member may own is said to run, and is answered.
    fn alive_since(
        &mut self,
        since: Moment,
        commanded: &BTreeSet<usize>,
        out: &BTreeSet<&'static str>,
    ) -> Result<(), Failure> {
        let not_alive = Failure::of("alive");
        let revived = alive::check(self.field, self.asker, commanded, out, self.timeline);
        self.totals.revived += revived.map_err(|e| not_alive(format!("{e:#}")))?;
        let ownable = |number: usize| self.field.targets[number].nodes.iter().any(|node| !out.contains(node));
        let mut silent = Vec::new();
        let answered = wait_until(ANSWER_WITHIN, || {
            let watches = look_at(self.watches);
            let unanswered = |(number, watch): &(usize, &Watch)| ownable(*number) && !watch.is_answered(since);
            silent = watches.iter().enumerate().filter(unanswered).map(|(number, _)| number).collect();
            silent.is_empty().then_some(())
        });
        answered.ok_or_else(|| not_alive(format!("said to run and not answered {ANSWER_WITHIN:?} later: {silent:?}")))
    }

    /// The program of each package that runs now.
    fn running(&self) -> Result<Vec<Option<Start>>, Failure> {
        let mut watches = look_at(self.watches);
        for (watch, target) in watches.iter_mut().zip(&self.field.targets) {
            watch.read(target).map_err(|e| Failure::of("tokens")(format!("{e:#}")))?;
        }
        Ok(idle::running(&watches, Moment::now()))
    }

    fn linear(&mut self, ops: Vec<Op>) -> Result<(), Failure> {
        self.history.clone_from(&ops);
        for register in registers() {
            let end = || NODES.iter().find_map(|node| read(self.field, self.asker, node, register));
            let Some((last, _)) = wait_until(ANSWER_WITHIN, end) else {
                return Err(Failure::of("alive")(format!("nobody says what {register} is")));
            };
            let (first, mut window) = self.registers.remove(register).unwrap_or_default();
            window.extend(ops.iter().filter(|op| op.register == register).cloned());
            let judged = linear::check(first, &window, last);
            let judged = judged.map_err(|why| Failure::of("linear")(format!("{register}: {why}")))?;
            self.totals.searched += judged.searched;
            self.totals.unsearched += judged.unsearched;
            // An open write may take effect at any time from now on.
            let may_be = judged.carried.iter().filter_map(Op::write).map(|(_, to, _)| to).chain([last]);
            self.kept.registers.insert(register, may_be.collect());
            self.registers.insert(register, (last, judged.carried));
        }
        Ok(())
    }
}
