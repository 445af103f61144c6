//! The command line: verbs, their options, and examples in their help.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use super::kv;
use super::reach::endpoint;
use crate::engine::Profile;
use crate::engine::fence::FenceAction;
use crate::engine::operator::ClientName;
use crate::package::{ClusterName, Millis, NodeName, PackageName};

/// Above the options of every verb.
const GLOBAL: &str = "Options of every verb";

/// Failover cluster manager: packages of IPs and programs that run on one node at a time and respawn on a standby.
#[derive(Debug, Parser)]
#[command(name = "pkgctl", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Args {
    /// The agent's socket [default: $PKGCTL_SOCKET, then <root>/run/pkgctl/api.sock]
    #[arg(long, global = true, value_name = "PATH", help_heading = GLOBAL)]
    pub socket: Option<PathBuf>,
    /// Talk to this member instead; several are tried in turn
    #[arg(long, global = true, value_name = "HOST[:PORT]", value_parser = endpoint, value_delimiter = ',', help_heading = GLOBAL)]
    pub endpoint: Vec<String>,
    /// The file that names members and a certificate [default: $PKGCTL_CLIENT, then ~/.config/pkgctl/client.toml where
    /// no agent's socket can be used]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub client: Option<PathBuf>,
    /// Directory below which all of pkgctl's files lie, instead of /
    #[arg(long, global = true, value_name = "DIR", help_heading = GLOBAL)]
    pub root: Option<PathBuf>,
    /// Print JSON for machines
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  pkgctl init testpkg1            store ./testpkg1.toml; the package is halted
  pkgctl run testpkg1             run it on the first eligible node of its list
  pkgctl status testpkg1          its resources, and which node may take it
  pkgctl move testpkg1 --to n2    planned switchover
  pkgctl stop testpkg1            stop it there; it respawns on the standby
  pkgctl stop testpkg1 --everywhere

Exit codes: 0 done, 1 another outcome, 2 bad input, 3 nobody answers, 4 refused,
5 still under way, 6 outcome unknown, 7 first do by hand what is printed.";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Store a package's definition; a new package is halted until `run`
    Init(Init),
    /// Run a package: clears its failures and makes its nodes eligible
    Run(Run),
    /// Stop a package on its owner (the standby takes over), on one node, or everywhere
    Stop(Stop),
    /// Stop a package everywhere
    Halt(Halt),
    /// Move a package to another node in good order
    Move(Move),
    /// Let a node on which a package failed be tried again
    Clear(Clear),
    /// Forget a package that is halted
    Delete(Delete),
    /// Show the cluster and its packages, or one package in detail
    Status(Status),
    /// Show what a package's programs, and pkgctl about it, wrote on this node
    Logs(Logs),
    /// Make a cluster, join one, make a join token, remove a node
    #[command(subcommand)]
    Cluster(Cluster),
    /// Consensus: how it stands, who leads
    #[command(subcommand, after_help = RAFT_EXAMPLES)]
    Raft(Raft),
    /// Keys and values that programs and operators share, kept by the whole cluster
    #[command(subcommand, after_help = kv::verbs::EXAMPLES)]
    Kv(kv::verbs::Kv),
    /// Switch nodes off from outside, by ClusterLabs-style fence agents
    #[command(subcommand, after_help = FENCE_EXAMPLES)]
    Fence(Fence),
    /// This node as a whole
    #[command(subcommand)]
    Node(Node),
    /// Run a node in the foreground, with all its files below a directory: agent and keeper, without systemd
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Make a cluster of the nodes in conf/cluster_nodes, or come into it: to be typed once on each of them
    #[command(after_help = BOOT_EXAMPLES)]
    FirstBoot(FirstBoot),
    /// Show a failover on this machine, in network namespaces; needs no root and nothing installed
    Demo(crate::lab::demo::DemoArgs),
    /// Run the agent of this node (what pkgctl-agent.service does)
    Agent(Agent),
}

