//! The key of the keepers' datagrams is replaced: whoever has the one before is heard by nobody, and no package notices.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use pkgctl::engine::lease::Message;
use pkgctl::engine::state::DatagramKey;
use pkgctl::engine::{ClusterId, NodeId, Nonce, codec};
use pkgctl::lab::Direction;
use pkgctl::net::datagram::{JOINER, Keys, open, seal};
use serde::Deserialize;
use serde_json::Value;

use super::bench::Bench;
use super::membership::session_of;

/// Waits until the datagrams' key of that id is used and no other is accepted.
pub fn only_key_becomes(bench: &Bench, id: u32) {
    let wanted = serde_json::json!({"accepted": [id], "used": id, "wanted": false});
    bench.until("the key of the datagrams is replaced", || bench.cluster()["cluster"]["datagram_keys"] == wanted);
}

/// Sends datagrams once each, and then the last of them until something has come back. Prints what came, in hex.
const SENDER: &str = r#"
use strict; use IO::Socket::INET;
my ($target, @datagrams) = @ARGV;
my $udp = IO::Socket::INET->new(Proto => 'udp', PeerAddr => $target) or die;
my $last = pack 'H*', pop @datagrams;
send $udp, pack('H*', $_), 0 for @datagrams;
for (1..30) {
    send $udp, $last, 0;
    vec(my $in = '', fileno $udp, 1) = 1;
    my $wait = 1;
    while (select my $ready = $in, undef, undef, $wait) {
        recv $udp, my $answer, 2048, 0;
        print unpack('H*', $answer), "\n" if length $answer;
        $wait = 0;
    }
    last unless $wait;
}
"#;

/// A key on its way, as it is written into the log.
#[derive(Deserialize)]
struct Added {
    id: u32,
    key: DatagramKey,
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Every datagram key that the files of a node's store speak of: what somebody has who has its disk.
fn keys_on(disk: &Path) -> BTreeMap<u32, DatagramKey> {
    let mut found = BTreeMap::new();
    for file in files_below(&disk.join("var/lib/pkgctl/raft")) {
        let Ok(bytes) = fs::read(file) else { continue };
        let after = |word: &[u8]| {
            let at = bytes.windows(word.len()).enumerate().filter(|(_, here)| *here == word).map(|(at, _)| at);
            at.map(|at| &bytes[at + word.len()..]).collect::<Vec<_>>()
        };
        let of_state = after(b"datagram_keys");
        found.extend(of_state.into_iter().filter_map(|b| codec::decode::<BTreeMap<_, _>>(b).ok()).flatten());
        let of_entries = after(b"add_key").into_iter().filter_map(|bytes| codec::decode::<Added>(bytes).ok());
        found.extend(of_entries.map(|added| (added.id, added.key)));
    }
    found
}

/// Somebody in the cluster's network who has its id and keys.
struct Stranger<'a> {
    bench: &'a Bench,
    cluster: ClusterId,
    keys: BTreeMap<u32, DatagramKey>,
}

impl Stranger<'_> {
    /// A question to that node's keeper, as if from `from`, sealed with that key.
    fn ping(&self, from: u64, to: u64, key: u32, nonce: u64) -> String {
        let keys = Keys::new(&self.keys).sealing(Some(key));
        let (from, to) = (NodeId(from), NodeId(to));
        let bytes = seal(&keys, self.cluster, from, to, &Message::Ping { nonce: Nonce(nonce) });
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Sends them to a node; the nonces that were answered.
    fn answers(&self, node: &str, datagrams: &[String]) -> Vec<u64> {
        let target = format!("{}:7420", self.bench.lab.address(node));
        let argv: Vec<&str> =
            ["perl", "-e", SENDER, &target].into_iter().chain(datagrams.iter().map(String::as_str)).collect();
        let sent = self.bench.lab.run_in("client", &argv, Duration::from_secs(60)).unwrap();
        assert!(sent.success(), "{}{}", sent.stdout, sent.stderr);
        let keys = Keys::new(&self.keys);
        let answer = |line: &str| {
            let byte = |at: usize| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
            let bytes: Vec<u8> = (0..line.len()).step_by(2).map(byte).collect();
            match open(&keys, self.cluster, JOINER, &bytes) {
                Ok((_, Message::Pong { nonce, .. })) => nonce.0,
                other => panic!("{other:?}"),
            }
        };
        sent.stdout.lines().map(answer).collect()
    }
}

