//! Whatever happens in between, one of the two stores is in force, whole, and the other is not.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use openraft::impls::TokioRuntime;

use super::super::super::passive::Nobody;
use super::super::super::removal::How;
use super::*;
use crate::engine::apply::tests::{Log, alone};
use crate::engine::command::{Entry, NewNode};
use crate::engine::fallback::{Alone, INDEX_GAP, go_alone};
use crate::engine::kv::{Change, Key, Txn};
use crate::engine::lease::Message;
use crate::engine::{Command, Nonce, Profile, Reply, WallMillis};
use crate::net::datagram::{Dropped, Keys, open, seal};
use crate::net::identity::Credentials;
use crate::raft::record::{LogMark, LogRecord, Member, Membership, Payload, Vote};
use crate::raft::store::Chosen;
use crate::raft::store::disk::Part;
use crate::raft::store::writer::Done;
use crate::raft::{Consensus, Options, create_store};

const OLD: Identity = Identity { cluster: ClusterId(7), node: NodeId(1), profile: Profile::Default };
const NEW: ClusterId = ClusterId(0x0700);

/// A disk that fails once, at the call of that number.
struct Failing {
    at: u32,
    calls: AtomicU32,
}

impl Failing {
    fn call(&self) -> io::Result<()> {
        let failed = self.calls.fetch_add(1, Ordering::Relaxed) == self.at;
        if failed { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

impl Disk for Failing {
    fn admit(&self, _part: Part, _bytes: usize) -> io::Result<()> {
        self.call()
    }

    fn sync(&self, part: Part, file: &fs::File) -> io::Result<()> {
        self.call()?;
        RealDisk.sync(part, file)
    }
}

/// A node of the old cluster on a disk, and what it is to become.
struct Node {
    dir: tempfile::TempDir,
    old: Credentials,
    authority: Authority,
    state: Arc<State>,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        create_store(dir.path(), OLD).unwrap();
        let files = IdentityDir::open(dir.path().join(IDENTITY_DIR)).unwrap();
        let of_old = Authority::create(OLD.cluster, "test").unwrap();
        let certificate = of_old.sign(&files.key().unwrap().request(), OLD.node, &name()).unwrap();
        let old = files.store(&certificate, of_old.certificate_pem()).unwrap();
        let authority = Authority::create(NEW, "test").unwrap();
        let log = Log::three();
        let state = go_alone(&log.state, log.nodes[0], Alone { cluster: NEW, ..alone() }).unwrap();
        Self { dir, old, authority, state: Arc::new(state) }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn prepare(&self, disk: Arc<dyn Disk>) -> Result<Going> {
        let (old, name, address) = (OLD, &name(), "127.0.0.1:7420".parse().unwrap());
        let (state, end) = (self.state.clone(), LogEnd::default());
        prepare(self.path(), &Making { old, name, address, state, authority: &self.authority, end }, disk)
    }

    fn identity(&self) -> ClusterId {
        crate::raft::identity(self.path()).unwrap().unwrap().cluster
    }

    fn credentials(&self) -> Credentials {
        IdentityDir::open(self.path().join(IDENTITY_DIR)).unwrap().load().unwrap().unwrap()
    }

    /// The old store is in force, and nothing is left of what was begun.
    fn is_old(&self) {
        assert_eq!(finish(self.path()).unwrap(), None);
        assert_eq!((self.identity(), self.credentials().bearer().cluster), (OLD.cluster, OLD.cluster));
        assert!(!self.path().join(NEW_DIR).exists() && !self.path().join("removed").exists());
    }

    /// The new one is, and the old one is kept.
    fn is_new(&self) {
        self.is_new_in(0);
    }

    /// ... in that of its places.
    fn is_new_in(&self, turn: u32) {
        assert_eq!((self.identity(), self.credentials().bearer().cluster), (NEW, NEW));
        let aside = place_aside(self.path(), OLD.cluster, OLD.node, turn);
        assert_eq!(crate::raft::identity(&aside).unwrap(), Some(OLD));
        let kept = IdentityDir::open(aside.join(IDENTITY_DIR)).unwrap().load().unwrap().unwrap();
        assert_eq!(kept.bearer().cluster, OLD.cluster);
        assert!(aside.join(STORE_DIR).is_dir() && aside.join(MARKER_FILE).exists());
        assert!(!self.path().join(NEW_DIR).exists() && !self.path().join(MARKER_FILE).exists());
    }
}

fn name() -> NodeName {
    NodeName::new("n1").unwrap()
}

#[test]
fn a_disk_that_fails_anywhere_before_the_marker_leaves_the_old_store_in_force() {
    let node = Node::new();
    for at in 0.. {
        let disk = Arc::new(Failing { at, calls: AtomicU32::new(0) });
        let prepared = node.prepare(disk.clone());
        if disk.calls.load(Ordering::Relaxed) <= at {
            prepared.unwrap();
            assert!(at > 8, "only {at} calls of the disk");
            break;
        }
        assert!(prepared.is_err(), "call {at} failed, and nobody noticed");
        node.is_old();
    }
    // Ready, and never brought into force.
    node.is_old();
}

#[test]
fn a_loss_of_power_between_any_two_steps_after_the_marker_brings_the_new_store_into_force() {
    let mut stop_after = 0;
    loop {
        let node = Node::new();
        let going = node.prepare(Arc::new(RealDisk)).unwrap();
        going.commit(node.path()).unwrap();
        let marker = read(node.path()).unwrap().unwrap();
        let mut more = true;
        for _ in 0..stop_after {
            more = step(node.path(), &marker).unwrap();
        }
        if more {
            assert_eq!(finish(node.path()).unwrap(), Some(marker));
        }
        node.is_new();
        assert_eq!(finish(node.path()).unwrap(), None, "it happens once");
        node.is_new();
        if !more {
            break;
        }
        stop_after += 1;
    }
    assert_eq!(stop_after, 7, "two for each part, and the end");
}

/// How an operator may bring a kept store back.
#[derive(Clone, Copy, Debug)]
enum PutBack {
    Copied,
    Moved,
    CopiedWithAll,
    MovedWithAll,
}

impl Node {
    /// Throws the store away that is in force, and brings the one back that was kept first.
    fn put_back(&self, how: PutBack) {
        let run = |program: &str, words: &[&Path]| {
            assert!(std::process::Command::new(program).args(words).status().unwrap().success(), "{program} {words:?}");
        };
        let aside = place_aside(self.path(), OLD.cluster, OLD.node, 0);
        for part in PARTS {
            run("rm", &[Path::new("-r"), &self.path().join(part)]);
        }
        let parts: Vec<&str> = match how {
            PutBack::Copied | PutBack::Moved => PARTS.to_vec(),
            PutBack::CopiedWithAll | PutBack::MovedWithAll => PARTS.into_iter().chain([MARKER_FILE]).collect(),
        };
        for part in parts {
            match how {
                PutBack::Copied | PutBack::CopiedWithAll => {
                    run("cp", &[Path::new("-a"), &aside.join(part), self.path()]);
                }
                PutBack::Moved | PutBack::MovedWithAll => run("mv", &[&aside.join(part), self.path()]),
            }
        }
    }
}

#[test]
fn a_kept_store_that_was_put_back_by_hand_can_go_alone_again_and_its_marker_decides_nothing() {
    for how in [PutBack::Copied, PutBack::Moved, PutBack::CopiedWithAll, PutBack::MovedWithAll] {
        let node = Node::new();
        let go = || {
            let going = node.prepare(Arc::new(RealDisk)).unwrap();
            going.commit(node.path()).unwrap();
            (going.kept(node.path()), finish(node.path()).unwrap().unwrap())
        };
        let (first, _) = go();
        node.is_new();
        node.put_back(how);
        for _ in 0..2 {
            assert_eq!(finish(node.path()).unwrap(), None, "{how:?}");
            assert_eq!((node.identity(), node.credentials().bearer().cluster), (OLD.cluster, OLD.cluster), "{how:?}");
            assert!(!node.path().join(MARKER_FILE).exists() && first.join(MARKER_FILE).exists(), "{how:?}");
        }
        let (second, marker) = go();
        assert_eq!((marker.to, second == first), (NEW, false), "{how:?}");
        node.is_new_in(1);
        assert_eq!(finish(node.path()).unwrap(), None, "{how:?}: it happens once");
    }
}

#[test]
fn what_is_being_made_is_not_brought_into_force_by_a_marker_of_something_else() {
    let node = Node::new();
    let going = node.prepare(Arc::new(RealDisk)).unwrap();
    let other = Marker { to: ClusterId(9), ..going.marker };
    Going { marker: other, end: going.end }.commit(node.path()).unwrap();
    assert_eq!(finish(node.path()).unwrap(), None);
    assert_eq!((node.identity(), node.credentials().bearer().cluster), (OLD.cluster, OLD.cluster));
    assert!(!node.path().join(NEW_DIR).exists());
}

#[tokio::test]
async fn the_new_store_leads_itself_and_gives_indexes_that_the_old_cluster_never_had() {
    let node = Node::new();
    node.prepare(Arc::new(RealDisk)).unwrap().commit(node.path()).unwrap();
    finish(node.path()).unwrap();
    for round in 1..=2 {
        let consensus: Consensus<TokioRuntime, Nobody> =
            Consensus::start(Options::new(node.path().to_owned()), Nobody).await.unwrap();
        let entry = Entry { wall: WallMillis(5), by: "test".to_owned(), command: Command::ConfirmUnlisted };
        let committed = consensus.submit(entry, Duration::from_secs(20)).await.unwrap();
        assert!(committed.index.0 > INDEX_GAP);
        assert_eq!(committed.reply, if round == 1 { Reply::Done } else { Reply::Already });
        assert_eq!(consensus.whole_log().unwrap().cluster.as_ref().unwrap().id, NEW);
        consensus.shutdown().await;
    }
}

/// Puts entries into a log that nobody has said are committed.
fn write_unconfirmed(dir: &Path, payloads: Vec<Payload>) {
    let store = crate::raft::store::load::open::<Chosen>(dir, Arc::new(RealDisk)).unwrap();
    store.writer.spawn_thread().unwrap();
    let mark = |index| LogMark { term: 3, index };
    let records = payloads.into_iter().zip(0..).map(|(payload, index)| LogRecord { mark: mark(index), payload });
    let answered = |ask: &dyn Fn(Done) -> io::Result<()>| {
        let (told, heard) = std::sync::mpsc::channel();
        ask(Box::new(move |done| told.send(done).unwrap())).unwrap();
        heard.recv().unwrap().unwrap();
    };
    let (vote, records) = (Vote { term: 3, node: NodeId(2), committed: true }, records.collect::<Vec<_>>());
    answered(&|done| store.log.save_vote(vote, done));
    answered(&|done| store.log.append(records.clone(), done));
    answered(&|done| {
        store.log.close(done);
        Ok(())
    });
}

#[tokio::test]
async fn what_is_at_the_end_of_the_log_counts_although_nobody_has_said_that_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    create_store(dir.path(), OLD).unwrap();
    let log = Log::three();
    let members = log.nodes.iter().map(|id| (*id, Member::default())).collect();
    let voters = Membership { configs: vec![log.nodes.iter().copied().collect()], members };
    let command = |command| Payload::Command(Arc::new(Entry { wall: WallMillis(5), by: "test".to_owned(), command }));
    let cluster = log.state.cluster.clone().unwrap();
    let node = NewNode { name: name(), address: "127.0.0.1:7420".parse().unwrap(), links: Vec::new() };
    let then = vec![Change::Put { key: Key::new("a").unwrap(), value: "1".to_owned().into() }];
    let put = Txn { when: vec![], then, otherwise: vec![], guard: None, request: None };
    let create = Command::CreateCluster { cluster, node };
    write_unconfirmed(dir.path(), vec![Payload::Membership(voters), command(create), command(Command::Kv(put))]);

    let options = Options::new(dir.path().to_owned());
    let consensus: Consensus<TokioRuntime, Nobody> = Consensus::start(options, Nobody).await.unwrap();
    assert!(consensus.read(|state| state.cluster.is_none()), "nothing of it is applied");
    let whole = consensus.whole_log().unwrap();
    assert_eq!((whole.kv.len(), whole.raft_voters.len(), whole.applied.0), (1, 3, 2));
    let end = consensus.log_end().unwrap();
    assert!(end.is_where(&consensus.log_end().unwrap()) && !end.is_where(&LogEnd::default()));
    consensus.shutdown().await;
}

#[test]
fn neither_cluster_takes_a_datagram_or_a_certificate_of_the_other() {
    let node = Node::new();
    let log = Log::three();
    let (old, new) = (log.state.cluster.clone().unwrap(), node.state.cluster.clone().unwrap());
    let ping = Message::Ping { nonce: Nonce(1) };
    for (from, to) in [(&old, &new), (&new, &old)] {
        let sealed = seal(&Keys::new(&from.datagram_keys), from.id, NodeId(1), NodeId(2), &ping);
        let keys = Keys::new(&to.datagram_keys);
        assert_eq!(open(&keys, to.id, NodeId(2), &sealed), Err(Dropped::Cluster));
        // Even if the ids were the same: the key is another one, under another number.
        assert_eq!(open(&keys, from.id, NodeId(2), &sealed), Err(Dropped::Key));
    }
    node.prepare(Arc::new(RealDisk)).unwrap().commit(node.path()).unwrap();
    finish(node.path()).unwrap();
    let new = node.credentials();
    assert_ne!(new.authority(), node.old.authority());
    assert_ne!(new.key().secret_der(), node.old.key().secret_der());
}

#[test]
fn what_a_node_that_left_says_is_not_what_one_says_that_was_removed() {
    let record = |how| super::super::super::removal::Record {
        cluster: OLD.cluster,
        name: "test".to_owned(),
        node: OLD.node,
        index: crate::engine::LogIndex(9),
        how,
        by: "root@n1".to_owned(),
        since: WallMillis(5),
        turn: 0,
    };
    let (left, removed) = (record(How::Left).sentence(), record(How::Removed).sentence());
    assert!(left.contains("has left cluster test") && left.contains("pkgctl cluster remove"), "{left}");
    assert!(removed.contains("was removed from cluster test") && removed.contains("at entry 9"), "{removed}");
}
