//! Definitions, and what operators want of packages (design section 9, "CLI verbs").

use std::collections::{BTreeMap, BTreeSet};

use super::step::{Line, Step};
use crate::engine::command::{PACKAGES_MAX, StopScope};
use crate::engine::state::{Cause, Desired, Eligibility, Node, PackageEntry};
use crate::engine::{LogIndex, Rejected, Reply, Token};
use crate::package::{NodeName, Package, PackageName, addresses, conflicts};

/// Stores a new definition, halted, or replaces one at a given revision.
pub(super) fn define(step: &mut Step, definition: &Package, replaces: Option<LogIndex>) -> Result<Reply, Rejected> {
    let name = &definition.name;
    let old = step.state.packages.get(name);
    if old.is_some_and(|entry| entry.definition == *definition) {
        return Ok(Reply::Already);
    }
    let current = old.map_or(LogIndex(0), |entry| entry.revision);
    let expected = replaces.unwrap_or(LogIndex(0));
    if current != expected {
        return Err(Rejected::RevisionMoved { package: name.clone(), current, expected });
    }
    let before = old.map(|entry| entry.revision);
    check_definition(step, definition)?;
    remember_unenforced(step, definition);
    let revision = step.index;
    let listed = definition.nodes.join_names();
    let why = match before {
        Some(before) => format!("the definition replaces revision {before}; nodes {listed}"),
        None => format!("defined with {} resources on {listed}; halted until `run`", definition.resources.len()),
    };
    let defined = step.cause(&why);
    let entry = match step.state.packages.remove(name) {
        Some(entry) => redefined(step, entry, definition, revision),
        None => PackageEntry {
            definition: definition.clone(),
            revision,
            desired: Desired::Halted,
            eligibility: definition.nodes.iter().map(|n| (n.clone(), Eligibility::NotRun)).collect(),
            last_token: Token(0),
            owner: None,
            report: None,
            halted: None,
            unowned: Some(defined),
        },
    };
    step.state.packages.insert(name.clone(), entry);
    step.record(Line::new("defined", why).package(name));
    Ok(Reply::Revision(revision))
}

/// An owner that is cut off goes on with the definition it knows: one that becomes enforced is not so there.
fn remember_unenforced(step: &mut Step, definition: &Package) {
    let Some(entry) = step.state.packages.get(&definition.name) else { return };
    let token = entry.last_token;
    if entry.owner.is_some() && entry.definition.unenforced().is_some() {
        step.state.was_unenforced.insert(definition.name.clone(), token);
    }
}

/// Nodes still listed keep their eligibility, new ones have not been told to run it; a move to a node that is no
/// longer listed is called off.
fn redefined(step: &Step, mut entry: PackageEntry, definition: &Package, revision: LogIndex) -> PackageEntry {
    let known = |node: &NodeName| entry.eligibility.get(node).cloned().unwrap_or_default();
    let eligibility: BTreeMap<NodeName, Eligibility> =
        definition.nodes.iter().map(|node| (node.clone(), known(node))).collect();
    entry.eligibility = eligibility;
    entry.definition = definition.clone();
    entry.revision = revision;
    if let Some(owner) = &mut entry.owner {
        owner.moving_to.take_if(|m| step.name(m.to).is_none_or(|to| !definition.nodes.contains(&to)));
    }
    entry
}

/// Everything that is wrong with a definition in this cluster, each problem on a line of its own.
fn check_definition(step: &Step, definition: &Package) -> Result<(), Rejected> {
    let name = &definition.name;
    let mut problems = Vec::new();
    if !step.state.packages.contains_key(name) && step.state.packages.len() >= PACKAGES_MAX {
        problems.push(format!("there are {PACKAGES_MAX} packages already; delete one first"));
    }
    check_nodes(step, definition, &mut problems);
    check_resources(definition, &mut problems);
    check_addresses(step, definition, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(Rejected::Invalid(problems.join("\n"))) }
}

