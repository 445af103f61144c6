//! The only ways to change the replicated state.
//!
//! Each command checks its own preconditions when it is applied, at its own position in the log, and never before it:
//! compare-and-set lives inside the entry. A refusal is an answer ([`Rejected`]), not an error.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::event::Timeline;
use super::fence::{FenceAction, FenceDevice, FenceOutcome};
use super::kv;
use super::operator::ClientName;
use super::state::{Cluster, DatagramKey, Desired, Phase, ResourceReport, Watchdog};
use super::{Incarnation, LogIndex, NodeId, Nonce, SessionId, SetId, Token, WallMillis};
use crate::package::{Millis, NodeName, Package, PackageName};

/// Unused join tokens kept; expired ones make room.
pub const JOIN_TOKENS_MAX: usize = 64;
/// Tokens that are made for whoever proves the shared secret are refused where so many are unused: the rest is for those
/// that operators make.
pub const INTRODUCED_TOKENS_MAX: usize = JOIN_TOKENS_MAX / 2;
/// Members of a lease set at most: every member is asked by every holder, several times a second.
pub const LEASE_SET_MAX: usize = 15;
/// Packages of a cluster at most.
pub const PACKAGES_MAX: usize = 1000;
/// Resources of an owner's report that are kept.
pub const RESOURCES_MAX: usize = 100;
/// Shortest lease time that can be registered.
pub const TTL_MIN: Millis = Millis(50);
/// Longest lease time that can be registered.
pub const TTL_MAX: Millis = Millis(60_000);

/// A log entry: a command, with what its proposer stamped on it. `apply` copies stamps and never reads a clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The proposer's wall clock.
    pub wall: WallMillis,
    /// Who asked, for the event ledger: `root@n1`, `planner@n2`.
    pub by: String,
    /// What to do.
    pub command: Command,
}

/// What a planner moves to a new owner together with a session's expiry (rule 12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Takeover {
    /// Which package.
    pub package: PackageName,
    /// The token of the ownership that ends; must be current and held by the expired session.
    pub token: Token,
    /// The new owner's session; must be live.
    pub to: SessionId,
    /// The sentence the operator reads.
    pub why: String,
}

/// A node that joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNode {
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// Where its agent (tcp) and keeper (udp) answer.
    pub address: SocketAddr,
    /// Further addresses for datagrams, one per extra heartbeat link.
    #[serde(default)]
    pub links: Vec<SocketAddr>,
}

/// Whom a stop is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopScope {
    /// The active node, whoever that is; it stays out until `run`.
    Owner,
    /// This node, active or not.
    Node(NodeName),
    /// The whole cluster: desired becomes halted.
    Everywhere,
}

/// How an ownership ended on its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseOutcome {
    /// Everything was stopped in order, as planned.
    Stopped,
    /// It could not be started or kept up here; the node is out of this package until `run`, `clear` or ten minutes.
    Failed {
        /// What failed, for people.
        reason: String,
    },
}

