//! The OpenAPI description against what a node answers, by schemathesis: no 5xx, no status, header or shape that is not
//! described. And one form for every refusal, whoever makes it.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use pkgctl::lab::wait_until;
use serde_json::{Value, json};

use super::bench::{Bench, PATIENCE};
use super::kv::{PLAIN, ask, get, plain};

/// Requests made up for each operation, beside those that its schema suggests by itself.
const EXAMPLES: u32 = 10;
/// The same requests every time.
const SEED: u32 = 1;
/// A minute on an idle machine, with our numbers.
const RUN_WITHIN: Duration = Duration::from_secs(1800);

/// Where it is: in the virtual environment that `tests/schemathesis/install` makes, or on the search path.
fn schemathesis() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/schemathesis/bin/schemathesis");
    let named = std::env::var_os("PATH").unwrap_or_default();
    let known = std::iter::once(made).chain(std::env::split_paths(&named).map(|dir| dir.join("schemathesis")));
    let runs = |path: &PathBuf| {
        let mut command = Command::new(path);
        command
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    let found = known.into_iter().find(runs);
    if found.is_none() {
        eprintln!(
            "skipped 1 test of the description: there is no schemathesis here; tests/schemathesis/install gets it"
        );
    }
    found
}

/// Lets whoever connects to a port of this machine speak to the socket.
fn forwarded(socket: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = UnixStream::connect(&socket) else { return };
            let (replies, reader) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let _ = copy(&mut &reader, &mut &server);
                let _ = server.shutdown(Shutdown::Write);
            });
            thread::spawn(move || {
                let _ = copy(&mut &replies, &mut &client);
                let _ = client.shutdown(Shutdown::Write);
            });
        }
    });
    address
}

/// The description as the node serves it, in a file.
fn description(bench: &Bench) -> String {
    let file = bench.lab.scratch().join("openapi.json");
    std::fs::write(&file, get(bench, "n1", "/v1/openapi.json").body).unwrap();
    file.display().to_string()
}

/// A number of the environment's, or ours.
fn said(name: &str, otherwise: u32) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_string())
}

/// What is asked of the listener there.
fn words(tool: &Path, file: &str, at: &str) -> Vec<String> {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis/config.toml");
    let tool = tool.display().to_string();
    let fixed = [&tool, "--config-file", config, "run", file, "--url", at, "--phases", "examples,coverage,fuzzing"];
    let (examples, seed) = (said("PKGCTL_DESCRIPTION_EXAMPLES", EXAMPLES), said("PKGCTL_DESCRIPTION_SEED", SEED));
    let bounds = ["-n", &examples, "--seed", &seed, "--generation-database", "none", "--request-timeout", "30"];
    fixed.iter().chain(&bounds).chain(&["--no-color", "--warnings", "off"]).map(|word| (*word).to_owned()).collect()
}

/// What it printed must end with everything having passed.
fn passed(code: Option<i32>, printed: &str) {
    let tested = printed.lines().find(|line| line.contains("Tested:")).unwrap_or_default();
    assert!(code == Some(0) && !tested.is_empty(), "{code:?}\n{printed}");
    println!(
        "{}, {}",
        tested.trim(),
        printed.lines().rfind(|line| !line.is_empty()).unwrap_or_default().trim_matches('=')
    );
}

#[lab]
fn whatever_the_nodes_own_socket_answers_is_described() {
    let Some(tool) = schemathesis() else { return };
    let Some(bench) = Bench::founded(&["n1"]) else { return };
    bench.run_package(&["n1"]);
    let at = format!("http://{}", forwarded(bench.lab.place("n1").disk.join("run/pkgctl/api.sock")));
    let words = words(&tool, &description(&bench), &at);
    let mut command = Command::new(&words[0]);
    // It leaves files where it is.
    command.args(&words[1..]).current_dir(bench.lab.scratch()).stdin(Stdio::null());
    let output = command.output().unwrap();
    passed(output.status.code(), &String::from_utf8_lossy(&output.stdout));
    bench.until("the node is as it was", || bench.package()["view"]["name"] == "testpkg1");
}

#[lab]
fn whatever_plain_http_answers_is_described() {
    let Some(tool) = schemathesis() else { return };
    let Some(bench) = Bench::founded_with(&["n1"], "default", plain) else { return };
    let at = format!("http://{}:{PLAIN}", bench.lab.address("n1"));
    let scratch = bench.lab.scratch().display().to_string();
    let mut all = ["env", "-C", &scratch].map(str::to_owned).to_vec();
    all.extend(words(&tool, &description(&bench), &at));
    // What else there is, it does not serve.
    let served = "^(/v1/(kv|save|watch|openapi.json|status|changes)|/key|/db|/join)".to_owned();
    all.extend(["--include-path-regex".to_owned(), served]);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let output = bench.lab.run_in("n1", &all, RUN_WITHIN).unwrap();
    passed(output.code, &format!("{}{}", output.stdout, output.stderr));
}

/// Whether it is a refusal of that status and code, with something to read.
fn refused(bench: &Bench, node: &str, line: &str, body: &[u8], status: u16, code: &str) {
    let said = ask(bench, node, line, body);
    assert_eq!(said.code(), (status, code.to_owned()), "{line}: {}", String::from_utf8_lossy(&said.body));
    assert_eq!(said.header("content-type"), Some("application/json"), "{line}");
    assert!(said.json()["message"].as_str().is_some_and(|text| text.len() > 20), "{line}: {}", said.json());
}

