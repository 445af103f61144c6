//! One entry being applied: its stamps, its facts for the keepers, its lines in the ledger, and the look-ups that
//! every command shares.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::engine::command::Entry;
use crate::engine::event::{Event, LEDGER_MAX, TEXT_MAX_BYTES, Timeline};
use crate::engine::kv::Key;
use crate::engine::lease::{Fact, Rules};
use crate::engine::placement::{eligible, stays};
use crate::engine::state::{Cause, Desired, Ownership, PackageEntry};
use crate::engine::{Applied, LogIndex, NodeId, Rejected, Reply, SessionId, State, Token, WallMillis};
use crate::package::{Millis, NodeName, PackageName};

/// An entry at its place in the log.
pub(super) struct Step<'a> {
    pub state: &'a mut State,
    pub index: LogIndex,
    pub wall: WallMillis,
    pub by: &'a str,
    pub rules: Rules,
    facts: Vec<Fact>,
    touched: Vec<Key>,
}

/// A line of the ledger before it gets its stamps.
#[derive(Default)]
pub(super) struct Line {
    pub what: &'static str,
    pub why: String,
    pub package: Option<PackageName>,
    pub node: Option<NodeName>,
    pub timeline: Option<Timeline>,
    pub after: Option<Millis>,
}

impl Line {
    pub fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self { what, why: why.into(), ..Self::default() }
    }

    pub fn package(mut self, package: &PackageName) -> Self {
        self.package = Some(package.clone());
        self
    }

    pub fn node(mut self, node: Option<NodeName>) -> Self {
        self.node = node;
        self
    }
}

impl<'a> Step<'a> {
    pub fn new(state: &'a mut State, index: LogIndex, entry: &'a Entry, rules: Rules) -> Self {
        Self { state, index, wall: entry.wall, by: &entry.by, rules, facts: Vec::new(), touched: Vec::new() }
    }

    /// It was carried out.
    pub fn applied(self, reply: Reply) -> Applied {
        Applied { reply, facts: self.facts, touched: self.touched }
    }

    /// Keys that were put or taken away.
    pub fn touched(&mut self, keys: Vec<Key>) {
        self.touched.extend(keys);
    }

