//! Identity and TLS, authenticated datagrams, framed calls.
//!
//! A node has one port number: tcp for everything behind TLS, udp for the keepers' datagrams.
//!
//! - `identity`: who somebody is, as a certificate of the cluster's authority says it.
//! - `token`: what an operator carries from a member to a node that joins.
//! - `tls`: who is at the other end of a connection, and which service is wanted.
//! - `frame`: length-prefixed frames. `sockets`: options of our tcp sockets.
//! - `socket_path`: the name of a Unix socket, and whether a live process has it.
//! - `peers`: calls between members.
//! - `listener`: the one tcp port. `admitted`: whether a caller of the API still may. `http`: plumbing for the API on both sides.
//! - `join`: how a node asks to be let in. `introduction`: how it comes by a token where a secret is shared.
//! - `datagram`: authenticates and frames what keepers say to each other. No I/O.
//! - `vacant`: whether the node's ports can be had.
//! - `refusals`: what is said of strangers, in a bounded way.
//! - `crowd`: how many connections one address may have.
//! - `random`: numbers that nobody can guess.

mod admitted;
mod crowd;
pub mod datagram;
pub mod frame;
pub mod http;
pub mod identity;
pub mod introduction;
pub mod join;
pub mod listener;
pub mod peers;
pub mod presence;
pub mod random;
pub mod refusals;
pub mod removed;
pub mod socket_path;
mod sockets;
pub mod tls;
pub mod token;
pub mod vacant;
