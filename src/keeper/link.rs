//! The agent's end of its link to the keeper, as channels: what carries the bytes is `host::keeper_link`, or a simulator.

use super::protocol::{FromKeeper, ToKeeper, Welcome};

/// What comes from the keeper's side.
#[derive(Clone, Debug)]
pub enum KeeperEvent {
    /// A connection was made; this is what the keeper has.
    Attached(Box<Welcome>),
    /// The connection broke; operations under way have unknown outcomes. It is being made again.
    Detached,
    /// There is no connection yet, and this is what the keeper said that it waits for before it is ready, if it did.
    Waits(Option<String>),
    /// A frame.
    Said(Box<FromKeeper>),
}

/// The two ends of the link to this node's keeper.
#[derive(Clone, Debug)]
pub struct KeeperLink {
    /// Frames to the keeper; dropped while detached, because attach hands everything over again.
    pub to: async_channel::Sender<ToKeeper>,
    /// What comes from it.
    pub from: async_channel::Receiver<KeeperEvent>,
}

impl KeeperLink {
    /// Ends the link for good, whoever holds ends of it.
    pub fn close(&self) {
        self.from.close();
        self.to.close();
    }
}