#[lab]
fn when_a_node_is_removed_its_key_is_replaced_everywhere_and_who_has_that_one_only_is_heard_by_nobody() {
    let Some(bench) = Bench::unhurried(&["n1", "n2", "n3", "n4"]).map(Bench::grown) else { return };
    let disk = |node: &str| bench.lab.place(node).disk.clone();
    let node_file = fs::read_to_string(disk("n4").join("var/lib/pkgctl/node.json")).unwrap();
    let cluster = serde_json::from_str::<Value>(&node_file).unwrap()["cluster"].clone();
    let ids: BTreeMap<String, u64> = bench.cluster()["cluster"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["name"].as_str().unwrap().to_owned(), node["id"].as_u64().unwrap()))
        .collect();
    bench.whole();
    let (token, pid, watch) = (bench.token(), bench.program_pid(), bench.watch());

    // Whoever reads its disk can speak to all of them.
    bench.lab.cut("n4", Direction::Both).unwrap();
    let cluster: ClusterId = serde_json::from_value(cluster).unwrap();
    let thief = Stranger { bench: &bench, cluster, keys: keys_on(&disk("n4")) };
    assert_eq!(thief.keys.keys().copied().collect::<Vec<_>>(), [1]);
    for node in ["n1", "n2", "n3"] {
        let answers = thief.answers(node, &[thief.ping(0, ids[node], 1, 5)]);
        assert!(!answers.is_empty() && answers.iter().all(|nonce| *nonce == 5), "{answers:?}");
    }

    bench.until("it is known to be down", || session_of(&bench, "n4").is_null());
    bench.ctl("n1", &["cluster", "remove", "n4"]);
    only_key_becomes(&bench, 2);
    bench.still_answering(&watch, 200);
    assert_eq!((bench.token(), bench.program_pid()), (token, pid));
    bench.nothing_failed(watch);

    // What is on its disk still is worth nothing on any of the others, whoever it pretends to be; the new key is.
    let keys = thief.keys.clone().into_iter().chain(keys_on(&disk("n1"))).collect();
    let both = Stranger { bench: &bench, cluster, keys };
    assert_eq!(both.keys.keys().copied().collect::<Vec<_>>(), [1, 2]);
    for (node, other) in [("n1", "n2"), ("n2", "n3"), ("n3", "n1")] {
        let log = || fs::read_to_string(disk(node).join("var/log/pkgctl/keeper.log")).unwrap();
        assert!(!log().contains("sealed with an unknown key"), "it heard all others all the time: {}", log());
        let to = ids[node];
        let forged = [0, ids[other], ids["n4"]].map(|from| both.ping(from, to, 1, 6));
        let answers = both.answers(node, &[&forged[..], &[both.ping(0, to, 2, 7)]].concat());
        assert!(!answers.is_empty() && answers.iter().all(|nonce| *nonce == 7), "{answers:?}");
        bench.until("it says what it did not take", || log().contains("(3 sealed with an unknown key)"));
    }
    // It finds its way back to them, is told that it was removed, and is not sent the new one.
    bench.lab.heal("n4").unwrap();
    bench.until("it says that it was removed", || {
        bench.try_ctl("n4", &["cluster", "status"]).1.contains("was removed from cluster test")
    });
    assert_eq!(keys_on(&disk("n4")), thief.keys);
    for (node, said) in ["n1", "n2", "n3"].map(|node| (node, bench.ctl(node, &["cluster", "status"]))) {
        assert!(!said.contains("is being replaced"), "{node}: {said}");
    }
}

#[lab]
fn a_keeper_that_cannot_learn_a_new_key_is_waited_for_and_loses_no_lease() {
    let Some(bench) = Bench::unhurried(&["n1", "n2", "n3"]) else { return };
    ["n2", "n3"].into_iter().for_each(|node| bench.join(node));
    bench.run_package(&["n3", "n1"]);
    bench.whole();
    let (token, pid, watch) = (bench.token(), bench.program_pid(), bench.watch());
    // The owner's keeper hears nothing from its agent, for less than what makes it give up.
    let frozen = bench.freeze_role("n3", "agent");
    bench.ctl("n1", &["cluster", "rotate-key"]);
    let waits = "once the keepers of n3 have said that they know it";
    bench.until("it is waited for", || {
        bench.cluster()["cluster"]["change_waits"].as_str().is_some_and(|why| why.contains(waits))
    });
    let keys = bench.cluster()["cluster"]["datagram_keys"].clone();
    assert_eq!(keys, serde_json::json!({"accepted": [1, 2], "used": 1, "wanted": false}));
    assert!(bench.ctl("n2", &["cluster", "status"]).contains("1 is used, 1 and 2 accepted"));
    bench.still_answering(&watch, 100);
    frozen.iter().for_each(|process| assert!(process.send(Signal::SIGCONT).unwrap()));
    only_key_becomes(&bench, 2);
    bench.still_answering(&watch, 200);
    assert_eq!((bench.token(), bench.program_pid()), (token, pid));
    bench.nothing_failed(watch);
}
