//! Identity and TLS, authenticated datagrams, framed calls.
//!
//! A node has one port number: tcp for everything behind TLS, udp for the keepers' datagrams.
//!
//! - `identity`: who somebody is, as a certificate of the cluster's authority says it.
//! - `token`: what an operator carries from a member to a node that joins.
//! - `tls`: who is at the other end of a connection, and which service is wanted.
//! - `datagram`: authenticates and frames what keepers say to each other. No I/O.
//! - `random`: numbers that nobody can guess.

pub mod datagram;
pub mod identity;
pub mod random;
pub mod tls;
pub mod token;
