//! A node that was removed knows it: it is told, keeps that in a file, and makes room for another life.
//!
//! The file (`removed.json` beside the store) names the identity that was removed; with another identity in `node.json`
//! it says nothing. Nothing is ever deleted: what the node was is moved to `removed/CLUSTER-nID/`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};

use crate::agent::Agent;
use crate::agent::ask::Question;
use crate::agent::platform::Platform;
use crate::config::REMOVAL_FILE;
use crate::engine::{ClusterId, LogIndex, NodeId, WallMillis, codec};
use crate::host::own_files;
use crate::net::peers::TlsPeers;
use crate::net::removed::Removed;
use crate::raft::store::disk::{RealDisk, sync_directory};
use crate::raft::store::identity::{IDENTITY_FILE, STORE_DIR, write_file};
use crate::raft::{PeerCall, Peers};

/// The directory of what removed nodes leave behind, in the state directory.
const ASIDE_DIR: &str = "removed";
/// The identity's directory in the state directory.
pub(super) const IDENTITY_DIR: &str = "identity";
/// How often a member is asked whether this node still is one. Whoever campaigns is told by that; a node without a vote
/// never campaigns.
const KNOCK_EVERY: Duration = Duration::from_secs(5);
/// How long one may take to answer.
const KNOCK_WITHIN: Duration = Duration::from_secs(1);

/// How a node came to be no member any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum How {
    /// The cluster removed it.
    #[default]
    Removed,
    /// It left by itself; the cluster may not know.
    Left,
}

/// What a node keeps of its removal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// From which cluster.
    pub(super) cluster: ClusterId,
    /// Its name, if this node had learned it.
    pub(super) name: String,
    /// Which node this was.
    pub(super) node: NodeId,
    /// The entry that removed it, or the last one it knew when it left.
    pub(super) index: LogIndex,
    /// Which of the two.
    #[serde(default)]
    pub(super) how: How,
    /// Who said so, for people.
    pub(super) by: String,
    /// When it was said.
    pub(super) since: WallMillis,
    /// Which of this node's places its store goes to; see [`free_turn`].
    #[serde(default)]
    pub(super) turn: u32,
}

impl Record {
    /// What happened, what still holds, what to do.
    pub(super) fn sentence(&self) -> String {
        let Self { cluster, name, node, index, how, by, since: _, turn: _ } = self;
        let (what, goes_on) = match how {
            How::Removed => (
                format!("was removed from cluster {name} ({cluster}) at entry {index}, says {by}"),
                "the cluster goes on without it. Its old store is kept. To bring it back as a new node: ",
            ),
            How::Left => (
                format!("has left cluster {name} ({cluster}) by the word of {by}; its log went to entry {index}"),
                "members of that cluster, if there are any, give it up by `pkgctl cluster remove`. Its old store is kept. \
                 To have it join a cluster as a new node: ",
            ),
        };
        format!(
            "this node (id {node}) {what}. It runs nothing, holds no lease and no longer votes; {goes_on}`pkgctl cluster token` \
             on a member, then `pkgctl cluster join TOKEN` here"
        )
    }

    /// The record in that state directory, if it is about the identity that is there now, or none is.
    pub(super) fn read(state_dir: &Path) -> Result<Option<Self>> {
        let path = state_dir.join(REMOVAL_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
        };
        let record: Self = serde_json::from_slice(&text).with_context(|| {
            format!("{} does not read; move it away and start the agent again: it is told anew", path.display())
        })?;
        let now = crate::raft::identity(state_dir)?;
        Ok(now.is_none_or(|now| (now.cluster, now.node) == (record.cluster, record.node)).then_some(record))
    }

    /// Keeps it, over a loss of power too.
    pub(super) fn keep(&self, state_dir: &Path) -> Result<()> {
        let path = state_dir.join(REMOVAL_FILE);
        let text = serde_json::to_string_pretty(self)? + "\n";
        write_file(&path, text.as_bytes(), &RealDisk).with_context(|| format!("cannot write {}", path.display()))
    }

    fn aside(&self, state_dir: &Path) -> PathBuf {
        place_aside(state_dir, self.cluster, self.node, self.turn)
    }

