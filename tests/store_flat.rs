//! Endless overwrites of the same keys in a cluster of three: memory and disk stay flat.
//!
//! The gate runs a short form that asserts the bounds. The long one prints the curves:
//! `cargo test --release --test store_flat -- --ignored --nocapture overwrites` (`PKGCTL_FLAT_WRITES`, a million by default).

mod raft_bed;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use openraft::AsyncRuntime;
use openraft::async_runtime::Instant;
use pkgctl::engine::kv::{Change, Key, Tree, Txn};
use pkgctl::engine::{LogIndex, NodeId};
use pkgctl::raft::DiskTime;
use pkgctl::raft::compact::{KEPT_ENTRIES, LOOK_EVERY};
use raft_bed::{Bed, Node, PATIENCE};

type Real = openraft::TokioRuntime;
type Moment = <Real as AsyncRuntime>::Instant;

const KEYS: u64 = 1000;
const VALUE_BYTES: usize = 256;
const IN_FLIGHT: usize = 128;
/// sled's file with its segments of 4 MiB takes 21 MiB after a few thousand writes, and after a million.
const DISK_MAX_BYTES: u64 = 40 << 20;

async fn overwrite(node: &Node<Real>, from: u64, count: u64) {
    let put = |n: u64| {
        let value = vec![u8::try_from(n % 251).unwrap(); VALUE_BYTES];
        node.submit(Bed::<Real>::put(&format!("flat/{:04}", n % KEYS), value), PATIENCE)
    };
    let writes = stream::iter(from..from + count).map(put);
    writes.buffer_unordered(IN_FLIGHT).for_each(|outcome| async { drop(outcome.unwrap()) }).await;
}

/// Bytes that files below a directory take on disk.
fn disk_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        // Removed meanwhile.
        Err(_) => 0,
    });
    bytes.sum()
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[test]
fn overwrites_leave_the_log_and_the_disk_within_their_bounds() {
    Real::new(2).block_on(async {
        let mut bed: Bed<Real> = Bed::new(7, Duration::ZERO, DiskTime::Threads);
        bed.snapshot_period = 200;
        bed.cluster(3).await;
        let leader = bed.leader().await;
        for round in 0..4 {
            overwrite(&leader, round * 1000, 1000).await;
            let bound = KEPT_ENTRIES + u64::from(bed.snapshot_period) + LOOK_EVERY;
            let within = || bed.up().iter().all(|node| node.log_size().0.entries <= bound);
            bed.eventually("every log is short again", within).await;
        }
        for id in 1..=3 {
            let bytes = disk_bytes(&bed.dir(NodeId(id)));
            assert!(bytes <= DISK_MAX_BYTES, "node {id} takes {} MiB of disk", mib(bytes));
        }
        bed.all_agree().await;
    });
}

/// The most memory this process has had since it was last asked.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak
}

#[test]
#[ignore = "a measurement"]
fn a_snapshot_of_a_large_state_takes_little_memory() {
    Real::new(2).block_on(async {
        println!(
            "    keys  value  state MiB in memory  snapshot MiB  made in ms  memory for it MiB  encoded whole MiB"
        );
        for (keys, value_bytes) in [(100_000, 256), (1_600, 128 << 10)] {
            let bed: Bed<Real> = Bed::new(7, Duration::ZERO, DiskTime::Threads);
            let empty = resident_bytes();
            let node = bed.found().await;
            let put = |n: u64| node.submit(Bed::<Real>::put(&format!("large/{n:06}"), vec![7; value_bytes]), PATIENCE);
            let writes = stream::iter(0..keys).map(put).buffer_unordered(IN_FLIGHT);
            writes.for_each(|outcome| async { drop(outcome.unwrap()) }).await;
            bed.compact(&node).await;
            bed.write(&node, 1).await;
            let resident = resident_bytes();
            peak_bytes();
            let began = Moment::now();
            bed.compact(&node).await;
            let took = began.elapsed();
            let made = peak_bytes().saturating_sub(resident);
            let whole = pkgctl::engine::codec::seal(&*node.state());
            let encoded = peak_bytes().saturating_sub(resident_bytes() - whole.len() as u64);
            println!(
                "{keys:8}  {value_bytes:5}  {:>19}  {:>12}  {:>10}  {:>17}  {:>17}",
                mib(resident - empty),
                mib(node.log_size().1),
                took.as_millis(),
                mib(made),
                mib(encoded)
            );
            drop(whole);
            bed.stop(NodeId(1)).await;
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn a_put_changes_the_tree_in_place() {
    const ROUNDS: u64 = 200_000;
    let key = |n: u64| Key::new(&format!("tree/{:06}", n * 7919 % 100_000)).unwrap();
    let txn = |n| Txn { then: vec![Change::Put { key: key(n), value: vec![7; VALUE_BYTES].into() }], ..Txn::default() };
    let mut tree = Tree::default();
    let mut index = 0;
    let mut carry_out = |tree: &mut Tree| {
        index += 1;
        tree.carry_out(&txn(index), LogIndex(index)).unwrap();
    };
    for _ in 0..ROUNDS {
        carry_out(&mut tree);
    }
    let mut time = |shared: bool| {
        let began = Moment::now();
        for _ in 0..ROUNDS {
            let copy = shared.then(|| tree.clone());
            carry_out(&mut tree);
            drop(copy);
        }
        began.elapsed() / u32::try_from(ROUNDS).unwrap()
    };
    let (kept, in_place) = (time(true), time(false));
    println!("one put into 100,000 keys: {in_place:?} in place, {kept:?} with a copy to go back to");
}

#[test]
#[ignore = "a measurement: minutes"]
fn a_million_overwrites_leave_memory_and_disk_flat() {
    let total: u64 = std::env::var("PKGCTL_FLAT_WRITES").map_or(1_000_000, |n| n.parse().unwrap());
    let step = (total / 20).max(1);
    Real::new(4).block_on(async {
        let bed: Bed<Real> = Bed::new(7, Duration::ZERO, DiskTime::Threads);
        bed.cluster(3).await;
        let leader = bed.leader().await;
        println!("  writes  writes/s  RSS MiB  disk of nodes 1, 2, 3 MiB  log entries, MiB  snapshot MiB");
        for round in 0..total / step {
            let began = Moment::now();
            overwrite(&leader, round * step, step).await;
            let rate = step as f64 / began.elapsed().as_secs_f64();
            let disks: Vec<String> = (1..=3).map(|id| mib(disk_bytes(&bed.dir(NodeId(id))))).collect();
            let (log, snapshot) = leader.log_size();
            println!(
                "{:8}  {rate:8.0}  {:>7}  {:>25}  {:>11}, {:>3}  {:>12}",
                (round + 1) * step,
                mib(resident_bytes()),
                disks.join(" "),
                log.entries,
                mib(log.bytes),
                mib(snapshot)
            );
        }
        bed.all_agree().await;
    });
}
