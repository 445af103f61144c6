//! The lab: clusters of nodes and one client in Linux namespaces on this machine, for `pkgctl demo` and the tests.
//!
//! Built from Rust alone (clone, setns, mount, rtnetlink, nfnetlink): no `ip`, `nft` or shell is needed at run time.
//! As root it makes no user namespace, because the kernel refuses SCHED_FIFO inside one; as another user it makes
//! one, and everything works but real-time scheduling.
//!
//! Who is who:
//! - [`Lab`] is the front: a value in the test or the demo. It changes no namespace of its own process.
//! - `bed` is a process of its own (`pkgctl lab-bed`) that lives in the bridge's namespaces and does what [`Lab`]
//!   orders. Everything dies with it, and it dies when the lab's owner lets go of the socket, by whatever death.
//! - `init` is pid 1 of every node (`pkgctl lab-init`): it starts the node's command and restarts it, as systemd would.
//! - `enter` (`pkgctl lab-enter`) runs a command inside a node.
//! - `program` (`pkgctl demo-program`) is what a package runs in the lab; it leaves its beats in a shared map.
//! - `probe` (`pkgctl lab-observe`) is the outside client; [`Observer`] drives it.
//! - `unleased` (`pkgctl lab-unleased`) is a node whose leases end nothing, to show that the observer sees it.
//! - [`demo`] (`pkgctl demo`) is a real cluster in the lab, faults, and a table.
//! - [`Stalls`] measures how long the machine itself stood still.
//! - [`verdict`] computes outages and double activity from probes and beats. Pure.

mod beats;
mod bed;
mod bridge;
mod cut;
pub mod demo;
mod enter;
mod freeze;
mod front;
mod init;
mod link;
mod lock;
mod moment;
mod netlink;
mod node;
mod observer;
mod order;
mod probe;
mod process;
mod program;
mod spec;
mod stalls;
mod unleased;
mod userns;
pub mod verdict;

pub use beats::{Life, read_lives};
pub use bed::main as bed_main;
pub use enter::main as enter_main;
pub use front::{Lab, LabError, Output};
pub use init::main as init_main;
pub use moment::{Moment, wait_until};
pub use observer::{Observer, Probe, ProbeResult};
pub use order::{Cable, Direction};
pub use probe::{PROBE_EVERY, PROBE_LIMIT, main as observe_main};
pub use process::Process;
pub use program::{Reply, main as program_main};
pub use spec::{CLIENT, LabSpec, Place, floating_address};
pub use stalls::Stalls;
pub use unleased::main as unleased_main;
