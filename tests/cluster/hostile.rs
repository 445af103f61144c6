//! Bytes from outside: datagrams, connections and requests that nobody of the cluster sent.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bench::Bench;

/// Sends to the agents' port from the client: random and well-known beginnings, over both protocols.
const NOISE: &str = r#"
use strict; use IO::Socket::INET; srand(7);
my ($target, $rounds) = @ARGV;
my $udp = IO::Socket::INET->new(Proto => 'udp', PeerAddr => $target) or die;
for my $round (1..$rounds) {
    my $bytes = join '', map { chr int rand 256 } 1..int rand 1500;
    send $udp, $bytes, 0; send $udp, '', 0;
    next if $round % 20;
    for my $text ($bytes, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\xff\xff$bytes", '') {
        my $tcp = IO::Socket::INET->new(Proto => 'tcp', PeerAddr => $target) or next;
        syswrite $tcp, $text; close $tcp;
    }
}
"#;

#[lab]
fn noise_from_the_network_disturbs_nothing() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let (owner, token, pid) = (bench.owner(), bench.token(), bench.program_pid());
    let watch = bench.watch();
    for node in ["n1", "n2", "n3"] {
        let target = format!("{}:7420", bench.lab.address(node));
        let sent =
            bench.lab.run_in("client", &["perl", "-e", NOISE, &target, "2000"], Duration::from_secs(60)).unwrap();
        assert!(sent.success(), "{}{}", sent.stdout, sent.stderr);
    }
    bench.still_answering(&watch, 100);
    assert_eq!((bench.owner(), bench.token(), bench.program_pid()), (owner, token, pid));
    for node in ["n1", "n2", "n3"] {
        let console = bench.lab.console(node);
        assert!(!console.contains("panicked"), "{console}");
        assert!(console.len() < 1 << 20, "strangers do not fill the log");
    }
    bench.nothing_failed(watch);
}

#[lab]
fn bodies_that_nobody_should_send_are_refused_and_change_nothing() {
    let Some(bench) = Bench::new(&["n1"]) else { return };
    let before = bench.package();
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let bodies = ["", "{", "null", "[]", "{\"name\": 7}", "\u{0}\u{1}", "{\"text\": \"\\ud800\"}", deep.as_str()];
    for path in [
        "/v1/cluster/init",
        "/v1/cluster/join",
        "/v1/packages/testpkg1/move",
        "/v1/packages/nonesuch",
        "/v1/packages/%00",
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            for body in bodies {
                let code = bench.request("n1", method, path, body).expect("the agent is there");
                assert!((400..500).contains(&code), "{method} {path} {body:.40}: {code}");
            }
        }
    }
    assert_eq!(bench.package()["definition"], before["definition"]);
    assert!(!bench.lab.console("n1").contains("panicked"));
}

/// Sends datagrams that pass every check but the last: right cluster, right receiver, right key, wrong MAC. A hundred
/// every five milliseconds.
const FLOOD: &str = r#"
use strict; use IO::Socket::INET;
my ($target, $cluster, $to, $rounds) = @ARGV;
my $udp = IO::Socket::INET->new(Proto => 'udp', PeerAddr => $target) or die;
my $forged = "PKGD\x01" . pack('H16 N Q> Q>', $cluster, 1, 1, $to) . 'x' x 40 . 'm' x 16;
for (1..$rounds) { send $udp, $forged, 0 for 1..100; select undef, undef, undef, 0.005; }
"#;

#[lab]
fn a_flood_of_forged_datagrams_costs_no_lease_and_one_line_per_interval() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let (owner, token, pid) = (bench.owner(), bench.token(), bench.program_pid());
    let watch = bench.watch();
    let disk = &bench.lab.place(&owner).disk;
    let node: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(disk.join("var/lib/pkgctl/node.json")).unwrap()).unwrap();
    let keepers = bench.lab.processes(&owner).unwrap();
    let keeper = keepers.iter().find(|p| p.role() == Some("keeper")).unwrap().pid;
    let before = cpu_ticks(keeper);
    let (target, rounds) = (format!("{}:7420", bench.lab.address(&owner)), 600);
    let (cluster, to) = (node["cluster"].as_str().unwrap(), node["node"].to_string());
    let argv = ["perl", "-e", FLOOD, &target, cluster, &to, &rounds.to_string()];
    let sent = bench.lab.run_in("client", &argv, Duration::from_secs(60)).unwrap();
    assert!(sent.success(), "{}{}", sent.stdout, sent.stderr);
    bench.still_answering(&watch, 100);
    let log = || std::fs::read_to_string(disk.join("var/log/pkgctl/keeper.log")).unwrap();
    bench.until("the keeper says what it dropped", || log().contains("not authentic"));
    let dropped = log().lines().filter(|line| line.contains("datagrams were dropped")).count();
    assert!(dropped <= 10, "{dropped} lines");
    let ticks = cpu_ticks(keeper) - before;
    eprintln!("{} forged datagrams cost the keeper {ticks} ticks of CPU, its own work included", rounds * 100);
    assert_eq!((bench.owner(), bench.token(), bench.program_pid()), (owner, token, pid));
    bench.nothing_failed(watch);
}

/// CPU time of a process, in ticks of 10 ms.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// Everything below a directory, with its mode.
fn modes(below: &Path) -> Vec<(PathBuf, std::fs::Metadata)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        // Programs and the store remove files of their own meanwhile.
        let Ok(about) = path.symlink_metadata() else { continue };
        if about.is_dir() {
            found.extend(modes(&path));
        }
        found.push((path, about));
    }
    found
}

#[lab]
fn what_a_node_keeps_is_open_to_nobody_else() {
    let Some(bench) = Bench::new(&["n1"]) else { return };
    let disk = bench.lab.place("n1").disk.clone();
    let mode = |path: &str| disk.join(path).symlink_metadata().unwrap().mode() & 0o777;
    assert_eq!(mode("var/lib/pkgctl"), 0o700);
    assert_eq!(mode("var/lib/pkgctl/identity"), 0o700);
    let private =
        ["lib/pkgctl/identity/node.key", "lib/pkgctl/node.json", "lib/pkgctl/raft.lock", "lib/pkgctl/raft/tail"];
    for path in private {
        assert_eq!(mode(&format!("var/{path}")), 0o600, "{path}");
    }
    for path in ["run/pkgctl/keeper.sock", "run/pkgctl/keeper.lock", "run/pkgctl/addresses.json"] {
        assert_eq!(mode(path), 0o600, "{path}");
    }
    assert_eq!(mode("run/pkgctl/inits"), 0o700);
    assert_eq!(mode("run/pkgctl/api.sock") & 0o117, 0, "its owner, and one group at most");
    assert_eq!(mode("var/log/pkgctl/packages/testpkg1.log") & 0o137, 0);
    let all: Vec<_> =
        ["var/lib/pkgctl", "run/pkgctl", "var/log/pkgctl"].iter().flat_map(|p| modes(&disk.join(p))).collect();
    assert!(all.len() > 15, "{all:?}");
    for (path, about) in all.iter().filter(|(path, _)| !path.ends_with("api.sock")) {
        assert_eq!(about.mode() & 0o022, 0, "others can write {}", path.display());
        assert!(!about.is_symlink(), "{}", path.display());
    }
}