#[lab]
fn every_refusal_says_its_code_and_its_message_on_members_and_on_nodes_in_no_cluster() {
    let Some(bench) = Bench::founded(&["n1", "n2"]) else { return };
    bench.agent_up("n2");
    let long = vec![b' '; (1 << 20) + 1];
    let runs_anything = json!({"device": {"agent": "ls", "options": {}, "action": "off", "timeout": 1}}).to_string();
    for (line, body, status, code) in [
        ("GET /v1/changes?after=x", &b""[..], 400, "bad_request"),
        ("GET /v1/packages/%ff", b"", 400, "bad_request"),
        ("GET /v1/packages/-", b"", 400, "bad_request"),
        ("GET /v1/packages/p", b"", 404, "no_such_package"),
        ("GET /v1/packages/p/log?offset=-1", b"", 400, "bad_request"),
        ("GET /v1/packages/%ff/log", b"", 400, "bad_request"),
        ("DELETE /v1/packages/p", b"", 400, "bad_request"),
        ("DELETE /v1/packages/p?revision=x", b"", 400, "bad_request"),
        ("POST /v1/packages/p/run", b"{", 400, "bad_request"),
        ("POST /v1/packages/p/run", b"[]", 400, "bad_request"),
        ("POST /v1/kv", b" [[]]", 400, "bad_request"),
        ("POST /v1/kv", b"{\"then\":[{\"delete\":[null,null]}]}", 400, "bad_request"),
        ("POST /v1/packages/p/run", b"{\"nodes\":1}", 400, "bad_request"),
        ("PUT /v1/packages/p", &long, 413, "too_large"),
        ("PATCH /v1/packages/p", b"{}", 405, "no_such_method"),
        ("PUT /v1/cluster/leave", b"{}", 405, "no_such_method"),
        ("POST /v1/cluster/leave", b"{}", 400, "bad_request"),
        ("POST /v1/cluster/leave", b"{\"cluster\":\"another\"}", 409, "rejected"),
        ("POST /v1/raft/force-standalone", b"{\"cluster\":\"another\"}", 409, "rejected"),
        ("PUT /v1/status", b"", 405, "no_such_method"),
        ("PUT /v1/cluster/clients/%ff", b"{}", 400, "bad_request"),
        ("PUT /v1/cluster/clients/alice", b"{\"request\":\"\"}", 400, "bad_request"),
        ("DELETE /v1/cluster/clients/alice", b"", 404, "no_such_operator"),
        ("POST /v1/cluster/init", b"{\"name\":\"again\"}", 409, "in_a_cluster"),
        ("POST /v1/cluster/join", b"{}", 409, "in_a_cluster"),
        ("POST /v1/raft/step-down", b"{\"to\":\"n9\"}", 404, "no_such_node"),
        ("PUT /v1/fences/n9", runs_anything.as_bytes(), 404, "no_such_node"),
        ("PUT /v1/fences/n1", runs_anything.as_bytes(), 422, "invalid"),
        ("PUT /v1/fences/n1", b"{}", 400, "bad_request"),
        ("POST /v1/fences/%ff/on", b"", 400, "bad_request"),
        ("POST /v1/fences/n1/test", b"", 409, "rejected"),
        ("GET /", b"", 404, "no_such_route"),
        ("GET /v1/packages/", b"", 404, "no_such_route"),
    ] {
        refused(&bench, "n1", line, body, status, code);
    }
    for (line, body, status, code) in [
        ("GET /v1/kv/a", &b""[..], 409, "no_cluster"),
        ("GET /v1/nothing", b"", 409, "no_cluster"),
        ("PUT /v1/status", b"", 405, "no_such_method"),
        ("POST /v1/cluster/init", b"{", 400, "bad_request"),
        ("POST /v1/cluster/join", b"{\"token\":\"x\"}", 400, "bad_request"),
    ] {
        refused(&bench, "n2", line, body, status, code);
    }
    assert_eq!(get(&bench, "n2", "/v1/openapi.json").json()["openapi"], "3.1.0");
    let method = ask(&bench, "n1", "PUT /v1/status", b"");
    assert_eq!(method.header("allow"), Some("GET,HEAD"));
    // What would end the run of schemathesis, or cannot be made up by it.
    let founded = ask(&bench, "n2", "POST /v1/cluster/init", b"{\"name\":\"two\",\"profile\":\"default\"}");
    assert!(founded.status == 200 && founded.json()["cluster"].as_str().is_some_and(|id| id.len() == 16));
    assert_eq!(founded.json()["node"], 1);
    let key = pkgctl::net::identity::PrivateKey::generate();
    let wanted = json!({"request": key.request()}).to_string();
    let issued = wait_until(PATIENCE, || {
        let issued = ask(&bench, "n1", "PUT /v1/cluster/clients/alice", wanted.as_bytes());
        (issued.status == 200).then(|| issued.json())
    });
    let issued = issued.expect("a certificate is issued");
    assert!(
        ["certificate", "authority"].iter().all(|part| issued[*part].as_str().is_some_and(|t| t.contains("BEGIN")))
    );
    let leaving = ask(&bench, "n1", "POST /v1/node/leave", b"");
    assert_eq!((leaving.status, leaving.json()), (200, json!({"moving": [], "staying": []})));
    let removed: Value = ask(&bench, "n1", "POST /v1/cluster/remove", b"{\"node\":\"n1\"}").json();
    assert_eq!(removed["code"], "rejected", "{removed}");
}
