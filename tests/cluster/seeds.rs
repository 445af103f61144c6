//! Types every line of docs/seeds.md on real nodes, as the page says it: on which nodes, what it answers.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use pkgctl::lab::{CLIENT, Lab, LabSpec, wait_until};

use super::bench::{PATIENCE, PKGCTL, definition, lab_of};
use super::seed_rows::{Row, Typed, rows};

/// A line that ends, ends within this.
const LINE_WITHIN: Duration = Duration::from_secs(150);
const LINKS: [&str; 6] = ["pkgctl", "lite-raft", "lite-raft-client", "pkg", "raftdb", "raftd"];

/// Nodes on which a document is followed.
struct Desk {
    lab: Lab,
    /// What the page calls a node, and the lab's name of it.
    nodes: Vec<(&'static str, &'static str)>,
    /// Where the next line is typed.
    at: BTreeMap<String, PathBuf>,
    /// Programs that go on, what they print, and where answers go.
    open: Vec<(Child, ChildStdin, PathBuf)>,
}

impl Desk {
    /// Nodes that know each other's names, and these further ones; none where namespaces are refused.
    fn new(nodes: &[(&'static str, &'static str)], names: &[(&str, &str)]) -> Option<Self> {
        let labs: Vec<&str> = nodes.iter().map(|(_, node)| *node).collect();
        let lab = lab_of(LabSpec::new(PKGCTL, &labs))?;
        let bin = lab.scratch().join("go/bin");
        std::fs::create_dir_all(&bin).unwrap();
        LINKS.iter().for_each(|link| std::os::unix::fs::symlink(PKGCTL, bin.join(link)).unwrap());
        let own = labs.iter().map(|node| (*node, *node));
        let line = |(name, node): (&str, &str)| format!("{} {name}\n", lab.address(node));
        let hosts = own.chain(names.iter().copied()).map(line).collect::<String>() + "127.0.0.1 localhost\n";
        let file = lab.scratch().join("hosts");
        std::fs::write(&file, hosts).unwrap();
        let desk = Self { lab, nodes: nodes.to_vec(), at: BTreeMap::new(), open: Vec::new() };
        for node in labs.iter().copied().chain([CLIENT]) {
            std::fs::create_dir_all(desk.home(node)).unwrap();
            let mount = ["mount", "--bind", file.to_str().unwrap(), "/etc/hosts"];
            let mounted = desk.lab.run_in(node, &mount, LINE_WITHIN).unwrap();
            assert!(mounted.success(), "{mounted:?}");
        }
        Some(desk)
    }

    fn home(&self, node: &str) -> PathBuf {
        self.lab.place(node).disk.join("home")
    }

    /// A line as a shell on that node runs it.
    fn shell(&self, node: &str, line: &str) -> Vec<String> {
        let (home, scratch) = (self.home(node), self.lab.scratch().display().to_string());
        let at = self.at.get(node).unwrap_or(&home).display().to_string();
        let head = format!(
            "export HOME='{}' GOPATH='{scratch}/go' PATH='{scratch}/go/bin':$PATH; unset XDG_CONFIG_HOME; cd '{at}' || exit 99; ",
            home.display()
        );
        vec!["sh".to_owned(), "-c".to_owned(), head + line]
    }

    /// Follows one document from its first line to its last; `between` is called before each line.
    fn follow(&mut self, seed: &str, mut between: impl FnMut(&mut Self, &Row)) {
        let rows = rows(seed);
        assert!(rows.len() > 5, "docs/seeds.md has no table for {seed}");
        for row in &rows {
            between(self, row);
            match &row.typed {
                Typed::Nothing => {}
                Typed::Answer => self.answer(row),
                Typed::Once { on } => self.type_on(&self.named(on), row),
                Typed::Stays { on } => {
                    for node in self.named(on) {
                        self.begin(&node, row);
                    }
                }
            }
        }
    }

    /// The lab's names of the nodes that the page means, with what it calls them.
    fn named(&self, on: &str) -> Vec<String> {
        let named = self.nodes.iter().filter(|(called, _)| on == "each" || *called == on);
        let found: Vec<String> = named.map(|(_, node)| (*node).to_owned()).collect();
        if on == CLIENT { vec![CLIENT.to_owned()] } else { found }
    }

