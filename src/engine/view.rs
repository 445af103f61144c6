//! A package as an operator sees it: one state word and one reason, derived from the replicated state alone, so that
//! every node shows the same.

use serde::{Deserialize, Serialize};

use super::state::{Cause, Desired, Eligibility, Ownership, PackageEntry, Phase, ResourceState};
use super::{LogIndex, State, Token, WallMillis};
use crate::package::{NodeName, PackageName, Resource};

/// The state of a package in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateWord {
    /// Everything is up on the owner.
    Running,
    /// The owner is bringing it up, or an owner is being chosen for the first time.
    Starting,
    /// The owner is taking it down.
    Stopping,
    /// Nowhere, and nobody is to start it.
    Halted,
    /// A planned move: the owner is taking it down for the next one.
    Moving,
    /// It should run and nobody owns it.
    FailingOver,
    /// A stop failed; the owner holds on to it.
    Held,
    /// It should run, and is given to nobody before somebody else is known to be off.
    Awaiting,
}

impl StateWord {
    /// The word used in tables.
    pub fn word(self) -> &'static str {
        match self {
            StateWord::Running => "running",
            StateWord::Starting => "starting",
            StateWord::Stopping => "stopping",
            StateWord::Halted => "halted",
            StateWord::Moving => "moving",
            StateWord::FailingOver => "failing over",
            StateWord::Held => "held",
            StateWord::Awaiting => "awaiting",
        }
    }
}

/// A package as `status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageView {
    /// Its name.
    pub name: PackageName,
    /// The revision of its definition.
    pub revision: LogIndex,
    /// What an operator wants.
    pub desired: Desired,
    /// How it is.
    pub state: StateWord,
    /// Who owns it.
    pub owner: Option<NodeName>,
    /// Its fencing token, while owned.
    pub token: Option<Token>,
    /// Since when it is in this state.
    pub since: Option<WallMillis>,
    /// Why it is in this state.
    pub reason: String,
    /// In start order.
    pub resources: Vec<ResourceView>,
    /// The nodes of its list, in its order of preference.
    pub nodes: Vec<NodeView>,
}

impl PackageView {
    /// State and reason in one text: `halted: no eligible node`.
    pub fn headline(&self) -> String {
        if self.reason.is_empty() {
            return self.state.word().to_owned();
        }
        format!("{}: {}", self.state.word(), self.reason)
    }
}

/// One resource of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceView {
    /// As defined; its name and kind stand there.
    pub resource: Resource,
    /// The owner's word; down while nobody owns the package.
    pub state: ResourceState,
    /// For people.
    pub detail: String,
}

/// One node of its list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// Whether it can take the package now: it is there and permitted.
    pub eligible: bool,
    /// Whether nothing but its absence keeps it out: it was told to run the package, not stopped, and has not failed.
    #[serde(default)]
    pub permitted: bool,
    /// In words: `eligible`, `was stopped by root@n1`, `failed: exit code 1`, `is down: its keeper has no session`.
    pub why: String,
    /// Since when, if that is known.
    pub since: Option<WallMillis>,
}

/// How a package is; none when there is no such package.
pub fn package_view(state: &State, name: &PackageName) -> Option<PackageView> {
    let entry = state.packages.get(name)?;
    let (word, since, reason) = match &entry.owner {
        Some(owner) => owned(state, entry, owner),
        None => unowned(state, entry),
    };
    Some(PackageView {
        name: name.clone(),
        revision: entry.revision,
        desired: entry.desired,
        state: word,
        owner: entry.owner.as_ref().and_then(|o| state.nodes.get(&o.node)).map(|n| n.name.clone()),
        token: entry.owner.as_ref().map(|o| o.token),
        since,
        reason,
        resources: entry.definition.resources.iter().map(|r| resource(entry, r)).collect(),
        nodes: entry.definition.nodes.iter().map(|n| node(state, entry, n)).collect(),
    })
}

type Condition = (StateWord, Option<WallMillis>, String);

fn owned(state: &State, entry: &PackageEntry, owner: &Ownership) -> Condition {
    let report = entry.report.as_ref();
    let since = Some(report.map_or(owner.since, |r| r.since));
    let note = || report.map_or_else(|| owner.why.clone(), |r| r.note.clone());
    if report.is_some_and(|r| r.phase == Phase::Held) {
        return (StateWord::Held, since, note());
    }
    if let Some(switch) = &owner.moving_to {
        return (StateWord::Moving, since, switch.why.clone());
    }
    let name = state.nodes.get(&owner.node).map(|n| &n.name);
    let barred = name.and_then(|name| barred(entry, name));
    match (entry.desired, barred, report.map(|r| r.phase)) {
        (Desired::Halted, _, _) => (StateWord::Stopping, since, "stopped everywhere".to_owned()),
        (Desired::Running, Some(why), _) => (StateWord::Stopping, since, why),
        (Desired::Running, None, None | Some(Phase::Starting)) => (StateWord::Starting, since, owner.why.clone()),
        (Desired::Running, None, Some(Phase::Stopping | Phase::Held)) => (StateWord::Stopping, since, note()),
        (Desired::Running, None, Some(Phase::Running)) => (StateWord::Running, since, owner.why.clone()),
    }
}