/// `pkgctl init`.
#[derive(Debug, Parser)]
pub struct Init {
    /// The package
    pub package: PackageName,
    /// Its file [default: ./P.toml, then /etc/pkgctl/packages/P.toml]
    #[arg(short, long)]
    pub file: Option<PathBuf>,
    /// Replace a stored definition that differs
    #[arg(long)]
    pub update: bool,
    /// Allow an update that restarts resources that run
    #[arg(long, requires = "update")]
    pub restart: bool,
}

/// `pkgctl run`.
#[derive(Debug, Parser)]
pub struct Run {
    /// The package
    pub package: PackageName,
    /// Make only this node eligible
    #[arg(long)]
    pub node: Option<NodeName>,
    /// Do not wait for it to run
    #[arg(long)]
    pub no_wait: bool,
}

/// `pkgctl stop`.
#[derive(Debug, Clone, Parser)]
pub struct Stop {
    /// The package
    pub package: PackageName,
    /// Withdraw this node, whether it is the owner or not
    #[arg(long, conflicts_with = "everywhere")]
    pub node: Option<NodeName>,
    /// Stop it in the whole cluster
    #[arg(long)]
    pub everywhere: bool,
    /// Do not wait for the outcome
    #[arg(long)]
    pub no_wait: bool,
}

/// `pkgctl halt`.
#[derive(Debug, Parser)]
pub struct Halt {
    /// The package
    pub package: PackageName,
    /// Do not wait for the outcome
    #[arg(long)]
    pub no_wait: bool,
}

impl Halt {
    /// The same as `stop --everywhere`.
    pub fn everywhere(&self) -> Stop {
        Stop { package: self.package.clone(), node: None, everywhere: true, no_wait: self.no_wait }
    }
}

/// `pkgctl move`.
#[derive(Debug, Parser)]
pub struct Move {
    /// The package
    pub package: PackageName,
    /// The new owner [default: the next eligible node of its list]
    #[arg(long)]
    pub to: Option<NodeName>,
    /// Do not wait for the outcome
    #[arg(long)]
    pub no_wait: bool,
}

/// `pkgctl clear`.
#[derive(Debug, Parser)]
pub struct Clear {
    /// The package
    pub package: PackageName,
    /// The node on which it failed
    #[arg(long)]
    pub node: NodeName,
}

/// `pkgctl delete`.
#[derive(Debug, Parser)]
pub struct Delete {
    /// The package
    pub package: PackageName,
}

/// `pkgctl status`.
#[derive(Debug, Parser)]
pub struct Status {
    /// Only this package, in detail
    pub package: Option<PackageName>,
}

/// `pkgctl logs`.
#[derive(Debug, Parser)]
pub struct Logs {
    /// The package
    pub package: PackageName,
    /// Go on printing what is added
    #[arg(short, long)]
    pub follow: bool,
    /// Begin with about this many of the last bytes
    #[arg(long, default_value_t = 16_384, value_name = "BYTES")]
    pub tail: u64,
}

/// `pkgctl cluster …`.
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Make a new cluster of this node alone
    Init(ClusterInit),
    /// Join the cluster whose member printed this token, or is at this address and shares this node's secret
    Join(ClusterJoin),
    /// Print a token with which one node can join within an hour
    Token,
    /// Make the secret by which nodes know each other, to be copied to every node; or show which one is there
    Secret(ClusterSecret),
    /// Take a node out for good, up or down: its packages move away first; it can come back as a new node
    Remove(ClusterRemove),
    /// Have this node leave a cluster that has no majority, or none but itself
    #[command(after_help = LEAVE_EXAMPLES)]
    Leave(ClusterLeave),
    /// Make a certificate for an operator, so that pkgctl works from machines that are no members
    Client(ClusterClient),
    /// List the operators that were given a certificate
    Clients,
    /// Make an operator's certificate void, for good
    Revoke(ClusterRevoke),
    /// Replace the key of the datagrams, which somebody may have read; nothing is disturbed
    RotateKey,
    /// Show the cluster and its members
    Status,
}

/// `pkgctl cluster secret`.
#[derive(Debug, Parser)]
pub struct ClusterSecret {
    /// Make another one, which voids the one that is there
    #[arg(long)]
    pub renew: bool,
}