fn check_nodes(step: &Step, definition: &Package, problems: &mut Vec<String>) {
    let name = &definition.name;
    if definition.nodes.is_empty() {
        problems.push(format!("package '{name}' lists no nodes"));
    }
    let known: BTreeSet<&NodeName> = step.state.nodes.values().map(|n| &n.name).collect();
    let unknown: Vec<NodeName> = definition.nodes.iter().filter(|n| !known.contains(n)).cloned().collect();
    if !unknown.is_empty() {
        let known: Vec<NodeName> = known.into_iter().cloned().collect();
        let (unknown, known) = (unknown.join_names(), known.join_names());
        problems
            .push(format!("package '{name}' lists {unknown}, not in this cluster; the cluster's nodes are {known}"));
    }
    let listed: BTreeSet<&NodeName> = definition.nodes.iter().collect();
    if listed.len() != definition.nodes.len() {
        problems.push(format!("package '{name}' lists a node twice"));
    }
    let owner = step.state.packages.get(name).and_then(|entry| entry.owner.as_ref());
    if let Some(owner) = owner.and_then(|o| step.name(o.node)).filter(|owner| !listed.contains(owner)) {
        problems
            .push(format!("{owner} owns package '{name}' and is not in the new node list; `pkgctl move {name}` first"));
    }
}

fn check_resources(definition: &Package, problems: &mut Vec<String>) {
    let name = &definition.name;
    if definition.resources.is_empty() {
        problems.push(format!("package '{name}' has no resources"));
    }
    let mut seen = BTreeSet::new();
    for twice in definition.resources.iter().filter(|r| !seen.insert(&r.name)) {
        problems.push(format!("package '{name}' has two resources named '{}'", twice.name));
    }
}

fn check_addresses(step: &Step, definition: &Package, problems: &mut Vec<String>) {
    let mut own = BTreeSet::new();
    for (resource, address) in addresses(definition) {
        if !own.insert(address) {
            problems.push(format!("package '{}' has the address {address} twice", definition.name));
        }
        let is_its = |node: &&Node| node.address.ip() == address || node.links.iter().any(|link| link.ip() == address);
        if let Some(node) = step.state.nodes.values().find(is_its) {
            problems.push(format!(
                "{address} of resource '{resource}' is the address of node {} itself; a floating address is one that \
                 no machine has",
                node.name
            ));
        }
    }
    let others = step.state.packages.values().map(|entry| &entry.definition);
    problems.extend(conflicts(definition, others).iter().map(ToString::to_string));
}

/// Forgets a package that is halted and owned by nobody.
pub(super) fn delete(step: &mut Step, package: &PackageName, revision: LogIndex) -> Result<Reply, Rejected> {
    let entry = step.package(package)?;
    if entry.revision != revision {
        let (current, expected) = (entry.revision, revision);
        return Err(Rejected::RevisionMoved { package: package.clone(), current, expected });
    }
    match entry.desired {
        Desired::Halted => {}
        desired @ Desired::Running => return Err(Rejected::NotHalted { package: package.clone(), desired }),
    }
    if entry.owner.is_some() {
        return Err(Rejected::Owned { package: package.clone() });
    }
    super::fence::check_waits_for_nobody(step, package)?;
    step.state.packages.remove(package);
    step.state.was_unenforced.remove(package);
    step.record(Line::new("deleted", "its definition is forgotten").package(package));
    Ok(Reply::Done)
}

/// `run`: desired becomes running, failures are cleared, and every listed node, or only the one named, becomes eligible.
pub(super) fn run(step: &mut Step, package: &PackageName, node: Option<&NodeName>) -> Result<Reply, Rejected> {
    if let Some(node) = node {
        check_listed(step, package, node)?;
    }
    let listed = step.package(package)?.definition.nodes.join_names();
    let why = match node {
        Some(node) => format!("should run; {node} may own it"),
        None => format!("should run; every node of its list may own it: {listed}"),
    };
    let cause = step.cause(&why);
    let entry = step.package_mut(package)?;
    let before = (entry.desired, entry.eligibility.clone());
    entry.desired = Desired::Running;
    for (name, eligibility) in &mut entry.eligibility {
        if node.is_none_or(|only| only == name) {
            *eligibility = Eligibility::Eligible;
        }
    }
    if before == (entry.desired, entry.eligibility.clone()) {
        return Ok(Reply::Already);
    }
    entry.halted = None;
    entry.may_be_owned(cause);
    step.record(Line::new("run", why).package(package).node(node.cloned()));
    Ok(Reply::Done)
}

