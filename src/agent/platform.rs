//! What an agent needs of the world around it, so that the same agent runs on a host and in the simulator.

use std::net::SocketAddr;
use std::time::Duration;

use openraft::AsyncRuntime;

use crate::engine::fence::call::FenceSaid;
use crate::engine::state::DatagramKey;
use crate::engine::{Nonce, VoterTime, WallMillis};
use crate::package::PackageName;
use crate::raft::peers::Peers;
use crate::resource::{Credentials, Trouble};

/// The world around an agent.
pub trait Platform: Clone + Send + Sync + 'static {
    /// The executor.
    type Rt: AsyncRuntime;
    /// The way to other nodes.
    type Peers: Peers;

    /// This node's clock as one who waits counts it.
    fn now(&self) -> VoterTime;

    /// The wall clock, for people.
    fn wall(&self) -> WallMillis;

    /// A random number.
    fn nonce(&self) -> Nonce;

    /// A random key for the datagrams.
    fn datagram_key(&self) -> DatagramKey;

    /// Looks a user up by name or number.
    ///
    /// # Errors
    /// There is no such user on this host.
    fn credentials(&self, user: &str) -> Result<Credentials, Trouble>;

    /// The file that a package's programs write to, and its events.
    fn log_file(&self, package: &PackageName) -> String;

    /// Runs a fence agent with this on its standard input, for so long at most. `whole`: all of what it writes is wanted,
    /// not only the end. A world without agents has none.
    fn run_fence_agent(
        &self,
        _agent: String,
        _input: String,
        _within: Duration,
        _whole: bool,
    ) -> impl Future<Output = FenceSaid> + Send {
        async { FenceSaid::Absent }
    }

    /// Whether somebody who may be a member of some cluster takes connections there. A world where nobody can be asked knows
    /// of none.
    fn answers(&self, _address: SocketAddr) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// The agent's loop has gone round: it lives. Says how this node is, in one line.
    fn turned(&self, status: &str);

    /// Appends a line of ours to a package's log (L19). Losing one is no failure.
    fn log_line(&self, package: &PackageName, line: &str);
}
