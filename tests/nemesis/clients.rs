//! Clients of the API, each in a thread of its own: some read and write registers through whichever node, one stores
//! packages that must never be lost again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pkgctl::api::types::{DefineRequest, PackageDetail};
use pkgctl::lab::Moment;
use pkgctl::package::Package;

use crate::asker::{Asker, Said};
use crate::bell::Bell;
use crate::field::{Field, NODES, REGISTERS};
use crate::history::{Op, Outcome, Value, What};
use crate::random::Random;

/// Clients of registers at once: the checks bear more, the machine is shared.
pub const CLIENTS: usize = 4;
/// After this a client takes the outcome for unknown.
pub const ASK_WITHIN: Duration = Duration::from_secs(4);
/// Longest time between two requests of a client, in milliseconds.
const THINK_MAX_MS: u64 = 250;

/// Values that nobody has used.
#[derive(Default)]
pub struct Values(AtomicU64);

impl Values {
    fn fresh(&self) -> Value {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The registers: two packages that never run, and two that do.
pub fn registers() -> [&'static str; 4] {
    [REGISTERS[0], REGISTERS[1], "pkg0", "pkg1"]
}

/// What a node says a register is, read linearizably.
pub fn read(field: &Field, asker: &Asker, node: &str, register: &str) -> Option<(Value, PackageDetail)> {
    let path = format!("/v1/packages/{register}");
    let Said::Answer { status: 200, body } = asker.ask(&field.socket(node), "GET", &path, None) else { return None };
    let detail: PackageDetail = serde_json::from_slice(&body).expect("an answer that can be read");
    Some((detail.definition.description.parse().expect("a value"), detail))
}

fn outcome(said: &Said) -> Outcome {
    match said {
        Said::Answer { status: 200, .. } => Outcome::Done,
        Said::Answer { status: 409, body } if String::from_utf8_lossy(body).contains("\"revision_moved\"") => {
            Outcome::Refused
        }
        // 500: the node cannot go on; 504: unknown in so many words.
        Said::Answer { status: 500 | 504, .. } | Said::Lost => Outcome::Open,
        Said::Answer { .. } | Said::Unsent => Outcome::NotTaken,
    }
}

/// Reads and writes registers until the bell rings.
pub fn use_registers(field: &Field, client: usize, values: &Values, mut random: Random, bell: &Bell) -> Vec<Op> {
    let asker = Asker::new(ASK_WITHIN);
    let mut ops = Vec::new();
    while !bell.wait(Duration::from_millis(random.below(THINK_MAX_MS))) {
        let node = NODES[random.index(NODES.len())];
        let register = registers()[random.index(registers().len())];
        let op = |invoked, what, returned| Op { client, node, register, invoked, returned, what };
        let invoked = Moment::now();
        let Some((from, detail)) = read(field, &asker, node, register) else { continue };
        ops.push(op(invoked, What::Read(from), Some(Moment::now())));
        if random.chance(400) {
            continue;
        }
        // Often through another node than the one that was asked what is there.
        let node = NODES[random.index(NODES.len())];
        let to = values.fresh();
        let definition = Package { description: to.to_string(), ..detail.definition };
        let request = DefineRequest { definition, replaces: Some(detail.view.revision) };
        let body = serde_json::to_vec(&request).expect("a definition can be written");
        let invoked = Moment::now();
        let said = asker.ask(&field.socket(node), "PUT", &format!("/v1/packages/{register}"), Some(body));
        let outcome = outcome(&said);
        let returned = (outcome != Outcome::Open).then(Moment::now);
        ops.push(Op { client, node, register, invoked, returned, what: What::Write { from, to, outcome } });
    }
    ops
}

/// Packages that were stored, by name, and what is known of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Acknowledged: it must be there.
    Yes,
    /// It may be there.
    Perhaps,
    /// Refused, or its deletion was acknowledged: it must not be there.
    No,
}

/// Stores new packages until the bell rings.
pub fn store_packages(field: &Field, round: usize, mut random: Random, bell: &Bell) -> BTreeMap<String, Stored> {
    let asker = Asker::new(ASK_WITHIN);
    let mut stored = BTreeMap::new();
    for number in 0.. {
        if bell.wait(Duration::from_millis(200 + random.below(2 * THINK_MAX_MS))) {
            break;
        }
        let name = format!("kept-{round}-{number}");
        let text = format!(
            "name = {name:?}\nnodes = {NODES:?}\n[[resource]]\nkind = \"program\"\ncommand = [\"/bin/true\"]\n"
        );
        let definition = pkgctl::package::parse("kept.toml", &text).expect("a good package file");
        let body = serde_json::to_vec(&DefineRequest { definition, replaces: None }).expect("it can be written");
        let node = NODES[random.index(NODES.len())];
        let said = asker.ask(&field.socket(node), "PUT", &format!("/v1/packages/{name}"), Some(body));
        let known = match outcome(&said) {
            Outcome::Done => Stored::Yes,
            Outcome::Open => Stored::Perhaps,
            Outcome::Refused | Outcome::NotTaken => Stored::No,
        };
        stored.insert(name, known);
    }
    stored
}
