//! `pkgctl kv` against real nodes: what it prints, how it exits, and that a change is made once.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::bench::Bench;
use super::remote::{operator, remote};

#[lab]
fn every_outcome_has_its_exit_code_on_every_node() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    for (node, words, code, told) in [
        ("n1", "set app/n 9", 0, "is set"),
        ("n2", "get app/n", 0, "9"),
        ("n3", "get app/none", 10, "has no value"),
        ("n3", "set app/n 1 --new", 11, "it is '9'"),
        ("n2", "set app/new 1 --new", 0, "is set"),
        ("n2", "set app/n 1 --revision 3", 12, "nothing was changed"),
        ("n2", "set app/none 1 --revision 3", 10, "has no value"),
        ("n3", "if app/n < 10 set 10", 0, "is set"),
        ("n3", "if app/n lt 10 set 11", 12, "it is '10'"),
        ("n1", "if app/none = x set y", 10, "nothing was changed"),
        ("n1", "if app/n ge -1 unset", 0, "is unset"),
        ("n1", "unset app/n", 10, "nothing was changed"),
        ("n2", "unset app --below", 0, "1 key below 'app'"),
        ("n2", "unset app --below", 0, "0 keys below 'app'"),
        ("n2", "set a//b x", 2, "is not a key"),
        ("n2", "set app x --package testpkg1 --token 1", 4, "its ownership has moved on"),
    ] {
        let words: Vec<&str> = ["kv"].into_iter().chain(words.split(' ')).collect();
        let (is, said) = bench.try_ctl(node, &words);
        assert!(is == code && said.contains(told), "{words:?} on {node}: {is}, {said}");
    }
    let token = bench.token().to_string();
    bench.ctl("n3", &["kv", "set", "app", "x", "--package", "testpkg1", "--token", &token]);

    // A majority is needed, and it is told that nothing was changed.
    bench.lab.power_off("n1").unwrap();
    bench.lab.power_off("n2").unwrap();
    let (code, said) = bench.try_ctl("n3", &["kv", "get", "app", "--level", "consistent"]);
    assert_eq!(code, 3, "{said}");
    assert!(bench.ctl("n3", &["kv", "get", "app", "--level", "stale"]).starts_with('x'));
}

#[lab]
fn lists_and_transactions_are_read_as_they_are_written() {
    let Some(bench) = Bench::founded(&["n1"]) else { return };
    let file = bench.lab.scratch().join("txn.json");
    std::fs::write(
        &file,
        r#"{"when":[{"key":"a","exists":false}],
            "then":[{"put":"a","value":"1"},{"put":"d/b c","value":"2\t"},{"put":"d/e/f","base64":"/w=="}],
            "else":[{"delete":"/"}]}"#,
    )
    .unwrap();
    let txn = ["kv", "txn", "-f", file.to_str().unwrap()];
    assert!(bench.ctl("n1", &txn).contains("3 changes"));
    assert_eq!(bench.ctl("n1", &["kv", "list", "--values"]), "a\t1\nd/b c\t2\\t\nd/e/f\t\\xff\n");
    assert_eq!(bench.ctl("n1", &["kv", "list", "d", "--depth", "1"]), "d/b c\nd/e/\n");
    assert_eq!(
        bench.ctl("n1", &["kv", "list", "--from", "b", "--limit", "1"]),
        "d/b c\n(there are more; --limit 1 was asked for)\n"
    );
    let json = bench.ctl("n1", &["kv", "get", "d/e/f", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["base64"], "/w==");
    let (code, said) = bench.try_ctl("n1", &txn);
    assert!(code == 12 && said.contains("else: 1 change") && said.contains("'a': it is '1'"), "{code} {said}");
    assert_eq!(bench.ctl("n1", &["kv", "list"]), "");
}

