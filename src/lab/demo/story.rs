//! What happens after a fault, told with times: what the client sees, as it sees it, and then why, by the cluster's own
//! ledger.

use std::time::Duration;

use serde_json::Value;

use crate::lab::{Moment, Observer, Probe, ProbeResult, wait_until};

/// How long the ledger may lag behind an answer that the client has had.
const LEDGER_LAG: Duration = Duration::from_millis(500);

/// The wall clock counts whole milliseconds.
const TICK_MS: f64 = 1.0;

/// Waits for the answer that ends the fault, and tells what the client sees meanwhile.
pub(super) fn follow(
    observer: &Observer,
    at: Moment,
    limit: Duration,
    ends: impl Fn(&str) -> bool,
    say: &dyn Fn(&str),
) -> Option<Probe> {
    let mut told = 0;
    let mut silent = false;
    observer.wait_for(limit, |probes| {
        let new = probes.get(told.min(probes.len())..).unwrap_or_default();
        told = probes.len();
        for probe in new.iter().filter(|probe| probe.sent >= at) {
            match &probe.result {
                ProbeResult::Answered(reply) if ends(&reply.node) => {
                    let (after, node) = (probe.ended.since(at), &reply.node);
                    say(&line(after, &format!("the client is answered by {node} (token {})", reply.token)));
                    return Some(probe.clone());
                }
                ProbeResult::Answered(_) => {}
                _ if silent => {}
                _ => {
                    silent = true;
                    say(&line(probe.sent.since(at), "the first request of the client that is not answered"));
                }
            }
        }
        None
    })
}

/// Tells what the cluster has written down since the fault, once `complete` is among it.
pub(super) fn reasons(ledger: impl Fn() -> Option<Vec<Value>>, at: Moment, complete: Option<&str>, say: &dyn Fn(&str)) {
    let from = at.wall();
    let since = |event: &Value| event["wall"].as_f64().map(|wall| wall - from).filter(|after| *after >= -TICK_MS);
    let mut events = Vec::new();
    // A ledger that cannot be had now is no reason to end a demonstration; the verdict is the observer's alone.
    let _ = wait_until(LEDGER_LAG, || {
        events = ledger()?.into_iter().filter(|event| since(event).is_some()).collect();
        complete.is_none_or(|word| events.iter().any(|event| event["what"] == word)).then_some(())
    });
    for event in &events {
        let after = Duration::from_secs_f64(since(event).unwrap_or_default().max(0.0) / 1000.0);
        let word = |key: &str| event[key].as_str().unwrap_or_default();
        let (what, why, node) = (word("what").replace('_', " "), word("why"), word("node"));
        let about = if node.is_empty() { String::new() } else { format!(" ({node})") };
        let reason = if why == what { String::new() } else { format!(": {why}") };
        say(&line(after, &format!("{what}{about}{reason}")));
    }
}

fn line(after: Duration, what: &str) -> String {
    format!("  {:>+8.0} ms  {what}", after.as_secs_f64() * 1000.0)
}