    /// Moves the store and the identity of the removed node away, `node.json` last, so that what is interrupted goes on.
    /// Answers where they are. The record stays until [`Self::close`].
    pub(super) fn set_aside(&self, state_dir: &Path) -> Result<PathBuf> {
        let aside = self.aside(state_dir);
        make_aside(&aside)?;
        if state_dir.join(IDENTITY_FILE).exists() {
            for part in [IDENTITY_DIR, STORE_DIR, IDENTITY_FILE] {
                move_away(&state_dir.join(part), &aside.join(part))?;
            }
        }
        sync(&aside)?;
        sync(state_dir)?;
        Ok(aside)
    }

    /// The node has another life: the record goes where the store went.
    pub(super) fn close(&self, state_dir: &Path) -> Result<()> {
        move_away(&state_dir.join(REMOVAL_FILE), &self.aside(state_dir).join(REMOVAL_FILE))?;
        sync(state_dir)
    }
}

/// Where the store and identity of a node are kept once they are no longer its own. From the second turn on the name says
/// which it is.
pub(super) fn place_aside(state_dir: &Path, cluster: ClusterId, node: NodeId, turn: u32) -> PathBuf {
    let again = if turn == 0 { String::new() } else { format!(".{}", turn + 1) };
    state_dir.join(ASIDE_DIR).join(format!("{cluster}-n{node}{again}"))
}

/// The first turn whose place is not there yet. There are several when a store that was kept is put back by hand: then the same
/// node of the same cluster ends more than once. To be chosen once and written down, or an exchange that was interrupted
/// would not find what it has moved.
pub(super) fn free_turn(state_dir: &Path, cluster: ClusterId, node: NodeId) -> u32 {
    (0..u32::MAX).find(|turn| !place_aside(state_dir, cluster, node, *turn).exists()).unwrap_or(u32::MAX)
}

/// Makes that directory.
pub(super) fn make_aside(aside: &Path) -> Result<()> {
    own_files::dir(aside.parent().unwrap_or(aside), 0o700)?;
    own_files::dir(aside, 0o700)?;
    Ok(())
}