#[lab]
fn a_backup_brings_back_what_was_and_shows_what_it_takes_away() {
    let Some(bench) = Bench::founded(&["n1", "n2", "n3"]) else { return };
    ["n2", "n3"].into_iter().for_each(|node| bench.join(node));
    let file = |name: &str| bench.lab.scratch().join(name).display().to_string();
    let (all, part) = (file("all.kv"), file("part.kv"));
    let puts: Vec<String> = (0..200).map(|n| format!(r#"{{"put":"app/{n:03}","value":"{n}"}}"#)).collect();
    std::fs::write(file("txn"), format!(r#"{{"then":[{},{{"put":"b","base64":"/w=="}}]}}"#, puts.join(","))).unwrap();
    bench.ctl("n1", &["kv", "txn", "-f", &file("txn")]);
    assert!(bench.ctl("n2", &["kv", "save", "-o", &all]).contains("201 keys"));
    assert!(bench.ctl("n3", &["kv", "save", "app/", "-o", &part]).contains("200 keys"));
    assert_eq!(bench.ctl("n1", &["kv", "save", "app"]), std::fs::read_to_string(&part).unwrap());

    bench.ctl("n1", &["kv", "set", "app/000", "other"]);
    bench.ctl("n1", &["kv", "unset", "app/001"]);
    bench.ctl("n1", &["kv", "set", "app/more", "x"]);
    bench.ctl("n1", &["kv", "set", "b", "y"]);
    let said = bench.ctl("n2", &["kv", "load", &part, "--replace", "--check"]);
    for line in ["new: app/001", "overwritten: app/000", "deleted: app/more", "1 new, 1 overwritten, 1 deleted, 198 as"]
    {
        assert!(said.contains(line), "{said}");
    }
    let (code, said) = bench.try_ctl("n2", &["kv", "load", &part]);
    assert!(code == 2 && said.contains("add --yes"), "nobody can be asked: {code} {said}");
    let cut = std::fs::read(&part).unwrap();
    std::fs::write(file("cut"), &cut[..cut.len() / 2]).unwrap();
    let (code, said) = bench.try_ctl("n2", &["kv", "load", &file("cut"), "--replace", "--yes"]);
    assert!(code == 2 && said.contains("nothing was changed"), "{code} {said}");
    assert_eq!(bench.ctl("n3", &["kv", "get", "app/000"]), "other");

    assert!(bench.ctl("n2", &["kv", "load", &part, "--replace", "--yes"]).contains("3 keys are loaded"));
    let (code, _) = bench.try_ctl("n3", &["kv", "get", "app/more"]);
    assert_eq!((bench.ctl("n3", &["kv", "get", "app/000"]).as_str(), code), ("0", 10));
    assert_eq!(bench.ctl("n3", &["kv", "get", "b"]), "y", "it is not below app/");
    bench.ctl("n1", &["kv", "unset", "/", "--below"]);
    assert!(
        bench.ctl("n1", &["kv", "load", &all]).contains("201 keys are loaded"),
        "nothing is lost, so nobody is asked"
    );
    assert_eq!(bench.ctl("n3", &["kv", "list"]).lines().count(), 201);
}

#[lab]
fn a_change_whose_agent_is_killed_before_it_answers_is_made_once() {
    let Some(bench) = Bench::founded(&["n1", "n2", "n3"]) else { return };
    ["n2", "n3"].into_iter().for_each(|node| bench.join(node));
    bench.whole();
    let alice = operator(&bench, "alice");
    bench.ctl("n2", &["kv", "set", "n", "0"]);
    // The member that is asked first is killed under each request: whether before or after it took it, each increment
    // is made, and once.
    for n in 0..5 {
        bench.agent_up("n1");
        let (now, next) = (n.to_string(), (n + 1).to_string());
        let words = ["kv", "if", "n", "=", now.as_str(), "set", next.as_str()];
        let (code, said) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| remote(&bench, &alice, &words));
            bench.kill_role("n1", "agent");
            asked.join().unwrap()
        });
        assert_eq!(code, 0, "{words:?}: {said}");
        assert_eq!(bench.ctl("n2", &["kv", "get", "n"]), next);
    }
}

/// A watch that runs on a node, and what it has printed.
struct Watching {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Watching {
    fn begin(bench: &Bench, node: &str, words: &[&str]) -> Self {
        let disk = bench.lab.place(node).disk.display().to_string();
        let argv: Vec<&str> = [env!("CARGO_BIN_EXE_pkgctl"), "--root", &disk, "kv", "watch"]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        let mut command = bench.lab.command_in(node, &argv).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (into, from) = (lines.clone(), BufReader::new(child.stdout.take().unwrap()));
        std::thread::spawn(move || from.lines().map_while(Result::ok).for_each(|line| into.lock().unwrap().push(line)));
        Self { child, lines }
    }

    /// What it has printed, without the revisions.
    fn said(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|line| line.split_once(' ').map_or(line.clone(), |(_, rest)| rest.to_owned())).collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[lab]
fn a_watch_goes_on_across_an_agent_that_is_killed_and_misses_nothing() {
    let Some(bench) = Bench::new(&["n1", "n2", "n3"]) else { return };
    bench.ctl("n1", &["kv", "set", "app/a", "1"]);
    let set: Value = serde_json::from_str(bench.ctl("n1", &["kv", "set", "app/a", "2", "--json"]).trim()).unwrap();
    let before = (set["revision"].as_u64().unwrap() - 1).to_string();
    let watching = Watching::begin(&bench, "n2", &["app/", "--after", &before]);
    bench.ctl("n3", &["kv", "set", "other", "x"]);
    bench.ctl("n3", &["kv", "unset", "app/a"]);
    bench.until("both changes", || watching.said() == ["put app/a 2", "delete app/a"]);
    bench.signal_role("n2", "agent", Signal::SIGKILL);
    bench.ctl("n1", &["kv", "set", "app/b", "two\nlines"]);
    bench.until("the change made meanwhile", || {
        watching.said().last().is_some_and(|line| line.starts_with("put app/b"))
    });
    assert_eq!(watching.said().len(), 3, "{:?}", watching.said());
}
