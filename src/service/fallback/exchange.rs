//! The store of the cluster of one is made beside the old one, and takes its place in steps that each survive a loss of
//! power.
//!
//! Everything new lies in `standalone.new/` before `standalone.json` is written. Without that file the old store is in
//! force, and what lies beside is thrown away. With it the new one is: whoever finds it goes on exchanging, before
//! anything is opened. It goes last.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::super::removal::{IDENTITY_DIR, free_turn, make_aside, move_away, place_aside, sync};
use crate::engine::{ClusterId, NodeId, State};
use crate::host::own_files;
use crate::net::identity::{Authority, IdentityDir};
use crate::package::NodeName;
use crate::raft::store::disk::{Disk, RealDisk};
use crate::raft::store::identity::{IDENTITY_FILE, STORE_DIR, StoreLock, write_file};
use crate::raft::{Identity, LogEnd, create_alone, identity};

/// Says that the new store is in force.
const MARKER_FILE: &str = "standalone.json";
/// Where it is made.
const NEW_DIR: &str = "standalone.new";
/// What changes places, in this order: `node.json` last, so that the store and whose it is fit together whenever it reads.
const PARTS: [&str; 3] = [IDENTITY_DIR, STORE_DIR, IDENTITY_FILE];

/// Which node of which cluster becomes which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::service) struct Marker {
    /// The old cluster.
    pub(in crate::service) from: ClusterId,
    /// This node, in both.
    pub(in crate::service) node: NodeId,
    /// The new cluster.
    pub(in crate::service) to: ClusterId,
    /// Which of this node's places the old store goes to: it may have been kept before, and put back by hand.
    #[serde(default)]
    turn: u32,
}

impl Marker {
    /// Where the old store goes.
    fn aside(&self, state_dir: &Path) -> PathBuf {
        place_aside(state_dir, self.from, self.node, self.turn)
    }

    /// Whether the store that it is about is there, ready or in place. A marker without it has come back with a kept store, and
    /// decides nothing.
    fn holds(&self, state_dir: &Path) -> Result<bool> {
        for dir in [state_dir.join(NEW_DIR), state_dir.to_owned()] {
            if identity(&dir)?.is_some_and(|made| made.cluster == self.to) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A new store that is ready and not in force.
#[derive(Debug)]
pub(in crate::service) struct Going {
    marker: Marker,
    /// How far the old log went when it was made.
    pub(in crate::service) end: LogEnd,
}

/// What a new store is made of.
pub(super) struct Making<'a> {
    /// The identity in force.
    pub(super) old: Identity,
    /// This node's name.
    pub(super) name: &'a NodeName,
    /// Where it answers.
    pub(super) address: SocketAddr,
    /// The state with which the new cluster begins.
    pub(super) state: Arc<State>,
    /// Its authority.
    pub(super) authority: &'a Authority,
    /// How far the old log goes.
    pub(super) end: LogEnd,
}

/// Makes store and identity of the new cluster, durably; nothing is in force yet.
pub(super) fn prepare(state_dir: &Path, making: &Making, disk: Arc<dyn Disk>) -> Result<Going> {
    discard(state_dir)?;
    let Making { old, name, address, state, authority, end } = making;
    let place = state_dir.join(NEW_DIR);
    own_files::dir(&place, 0o700)?;
    let files = IdentityDir::open(place.join(IDENTITY_DIR))?;
    let certificate = authority.sign(&files.key()?.request(), old.node, name)?;
    files.store(&certificate, authority.certificate_pem())?;
    let identity = Identity { cluster: authority.cluster(), ..*old };
    create_alone(&place, identity, state.clone(), *address, *end, disk)?;
    sync(&place)?;
    sync(state_dir)?;
    let turn = free_turn(state_dir, old.cluster, old.node);
    Ok(Going { marker: Marker { from: old.cluster, node: old.node, to: identity.cluster, turn }, end: *end })
}

impl Going {
    /// From here on the new store is in force.
    pub(in crate::service) fn commit(&self, state_dir: &Path) -> Result<()> {
        let path = state_dir.join(MARKER_FILE);
        let text = serde_json::to_string_pretty(&self.marker)? + "\n";
        write_file(&path, text.as_bytes(), &RealDisk).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The new cluster.
    pub(super) fn cluster(&self) -> ClusterId {
        self.marker.to
    }

    /// Where the old store will be.
    pub(super) fn kept(&self, state_dir: &Path) -> PathBuf {
        self.marker.aside(state_dir)
    }
}

/// Throws away what was made and did not come into force.
pub(in crate::service) fn discard(state_dir: &Path) -> Result<()> {
    let place = state_dir.join(NEW_DIR);
    if place.exists() {
        std::fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
        sync(state_dir)?;
    }
    Ok(())
}

/// Brings a new store into force whose marker is there, however far that came before; throws one away that has none.
/// To be called before anything in the directory is opened.
pub(in crate::service) fn finish(state_dir: &Path) -> Result<Option<Marker>> {
    // A second agent on the same directory must not take part in the exchange, or throw away what is being made.
    let _alone = StoreLock::take(state_dir)?;
    let Some(marker) = read(state_dir)? else {
        discard(state_dir)?;
        return Ok(None);
    };
    if !marker.holds(state_dir)? {
        tracing::warn!(
            "{MARKER_FILE} is about cluster {}, of which no store is here: it came back with a kept one, and is put away again",
            marker.to
        );
        discard(state_dir)?;
        close(state_dir, &marker)?;
        return Ok(None);
    }
    while step(state_dir, &marker)? {}
    Ok(Some(marker))
}

fn read(state_dir: &Path) -> Result<Option<Marker>> {
    let path = state_dir.join(MARKER_FILE);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).with_context(|| {
            format!("{} does not read: which of two stores is in force is not known; restore it", path.display())
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The next move, by what lies where; durable before it answers. False once all are done.
fn step(state_dir: &Path, marker: &Marker) -> Result<bool> {
    let (new, aside) = (state_dir.join(NEW_DIR), marker.aside(state_dir));
    for part in PARTS {
        if !new.join(part).exists() {
            continue;
        }
        let to = state_dir.join(part);
        if aside.join(part).exists() || !to.exists() {
            std::fs::rename(new.join(part), &to).with_context(|| format!("cannot put {} in place", to.display()))?;
            sync(&new)?;
        } else {
            make_aside(&aside)?;
            move_away(&to, &aside.join(part))?;
            sync(&aside)?;
        }
        sync(state_dir)?;
        return Ok(true);
    }
    discard(state_dir)?;
    close(state_dir, marker)?;
    Ok(false)
}

/// It is over: the marker goes where the old store is, unless it is there already. One that stayed would be obeyed again.
fn close(state_dir: &Path, marker: &Marker) -> Result<()> {
    let aside = marker.aside(state_dir);
    let (here, there) = (state_dir.join(MARKER_FILE), aside.join(MARKER_FILE));
    if !here.exists() {
        return Ok(());
    }
    if there.exists() {
        std::fs::remove_file(&here).with_context(|| format!("cannot remove {}", here.display()))?;
    } else {
        make_aside(&aside)?;
        move_away(&here, &there)?;
        sync(&aside)?;
    }
    sync(state_dir)
}

#[cfg(test)]
mod tests;
