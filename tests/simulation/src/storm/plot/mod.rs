//! Arranged faults, which chance would bring about too seldom: several events, each in its moment, that only one rule of
//! docs/leases.md stands against. A seed draws one plot or none, and it is played before each of its storms.
//!
//! - [`cast`]: who plays what. [`drift`], [`dance`], [`stale`], [`shrink`], [`replay`], [`released`], [`rekeyed`]: the plots.

mod cast;
mod dance;
mod drift;
mod rekeyed;
mod released;
mod replay;
mod shrink;
mod stale;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use pkgctl::engine::Profile;

use crate::clock::Clocks;
use crate::random::Random;
use crate::run::Shape;
use crate::world::World;

use self::cast::Absent;

/// An arranged fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plot {
    /// The owner has the slowest clocks that are allowed, all others the fastest, and it is cut off.
    Drift,
    /// A voter misses renewals, agrees, and hears them again; then another one misses them.
    Dance,
    /// The same; in between, the first one's keeper restarts.
    RestartDance,
    /// The same; and the restarted keeper's `VoterUp` does not reach the log.
    MuteDance,
    /// A host does not learn that its session, never renewed yet, has expired; then the voters restart and hear it.
    StaleHost,
    /// Two members are removed at once, and of the new lease set the owner, and those that are removed, learn nothing.
    Shrink,
    /// The owner is cut off, and what it had sent is sent again, over and over.
    Replays,
    /// The same; and every other keeper restarts at once.
    RestartReplays,
    /// The owner hears nobody's keeper and is heard by all.
    Deaf,
    /// A package fails to start; before its release is in the log, the agent restarts.
    Released,
    /// The key of the datagrams is replaced while two keepers hear nothing of it, and leadership moves.
    Rekeyed,
}

/// Of this many seeds one has each plot, on average, and what is left over none.
const SEEDS_PER_PLOT: u64 = 12;

impl Plot {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Drift,
        Self::Dance,
        Self::RestartDance,
        Self::MuteDance,
        Self::StaleHost,
        Self::Shrink,
        Self::Replays,
        Self::RestartReplays,
        Self::Deaf,
        Self::Released,
        Self::Rekeyed,
    ];

    /// Draws one, or none.
    pub fn drawn(chance: &mut Random) -> Option<Self> {
        Self::ALL.get(chance.index(SEEDS_PER_PLOT as usize)).copied()
    }

    /// Makes the cluster such that it can be played there.
    pub fn shape(self, shape: &mut Shape) {
        match self {
            Self::Drift => {
                shape.members = 3;
                shape.clocks = Clocks::FirstSlow;
                // The error that both clocks may have is longer than a takeover only with a lease as long as this.
                shape.profile = Profile::Default;
            }
            Self::Dance | Self::RestartDance | Self::MuteDance | Self::Shrink => {
                shape.members = 5;
                shape.spare = false;
            }
            Self::StaleHost | Self::Replays | Self::RestartReplays | Self::Deaf | Self::Released | Self::Rekeyed => {
                shape.members = shape.members.max(3);
            }
        }
    }

    /// Plays it. What it has left behind is to be healed.
    ///
    /// # Errors
    /// When it shows that nobody takes over (I4), or that what must disturb nothing does (I5). What acts is judged as ever (I1, I2).
    pub async fn play(self, world: &Arc<World>) -> Result<(), String> {
        let played = match self {
            Self::Drift => drift::play(world).await,
            Self::Dance => dance::play(world, dance::Between::Nothing).await,
            Self::RestartDance => dance::play(world, dance::Between::Restart).await,
            Self::MuteDance => dance::play(world, dance::Between::MuteRestart).await,
            Self::StaleHost => stale::play(world).await,
            Self::Shrink => shrink::play(world).await,
            Self::Replays => replay::replays(world, false).await,
            Self::RestartReplays => replay::replays(world, true).await,
            Self::Deaf => replay::deaf(world).await,
            Self::Released => released::play(world).await,
            Self::Rekeyed => rekeyed::play(world).await,
        };
        match played {
            Ok(()) => Ok(()),
            Err(Trouble::Absent(Absent(what))) => {
                world.log(format_args!("{self} is not played to its end: {what}"));
                Ok(())
            }
            Err(Trouble::Violation(what)) => Err(what),
        }
    }
}

/// Why a plot ended before its end.
enum Trouble {
    /// What it needs did not come about.
    Absent(Absent),
    /// Something does not hold.
    Violation(String),
}

impl From<Absent> for Trouble {
    fn from(absent: Absent) -> Self {
        Self::Absent(absent)
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Plot {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|plot| plot.to_string() == name);
        found.ok_or_else(|| format!("no such plot; there are {}", Self::ALL.map(|plot| plot.to_string()).join(", ")))
    }
}