/// `pkgctl cluster remove`.
#[derive(Debug, Parser)]
pub struct ClusterRemove {
    /// The node
    pub node: NodeName,
    /// Do not wait until it is forgotten
    #[arg(long)]
    pub no_wait: bool,
    /// Have it stay: takes a removal back that has not ended
    #[arg(long, conflicts_with = "no_wait")]
    pub undo: bool,
}

const LEAVE_EXAMPLES: &str = "\
Examples:
  pkgctl cluster leave --export /root/n1   write keys and packages down first
  pkgctl cluster leave --discard           they are of no use
  pkgctl cluster leave --discard --yes-i-know prod

The node's store is kept. It joins a cluster as a new node (docs/fallback.md).
In a cluster with a majority: `pkgctl cluster remove NODE`, on any member.";

/// `pkgctl cluster leave`.
#[derive(Debug, Parser)]
#[command(group = clap::ArgGroup::new("writes").required(true))]
pub struct ClusterLeave {
    /// Write all keys and package files into this directory first; it must be new or empty
    #[arg(long, value_name = "DIR", group = "writes")]
    pub export: Option<PathBuf>,
    /// Do not
    #[arg(long, group = "writes")]
    pub discard: bool,
    #[command(flatten)]
    pub typed: Typed,
}

/// What an operator types who knows what is given up.
#[derive(Debug, Parser)]
pub struct Typed {
    /// The name that is asked for, instead of typing it
    #[arg(long = "yes-i-know", value_name = "NAME")]
    pub name: Option<String>,
}

/// `pkgctl cluster client`.
#[derive(Debug, Parser)]
pub struct ClusterClient {
    /// The operator's name: a-z 0-9 -
    pub name: ClientName,
    /// The directory to make, with the certificate, its key and a client.toml [default: ./pkgctl-NAME]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `pkgctl cluster revoke`.
#[derive(Debug, Parser)]
pub struct ClusterRevoke {
    /// The operator
    pub name: ClientName,
}

/// `pkgctl cluster init`.
#[derive(Debug, Parser)]
pub struct ClusterInit {
    /// The cluster's name, for people
    #[arg(long, default_value_t)]
    pub name: ClusterName,
    /// Its timing
    #[arg(long, value_enum, default_value_t = ProfileArg::Default)]
    pub profile: ProfileArg,
    /// Issue no join token: nodes come in by the shared secret
    #[arg(long, hide = true)]
    pub no_token: bool,
}

/// The profiles as words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProfileArg {
    /// A lease of 1500 ms
    Default,
    /// A lease of 400 ms; needs SCHED_FIFO on every node
    Fast,
    /// A lease of 4 s, for virtual machines that their host may hold up for a second
    Vm,
    /// A lease of 10 s, for nodes at different sites
    Wan,
}

impl From<ProfileArg> for Profile {
    fn from(word: ProfileArg) -> Self {
        match word {
            ProfileArg::Default => Profile::Default,
            ProfileArg::Fast => Profile::Fast,
            ProfileArg::Vm => Profile::Vm,
            ProfileArg::Wan => Profile::Wan,
        }
    }
}

/// `pkgctl cluster join`.
#[derive(Debug, Parser)]
pub struct ClusterJoin {
    /// What `pkgctl cluster token` printed on a member; or, with the same secret on both, a member's address, of its
    /// cluster port or of its plain HTTP
    #[arg(value_name = "TOKEN|HOST[:PORT]")]
    pub token: String,
    /// Do not wait until this node votes
    #[arg(long)]
    pub no_wait: bool,
}

const FENCE_EXAMPLES: &str = "\
Examples:
  pkgctl fence set n1 --agent /usr/sbin/fence_ipmilan --option ip=10.9.0.1 \\
      --option username=fence --option lanplus=1 --option-file /root/n1.secret
                            n1.secret (mode 0600) has a line: password=...
  pkgctl fence test n1      run `monitor` and `status` from every member
  pkgctl fence list         devices, and who waits for what
  pkgctl fence off n1 --force
                            switch n1 off although it is up: to try its device
  pkgctl fence confirm n1   n1 is off for certain: what waits for that goes on
  pkgctl fence on n1        switch it on again