    /// X is the node's letter.
    fn line(&self, node: &str, row: &Row) -> String {
        let letter = self.nodes.iter().find(|(_, named)| *named == node).map_or("", |(called, _)| called);
        if letter.len() == 1 { row.line.replace('X', letter) } else { row.line.clone() }
    }

    /// All nodes at once where there are several.
    fn type_on(&mut self, nodes: &[String], row: &Row) {
        assert!(!nodes.is_empty(), "no node for {row:?}");
        if let Some(dir) = row.line.strip_prefix("cd ").filter(|dir| !dir.contains(';')) {
            let dir = dir.replace('~', &self.home(&nodes[0]).display().to_string());
            self.at.insert(nodes[0].clone(), PathBuf::from(dir));
            return;
        }
        std::thread::scope(|scope| {
            for node in nodes {
                let argv = self.shell(node, &self.line(node, row));
                let lab = &self.lab;
                scope.spawn(move || {
                    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
                    let output = lab.run_in(node, &argv, LINE_WITHIN).unwrap();
                    let said = format!("{}{}", output.stdout, output.stderr);
                    let code = output.code.unwrap_or(-1);
                    assert!(
                        code == row.code && said.contains(&row.words),
                        "`{}` on {node}: {code}, not {} with '{}': {said}",
                        row.line,
                        row.code,
                        row.words
                    );
                });
            }
        });
    }

    /// On a terminal of its own, so that it may ask.
    fn begin(&mut self, node: &str, row: &Row) {
        let line = self.line(node, row);
        let printed = self.lab.scratch().join(format!("printed-{}", self.open.len()));
        let file = std::fs::File::create(&printed).unwrap();
        let argv = self.shell(node, &format!("exec script -qefc '{line}' /dev/null"));
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let mut command = self.lab.command_in(node, &argv).unwrap();
        let mut child = command.stdin(Stdio::piped()).stdout(file).stderr(Stdio::null()).spawn().unwrap();
        let answers = child.stdin.take().unwrap();
        self.open.push((child, answers, printed));
        self.printed(row);
    }

    fn answer(&mut self, row: &Row) {
        let (_, answers, _) = self.open.last_mut().expect("a program asks");
        answers.write_all(format!("{}\n", row.line).as_bytes()).unwrap();
        self.printed(row);
    }

    /// Waits until the newest program has printed what the page says.
    fn printed(&self, row: &Row) {
        let (_, _, printed) = self.open.last().expect("a program runs");
        let text = || std::fs::read_to_string(printed).unwrap_or_default();
        let there = wait_until(PATIENCE * 2, || text().contains(&row.words).then_some(()));
        assert!(there.is_some(), "`{}` did not print '{}': {}", row.line, row.words, text());
    }

