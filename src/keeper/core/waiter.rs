//! Who waits for an operation's outcome: an id that is unique in one connection, and which connection.

/// An operation under way. A later agent may use the same id for something else, so the connection is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Which connection asked; connections are counted.
    pub connection: u64,
    /// The operation's id in that connection.
    pub id: u64,
}