Only packages with a resource of guarantee `none` wait for fencing; how is in
docs/fencing.md.";

/// `pkgctl fence …`.
#[derive(Debug, Subcommand)]
pub enum Fence {
    /// Give a node a fence device, or replace it; its options are checked against the agent's metadata
    Set(FenceSet),
    /// Show every node's device, and what is under way
    List,
    /// Show a node's device; secrets are masked
    Show(FenceNode),
    /// Forget a node's device
    Delete(FenceNode),
    /// Run `monitor` and `status` from every member
    Test(FenceNode),
    /// Switch a node off now, by way of the leader
    Off(FenceEnd),
    /// Switch a node off and on again, by way of the leader
    Reboot(FenceEnd),
    /// Switch a node on
    On(FenceNode),
    /// Say that a node is off, and answer for it: packages that wait for its fencing go on
    Confirm(FenceConfirm),
}

/// `pkgctl fence set`.
#[derive(Debug, Parser)]
pub struct FenceSet {
    /// The node that the device switches off
    pub node: NodeName,
    /// The fence agent's path, the same on every member
    #[arg(long, value_name = "PATH")]
    pub agent: String,
    /// An option of the agent; may be repeated. Others see the command line: passwords belong into --option-file
    #[arg(long = "option", value_name = "NAME=VALUE")]
    pub options: Vec<String>,
    /// A file with an option per line, as NAME=VALUE; it must be readable by its owner only
    #[arg(long, value_name = "FILE")]
    pub option_file: Option<PathBuf>,
    /// What ends the node
    #[arg(long, value_enum, default_value_t = FenceActionArg::Off)]
    pub action: FenceActionArg,
    /// How long the agent may take, 1s to 600s
    #[arg(long, value_name = "TIME", default_value_t = crate::engine::fence::TIMEOUT_DEFAULT)]
    pub timeout: Millis,
    /// Wait so long before the action
    #[arg(long, value_name = "TIME", default_value_t = Millis(0))]
    pub delay: Millis,
    /// Do not ask the agent for its metadata
    #[arg(long)]
    pub unchecked: bool,
}

/// What ends a node, as words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FenceActionArg {
    /// Off, and `status` must say so
    Off,
    /// Off and on again
    Reboot,
}

impl From<FenceActionArg> for FenceAction {
    fn from(word: FenceActionArg) -> Self {
        match word {
            FenceActionArg::Off => FenceAction::Off,
            FenceActionArg::Reboot => FenceAction::Reboot,
        }
    }
}

/// `pkgctl fence confirm`.
#[derive(Debug, Parser)]
pub struct FenceConfirm {
    /// The node
    #[arg(required_unless_present = "unlisted")]
    pub node: Option<NodeName>,
    /// After `raft force-standalone`: no machine beyond the nodes listed there acts for the old cluster
    #[arg(long, conflicts_with = "node")]
    pub unlisted: bool,
    /// What is asked for after `raft force-standalone` alone: the node's name, or the cluster's
    #[command(flatten)]
    pub typed: Typed,
}

/// A verb about one node.
#[derive(Debug, Parser)]
pub struct FenceNode {
    /// The node
    pub node: NodeName,
}

/// `pkgctl fence off` and `reboot`.
#[derive(Debug, Parser)]
pub struct FenceEnd {
    /// The node
    pub node: NodeName,
    /// Even if it lives: what runs there is cut off
    #[arg(long)]
    pub force: bool,
    /// Do not wait for the outcome
    #[arg(long)]
    pub no_wait: bool,
}

const RAFT_EXAMPLES: &str = "\
Examples:
  pkgctl raft status              terms, indexes, and how far each member is
  pkgctl raft add n1 10.0.0.1     on n1, in no cluster: makes one of n1 alone
  pkgctl raft add n2 10.0.0.2     on a member: takes n2 in, which has the same
                                  secret (pkgctl cluster secret) and waits
  pkgctl raft remove n2           takes n2 out, up or down; its packages move
  pkgctl raft step-down           the leader hands over to the best placed voter
  pkgctl raft step-down --to n2
  pkgctl raft start-election      this node is to lead
  pkgctl raft force-standalone    this node of a minority is to go on alone
  pkgctl raft whole               the cluster it was a part of is gone for good

