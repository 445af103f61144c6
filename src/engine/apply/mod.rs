//! The replicated state machine: one entry at a time, deterministic and total (I6).
//!
//! Every command checks its preconditions here, at its own place in the log, and changes nothing unless all of them
//! hold. No clock, chance or host is read: times are what the proposer stamped, and never decide safety.
//!
//! - `step`: one entry being applied: its stamps, its facts for the keepers, its lines in the ledger.
//! - `cluster`: the cluster, its nodes, join tokens. `session`: voters' lives and sessions. `expire`: rule 12.
//! - `fallback`: what is known of the others by a node that went on alone.
//! - `keys`: the key of the datagrams. `kv`: the key/value tree. `operator`: who may come in from elsewhere. `fence`: external fencing. `node`: what a node says of its machine. `set`: lease sets. `package`: definitions and what operators want. `owner`: who owns what.

mod cluster;
mod expire;
mod fallback;
mod fence;
mod keys;
mod kv;
mod node;
mod operator;
mod owner;
mod package;
mod session;
mod set;
mod step;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;

pub use self::cluster::removal_waits_for_nobody;
use self::step::Step;
pub(super) use self::step::{append, clip};
use super::command::Entry;
use super::kv::Key;
use super::lease::{Fact, Rules};
use super::{Command, LogIndex, NodeId, Rejected, Reply, State};

/// What came of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The proposer's answer.
    pub reply: Reply,
    /// What keepers must know of it (rule 7); empty for most entries.
    pub facts: Vec<Fact>,
    /// Keys that were put or taken away, for whoever watches them.
    pub touched: Vec<Key>,
}

impl Applied {
    /// Nothing to say of it.
    pub fn done() -> Self {
        Self { reply: Reply::Done, facts: Vec::new(), touched: Vec::new() }
    }

    fn rejected(rejected: Rejected) -> Self {
        Self { reply: Reply::Rejected(rejected), facts: Vec::new(), touched: Vec::new() }
    }
}

/// Applies one entry. An entry at or below `state.applied` is refused and changes nothing.
pub fn apply(state: &mut State, index: LogIndex, entry: &Entry) -> Applied {
    apply_under(&Rules::ALL, state, index, entry)
}

/// [`apply`], with the rules given: the simulation drops one to show that it is needed.
pub fn apply_under(rules: &Rules, state: &mut State, index: LogIndex, entry: &Entry) -> Applied {
    if index <= state.applied {
        let why = format!("entry {index} was applied already; the state is at {}", state.applied);
        return Applied::rejected(Rejected::Invalid(why));
    }
    state.applied = index;
    let mut step = Step::new(state, index, entry, *rules);
    match dispatch(&mut step, &entry.command) {
        Ok(reply) => step.applied(reply),
        Err(rejected) => Applied::rejected(rejected),
    }
}

/// Applies an entry without a command (Raft's own).
pub fn apply_blank(state: &mut State, index: LogIndex) {
    state.applied = state.applied.max(index);
}

/// Applies a membership entry of Raft: copies its voters, because lease sets follow them (rule 14).
pub fn apply_membership(state: &mut State, index: LogIndex, voters: BTreeSet<NodeId>) {
    apply_blank(state, index);
    if state.raft_voters != voters {
        step::record_voters(state, index, &voters);
        state.raft_voters = voters;
    }
}

fn dispatch(step: &mut Step, command: &Command) -> Result<Reply, Rejected> {
    if let Command::CreateCluster { cluster, node } = command {
        return cluster::create(step, cluster, node);
    }
    if step.state.cluster.is_none() {
        return Err(Rejected::NoCluster);
    }
    match command {
        Command::CreateCluster { .. } => Err(Rejected::ClusterExists),
        Command::IssueToken { digest, expires } => cluster::issue_token(step, digest, *expires),
        Command::AddNode { node, token, request } => cluster::add_node(step, node, token, *request),
        Command::RemoveNode { node } => cluster::remove_node(step, node),
        Command::KeepNode { node } => cluster::keep_node(step, node),
        Command::ForgetNode { node } => cluster::forget_node(step, *node),
        Command::VoterUp { voter, nonce } => session::voter_up(step, *voter, *nonce),
        Command::Register { node, nonce, ttl, supersedes } => session::register(step, *node, *nonce, *ttl, *supersedes),
        Command::ExpireSession { session, agreed, moves, timeline } => {
            expire::expire(step, *session, agreed, moves, *timeline)
        }
        Command::SetFence { node, device } => fence::set(step, node, device),
        Command::DeleteFence { node } => fence::delete(step, node),
        Command::OrderFence { node, action, force } => fence::order(step, node, *action, *force),
        Command::BeginFence { node, after, why } => fence::begin(step, *node, *after, why),
        Command::EndFence { node, begun, outcome } => fence::end(step, *node, *begun, outcome),
        Command::ConfirmFence { node } => fence::confirm(step, node),
        Command::ConfirmUnlisted => fallback::confirm_unlisted(step),
        Command::SayWhole => fallback::say_whole(step),
        Command::SayWatchdog { node, watchdog } => node::say_watchdog(step, *node, watchdog.as_ref()),
        Command::SayHttp { node, address } => node::say_http(step, *node, *address),
        Command::AddLeaseSet { members, after } => set::add(step, members, *after),
        Command::RetireLeaseSet { set } => set::retire(step, *set),
        Command::DefinePackage { definition, replaces } => package::define(step, definition, *replaces),
        Command::DeletePackage { package, revision } => package::delete(step, package, *revision),
        Command::RunPackage { package, node } => package::run(step, package, node.as_ref()),
        Command::StopPackage { package, scope } => package::stop(step, package, scope),
        Command::AdmitOperator { name } => operator::admit(step, name),
        Command::RevokeOperator { name } => operator::revoke(step, name),
        Command::RotateKey => keys::rotate(step),
        Command::AddKey { id, key } => keys::add(step, *id, key),
        Command::HaveKeys { node, nonce, at } => keys::have(step, *node, *nonce, *at),
        Command::UseKey { id } => keys::take_up(step, *id),
        Command::DropKeys { keep } => keys::drop_others(step, *keep),
        Command::Kv(txn) => kv::txn(step, txn),
        Command::ClearFailure { package, node } => package::clear_failure(step, package, node),
        Command::MovePackage { package, token, to, why } => owner::switch(step, package, *token, *to, why),
        Command::Assign { package, last, session, why } => owner::assign(step, package, *last, *session, why),
        Command::Release { package, token, session, outcome } => {
            owner::release(step, package, *token, *session, outcome)
        }
        Command::Report { package, token, phase, resources, after, note } => {
            let said = owner::Said { phase: *phase, resources, after: *after, note };
            owner::report(step, package, *token, &said)
        }
    }
}