    /// Something keepers must know.
    pub fn fact(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// Writes a line into the ledger.
    pub fn record(&mut self, line: Line) {
        let event = Event {
            index: self.index,
            wall: self.wall,
            package: line.package,
            node: line.node,
            what: line.what.to_owned(),
            why: clip(&line.why),
            by: clip(self.by),
            timeline: line.timeline,
            after: line.after,
        };
        append(self.state, event);
    }

    /// A node's name; none when there is no such node.
    pub fn name(&self, node: NodeId) -> Option<NodeName> {
        self.state.nodes.get(&node).map(|n| n.name.clone())
    }

    /// A node's name.
    pub fn member(&self, node: NodeId) -> Result<NodeName, Rejected> {
        self.name(node).ok_or_else(|| Rejected::NoSuchNode { node: node.to_string() })
    }

    /// The node of a name that fencing is about: a member, or a former one.
    pub fn to_fence(&self, name: &NodeName) -> Result<NodeId, Rejected> {
        self.state.to_fence(name).ok_or_else(|| Rejected::NoSuchNode { node: name.to_string() })
    }

    /// The name of a node that fencing is about.
    pub fn fenced_name(&self, node: NodeId) -> Result<NodeName, Rejected> {
        self.state.member_or_former(node).cloned().ok_or_else(|| Rejected::NoSuchNode { node: node.to_string() })
    }

    pub fn package(&self, package: &PackageName) -> Result<&PackageEntry, Rejected> {
        self.state.packages.get(package).ok_or_else(|| Rejected::NoSuchPackage { package: package.clone() })
    }

    pub fn package_mut(&mut self, package: &PackageName) -> Result<&mut PackageEntry, Rejected> {
        self.state.packages.get_mut(package).ok_or_else(|| Rejected::NoSuchPackage { package: package.clone() })
    }

    /// The node of a live session.
    pub fn live(&self, session: SessionId) -> Result<NodeId, Rejected> {
        let found = self.state.sessions.get(&session);
        found.map(|s| s.node).ok_or(Rejected::SessionNotLive { session })
    }

    /// Checks that a node may be given the package now, and answers its name.
    pub fn may_own(&self, package: &PackageName, node: NodeId) -> Result<NodeName, Rejected> {
        let entry = self.package(package)?;
        let name = self.member(node)?;
        let refuse = |why: String| Rejected::NotEligible { package: package.clone(), node: name.clone(), why };
        // Rule 19: nobody is given anything before everybody else is known to be off.
        if let Some(why) = self.state.fallback_wait() {
            return Err(Rejected::AwaitsFormers { package: package.clone(), why });
        }
        match entry.desired {
            Desired::Running => {}
            Desired::Halted => return Err(refuse("the package is halted".to_owned())),
        }
        eligible(entry, &name).and_then(|()| stays(self.state, node)).map_err(|why| refuse(format!("it {why}")))?;
        Ok(name)
    }

    /// Gives an unowned package to a live session; this entry's index is its token, larger than any before (I2).
    pub fn give(&mut self, package: &PackageName, session: SessionId, node: NodeId, why: &str) {
        let (token, since, why) = (Token::from(self.index), self.wall, clip(why));
        if let Ok(entry) = self.package_mut(package) {
            entry.owner = Some(Ownership { token, session, node, since, why, moving_to: None });
            entry.last_token = token;
            entry.report = None;
            entry.unowned = None;
        }
    }

    /// Something that begins with this entry.
    pub fn cause(&self, why: &str) -> Cause {
        Cause { since: self.wall, why: clip(why) }
    }

    /// Removes a session and answers what it owned; those packages are unowned from here on (rule 21), because of `why`.
    pub fn end_session(&mut self, session: SessionId, why: &str) -> Vec<PackageName> {
        let cause = self.cause(why);
        if let Some(ended) = self.state.sessions.remove(&session) {
            self.state.down.insert(ended.node, self.wall);
        }
        self.fact(Fact::Expired { session });
        let mut owned = Vec::new();
        for (name, entry) in &mut self.state.packages {
            if entry.owner.as_ref().is_some_and(|o| o.session == session) {
                entry.owner = None;
                entry.report = None;
                entry.unowned = Some(cause.clone());
                owned.push(name.clone());
            }
        }
        owned
    }
}

/// Notes a change of Raft's voters. Membership entries bear no stamps: the wall time is that of the newest event.
pub(super) fn record_voters(state: &mut State, index: LogIndex, voters: &BTreeSet<NodeId>) {
    let names: Vec<String> = voters.iter().map(|id| state.name_of(*id)).collect();
    let event = Event {
        index,
        wall: state.events.back().map_or(WallMillis(0), |e| e.wall),
        package: None,
        node: None,
        what: "voters".to_owned(),
        why: clip(&format!("Raft's voters are now {}", names.join(", "))),
        by: "raft".to_owned(),
        timeline: None,
        after: None,
    };
    append(state, event);
}

/// Adds a line to the ledger, within its bounds.
pub(in crate::engine) fn append(state: &mut State, event: Event) {
    state.events.push_back(event);
    while state.events.len() > LEDGER_MAX {
        let oldest = oldest_of_the_most(&state.events);
        state.events.remove(oldest);
    }
}

/// Where the oldest event of the subject (a package, or none) with the most events is; of several with as many, that of
/// the one whose oldest event is older. So nobody's history is lost to what somebody else keeps saying. A pass over a
/// full ledger takes some ten microseconds, and only entries that write into it pay for one.
fn oldest_of_the_most(events: &VecDeque<Event>) -> usize {
    let mut subjects: BTreeMap<Option<&PackageName>, (usize, usize)> = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        subjects.entry(event.package.as_ref()).or_insert((0, at)).0 += 1;
    }
    let most = subjects.into_values().max_by_key(|(count, oldest)| (*count, Reverse(*oldest)));
    most.map_or(0, |(_, oldest)| oldest)
}

/// Cuts a text to [`TEXT_MAX_BYTES`] at a character, so that no entry can bloat the state.
pub(in crate::engine) fn clip(text: &str) -> String {
    if text.len() <= TEXT_MAX_BYTES {
        return text.to_owned();
    }
    let end = (0..=TEXT_MAX_BYTES - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}...", &text[..end])
}