/// `stop`: the owner, a node, or everywhere. With no eligible node left, desired stays running (`view` says halted).
pub(super) fn stop(step: &mut Step, package: &PackageName, scope: &StopScope) -> Result<Reply, Rejected> {
    match scope {
        StopScope::Everywhere => halt(step, package),
        StopScope::Node(node) => {
            check_listed(step, package, node)?;
            withdraw(step, package, node)
        }
        StopScope::Owner => {
            let entry = step.package(package)?;
            let owner = match (entry.desired, &entry.owner) {
                (Desired::Halted, _) => return Ok(Reply::Already),
                (Desired::Running, None) => return Err(Rejected::Unowned { package: package.clone() }),
                (Desired::Running, Some(owner)) => owner.node,
            };
            let node = step.member(owner)?;
            withdraw(step, package, &node)
        }
    }
}

fn halt(step: &mut Step, package: &PackageName) -> Result<Reply, Rejected> {
    let why = format!("stopped everywhere by {}", step.by);
    let cause = step.cause(&why);
    let entry = step.package_mut(package)?;
    if entry.desired == Desired::Halted {
        return Ok(Reply::Already);
    }
    entry.desired = Desired::Halted;
    entry.halted = Some(cause);
    if let Some(owner) = &mut entry.owner {
        owner.moving_to = None;
    }
    step.record(Line::new("stopped", why).package(package));
    Ok(Reply::Done)
}

fn withdraw(step: &mut Step, package: &PackageName, node: &NodeName) -> Result<Reply, Rejected> {
    let (since, by) = (step.wall, super::step::clip(step.by));
    let id = step.state.nodes.iter().find(|(_, n)| n.name == *node).map(|(id, _)| *id);
    let entry = step.package_mut(package)?;
    if matches!(entry.eligibility.get(node), Some(Eligibility::Withdrawn { .. })) {
        return Ok(Reply::Already);
    }
    entry.eligibility.insert(node.clone(), Eligibility::Withdrawn { since, by });
    if let Some(owner) = &mut entry.owner {
        owner.moving_to.take_if(|m| Some(m.to) == id);
    }
    let why = format!("stopped on {node} by {}; {node} stays out until `run`", step.by);
    step.record(Line::new("stopped", why).package(package).node(Some(node.clone())));
    Ok(Reply::Done)
}

/// A failed node may be tried again.
pub(super) fn clear_failure(step: &mut Step, package: &PackageName, node: &NodeName) -> Result<Reply, Rejected> {
    check_listed(step, package, node)?;
    let why = format!("its failure on {node} is cleared; {node} may be tried again");
    let cause = step.cause(&why);
    let entry = step.package_mut(package)?;
    match entry.eligibility.get(node) {
        Some(Eligibility::Failed { .. }) => {}
        Some(Eligibility::NotRun | Eligibility::Eligible | Eligibility::Withdrawn { .. }) | None => {
            return Ok(Reply::Already);
        }
    }
    entry.eligibility.insert(node.clone(), Eligibility::Eligible);
    entry.may_be_owned(cause);
    step.record(Line::new("cleared", why).package(package).node(Some(node.clone())));
    Ok(Reply::Done)
}

fn check_listed(step: &Step, package: &PackageName, node: &NodeName) -> Result<(), Rejected> {
    if step.package(package)?.definition.nodes.contains(node) {
        return Ok(());
    }
    Err(Rejected::NodeNotListed { package: package.clone(), node: node.clone() })
}

impl PackageEntry {
    /// Something has changed so that it may be owned. Of a package that is owned nothing is noted.
    fn may_be_owned(&mut self, cause: Cause) {
        if self.owner.is_none() {
            self.unowned = Some(cause);
        }
    }
}

/// Names with commas between them.
trait JoinNames {
    fn join_names(&self) -> String;
}

impl JoinNames for [NodeName] {
    fn join_names(&self) -> String {
        self.iter().map(NodeName::as_str).collect::<Vec<_>>().join(", ")
    }
}