/// A change of the replicated state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// First entry of a cluster's log: the cluster and its first node.
    CreateCluster {
        /// Identity, profile, authority and datagram keys.
        cluster: Cluster,
        /// The founding node.
        node: NewNode,
    },
    /// Makes a join token usable.
    IssueToken {
        /// SHA-256 of the secret, in hex; the secret itself is never stored.
        digest: String,
        /// After this time of the proposer's wall clock it is refused.
        expires: WallMillis,
    },
    /// Takes a node in and uses up its token; the entry's index becomes its id.
    AddNode {
        /// Who joins.
        node: NewNode,
        /// Digest of the token shown.
        token: String,
        /// Names this attempt, so that a repeated request finds the id it was given.
        request: Nonce,
    },
    /// An operator takes a node out, up or down: what it owns moves away, then what it has of votes goes step by step.
    RemoveNode {
        /// Its name.
        node: NodeName,
    },
    /// An operator has a node stay whose removal has not ended; what it has lost of votes by then comes back as for a node
    /// that has joined.
    KeepNode {
        /// Its name.
        node: NodeName,
    },
    /// A node that is being removed has no vote any more and is forgotten.
    ForgetNode {
        /// Which one.
        node: NodeId,
    },
    /// A voter's keeper began a new life, or forgets its fences (rules 9 and 11).
    VoterUp {
        /// Whose keeper.
        voter: NodeId,
        /// That life's nonce.
        nonce: Nonce,
    },
    /// A keeper asks for a session (rule 4); idempotent by nonce while that session lives.
    Register {
        /// Whose keeper.
        node: NodeId,
        /// That life's nonce.
        nonce: Nonce,
        /// Lease time, fixed for the session's life.
        ttl: Millis,
        /// The node's earlier session, of which the keeper has made sure that nothing is left (rule 5).
        supersedes: Option<SessionId>,
    },
    /// Ends a silent session and moves what it owned (rule 12).
    ExpireSession {
        /// Which session.
        session: SessionId,
        /// Who agreed, each in which incarnation.
        agreed: Vec<(NodeId, Incarnation)>,
        /// What moves where.
        moves: Vec<Takeover>,
        /// When what was noticed, for the ledger.
        timeline: Timeline,
    },
    /// A new lease set (rules 14 and 15).
    AddLeaseSet {
        /// The set's voters.
        members: BTreeSet<NodeId>,
        /// The newest set that the proposer knew.
        after: Option<SetId>,
    },
    /// Retires an old lease set (rule 17; the wait is the proposer's).
    RetireLeaseSet {
        /// Which one; never the newest.
        set: SetId,
    },
    /// Stores or replaces a definition; a new package is halted.
    DefinePackage {
        /// The whole definition.
        definition: Package,
        /// Revision it replaces; none when it must be new.
        replaces: Option<LogIndex>,
    },
    /// Forgets a halted package.
    DeletePackage {
        /// Which one.
        package: PackageName,
        /// Its revision.
        revision: LogIndex,
    },
    /// Desired becomes running, failures are cleared, and nodes become eligible.
    RunPackage {
        /// Which one.
        package: PackageName,
        /// Only this node, or every node of its list.
        node: Option<NodeName>,
    },
    /// Stops it on a node or everywhere.
    StopPackage {
        /// Which one.
        package: PackageName,
        /// Where.
        scope: StopScope,
    },
    /// A planned switchover: the owner stops, and its release hands the package over. One act, never a ban.
    MovePackage {
        /// Which one.
        package: PackageName,
        /// The ownership that ends; must be current.
        token: Token,
        /// The new owner.
        to: NodeId,
        /// The sentence the operator reads.
        why: String,
    },
    /// Gives an unowned package to a live session; the entry's index becomes its token.
    Assign {
        /// Which one.
        package: PackageName,
        /// The last token it ever had.
        last: Token,
        /// The new owner's session; must be live.
        session: SessionId,
        /// The sentence the operator reads.
        why: String,
    },
    /// The holder ends its ownership with everything down (rules 20 and 21).
    Release {
        /// Which one.
        package: PackageName,
        /// The ownership that ends; must be current and of this session.
        token: Token,
        /// The holder's session.
        session: SessionId,
        /// How it ended.
        outcome: ReleaseOutcome,
    },
    /// The holder says how far it is; data for `status` and the ledger, never authority.
    Report {
        /// Which one.
        package: PackageName,
        /// The current ownership.
        token: Token,
        /// How far.
        phase: Phase,
        /// Each resource, in start order.
        resources: Vec<ResourceReport>,
        /// Milliseconds from the holder's learning of its ownership to this phase.
        after: Millis,
        /// What changed, for people.
        note: String,
    },
    /// A node's agent says how its machine's watchdog is now; data for `status` and the ledger, never authority.
    SayWatchdog {
        /// Whose.
        node: NodeId,
        /// How it is; none when none is configured.
        watchdog: Option<Watchdog>,
    },
    /// A node's agent says where it answers plain HTTP; for redirects of clients, never authority.
    SayHttp {
        /// Whose.
        node: NodeId,
        /// Where; none when it is off.
        address: Option<SocketAddr>,
    },
    /// Stores or replaces the device by which a node is switched off from outside.
    SetFence {
        /// Which node.
        node: NodeName,
        /// How.
        device: FenceDevice,
    },
    /// Forgets a node's fence device.
    DeleteFence {
        /// Which node.
        node: NodeName,
    },
    /// An operator orders a node to be fenced, once.
    OrderFence {
        /// Which node.
        node: NodeName,
        /// How.
        action: FenceAction,
        /// Even if it lives.
        force: bool,
    },
    /// An attempt to fence a node begins; nobody runs its agent before this is in the log.
    BeginFence {
        /// Which node.
        node: NodeId,
        /// The entry that began the attempt before; 0 when there was none.
        after: LogIndex,
        /// The sentence the operator reads.
        why: String,
    },
    /// An attempt to fence a node has ended.
    EndFence {
        /// Which node.
        node: NodeId,
        /// The entry that began it.
        begun: LogIndex,
        /// How it ended.
        outcome: FenceOutcome,
    },
    /// An operator has made sure that a node is off, and answers for it.
    ConfirmFence {
        /// Which node.
        node: NodeName,
    },
    /// An operator has made sure that no machine beyond the former members known here acts for the cluster that this one went
    /// on from, and answers for it.
    ConfirmUnlisted,
    /// An operator says that the old cluster will not come back: nothing is left to be said about it.
    SayWhole,
    /// Lets an operator in who proves this name by a certificate.
    AdmitOperator {
        /// The name that the certificate says.
        name: ClientName,
    },
    /// Lets an operator in no more, whatever certificate it shows; for good.
    RevokeOperator {
        /// The name that its certificates say.
        name: ClientName,
    },
    /// An operator wants another key for the datagrams.
    RotateKey,
    /// A new key of the datagrams, for everybody to accept.
    AddKey {
        /// The next id.
        id: u32,
        /// The key, random.
        key: DatagramKey,
    },
    /// A node's keeper goes by the datagram keys as of an entry.
    HaveKeys {
        /// Whose keeper.
        node: NodeId,
        /// That life's nonce.
        nonce: Nonce,
        /// The entry that changed them.
        at: LogIndex,
    },
    /// Everybody seals with the new key from here on.
    UseKey {
        /// Its id.
        id: u32,
    },
    /// Nobody accepts another key from here on.
    DropKeys {
        /// The id of the one that stays.
        keep: u32,
    },
    /// Conditions and changes of the key/value tree, all at once.
    Kv(kv::Txn),
    /// A failed node may be tried again.
    ClearFailure {
        /// Which package.
        package: PackageName,
        /// Which node.
        node: NodeName,
    },
}

