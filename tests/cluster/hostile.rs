//! Bytes from outside: datagrams, connections and requests that nobody of the cluster sent.

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

#[test]
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

#[test]
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
