//! What people and machines read of a demo.

use std::time::Duration;

use serde_json::json;

use super::fault::Outcome;
use crate::cli::print_table;
use crate::engine::Profile;
use crate::lab::Moment;

/// Tells what happens, as it happens, with the time since the start.
pub(super) struct Teller {
    json: bool,
    start: Moment,
}

impl Teller {
    pub(super) fn new(json: bool) -> Self {
        Self { json, start: Moment::now() }
    }

    pub(super) fn say(&self, text: &str) {
        let at = Moment::now().since(self.start);
        // Machines read standard output; people who also want to watch read standard error.
        match self.json {
            true => anstream::eprintln!("{:8.3} s  {text}", at.as_secs_f64()),
            false => anstream::println!("{:8.3} s  {text}", at.as_secs_f64()),
        }
    }

    /// A line to be copied.
    pub(super) fn plain(&self, text: &str) {
        match self.json {
            true => anstream::eprintln!("    {text}"),
            false => anstream::println!("    {text}"),
        }
    }

    pub(super) fn observed(&self, seen: &Outcome) {
        let both = ms(seen.verdict.double_activity);
        self.say(&format!("the observer saw two nodes acting for {both} ms: {}", seen.story));
    }

    pub(super) fn outcome(&self, outcome: &Outcome) {
        let v = &outcome.verdict;
        let other = v.first_other.map_or_else(String::new, |t| format!(", another node after {} ms", ms(t)));
        self.say(&format!("{}: outage {} ms{other}; {}", outcome.fault.word(), ms(v.outage), outcome.story));
    }

    pub(super) fn table(&self, outcomes: &[Outcome]) {
        if self.json {
            return;
        }
        let row = |o: &Outcome| {
            let v = &o.verdict;
            vec![
                o.fault.word().to_owned(),
                ms(v.outage),
                v.first_other.map_or_else(|| "-".to_owned(), ms),
                ms(v.double_activity),
                v.failed.to_string(),
                ms(v.stall),
                if o.good { "healed" } else { "NOT AS IT SHOULD" }.to_owned(),
            ]
        };
        anstream::println!();
        let head =
            ["FAULT", "OUTAGE ms", "FIRST OTHER ms", "TWO ACTING ms", "FAILED PROBES", "OWN STALL ms", "VERDICT"];
        print_table(&head, &outcomes.iter().map(row).collect::<Vec<_>>());
        anstream::println!(
            "(a probe is a new connection every 5 ms; own stall: the longest this machine kept the observer)"
        );
    }

    pub(super) fn json(&self, outcomes: &[Outcome], ok: bool, profile: Profile, scheduling: &str) {
        if !self.json {
            return;
        }
        let number = |t: Duration| (t.as_secs_f64() * 10_000.0).round() / 10.0;
        let faults: Vec<_> = outcomes
            .iter()
            .map(|o| {
                let v = &o.verdict;
                json!({
                    "fault": o.fault.word(),
                    "outage_ms": number(v.outage),
                    "first_other_ms": v.first_other.map(number),
                    "double_activity_ms": number(v.double_activity),
                    "failed_probes": v.failed,
                    "own_stall_ms": number(v.stall),
                    "good": o.good,
                })
            })
            .collect();
        let all = json!({"ok": ok, "profile": profile.word(), "scheduling": scheduling, "faults": faults});
        anstream::println!("{all}");
    }
}

fn ms(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1000.0)
}
