//! The key/value tree over HTTP on real nodes: every route, what each level shows, plain HTTP with curl, watches.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use pkgctl::lab::{Direction, Place};
use serde_json::{Value, json};

use super::bench::{Bench, PATIENCE, agent};

pub const PLAIN: u16 = 8091;

/// An agent with plain HTTP on the address that the other nodes use.
pub fn plain(place: &Place) -> Vec<String> {
    let config = place.disk.join("etc/pkgctl/agent.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(config, format!("http_listen = \"{}:{PLAIN}\"\n", place.address)).unwrap();
    agent(place)
}

pub fn three() -> Option<Bench> {
    let bench = Bench::founded_with(&["n1", "n2", "n3"], "default", plain)?;
    bench.join("n2");
    bench.join("n3");
    Some(bench)
}

pub struct Said {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Said {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn code(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

pub fn connect(bench: &Bench, node: &str, head: &str, body: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(bench.lab.place(node).disk.join("run/pkgctl/api.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = format!("{head}\r\nhost: pkgctl\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[text.as_bytes(), body].concat()).unwrap();
    stream
}

/// One request on the node's own socket; `line` may have headers after it.
pub fn ask(bench: &Bench, node: &str, line: &str, body: &[u8]) -> Said {
    let (line, headers) = line.split_once("\r\n").map_or((line, String::new()), |(l, h)| (l, format!("\r\n{h}")));
    let mut all = Vec::new();
    let ended = connect(bench, node, &format!("{line} HTTP/1.1{headers}"), body).read_to_end(&mut all);
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("{line}: {ended:?}"));
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    Said { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: all[end + 4..].to_vec() }
}

pub fn get(bench: &Bench, node: &str, path: &str) -> Said {
    ask(bench, node, &format!("GET {path}"), b"")
}

/// Puts a key, which must be taken.
pub fn put(bench: &Bench, node: &str, key: &str, value: &[u8]) -> u64 {
    let said = ask(bench, node, &format!("PUT /v1/kv/{key}"), value);
    assert_eq!(said.status, 200, "{}", said.json());
    said.json()["revision"].as_u64().unwrap()
}

/// Waits for a line of a watch that begins so; all lines until then.
pub fn until_line(watch: &mut impl BufRead, begin: &str) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let read = watch.read_line(&mut line).unwrap_or_else(|e| panic!("no '{begin}': {e}; {lines:?}"));
        assert!(read > 0, "it ended without '{begin}': {lines:?}");
        lines.push(line.trim_end().to_owned());
        // One comes every ten seconds.
        let idle = lines.iter().filter(|line| *line == ": alive").count();
        assert!(idle < 6, "waited in vain for '{begin}': {lines:?}");
        if line.starts_with(begin) {
            return lines;
        }
    }
}

#[lab]
fn keys_are_written_read_listed_and_taken_away_and_every_refusal_says_why() {
    let Some(bench) = three() else { return };
    let odd = [0xff_u8, 0, b'\n', 0xfe];
    let first = put(&bench, "n2", "app/odd", &odd);
    let said = get(&bench, "n3", "/v1/kv/app%2Fodd");
    assert_eq!((said.status, &said.body[..]), (200, &odd[..]), "any bytes, through any node");
    assert_eq!(said.header("x-pkgctl-revision"), Some(first.to_string().as_str()));
    assert_eq!(said.header("x-pkgctl-created"), Some(first.to_string().as_str()));
    assert_eq!(get(&bench, "n1", "/v1/kv/app/odd?json").json()["base64"], "/wAK/g==");
    let again = ask(&bench, "n1", "PUT /v1/kv/app/odd", b"text");
    assert_eq!(again.json()["replaced"], first);
    put(&bench, "n3", "app/db/url", b"here");
    let list = get(&bench, "n2", "/v1/kv/app/").json();
    let keys: Vec<&str> = list["items"].as_array().unwrap().iter().map(|i| i["key"].as_str().unwrap()).collect();
    assert_eq!(
        (keys, &list["items"][1]["value"], &list["more"]),
        (vec!["app/db/url", "app/odd"], &json!("text"), &json!(false))
    );
    let page = get(&bench, "n2", "/v1/kv/?limit=1&keys").json();
    assert_eq!((&page["next"], page["items"][0].get("value")), (&json!("app/odd"), None));
    assert_eq!(get(&bench, "n2", "/v1/kv/app/?depth=1").json()["dirs"], json!(["app/db/"]));

    // Conditions, and what was found.
    let exists = ask(&bench, "n2", "PUT /v1/kv/app/odd?if_revision=0", b"x");
    assert_eq!((exists.code(), &exists.json()["found"]["value"]), ((412, "exists".into()), &json!("text")));
    assert_eq!(ask(&bench, "n2", "PUT /v1/kv/none?if_value=1", b"x").code(), (412, "no_such_key".into()));
    put(&bench, "n1", "n", b"9");
    assert_eq!(ask(&bench, "n1", "PUT /v1/kv/n?if_value=10&op=%3E", b"11").code(), (412, "mismatch".into()));
    assert_eq!(ask(&bench, "n1", "PUT /v1/kv/n?if_value=10&op=%3C", b"11").status, 200);
    assert_eq!(ask(&bench, "n1", "PUT /v1/kv/n?package=web&token=4", b"12").code(), (404, "no_such_package".into()));

    // A repeated request is answered as it was and not carried out again.
    let named = "PUT /v1/kv/once?if_revision=0\r\nidempotency-key: 6ccd780c-baba-1026-9564-5b8c656024db";
    let (one, two) = (ask(&bench, "n1", named, b"1"), ask(&bench, "n3", named, b"1"));
    assert_eq!((one.status, two.status, one.json()), (200, 200, two.json()));
    let another = "PUT /v1/kv/twice\r\nidempotency-key: 6ccd780c-baba-1026-9564-5b8c656024db";
    for node in ["n1", "n2", "n3"] {
        assert_eq!(ask(&bench, node, another, b"1").code(), (409, "request_name_taken".into()));
        assert_eq!(get(&bench, node, "/v1/kv/twice").code(), (404, "no_such_key".into()));
    }
    let text =
        json!({"then": [{"put": "twice", "value": "1"}], "request": "6ccd780cbaba102695645b8c656024db"}).to_string();
    let file = bench.lab.scratch().join("taken.json");
    std::fs::write(&file, text).unwrap();
    let (code, said) = bench.try_ctl("n2", &["kv", "txn", "-f", file.to_str().unwrap()]);
    assert!(code == 4 && said.contains("was used for another request; nothing was changed"), "{code} {said}");

    // A transaction, both ways.
    let txn = |value: &str| {
        json!({"when":[{"key":"n","op":"=","value":value}], "then":[{"put":"t","value":"then"},{"delete":"app/"}],
               "else":[{"put":"t","base64":"/w=="}]})
    };
    let other = ask(&bench, "n2", "POST /v1/kv", txn("0").to_string().as_bytes()).json();
    assert_eq!((&other["met"], &other["unmet"]["found"]["value"]), (&json!(false), &json!("11")));
    assert_eq!(get(&bench, "n1", "/v1/kv/t").body, [0xff]);
    let done = ask(&bench, "n3", "POST /v1/kv", txn("11").to_string().as_bytes()).json();
    assert_eq!((&done["met"], &done["changed"][1]["deleted"]["keys"]), (&json!(true), &json!(2)));
    assert_eq!(ask(&bench, "n2", "DELETE /v1/kv/n", b"").json()["deleted"], 1);
    assert_eq!(get(&bench, "n3", "/v1/kv/n").code(), (404, "no_such_key".into()));

    for (line, body, status, code) in [
        ("GET /v1/kv/a%00b", &b""[..], 400, "bad_request"),
        ("GET /v1/kv/%ff", b"", 400, "bad_request"),
        ("GET /v1/kv/a?level=newest", b"", 400, "bad_request"),
        ("GET /v1/kv/a?limit=1", b"", 400, "bad_request"),
        ("GET /v1/kv/?limit=0", b"", 400, "bad_request"),
        ("GET /v1/kv/?depth=2", b"", 400, "bad_request"),
        ("PUT /v1/kv/a/", b"x", 400, "bad_request"),
        ("PUT /v1/kv/a?op=%3C", b"x", 400, "bad_request"),
        ("PUT /v1/kv/a?token=1", b"x", 400, "bad_request"),
        ("PUT /v1/kv/a\r\nidempotency-key: no", b"x", 400, "bad_request"),
        ("PUT /v1/kv/a", &[b'x'; (128 << 10) + 1], 413, "too_large"),
        ("DELETE /v1/kv/a/?if_revision=1", b"", 400, "bad_request"),
        ("DELETE /v1/kv/", b"", 405, "no_such_method"),
        ("POST /v1/kv", b"{\"then\":[{\"put\":\"a\"}]}", 400, "bad_request"),
        ("GET /v1/watch/a?after=x", b"", 400, "bad_request"),
        ("GET /v1/nothing", b"", 404, "no_such_route"),
    ] {
        assert_eq!(ask(&bench, "n1", line, body).code(), (status, code.to_owned()), "{line}");
    }
}

#[lab]
fn the_routes_of_raftdb_and_raftd_answer_curl_on_any_node_and_nothing_else_is_served_there() {
    let Some(bench) = three() else { return };
    let leader = bench.leader();
    let follower = ["n1", "n2", "n3"].into_iter().find(|node| *node != leader).unwrap();
    let at = |node: &str| format!("http://{}:{PLAIN}", bench.lab.address(node));
    let curl = |node: &str, path: &str, more: &[&str]| {
        let url = format!("{}{path}", at(node));
        let argv: Vec<&str> = ["curl", "-sS", "-w", "\n%{http_code} %{num_redirects}", &url]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        bench.lab.run_in(follower, &argv, PATIENCE).unwrap().stdout
    };
    // Every node has said where it answers.
    bench.until("a follower sends on to the leader", || curl(follower, "/key/foo", &[]).ends_with("\n307 0"));
    let said = curl(follower, "/key", &["-X", "POST", "-d", r#"{"foo": "bar", "dir/x": "y"}"#, "-L"]);
    assert!(said.ends_with("\n200 1"), "{said}");
    assert_eq!(curl(follower, "/key/foo", &["-L"]), "{\"foo\":\"bar\"}\n200 1");
    assert_eq!(curl(follower, "/key/foo?level=consistent", &["-L"]), "{\"foo\":\"bar\"}\n200 1");
    let stale = || curl(follower, "/key/dir/x?level=stale", &[]) == "{\"dir/x\":\"y\"}\n200 0";
    bench.until("the follower has it too", stale);
    assert!(curl(follower, "/db/raw", &["-L", "--data-binary", "as it is"]).ends_with("\n200 1"));
    assert_eq!(curl(&leader, "/db/raw", &[]), "as it is\n200 0");
    assert!(curl(follower, "/key/foo", &["-X", "DELETE", "-L"]).contains("\"deleted\":1}\n200 1"));
    assert!(curl(follower, "/key/foo", &["-L"]).ends_with("\n404 1"));
    // Our own routes are served by the node that is asked.
    assert_eq!(curl(follower, "/v1/kv/raw", &[]), "as it is\n200 0");
    assert!(curl(follower, "/v1/status", &[]).ends_with("\n200 0"));
    let join = curl(follower, "/join", &["-d", r#"{"id":"n4"}"#, "-L"]);
    assert!(join.contains("pkgctl cluster join") && join.contains("\n403 "), "{join}");
    for path in ["/v1/packages/web", "/v1/fences", "/v1/cluster/token", "/v1/node/leave", "/v1/packages/web/run"] {
        for more in [&[][..], &["-X", "POST", "-d", "{}"]] {
            assert!(curl(&leader, path, more).ends_with("\n404 0"), "{path} {more:?}");
        }
    }
    assert!(curl(&leader, "/db/raw", &["-d", "x", "-H", "Origin: http://evil.example"]).ends_with("\n403 0"));
    // On the node's own socket nobody is sent anywhere.
    assert_eq!(ask(&bench, follower, "GET /key/raw", b"").json(), json!({"raw": "as it is"}));
    assert_eq!(ask(&bench, follower, "POST /join", b"{}").code(), (403, "join_by_token".into()));
}

#[lab]
fn a_stale_read_shows_the_past_and_a_consistent_one_is_refused_where_a_majority_is_missing() {
    let Some(bench) = three() else { return };
    let leader = bench.leader();
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != leader).collect();
    put(&bench, &leader, "k", b"old");
    let value = |node: &str, level: &str| {
        let said = get(&bench, node, &format!("/v1/kv/k?level={level}"));
        (said.status, String::from_utf8_lossy(&said.body).into_owned())
    };
    let is = |text: &str| (200, text.to_owned());
    for level in ["default", "consistent"] {
        others.iter().for_each(|node| assert_eq!(value(node, level), is("old"), "{level} on {node}"));
    }
    // A follower, cut off.
    bench.lab.cut(others[0], Direction::Both).unwrap();
    put(&bench, &leader, "k", b"newer");
    assert_eq!(value(others[0], "stale"), is("old"));
    assert_eq!(value(others[0], "default").0, 503);
    assert_eq!(value(others[0], "consistent").0, 503);
    bench.lab.heal(others[0]).unwrap();
    bench.until("the follower has caught up", || value(others[0], "default") == is("newer"));
    // The leader, cut off: the others go on without it. Whoever it is by now.
    let leader = bench.leader();
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != leader).collect();
    bench.lab.cut(&leader, Direction::Both).unwrap();
    let wrote = || ask(&bench, others[1], "PUT /v1/kv/k", b"newest").status == 200;
    bench.until("the others have a leader", wrote);
    assert_eq!(value(&leader, "consistent").0, 503);
    assert_eq!(value(&leader, "stale"), is("newer"));
    // No majority has answered it for longer than an election takes, so its own word is worth nothing.
    assert_eq!(value(&leader, "default").0, 503);
    let (_, said) = bench.try_ctl(&leader, &["raft", "status"]);
    assert!(said.contains(&format!("no majority has answered {leader} for")), "{said}");
    assert_eq!(value(others[0], "consistent"), is("newest"));
    bench.lab.heal(&leader).unwrap();
    bench.until("the old leader has caught up", || value(&leader, "default") == is("newest"));
}

#[lab]
fn a_watch_goes_on_over_a_change_of_leader_and_misses_nothing() {
    let Some(bench) = three() else { return };
    let leader = bench.leader();
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != leader).collect();
    let watch = |node: &str, line: &str| BufReader::new(connect(&bench, node, line, b""));
    let mut one = watch(others[0], "GET /v1/watch/w/ HTTP/1.1");
    assert!(until_line(&mut one, "content-type")[0].starts_with("HTTP/1.1 200"));
    until_line(&mut one, "id: ");
    put(&bench, &leader, "elsewhere", b"x");
    let first = put(&bench, &leader, "w/a", b"1");
    let lines = until_line(&mut one, &format!("id: {first}"));
    assert!(lines.iter().any(|line| line.contains(r#"{"key":"w/a","value":"1""#)), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("elsewhere")), "{lines:?}");

    bench.lab.power_off(&leader).unwrap();
    let last = std::cell::Cell::new(0);
    bench.until("the others have a leader", || {
        let said = ask(&bench, others[1], "PUT /v1/kv/w/b", &[0xff]);
        last.set(said.json()["revision"].as_u64().unwrap_or(0));
        said.status == 200
    });
    let gone = ask(&bench, others[1], "DELETE /v1/kv/w/a", b"").json()["revision"].as_u64().unwrap();
    let lines = until_line(&mut one, &format!("id: {gone}"));
    let (put_at, delete_at) =
        (lines.iter().position(|l| l == "event: put"), lines.iter().position(|l| l == "event: delete"));
    assert!(
        put_at.is_some() && put_at < delete_at && lines.iter().any(|l| l.contains(r#""base64":"/w==""#)),
        "{lines:?}"
    );

    // Another node goes on from where that one was; what it says is the same.
    let mut two = watch(others[1], &format!("GET /v1/watch/w/ HTTP/1.1\r\nlast-event-id: {first}"));
    let again = until_line(&mut two, &format!("id: {gone}"));
    let datas = |lines: &[String]| lines.iter().filter(|l| l.starts_with("data: ")).cloned().collect::<Vec<_>>();
    assert!(datas(&again).ends_with(&datas(&lines)[datas(&lines).len() - 2..]), "{again:?} {lines:?}");
    // One key alone.
    let mut key = watch(others[1], &format!("GET /v1/watch/w/a?after={} HTTP/1.1", first - 1));
    assert_eq!(datas(&until_line(&mut key, &format!("id: {gone}"))).len(), 2);
    // An agent that ends says so, and the stream has its proper end.
    bench.signal_role(others[0], "agent", nix::sys::signal::Signal::SIGTERM);
    until_line(&mut one, "event: end");
    let mut rest = String::new();
    one.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"unavailable\"") && rest.trim_end().ends_with("\r\n0"), "{rest:?}");
}
