//! Somebody on the network who has recorded an owner's datagrams and sends them again once it is dead (rule 6a).

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use pkgctl::lab::Moment;

use super::bench::Bench;

/// Beside a voter: records what the owner's keeper sends to it until the first file is there, then sends all of it again
/// and again, oldest first, with that pause after each, until the second is.
const RECORDER: &str = r#"
use strict; use Socket; use IO::Socket::INET;
my ($owner, $voter, $port, $pause, $dead, $stop, $ready) = @ARGV;
socket(my $wire, 17, SOCK_DGRAM, unpack 'S', pack 'n', 0x0800) or die "no packet socket: $!";
my $udp = IO::Socket::INET->new(Proto => 'udp', PeerAddr => "$voter:$port") or die;
my @recorded;
while (!-e $dead) {
    vec(my $in = '', fileno $wire, 1) = 1;
    next unless select $in, undef, undef, 0.02;
    recv $wire, my $packet, 2048, 0;
    my $at = 4 * (15 & ord $packet);
    next unless ord(substr $packet, 9, 1) == 17 && substr($packet, 12, 4) eq inet_aton $owner;
    my ($to, $bytes) = unpack 'n n', substr $packet, $at + 2, 4;
    push @recorded, substr $packet, $at + 8, $bytes - 8 if $to == $port;
    if (@recorded == 50) { open my $made, '>', $ready or die; }
}
my $sent = 0;
while (!-e $stop) {
    for my $datagram (@recorded) {
        last if -e $stop;
        send $udp, $datagram, 0;
        $sent++;
        select undef, undef, undef, $pause;
    }
}
print scalar @recorded, " datagrams, sent again $sent times\n";
"#;

/// A recorder beside each of the voters.
struct Recorders {
    children: Vec<Child>,
    dead: PathBuf,
    stop: PathBuf,
}

impl Recorders {
    /// Returns once each has recorded some fifty datagrams of the owner's keeper.
    fn of(bench: &Bench, owner: &str, voters: &[&str], pause: Duration) -> Self {
        let path = |name: &str| bench.lab.scratch().join(format!("recorder-{name}"));
        let (dead, stop) = (path("dead"), path("stop"));
        let (from, pause) = (bench.lab.address(owner).to_string(), pause.as_secs_f64().to_string());
        let record = |voter: &&str| {
            let to = bench.lab.address(voter).to_string();
            let files = [dead.clone(), stop.clone(), path(voter)].map(|path| path.display().to_string());
            let argv = ["perl", "-e", RECORDER, &from, &to, "7420", &pause, &files[0], &files[1], &files[2]];
            bench.lab.command_in(voter, &argv).unwrap().stdout(Stdio::piped()).spawn().unwrap()
        };
        let children = voters.iter().map(record).collect();
        voters.iter().for_each(|voter| bench.until("datagrams are recorded", || path(voter).exists()));
        Self { children, dead, stop }
    }

    fn replay(&self) {
        std::fs::write(&self.dead, "").unwrap();
    }

    /// Each sent them again all the time, or the test shows nothing.
    fn finish(self, least: u64) {
        std::fs::write(&self.stop, "").unwrap();
        for child in self.children {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            eprint!("{said}");
            let sent: u64 = said.split_whitespace().rev().nth(1).and_then(|n| n.parse().ok()).expect("a count");
            assert!(output.status.success() && sent >= least, "{said}");
        }
    }
}

/// The owner loses power, and what it had sent goes on coming; the voters restart or do not.
fn replayed(restart: bool, pause: Duration, least: u64) {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    let owner = bench.owner();
    let voters: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != owner).collect();
    let recorders = Recorders::of(&bench, &owner, &voters, pause);
    let watch = bench.watch();
    let at = bench.lab.power_off(&owner).unwrap();
    recorders.replay();
    if restart {
        // What they had taken is forgotten.
        for voter in &voters {
            bench.kill_role(voter, "keeper");
        }
    }
    let next = bench.answered_elsewhere(&watch, at, &owner);
    eprintln!("taken over after {:?}, with everything sent again", Moment::now().since(at));
    bench.lab.power_on(&owner).unwrap();
    bench.whole();
    assert_eq!(bench.owner(), next, "its next life is there, too");
    recorders.finish(least);
    bench.no_double_activity(watch);
}

#[lab]
fn an_owner_that_lost_power_is_replaced_although_its_recorded_datagrams_go_on_coming() {
    replayed(false, Duration::from_millis(1), 500);
}

#[lab]
fn voters_that_restart_take_nothing_that_was_recorded_before() {
    // Slowly: each that was forgotten by its voter would count once, and hold it for a ttl.
    replayed(true, Duration::from_millis(600), 3);
}
