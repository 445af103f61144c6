//! What a lab is built from: its nodes, their addresses, and the command each node runs.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The name of the client, which is a node without a command of its own.
pub const CLIENT: &str = "client";
/// The length of the prefix that all nodes and the client share.
pub const PREFIX_LEN: u8 = 24;
const NETWORK: [u8; 3] = [10, 77, 0];
/// Nodes are .11, .12, …; .100 and above are left for floating addresses, the client is .200.
const FIRST_NODE: u8 = 11;
const CLIENT_HOST: u8 = 200;
/// One bridge, one /24: enough for every test, few enough for one machine.
pub const MAX_NODES: usize = 16;

type Command = Box<dyn Fn(&Place) -> Vec<String> + Send + Sync>;

/// A lab to be built by [`super::Lab::build`].
pub struct LabSpec {
    pub(super) binary: PathBuf,
    pub(super) nodes: Vec<String>,
    pub(super) aliases: Vec<(String, Ipv4Addr)>,
    pub(super) command: Command,
    pub(super) powered: bool,
    /// Node, directory below its disk, bytes.
    pub(super) small: Vec<(String, PathBuf, u64)>,
}

impl LabSpec {
    /// A lab of these nodes; `binary` is pkgctl itself, which serves as bed, init, program and observer. The nodes run
    /// nothing until [`LabSpec::command`] says what.
    pub fn new(binary: impl Into<PathBuf>, nodes: &[&str]) -> Self {
        Self {
            binary: binary.into(),
            nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
            aliases: Vec::new(),
            command: Box::new(|_| Vec::new()),
            powered: true,
            small: Vec::new(),
        }
    }

    /// What each node's init starts, and restarts 100 ms after it ends; asked again at every power-on. An empty command
    /// is a node that runs nothing.
    pub fn command(mut self, command: impl Fn(&Place) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.command = Box::new(command);
        self
    }

    /// Gives a node a second address on its interface from the start (not a floating one: nobody guards it).
    pub fn alias(mut self, node: &str, address: Ipv4Addr) -> Self {
        self.aliases.push((node.to_owned(), address));
        self
    }

    /// Lets a directory of a node's disk hold only so many bytes. It is a file system of its own that outlives the
    /// node's power; only the node sees into it.
    pub fn small(mut self, node: &str, below: impl Into<PathBuf>, bytes: u64) -> Self {
        self.small.push((node.to_owned(), below.into(), bytes));
        self
    }

    /// Leaves the nodes off until [`super::Lab::power_on`]; the client is always on.
    pub fn powered_off(mut self) -> Self {
        self.powered = false;
        self
    }
}

/// Where one node lives.
#[derive(Clone, Debug)]
pub struct Place {
    /// The node's name, also its hostname.
    pub name: String,
    /// The address of its `eth0`.
    pub address: Ipv4Addr,
    /// Its disk: a plain directory that survives power-off.
    pub disk: PathBuf,
    /// What its init and command have printed since the lab was built.
    pub console: PathBuf,
    /// The beats map, the same file for all nodes; for `demo-program --beats`.
    pub beats: PathBuf,
    /// The pkgctl binary.
    pub binary: PathBuf,
    /// Names and addresses of all nodes, this one included, without the client.
    pub nodes: Vec<(String, Ipv4Addr)>,
}

/// How one node hangs on the bridge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Wiring {
    /// The port's name on the bridge's side.
    pub port: String,
    pub mac: [u8; 6],
    /// The first is the node's own; the rest are aliases.
    pub addresses: Vec<Ipv4Addr>,
    pub prefix_len: u8,
}

/// The host part of node number `index`.
fn host(index: usize) -> u8 {
    FIRST_NODE + u8::try_from(index).unwrap_or(0)
}

fn address(host: u8) -> Ipv4Addr {
    let [a, b, c] = NETWORK;
    Ipv4Addr::new(a, b, c, host)
}

/// The address of node number `index` of a lab.
pub(super) fn node_address(index: usize) -> Ipv4Addr {
    address(host(index))
}

/// The address of the client.
pub(super) fn client_address() -> Ipv4Addr {
    address(CLIENT_HOST)
}

/// An address of the lab's network that no node has: number 0 is 10.77.0.100.
pub fn floating_address(number: u8) -> Ipv4Addr {
    address(100 + number % 100)
}

/// The wiring of the node with this address.
pub(super) fn wiring(own: Ipv4Addr, aliases: impl Iterator<Item = Ipv4Addr>) -> Wiring {
    let host = own.octets()[3];
    Wiring {
        port: format!("port{host}"),
        mac: [0x02, 0x77, 0, 0, 0, host],
        addresses: std::iter::once(own).chain(aliases).collect(),
        prefix_len: PREFIX_LEN,
    }
}
