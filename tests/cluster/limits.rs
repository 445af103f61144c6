//! Where the key/value tree's interfaces end: watches from too long ago, too many watches, and a leader that dies under
//! requests that other nodes pass on to it.

use std::cell::Cell;
use std::io::{BufReader, Read};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pkgctl::raft::watched::CHANGES_MAX_BYTES;

use super::bench::{Bench, PATIENCE};
use super::kv::{PLAIN, Said, ask, connect, get, plain, put, three, until_line};

/// docs/kv.md.
const WATCHES_MAX: usize = 128;
const VALUE_MAX_BYTES: usize = 128 << 10;

#[lab]
fn a_watch_from_before_what_is_kept_is_told_to_read_again_and_then_goes_on() {
    let Some(bench) = Bench::founded(&["n1"]) else { return };
    let first = put(&bench, "n1", "w/first", b"1");
    let from = |after: u64| format!("GET /v1/watch/w/?after={after} HTTP/1.1");
    // Still kept.
    until_line(&mut BufReader::new(connect(&bench, "n1", &from(first - 1), b"")), &format!("id: {first}"));
    let value = vec![b'x'; VALUE_MAX_BYTES];
    for _ in 0..=CHANGES_MAX_BYTES / VALUE_MAX_BYTES {
        put(&bench, "n1", "w/large", &value);
    }
    let behind = get(&bench, "n1", &format!("/v1/watch/w/?after={}", first - 1));
    assert_eq!(behind.code(), (410, "behind".to_owned()));
    assert!(behind.json()["message"].as_str().unwrap().contains("read the keys again"), "{}", behind.json());
    let named = ask(&bench, "n1", &format!("GET /v1/watch/w/\r\nlast-event-id: {}", first - 1), b"");
    assert_eq!(named.code(), (410, "behind".to_owned()));
    // Of another cluster's log: what changes until it comes so far would be passed over.
    let ahead = get(&bench, "n1", "/v1/watch/w/?after=4294967300");
    assert_eq!(ahead.code(), (410, "behind".to_owned()));
    assert!(ahead.json()["message"].as_str().unwrap().contains("not of this cluster's log"), "{}", ahead.json());
    // As it says.
    let list = get(&bench, "n1", "/v1/kv/w/?keys").json();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let mut watch = BufReader::new(connect(&bench, "n1", &from(list["applied"].as_u64().unwrap()), b""));
    let next = put(&bench, "n1", "w/next", b"2");
    until_line(&mut watch, &format!("id: {next}"));
    // An agent that begins again knows nothing of before.
    bench.kill_role("n1", "agent");
    bench.agent_up("n1");
    let after = |after: u64| get(&bench, "n1", &format!("/v1/watch/w/?after={after}")).code();
    assert_eq!(after(first), (410, "behind".to_owned()));
}

#[lab]
fn a_watch_too_many_is_refused_on_its_listener_alone_until_another_ends() {
    let Some(bench) = Bench::founded_with(&["n1"], "default", plain) else { return };
    let open = || {
        let mut watch = BufReader::new(connect(&bench, "n1", "GET /v1/watch/ HTTP/1.1", b""));
        until_line(&mut watch, "id: ");
        watch
    };
    let mut watches: Vec<_> = (0..WATCHES_MAX).map(|_| open()).collect();
    let refused = get(&bench, "n1", "/v1/watch/");
    assert_eq!(refused.code(), (503, "too_many_watches".to_owned()));
    assert_eq!(get(&bench, "n1", "/v1/kv/").status, 200, "everything else is answered");
    let url = format!("http://{}:{PLAIN}/v1/watch/", bench.lab.address("n1"));
    let other = bench.lab.run_in("n1", &["curl", "-sS", "-i", "-m", "2", &url], PATIENCE).unwrap().stdout;
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    let last = put(&bench, "n1", "seen", b"by all");
    for watch in &mut watches {
        until_line(watch, &format!("id: {last}"));
    }
    watches.pop();
    // It is over when the node has seen that its client is gone.
    bench.until("there is room again", || {
        let mut head = [0; 12];
        let mut stream: UnixStream = connect(&bench, "n1", "GET /v1/watch/ HTTP/1.1", b"");
        stream.read_exact(&mut head).unwrap();
        head.ends_with(b"200")
    });
}

/// A request to a node that passes it on; what was answered each time until it was 200.
fn until_done(bench: &Bench, node: &str, n: usize) -> (Vec<(u16, String)>, Said) {
    let line = format!("PUT /v1/kv/dying/{n}?if_revision=0\r\nidempotency-key: {n:032x}");
    let (refusals, last) = (Cell::new(Vec::new()), Cell::new(None));
    bench.until("the request is carried out", || {
        let said = ask(bench, node, &line, n.to_string().as_bytes());
        if said.status != 200 {
            let mut all = refusals.take();
            all.push(said.code());
            refusals.set(all);
            return false;
        }
        last.set(Some(said));
        true
    });
    (refusals.take(), last.take().unwrap())
}

#[lab]
fn a_leader_that_dies_under_passed_on_requests_leaves_answers_that_are_documented_and_can_be_asked_for_again() {
    let Some(bench) = three() else { return };
    let leader = bench.leader();
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != leader).collect();
    let (dead, bench, others) = (AtomicBool::new(false), &bench, &others);
    let outcomes: Vec<_> = thread::scope(|scope| {
        let clients = (0..4).map(|client| {
            let dead = &dead;
            scope.spawn(move || {
                let mut all = Vec::new();
                // Some before it dies, some while it does, and two that begin when it is dead.
                for n in (client * 1000..).take(900) {
                    let ended = dead.load(Ordering::Acquire);
                    all.push((n, until_done(bench, others[n % 2], n)));
                    if ended && all.iter().any(|(_, (refusals, _))| !refusals.is_empty()) {
                        break;
                    }
                }
                all
            })
        });
        let clients: Vec<_> = clients.collect();
        bench.until("requests are passed on", || get(bench, others[0], "/v1/kv/dying/3020?level=stale").status == 200);
        bench.lab.power_off(&leader).unwrap();
        dead.store(true, Ordering::Release);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let mut refused = 0;
    for (n, (refusals, said)) in &outcomes {
        for (status, code) in refusals {
            let known = [(503, "unavailable"), (504, "unknown_outcome")];
            assert!(known.contains(&(*status, code.as_str())), "{n}: {status} {code}");
        }
        refused += refusals.len();
        let revision = said.json()["revision"].as_u64().unwrap();
        for node in others.iter() {
            let found = get(bench, node, &format!("/v1/kv/dying/{n}"));
            assert_eq!((found.status, &found.body[..]), (200, n.to_string().as_bytes()));
            let stands = |name: &str| found.header(name).unwrap().parse::<u64>().unwrap();
            assert_eq!((stands("x-pkgctl-created"), stands("x-pkgctl-revision")), (revision, revision), "{n}: once");
        }
    }
    assert!(refused > 0, "nobody noticed that the leader died: {} requests", outcomes.len());
    println!("{} requests, {refused} refusals while the leader was lost", outcomes.len());
}
