//! The network layer on real loopback sockets: who gets in, what is answered, and what bad input does.

mod cluster;
mod http;
mod introduction;
mod join;
mod listener;
mod peers;