/// Renames, unless it was done before.
pub(super) fn move_away(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    match std::fs::rename(from, to) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn sync(dir: &Path) -> Result<()> {
    sync_directory(&RealDisk, dir).with_context(|| format!("cannot sync {}", dir.display()))
}

/// Waits until this node learns that it was removed: from a member that turns it away, or from the log itself.
pub(super) async fn learned<P: Platform>(agent: &Agent<P>, peers: &TlsPeers, state_dir: &Path) -> Record {
    let (me, identity) = (agent.me, agent.consensus.identity());
    let (removed, by) = tokio::select! {
        told = peers.removed() => told,
        index = found(agent, peers) => (Removed { cluster: identity.cluster, node: me, index }, me),
    };
    let (name, by) = agent.consensus.read(|state| {
        let name = state.cluster.as_ref().map(|cluster| cluster.name.clone()).unwrap_or_default();
        (name, if by == me { "its own log".to_owned() } else { state.name_of(by) })
    });
    let (cluster, index, since) = (removed.cluster, removed.index, agent.platform.wall());
    let turn = free_turn(state_dir, cluster, me);
    Record { cluster, name, node: me, index, how: How::Removed, by, since, turn }
}

/// Asks one member after the other, so that one of them says it; answers when this node's own log does.
async fn found<P: Platform>(agent: &Agent<P>, peers: &TlsPeers) -> LogIndex {
    let mut turns = interval(KNOCK_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0_usize.. {
        turns.tick().await;
        let (removed, others) = agent.consensus.read(|state| {
            let others = state.nodes.iter().filter(|(id, _)| **id != agent.me).map(|(id, node)| (*id, node.address));
            (state.removed(agent.me), others.collect::<Vec<_>>())
        });
        if let Some(index) = removed {
            return index;
        }
        if let Some((id, address)) = others.get(turn % others.len().max(1)) {
            // What it answers does not matter, nor that it does not: only the word of removal counts.
            let _ = peers.call(*id, *address, PeerCall::Ask, codec::encode(&Question::Waits), KNOCK_WITHIN).await;
        }
    }
    unreachable!("the loop above has no end")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::engine::Profile;
    use crate::raft::{Identity, create_store};

    fn record(node: u64) -> Record {
        Record {
            cluster: ClusterId(7),
            name: "test".to_owned(),
            node: NodeId(node),
            index: LogIndex(90),
            how: How::Removed,
            by: "n1".to_owned(),
            since: WallMillis(5),
            turn: 0,
        }
    }

    fn a_node(dir: &Path, node: u64) {
        create_store(dir, Identity { cluster: ClusterId(7), node: NodeId(node), profile: Profile::Default }).unwrap();
        own_files::dir(&dir.join(IDENTITY_DIR), 0o700).unwrap();
        fs::write(dir.join(IDENTITY_DIR).join("node.key"), format!("key of {node}")).unwrap();
    }

    #[test]
    fn a_removal_is_known_after_a_restart_and_says_nothing_about_a_later_life() {
        let dir = tempfile::tempdir().unwrap();
        a_node(dir.path(), 20);
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        record(20).keep(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), Some(record(20)));
        record(9).keep(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), None, "it is about an earlier life");
        fs::write(dir.path().join(REMOVAL_FILE), "{").unwrap();
        assert!(format!("{:#}", Record::read(dir.path()).unwrap_err()).contains("move it away"));
    }

    #[test]
    fn the_old_store_is_kept_whole_and_a_new_one_fits_however_often_it_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        a_node(dir.path(), 20);
        let store: Vec<_> = fs::read_dir(dir.path().join(STORE_DIR)).unwrap().map(|f| f.unwrap().file_name()).collect();
        record(20).keep(dir.path()).unwrap();
        // A first attempt that came as far as the identity, whose directory the next start makes again.
        let aside = record(20).aside(dir.path());
        own_files::dir(&aside, 0o700).unwrap();
        fs::rename(dir.path().join(IDENTITY_DIR), aside.join(IDENTITY_DIR)).unwrap();
        own_files::dir(&dir.path().join(IDENTITY_DIR), 0o700).unwrap();

        for _ in 0..2 {
            assert_eq!(record(20).set_aside(dir.path()).unwrap(), aside);
            assert_eq!(Record::read(dir.path()).unwrap(), Some(record(20)), "it is told until there is another life");
        }
        assert_eq!(fs::read_to_string(aside.join(IDENTITY_DIR).join("node.key")).unwrap(), "key of 20");
        let kept: Vec<_> = fs::read_dir(aside.join(STORE_DIR)).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(kept, store);
        a_node(dir.path(), 95);
        record(20).close(dir.path()).unwrap();
        assert_eq!(Record::read(dir.path()).unwrap(), None);
        assert!(aside.join(REMOVAL_FILE).exists());
        assert_eq!(fs::read_to_string(dir.path().join(IDENTITY_DIR).join("node.key")).unwrap(), "key of 95");
    }

    #[test]
    fn a_kept_store_that_was_put_back_by_hand_and_is_removed_again_is_kept_beside_the_first_one() {
        let dir = tempfile::tempdir().unwrap();
        for turn in 0..3 {
            a_node(dir.path(), 20);
            assert_eq!(free_turn(dir.path(), ClusterId(7), NodeId(20)), turn);
            let again = Record { turn, ..record(20) };
            again.keep(dir.path()).unwrap();
            let aside = again.set_aside(dir.path()).unwrap();
            assert!(!dir.path().join(IDENTITY_FILE).exists() && !dir.path().join(STORE_DIR).exists());
            assert!(aside.join(IDENTITY_FILE).exists() && aside.join(STORE_DIR).exists(), "{}", aside.display());
            again.close(dir.path()).unwrap();
            assert!(aside.join(REMOVAL_FILE).exists() && !dir.path().join(REMOVAL_FILE).exists());
        }
    }

    #[test]
    fn a_record_of_before_there_were_turns_is_about_the_first() {
        let mut text = serde_json::to_value(record(20)).unwrap();
        text.as_object_mut().unwrap().remove("turn").unwrap();
        assert_eq!(serde_json::from_value::<Record>(text).unwrap(), record(20));
    }
}
