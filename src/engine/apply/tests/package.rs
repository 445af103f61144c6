//! Definitions, run, stop, delete.

use super::*;
use crate::engine::state::{Desired, Eligibility};

fn define(definition: Package, replaces: Option<LogIndex>) -> Command {
    Command::DefinePackage { definition, replaces }
}

#[test]
fn a_definition_is_new_or_replaces_the_revision_it_names() {
    let mut log = Log::three();
    let first = log.state.packages[&p1()].revision;
    assert_eq!(log.say(define(package("p1", "10.0.0.100", &[0, 1]), None)), Reply::Already);
    let other = package("p1", "10.0.0.101", &[0, 1, 2]);
    let moved = Rejected::RevisionMoved { package: p1(), current: first, expected: LogIndex(0) };
    assert_eq!(log.refused(define(other.clone(), None)), moved);
    log.run();
    let second = log.next();
    assert_eq!(log.say(define(other, Some(first))), Reply::Revision(second));
    let entry = &log.state.packages[&p1()];
    assert_eq!(entry.desired, Desired::Running, "an update changes no wish");
    assert_eq!(entry.eligibility[&node_name(0)], Eligibility::Eligible);
    assert_eq!(entry.eligibility[&node_name(2)], Eligibility::NotRun);
    let unknown = define(package("p2", "10.0.0.102", &[0]), Some(second));
    assert!(matches!(log.refused(unknown), Rejected::RevisionMoved { .. }));
}

#[test]
fn unknown_nodes_are_refused_with_those_that_are_known() {
    let mut log = Log::three();
    let why = log.refused(define(package("p2", "10.0.0.102", &[0, 7, 8]), None)).to_string();
    assert_eq!(why, "package 'p2' lists n8, n9, not in this cluster; the cluster's nodes are n1, n2, n3");
}

#[test]
fn an_address_belongs_to_one_package() {
    let mut log = Log::three();
    let why = log.refused(define(package("p2", "10.0.0.100", &[0]), None)).to_string();
    assert!(why.starts_with("10.0.0.100 of resource 'ip' is the address of 'ip' in package 'p1' already"), "{why}");
    let itself = log.state.nodes.values().next().unwrap().address.ip().to_string();
    let why = log.refused(define(package("p2", &itself, &[0]), None)).to_string();
    assert!(why.contains("is the address of node n1 itself"), "{why}");
}

#[test]
fn every_problem_of_a_definition_is_told_at_once() {
    let mut log = Log::three();
    let mut bad = package("p2", "10.0.0.100", &[0, 7]);
    bad.nodes.push(node_name(0));
    bad.resources[1].name = bad.resources[0].name.clone();
    let why = log.refused(define(bad, None)).to_string();
    assert_eq!(why.lines().count(), 4, "{why}");
}

#[test]
fn definitions_that_make_no_sense_are_refused() {
    let mut log = Log::three();
    let mut no_nodes = package("p2", "10.0.0.102", &[]);
    assert!(matches!(log.refused(define(no_nodes.clone(), None)), Rejected::Invalid(_)));
    no_nodes.nodes = vec![node_name(0), node_name(0)];
    assert!(matches!(log.refused(define(no_nodes, None)), Rejected::Invalid(_)));
    let mut empty = package("p2", "10.0.0.102", &[0]);
    empty.resources.clear();
    assert!(matches!(log.refused(define(empty, None)), Rejected::Invalid(_)));
    let mut twice = package("p2", "10.0.0.102", &[0]);
    twice.resources[1].name = twice.resources[0].name.clone();
    assert!(matches!(log.refused(define(twice, None)), Rejected::Invalid(_)));
}

#[test]
fn the_owner_stays_in_the_list_of_its_package() {
    let mut log = Log::three();
    log.run();
    log.assign(0);
    let revision = log.state.packages[&p1()].revision;
    let without = define(package("p1", "10.0.0.100", &[1, 2]), Some(revision));
    assert!(log.refused(without).to_string().contains("n1 owns package 'p1'"));
}

#[test]
fn a_package_is_deleted_when_halted_and_unowned() {
    let mut log = Log::three();
    let revision = log.state.packages[&p1()].revision;
    let delete = |revision| Command::DeletePackage { package: p1(), revision };
    log.run();
    assert!(matches!(log.refused(delete(revision)), Rejected::NotHalted { .. }));
    let token = log.assign(0);
    log.stop(StopScope::Everywhere);
    assert_eq!(log.refused(delete(revision)), Rejected::Owned { package: p1() });
    log.release(0, token, ReleaseOutcome::Stopped);
    assert!(matches!(log.refused(delete(LogIndex(1))), Rejected::RevisionMoved { .. }));
    assert_eq!(log.say(delete(revision)), Reply::Done);
    assert_eq!(log.refused(delete(revision)), Rejected::NoSuchPackage { package: p1() });
}

#[test]
fn run_makes_every_listed_node_eligible_or_only_the_one_named() {
    let mut log = Log::three();
    assert_eq!(log.say(Command::RunPackage { package: p1(), node: Some(node_name(1)) }), Reply::Done);
    let of = |log: &Log, at: usize| log.state.packages[&p1()].eligibility[&node_name(at)].clone();
    assert_eq!((of(&log, 0), of(&log, 1)), (Eligibility::NotRun, Eligibility::Eligible));
    log.run();
    assert_eq!(of(&log, 0), Eligibility::Eligible);
    assert_eq!(log.say(Command::RunPackage { package: p1(), node: None }), Reply::Already);
    let unlisted = Command::RunPackage { package: p1(), node: Some(node_name(2)) };
    assert!(matches!(log.refused(unlisted), Rejected::NodeNotListed { .. }));
}

#[test]
fn stop_withdraws_the_owner_and_leaves_the_wish() {
    let mut log = Log::three();
    assert_eq!(log.stop(StopScope::Owner), Reply::Already, "a halted package is stopped");
    log.run();
    assert_eq!(log.stop(StopScope::Owner), Reply::Rejected(Rejected::Unowned { package: p1() }));
    log.assign(0);
    assert_eq!(log.stop(StopScope::Owner), Reply::Done);
    let entry = &log.state.packages[&p1()];
    assert_eq!(entry.desired, Desired::Running);
    assert!(matches!(&entry.eligibility[&node_name(0)], Eligibility::Withdrawn { by, .. } if by == "root@n1"));
    assert!(entry.owner.is_some(), "only its release ends an ownership");
    assert_eq!(log.stop(StopScope::Node(node_name(0))), Reply::Already);
    log.run();
    assert_eq!(log.state.packages[&p1()].eligibility[&node_name(0)], Eligibility::Eligible);
}

#[test]
fn stop_everywhere_halts() {
    let mut log = Log::three();
    log.run();
    assert_eq!(log.stop(StopScope::Everywhere), Reply::Done);
    assert_eq!(log.state.packages[&p1()].desired, Desired::Halted);
    assert_eq!(log.stop(StopScope::Everywhere), Reply::Already);
}
