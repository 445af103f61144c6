//! The command line: verbs, their options, and examples in their help.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::engine::Profile;
use crate::package::{NodeName, PackageName};

/// Failover cluster manager: packages of IPs and programs that run on one node at a time and respawn on a standby.
#[derive(Debug, Parser)]
#[command(name = "pkgctl", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Args {
    /// The agent's socket [default: $PKGCTL_SOCKET, then <root>/run/pkgctl/api.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Directory below which all of pkgctl's files lie, instead of /
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Print JSON for machines
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  pkgctl init testpkg1            store the definition in ./testpkg1.toml; it is halted
  pkgctl run testpkg1             run it on the first eligible node of its list
  pkgctl status testpkg1          owner, token, resources, and why each node may or may not take it
  pkgctl move testpkg1 --to n2    planned switchover
  pkgctl stop testpkg1            stop it on its owner; it respawns on the standby
  pkgctl stop testpkg1 --everywhere

Exit codes: 0 done, 1 another outcome, 2 bad input, 3 nobody answers, 4 refused, 5 still under way, 6 outcome unknown.";

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
    /// Make a cluster, join one, make a join token, remove a lost node
    #[command(subcommand)]
    Cluster(Cluster),
    /// This node as a whole
    #[command(subcommand)]
    Node(Node),
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
    /// Join the cluster whose member printed this token
    Join(ClusterJoin),
    /// Print a token with which one node can join within an hour
    Token,
    /// Give up a node that is down for good; it can come back as a new node
    Remove(ClusterRemove),
    /// Show the cluster and its members
    Status,
}

/// `pkgctl cluster remove`.
#[derive(Debug, Parser)]
pub struct ClusterRemove {
    /// The node
    pub node: NodeName,
    /// Do not wait until it is forgotten
    #[arg(long)]
    pub no_wait: bool,
}

/// `pkgctl cluster init`.
#[derive(Debug, Parser)]
pub struct ClusterInit {
    /// The cluster's name, for people
    #[arg(long, default_value = "cluster")]
    pub name: String,
    /// Its timing
    #[arg(long, value_enum, default_value_t = ProfileArg::Default)]
    pub profile: ProfileArg,
}

/// The profiles as words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProfileArg {
    /// A lease of 1500 ms
    Default,
    /// A lease of 400 ms; needs SCHED_FIFO on every node
    Fast,
    /// A lease of 10 s, for nodes at different sites
    Wan,
}

impl From<ProfileArg> for Profile {
    fn from(word: ProfileArg) -> Self {
        match word {
            ProfileArg::Default => Profile::Default,
            ProfileArg::Fast => Profile::Fast,
            ProfileArg::Wan => Profile::Wan,
        }
    }
}

/// `pkgctl cluster join`.
#[derive(Debug, Parser)]
pub struct ClusterJoin {
    /// What `pkgctl cluster token` printed on a member
    pub token: String,
    /// Do not wait until this node votes
    #[arg(long)]
    pub no_wait: bool,
}

/// `pkgctl node …`.
#[derive(Debug, Subcommand)]
pub enum Node {
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
}
