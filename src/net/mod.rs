//! Identity and TLS, authenticated datagrams, framed calls.
//!
//! A node has one port number: tcp for everything behind TLS, udp for the keepers' datagrams.
//!
//! - `datagram`: authenticates and frames what keepers say to each other. No I/O.
//! - `random`: numbers that nobody can guess.

pub mod datagram;
pub mod random;
