//! HTTP/1.1 over the agent's Unix socket and over TLS: plumbing on both sides; the routes are `api`'s.
//!
//! - `client`: requests, JSON in and out, and answers that go on as lines.
//! - `server`: serves a router on a stream or a Unix socket, and tells it who asks.
//! - `plain`: HTTP for whoever reaches the port, where it is switched on.
//! - `unix`: the agent's socket: who may use it, and replacing one that a dead agent left behind.

use std::fmt;
use std::net::SocketAddr;

use super::identity::Subject;

mod client;
mod plain;
mod server;
mod unix;

pub use client::{ANSWER_TIME_MAX, Answer, CONNECT_TIME_MAX, Call, Endpoint, HttpError, Lines};
pub use hyper::Method;
pub use plain::serve_plain;
pub use server::{serve_stream, serve_unix};
pub use unix::{GROUP, SocketError, UnixDoor};

/// Who asks; every request carries it as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on this machine, who could open the agent's socket.
    Local {
        /// The effective user of the process that connected.
        uid: u32,
    },
    /// A member or an operator, proved by certificate.
    Remote(Subject),
    /// Whoever reaches the port of plain HTTP.
    Plain {
        /// From where.
        from: SocketAddr,
    },
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Caller::Local { uid } => write!(f, "user {uid}"),
            Caller::Remote(subject) => subject.fmt(f),
            Caller::Plain { from } => write!(f, "somebody at {} (plain HTTP)", from.ip()),
        }
    }
}