/// What an applied command answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was done.
    Done,
    /// Nothing needed doing: the state was already so.
    Already,
    /// The joined node's id.
    Node(NodeId),
    /// The session registered (now, or earlier under the same nonce).
    Session(SessionId),
    /// The voter's incarnation.
    Incarnation(Incarnation),
    /// The lease set made.
    Set(SetId),
    /// The ownership given.
    Token(Token),
    /// The definition's revision.
    Revision(LogIndex),
    /// What came of a transaction on the key/value tree.
    Kv(kv::Outcome),
    /// A precondition did not hold; nothing changed.
    Rejected(Rejected),
}

impl Reply {
    /// What it says unless it is a rejection.
    ///
    /// # Errors
    /// The rejection.
    pub fn accepted(self) -> Result<Self, Rejected> {
        match self {
            Reply::Rejected(rejected) => Err(rejected),
            accepted @ (Reply::Done
            | Reply::Already
            | Reply::Node(_)
            | Reply::Session(_)
            | Reply::Incarnation(_)
            | Reply::Set(_)
            | Reply::Token(_)
            | Reply::Revision(_)
            | Reply::Kv(_)) => Ok(accepted),
        }
    }
}

/// Which precondition did not hold. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Rejected {
    /// There is a cluster already.
    #[error("this log already holds a cluster")]
    ClusterExists,
    /// There is none yet.
    #[error("there is no cluster in this log yet")]
    NoCluster,
    /// The token is unknown, used up or revoked.
    #[error("the join token is unknown or already used; make a new one with `pkgctl cluster token` on a member")]
    TokenUnknown,
    /// The token is too old.
    #[error("the join token has expired; make a new one with `pkgctl cluster token` on a member")]
    TokenExpired,
    /// Another node has that name.
    #[error(
        "a node named '{name}' is already in the cluster. If this is that machine, with its store lost: \
         `pkgctl cluster remove {name}` on a member, then join again; else give this one another `name` in agent.toml"
    )]
    NameTaken {
        /// The name.
        name: NodeName,
    },
    /// It is being removed.
    #[error("node '{name}' is still being removed; try again in a few seconds")]
    NodeLeaving {
        /// Which one.
        name: NodeName,
    },
    /// It owns what nobody else could take.
    #[error(
        "{name} stays, and nothing was changed: {packages}. Have another node take it (`pkgctl run PACKAGE --node NODE`) \
         or stop it (`pkgctl halt PACKAGE`), then remove {name}"
    )]
    NodeOwns {
        /// Which node.
        name: NodeName,
        /// The packages, each with why.
        packages: String,
    },
    /// The voters that stay could not work without it.
    #[error(
        "{name} stays, and nothing was changed: of the {voters} voters without it only {there} would be there, which is no \
         majority. Bring {absent} back, or remove what is down first"
    )]
    NodeNeeded {
        /// Which node.
        name: NodeName,
        /// Voters without it.
        voters: usize,
        /// Those of them with a live session.
        there: usize,
        /// Those without, by name.
        absent: String,
    },
    /// Nobody else votes.
    #[error("{name} is the last voter; a cluster cannot go on without one")]
    LastVoter {
        /// Which one.
        name: NodeName,
    },
    /// Another node has that address.
    #[error(
        "node '{name}' already has the address {address}; if it is gone, `pkgctl cluster remove {name}` on a member"
    )]
    AddressTaken {
        /// Who has it.
        name: NodeName,
        /// The address.
        address: SocketAddr,
    },
    /// No such node.
    #[error("there is no node '{node}' in the cluster; `pkgctl cluster status` lists them")]
    NoSuchNode {
        /// Id or name as given.
        node: String,
    },
    /// No such package.
    #[error("there is no package '{package}'; `pkgctl status` lists them")]
    NoSuchPackage {
        /// Its name.
        package: PackageName,
    },
    /// The package exists although it should be new, or is at another revision.
    #[error("package '{package}' is at revision {current}, not {expected}; look at it again and retry")]
    RevisionMoved {
        /// Its name.
        package: PackageName,
        /// Where it is; 0 when there is none.
        current: LogIndex,
        /// Where it was expected; 0 when it should be new.
        expected: LogIndex,
    },
    /// The node is not in the package's list.
    #[error("node '{node}' is not in the node list of package '{package}'")]
    NodeNotListed {
        /// The package.
        package: PackageName,
        /// The node.
        node: NodeName,
    },
    /// The package must be halted for this.
    #[error("package '{package}' is to run; `pkgctl stop {package} --everywhere` first")]
    NotHalted {
        /// The package.
        package: PackageName,
        /// What it is.
        desired: Desired,
    },
    /// The package's ownership is another one than expected.
    #[error("{}", token_moved(.package, *.current, *.given))]
    TokenMoved {
        /// The package.
        package: PackageName,
        /// The last token given.
        current: Token,
        /// The token in the command.
        given: Token,
    },
    /// Nobody owns it, or another session does.
    #[error("package '{package}' is not owned by session {session}")]
    NotOwner {
        /// The package.
        package: PackageName,
        /// The session in the command.
        session: SessionId,
    },
    /// Nobody owns it at the moment.
    #[error(
        "package '{package}' has no owner now; `pkgctl stop {package} --node N` keeps it off a node, `--everywhere` halts it"
    )]
    Unowned {
        /// The package.
        package: PackageName,
    },
    /// Somebody owns it.
    #[error("package '{package}' is owned already")]
    Owned {
        /// The package.
        package: PackageName,
    },
    /// The node may not own the package now.
    #[error("node '{node}' may not own package '{package}': {why}")]
    NotEligible {
        /// The package.
        package: PackageName,
        /// The node.
        node: NodeName,
        /// Which eligibility it has.
        why: String,
    },
    /// The session is not live.
    #[error("session {session} is not live")]
    SessionNotLive {
        /// Which one.
        session: SessionId,
    },
    /// The node has a live session of another keeper life that the command does not supersede.
    #[error("node {node} still has session {live}; a new keeper supersedes it or it expires")]
    SessionInTheWay {
        /// The node.
        node: NodeId,
        /// Its live session.
        live: SessionId,
    },
    /// Agreements that are current are no majority of an unretired lease set (rule 12).
    #[error("{have} current agreements of {needed} needed in lease set {set}")]
    NoMajority {
        /// The set.
        set: SetId,
        /// Members that agreed in their current incarnation.
        have: usize,
        /// A majority of it.
        needed: usize,
    },
    /// There are two unretired lease sets (rule 15).
    #[error("two lease sets are unretired; the older one must be retired first")]
    TooManySets,
    /// The newest lease set is another one than expected, or cannot be retired.
    #[error("lease set {given:?} is not what the state has (newest {newest:?})")]
    SetMoved {
        /// The newest in the state.
        newest: Option<SetId>,
        /// The one in the command.
        given: Option<SetId>,
    },
    /// Nobody but a fence device knows whether its old owner still acts.
    #[error(
        "package '{package}' waits until {node} is fenced; if you have made sure that {node} is off: `pkgctl fence \
         confirm {node}`"
    )]
    AwaitsFencing {
        /// The package.
        package: PackageName,
        /// The node's name.
        node: String,
    },
    /// Nobody knows whether somebody acts for it under the cluster that this one went on from.
    #[error("package '{package}' is given to nobody yet: {why}")]
    AwaitsFormers {
        /// The package.
        package: PackageName,
        /// Who is not known to be off, and what to do.
        why: String,
    },
    /// Nobody went on alone.
    #[error("this cluster did not go on from another one, or is whole again; nothing was changed")]
    NotAlone,
    /// Somebody may still act under the old cluster.
    #[error("it cannot be said that the old cluster is gone: {why}. Nothing was changed")]
    FormersLeft {
        /// Who is not known to be off, and what to do.
        why: String,
    },
    /// A former member of that name may still act under the old cluster.
    #[error(
        "{name} was a member of the cluster that this one went on from and is not known to be off there. Have it leave that          (`pkgctl cluster leave` on it), say so by `pkgctl fence confirm {name}` here, then join it"
    )]
    FormerNode {
        /// The name.
        name: NodeName,
    },
    /// Packages wait until it is fenced.
    #[error(
        "{node} must be fenced first: nobody gets {packages} before that; once it is off for certain: `pkgctl fence \
         confirm {node}`, then remove it"
    )]
    FenceFirst {
        /// The node.
        node: NodeName,
        /// The packages' names.
        packages: String,
    },
    /// There is nothing to confirm.
    #[error("no package waits until {node} is fenced; nothing was changed")]
    NobodyWaits {
        /// The node.
        node: NodeName,
    },
    /// There is nothing to fence it with.
    #[error("{node} has no fence device; `pkgctl fence set {node} --agent …` gives it one")]
    NoFenceDevice {
        /// The node.
        node: NodeName,
    },
    /// It lives.
    #[error(
        "{node} is up: it has a live session, and what runs there would be cut off. Move its packages away first, or add \
         --force"
    )]
    FenceLives {
        /// The node.
        node: NodeName,
    },
    /// Nobody got a certificate under that name.
    #[error("no operator is called {name}; `pkgctl cluster clients` lists them")]
    NoSuchOperator {
        /// The name.
        name: ClientName,
    },
    /// Its certificates were made void, which is for good.
    #[error("operator {name} was revoked, and a name is never given again; take another one, such as {name}-2")]
    OperatorRevoked {
        /// The name.
        name: ClientName,
    },
    /// A change of keys comes under the name of another one.
    #[error("the name {request} was used for another request; nothing was changed: take a new one")]
    RequestNameTaken {
        /// The name.
        request: kv::RequestId,
    },
    /// The values themselves are not usable.
    #[error("{0}")]
    Invalid(String),
}

impl Rejected {
    /// Whether that is the sentence of a rejected join that another token could mend: what a member's refusal comes as.
    pub fn is_of_token(sentence: &str) -> bool {
        [Self::TokenUnknown, Self::TokenExpired].iter().any(|rejected| rejected.to_string() == sentence)
    }
}

/// Why a token is not the one that counts. An ownership that has ended is nobody's, though its token was the last.
fn token_moved(package: &PackageName, current: Token, given: Token) -> String {
    if current == given {
        return format!(
            "nobody owns package '{package}' now (its last token was {current}), so nothing was changed under that token; \
             whoever owns it next has another one. `pkgctl status {package}` shows why nobody does"
        );
    }
    format!("package '{package}' has token {current}, not {given}: its ownership has moved on; nothing was changed")
}