What going on alone gives up is printed first, and is in docs/fallback.md.";

/// `pkgctl raft …`.
#[derive(Debug, Subcommand)]
pub enum Raft {
    /// Show this node's role, term and indexes, and every member as the leader sees it
    Status,
    /// On a node in no cluster: make one of it. On a member: take a node in that has the same secret
    Add(RaftAdd),
    /// Take a node out for good, up or down: its packages move away first; it can come back as a new node
    Remove(ClusterRemove),
    /// Have the leader, whoever that is, hand leadership over
    StepDown(StepDown),
    /// Have this node lead: a leader that lives hands over to it, without one it stands for election
    StartElection,
    /// Have this node, one of a minority, go on alone as a new cluster: every other node must be off
    #[command(after_help = STANDALONE_EXAMPLES)]
    ForceStandalone(ForceStandalone),
    /// Say that the cluster which this one went on from will never come back
    Whole(Typed),
}

const STANDALONE_EXAMPLES: &str = "\
Examples:
  pkgctl raft force-standalone               shows what is given up, and asks
  pkgctl raft force-standalone --dry-run     only shows it
  pkgctl raft force-standalone --yes-i-know prod --fence
  pkgctl fence confirm n2                    n2 is off, and will stay off; asks
  pkgctl fence confirm --unlisted            and there is nobody else; asks

No package is started before all of the others are known to be off. Exit codes:
0 this node is a cluster of one, 2 the name was not typed, 4 refused: a majority
answers, or this node is no voter among several, 5 it is still under way.";

/// `pkgctl raft force-standalone`.
#[derive(Debug, Parser)]
pub struct ForceStandalone {
    #[command(flatten)]
    pub typed: Typed,
    /// Have nodes with a fence device switched off at once
    #[arg(long)]
    pub fence: bool,
    /// Show what would be given up, and change nothing
    #[arg(long, conflicts_with_all = ["fence", "name"])]
    pub dry_run: bool,
}

/// `pkgctl raft add`.
#[derive(Debug, Parser)]
pub struct RaftAdd {
    /// The node's name
    pub node: NodeName,
    /// Its address, with the cluster's port or the default one [default: what its name resolves to]
    #[arg(value_name = "HOST[:PORT]")]
    pub address: Option<String>,
    /// The new cluster's name, for people
    #[arg(long, value_name = "NAME", default_value_t)]
    pub cluster: ClusterName,
    /// The new cluster's timing
    #[arg(long, value_enum, default_value_t = ProfileArg::Default)]
    pub profile: ProfileArg,
}

/// `pkgctl raft step-down`.
#[derive(Debug, Parser)]
pub struct StepDown {
    /// Who is to lead [default: the voter that has caught up best]
    #[arg(long, value_name = "NODE")]
    pub to: Option<NodeName>,
}

const SERVE_EXAMPLES: &str = "\
Examples:
  pkgctl serve --id n1 --raft-addr host1 --init /srv/n1
                            a new cluster of this node alone
  pkgctl serve --id n2 --raft-addr host2 --join host1 /srv/n2
                            join the cluster of host1, with the same secret:
                            copy ~/.config/pkgctl/secret from there first
  pkgctl serve /srv/n2      again: nothing is joined a second time
  pkgctl --root /srv/n2 status

Ctrl-C moves packages away and ends agent and keeper.";

/// Whose ways are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Like {
    /// One host:port, for HTTP; the cluster's port lies 1000 above
    Raftd,
    /// Its default addresses; without --join it makes a cluster
    Raftdb,
}