fn barred(entry: &PackageEntry, name: &NodeName) -> Option<String> {
    not_permitted(entry, name).map(|why| format!("{name} {why}"))
}

fn unowned(state: &State, entry: &PackageEntry) -> Condition {
    let unowned = entry.unowned.as_ref();
    let since = unowned.map(|cause| cause.since);
    let alone = state.fallback.as_ref().filter(|_| entry.desired == Desired::Running);
    if let Some((fallback, waits)) = alone.and_then(|fallback| Some((fallback, fallback.wait()?))) {
        return (StateWord::Awaiting, since.max(Some(fallback.since)), waits);
    }
    let waits = state.fence_wait(&entry.definition.name).filter(|_| entry.desired == Desired::Running);
    if let Some(waits) = waits {
        return (StateWord::FailingOver, since, waits);
    }
    match entry.desired {
        Desired::Halted => {
            let halted = entry.halted.as_ref();
            (StateWord::Halted, since.max(halted.map(|cause| cause.since)), halted_reason(entry, halted))
        }
        Desired::Running if !entry.eligibility.values().any(|e| *e == Eligibility::Eligible) => {
            let lost = entry.eligibility.values().filter_map(Eligibility::since).max();
            (StateWord::Halted, since.max(lost), nobody_left(entry))
        }
        Desired::Running if entry.last_token == Token(0) => {
            (StateWord::Starting, since, "waiting for an eligible node with a live session".to_owned())
        }
        Desired::Running => (StateWord::FailingOver, since, unowned.map(|cause| cause.why.clone()).unwrap_or_default()),
    }
}

fn halted_reason(entry: &PackageEntry, halted: Option<&Cause>) -> String {
    let never_run = entry.last_token == Token(0) && entry.eligibility.values().all(|e| *e == Eligibility::NotRun);
    match halted {
        Some(cause) => cause.why.clone(),
        None if never_run => format!("not run yet; `pkgctl run {}` starts it", entry.definition.name),
        // Stopped under a version that did not keep it.
        None => "stopped everywhere; who did it and when was not kept".to_owned(),
    }
}

/// `failed on n1 (exit code 1), n2 (timeout)`, or that no node is eligible.
fn nobody_left(entry: &PackageEntry) -> String {
    let failed: Vec<String> = entry
        .definition
        .nodes
        .iter()
        .filter_map(|name| match entry.eligibility.get(name) {
            Some(Eligibility::Failed { reason, .. }) => Some(format!("{name} ({reason})")),
            Some(Eligibility::NotRun | Eligibility::Eligible | Eligibility::Withdrawn { .. }) | None => None,
        })
        .collect();
    if failed.is_empty() { "no eligible node".to_owned() } else { format!("failed on {}", failed.join(", ")) }
}

fn resource(entry: &PackageEntry, resource: &Resource) -> ResourceView {
    let said = entry.report.as_ref().and_then(|r| r.resources.iter().find(|said| said.name == resource.name));
    ResourceView {
        resource: resource.clone(),
        state: said.map_or(ResourceState::Down, |said| said.state),
        detail: said.map(|said| said.detail.clone()).unwrap_or_default(),
    }
}

fn node(state: &State, entry: &PackageEntry, name: &NodeName) -> NodeView {
    let (barred, absent) = (not_permitted(entry, name), absent(state, name));
    let permitted = barred.is_none();
    let since = if permitted { absent.as_ref().and_then(|(_, since)| *since) } else { eligibility_since(entry, name) };
    let why: Vec<String> = barred.into_iter().chain(absent.map(|(why, _)| why.to_owned())).collect();
    let eligible = why.is_empty();
    let why = if eligible { "eligible".to_owned() } else { why.join("; ") };
    NodeView { name: name.clone(), eligible, permitted, why, since }
}

fn eligibility_since(entry: &PackageEntry, name: &NodeName) -> Option<WallMillis> {
    entry.eligibility.get(name).and_then(Eligibility::since)
}

/// Why a node may not own the package, whether it is there or not.
fn not_permitted(entry: &PackageEntry, name: &NodeName) -> Option<String> {
    match entry.eligibility.get(name) {
        Some(Eligibility::Eligible) => None,
        Some(Eligibility::NotRun) | None => Some("has not been told to run it".to_owned()),
        Some(Eligibility::Withdrawn { by, .. }) => Some(format!("was stopped by {by}")),
        Some(Eligibility::Failed { reason, .. }) => Some(format!("failed: {reason}")),
    }
}

/// Why a node can own nothing at all now, and since when where that is kept.
fn absent(state: &State, name: &NodeName) -> Option<(&'static str, Option<WallMillis>)> {
    let Some((id, _)) = state.nodes.iter().find(|(_, node)| node.name == *name) else {
        return Some(("is no member of the cluster: it was removed or has never joined", None));
    };
    let down = state.down.get(id).copied();
    if state.leaving.contains(id) {
        return Some(("is being removed from the cluster", down));
    }
    let lives = state.sessions.values().any(|session| session.node == *id);
    (!lives).then_some(("is down: its keeper has no session", down))
}