    fn copy_secret(&self, from: PathBuf, to: &[PathBuf]) {
        for path in to {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::copy(&from, path).unwrap();
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for (child, _, printed) in &mut self.open {
            if std::thread::panicking() {
                eprintln!("==== {}\n{}", printed.display(), std::fs::read_to_string(&*printed).unwrap_or_default());
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        for (_, node) in self.nodes.iter().filter(|_| std::thread::panicking()) {
            let log = self.home(node).join("lite-raft/var/log/pkgctl/agent.log");
            eprintln!("==== {node}\n{}", std::fs::read_to_string(log).unwrap_or_default());
        }
    }
}

/// A line of no document.
fn row(line: &str, code: i32, words: &str) -> Row {
    Row { line: line.to_owned(), typed: Typed::Nothing, code, words: words.to_owned() }
}

#[lab]
fn jsimpledbs_document_can_be_followed_line_by_line() {
    let nodes = [("A", "hosta"), ("B", "hostb"), ("C", "hostc")];
    let names = [("A.A.A.A", "hosta"), ("B.B.B.B", "hostb"), ("C.C.C.C", "hostc")];
    let Some(mut desk) = Desk::new(&nodes, &names) else { return };
    desk.follow("JSimpleDB's Raft key/value store", |desk, row| {
        if row.line.contains("raft-add nodeB") {
            let file = |node, letter| desk.home(node).join(format!(".raft{letter}/etc/pkgctl/secret"));
            desk.copy_secret(file("hosta", "A"), &[file("hostb", "B"), file("hostc", "C")]);
        }
    });
}

#[lab]
fn raftds_document_can_be_followed_line_by_line_and_its_nodes_restart_from_their_directories() {
    let Some(mut desk) = Desk::new(&[("A", "localhost1")], &[]) else { return };
    desk.follow("raftd", |_, _| {});
    // The second node ends, and starts again without a question.
    let home = desk.home("localhost1");
    desk.at.insert("localhost1".to_owned(), home.join("raftd.2"));
    let here = desk.named("A");
    desk.type_on(&here, &row("raftd", 4, "served already"));
    desk.type_on(&here, &row("pkgctl --root . node stop", 0, "stopped"));
    desk.begin("localhost1", &row("raftd", 0, "node localhost-4002"));
    desk.type_on(
        &here,
        &row("for i in $(seq 100); do curl -sS -L localhost:4002/db/foo && exit; sleep 0.2; done", 0, "bar"),
    );
    // Where nobody can be asked the options are named.
    desk.at.insert("localhost1".to_owned(), home.clone());
    desk.type_on(&here, &row("mkdir raftd.3; cd raftd.3; raftd", 2, "--raft-addr"));
}

#[lab]
fn raftdbs_document_can_be_followed_line_by_line() {
    let nodes = [("01", "raft-cluster-host01"), ("02", "raft-cluster-host02"), ("03", "raft-cluster-host03")];
    let Some(mut desk) = Desk::new(&nodes, &[]) else { return };
    desk.follow("raftdb", |desk, row| {
        if row.line.contains("-id node02") {
            let file = |node: &str| desk.home(node).join(".config/pkgctl/secret");
            desk.copy_secret(file(nodes[0].1), &[file(nodes[1].1), file(nodes[2].1)]);
        }
    });
}

#[lab]
fn lite_rafts_document_can_be_followed_line_by_line() {
    let nodes = [("1", "node1"), ("2", "node2"), ("3", "node3"), ("4", "node4")];
    let Some(mut desk) = Desk::new(&nodes, &[]) else { return };
    // Its tarball, unpacked: programs, and a file to be configured.
    let first = desk.home("node1").join("lite-raft");
    for dir in ["conf", "pkg"] {
        std::fs::create_dir_all(first.join(dir)).unwrap();
    }
    for link in ["lite-raft", "lite-raft-client", "pkg/pkg"] {
        std::os::unix::fs::symlink(PKGCTL, first.join(link)).unwrap();
    }
    for (_, node) in nodes {
        desk.at.insert(node.to_owned(), desk.home(node).join("lite-raft"));
    }
    std::fs::write(first.join("pkg/testpkg1.toml"), definition(&desk.lab, &["node1", "node3"])).unwrap();
    let mut members = nodes.to_vec();
    members.remove(1);
    desk.follow("lite-raft", |desk, row| {
        if row.line == "./lite-raft first-boot" {
            for node in ["node2", "node3", "node4"] {
                let to = desk.home(node);
                let copied = std::process::Command::new("cp").arg("-a").arg(&first).arg(to).status().unwrap();
                assert!(copied.success());
            }
        }
        // node2 comes later.
        desk.nodes =
            if matches!(&row.typed, Typed::Once { on } if on == "each") { members.clone() } else { nodes.to_vec() };
    });
    let (here, there) = (desk.named("1"), desk.named("2"));
    desk.type_on(&here, &row("./lite-raft first-boot", 0, "has booted before"));
    desk.type_on(&here, &row("./lite-raft start", 0, "it runs already"));
    desk.type_on(&here, &row("pkgctl --root . kv list", 0, "key"));
    // What was removed is told so, and is added again as a new node.
    let told = "for i in $(seq 150); do pkgctl --root . status | grep 'was removed' && exit; sleep 0.2; done; exit 1";
    desk.type_on(&there, &row(told, 0, "was removed"));
    desk.type_on(&here, &row("./lite-raft-client add-member node2", 0, "node2 is a voter"));
    // A copy of a directory that has a life in it does not begin that life again.
    let copied = "cp -a . ../copy && cd ../copy && sed -i s/^listen.*// etc/pkgctl/agent.toml && \
                  echo 'listen = \"10.77.0.250:7420\"' >> etc/pkgctl/agent.toml && pkgctl serve .";
    desk.type_on(&here, &row(copied, 4, "A node must live once"));
}