/// `pkgctl serve`.
#[derive(Debug, Parser)]
pub struct Serve {
    /// The directory, made if there is none [default: --root, then the one that this is typed in]
    pub dir: Option<PathBuf>,
    /// The node's name [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub id: Option<NodeName>,
    /// Where the other nodes reach it, tcp and udp
    #[arg(long, value_name = "HOST[:PORT]")]
    pub raft_addr: Option<String>,
    /// Where plain HTTP is served, for keys (docs/kv.md) [default: nowhere]
    #[arg(long, value_name = "HOST:PORT")]
    pub http_addr: Option<String>,
    /// Join the cluster of this member, named by its cluster port or its plain HTTP; several are tried in turn
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub join: Vec<String>,
    /// Make a cluster
    #[arg(long, conflicts_with_all = ["join", "wait"])]
    pub init: bool,
    /// Wait to be added from a member (`pkgctl raft add`)
    #[arg(long, conflicts_with = "join")]
    pub wait: bool,
    /// The new cluster's timing
    #[arg(long, value_enum, default_value_t = ProfileArg::Default)]
    pub profile: ProfileArg,
    /// Whose options and questions are followed
    #[arg(long, value_enum, hide = true)]
    pub like: Option<Like>,
    /// Ask until somebody lets this node in
    #[arg(long, hide = true)]
    pub patient: bool,
    /// Join the cluster that one of these is in, if one is, instead of making one
    #[arg(long, value_delimiter = ',', hide = true)]
    pub unless_known_by: Vec<String>,
    /// Leave the terminal
    #[arg(long, hide = true)]
    pub detached: bool,
}

const BOOT_EXAMPLES: &str = "\
Examples:
  echo host1 host2 host3 > conf/cluster_nodes
  pkgctl --root . cluster secret    then copy the directory to every node
  pkgctl first-boot                 on each of them, in any order
  pkgctl --root . node stop
  pkgctl --root . node start        from the second time on

The first in the list makes the cluster, the others join it. Where pkgctl's
units are installed, systemd runs the node. conf/election_timeout (seconds;
10 and more: profile wan) and conf/snapshot_period (entries) may be there.";

/// `pkgctl first-boot`.
#[derive(Debug, Parser)]
pub struct FirstBoot {
    /// The directory with conf/
    #[arg(default_value = ".")]
    pub dir: PathBuf,
}

/// `pkgctl node …`.
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Start the node that lives in --root, or in this directory; where pkgctl's units are installed, by systemd
    Start,
    /// Stop it: packages move away first
    Stop,
    /// Move everything away in good order, before this node goes down
    Leave(Leave),
}

/// `pkgctl node leave`.
#[derive(Debug, Parser)]
pub struct Leave {
    /// Do so only while the system is going down (for the agent unit's ExecStop)
    #[arg(long)]
    pub when_stopping: bool,
}

/// `pkgctl agent`.
#[derive(Debug, Parser)]
pub struct Agent {
    /// Configuration file [default: <root>/etc/pkgctl/agent.toml]
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// This node's name [default: the configuration's, then the host name]
    #[arg(long)]
    pub name: Option<NodeName>,
    /// Address and port to listen on, instead of the configuration's
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Expect the keeper to be run by systemd, instead of starting it
    #[arg(long)]
    pub no_keeper: bool,
    /// End with this process, which started this one
    #[arg(long, value_name = "PID", hide = true)]
    pub with_parent: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_fit_a_narrow_terminal_and_show_commands_that_parse() {
        let all = [
            EXAMPLES,
            FENCE_EXAMPLES,
            RAFT_EXAMPLES,
            LEAVE_EXAMPLES,
            STANDALONE_EXAMPLES,
            SERVE_EXAMPLES,
            BOOT_EXAMPLES,
            kv::verbs::EXAMPLES,
        ]
        .join("\n");
        all.lines().for_each(|line| assert!(line.chars().count() <= 80, "{line}"));
        let whole = all.replace(" \\\n      ", " ");
        let examples: Vec<&str> = whole.lines().filter_map(|line| line.strip_prefix("  pkgctl ")).collect();
        assert!(examples.len() > 20, "{examples:?}");
        for example in examples {
            // What it does stands two blanks further on.
            let words = example.split("  ").next().unwrap().split_whitespace();
            let parsed = Args::try_parse_from(std::iter::once("pkgctl").chain(words));
            assert!(parsed.is_ok(), "{example}: {parsed:?}");
        }
    }
}
