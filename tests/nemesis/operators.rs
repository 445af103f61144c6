//! Operators at work while things go wrong: they move, stop and run packages through whichever node answers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::asker::{Asker, Said};
use crate::bell::Bell;
use crate::clients::ASK_WITHIN;
use crate::field::{Field, NODES, PACKAGES};
use crate::random::Random;
use crate::timeline::Timeline;

/// How many packages are touched in one round: the others must not notice.
const TOUCHED: usize = 3;

/// The packages that operators will touch, drawn before the round begins.
pub fn drawn(random: &mut Random) -> BTreeSet<usize> {
    (0..TOUCHED).map(|_| random.index(PACKAGES)).collect()
}

/// Touches these packages until the bell rings; how many commands were acknowledged.
pub fn work(field: &Field, packages: &BTreeSet<usize>, mut random: Random, bell: &Bell, timeline: &Timeline) -> usize {
    let asker = Asker::new(ASK_WITHIN);
    let packages: Vec<usize> = packages.iter().copied().collect();
    let mut acknowledged = 0;
    while !bell.wait(Duration::from_millis(random.between(300, 2500))) {
        let target = &field.targets[packages[random.index(packages.len())]];
        let to = target.nodes[random.index(target.nodes.len())];
        let (verb, body): (&str, Value) = match random.below(10) {
            0..3 => ("move", json!({})),
            3..5 => ("move", json!({ "to": to })),
            5..6 => ("stop", json!({ "scope": "owner" })),
            6..7 => ("stop", json!({ "scope": { "node": to } })),
            7..8 => ("stop", json!({ "scope": "everywhere" })),
            _ => ("run", json!({})),
        };
        let node = NODES[random.index(NODES.len())];
        let path = format!("/v1/packages/{}/{verb}", target.name);
        let said = asker.ask(&field.socket(node), "POST", &path, Some(body.to_string().into_bytes()));
        let status = match said {
            Said::Answer { status, .. } => i32::from(status),
            Said::Unsent => 0,
            Said::Lost => -1,
        };
        acknowledged += usize::from(status == 200);
        timeline.say(format!("operator at {node}: {verb} {} {body}: {status}", target.name));
    }
    acknowledged
}
