//! Planner scenarios as text files an operator can read: tests/plan/*.txt.
//!
//! A scenario describes a state and what the leader sees, then `plan` and the decisions expected. To write down what
//! the planner says now: `PKGCTL_REWRITE=1 cargo test --test plan`, then read the difference before committing it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use pkgctl::engine::event::Timeline;
use pkgctl::engine::fallback::{Fallback, Former, Word};
use pkgctl::engine::fence::{Awaiting, FenceAction, FenceDevice, TIMEOUT_DEFAULT};
use pkgctl::engine::planner::{Agreement, Observations, plan};
use pkgctl::engine::state::{
    Cluster, DatagramKey, Desired, Eligibility, Node, Ownership, PackageEntry, Session, State, VoterLife,
};
use pkgctl::engine::{ClusterId, Incarnation, LogIndex, NodeId, Nonce, Profile, SessionId, SetId, Token, WallMillis};
use pkgctl::package::{FilesystemResource, Kind, Millis, NodeName, Package, PackageName, Resource, ResourceName};

#[derive(Default)]
struct Scenario {
    state: State,
    seen: Observations,
}

impl Scenario {
    fn new() -> Self {
        let cluster = Cluster {
            id: ClusterId(1),
            name: "test".into(),
            profile: Profile::Default,
            ca_certificate: String::new(),
            ca_key: String::new(),
            datagram_keys: BTreeMap::new(),
        };
        Self { state: State { cluster: Some(cluster), ..State::default() }, seen: Observations::default() }
    }

    fn id(&self, name: &str) -> NodeId {
        let found = self.state.nodes.iter().find(|(_, n)| n.name.as_str() == name);
        *found.unwrap_or_else(|| panic!("no node line for '{name}'")).0
    }

    fn ids<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> BTreeSet<NodeId> {
        names.into_iter().map(|n| self.id(n)).collect()
    }

    fn session_of(&self, node: NodeId) -> SessionId {
        let found = self.state.sessions.iter().find(|(_, s)| s.node == node);
        *found.unwrap_or_else(|| panic!("node {node} has no session")).0
    }

    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["node", name, "id", id, rest @ ..] => self.node(name, id.parse().unwrap(), rest),
            ["voters", names @ ..] => self.state.raft_voters = self.ids(names.iter().copied()),
            ["learners", names @ ..] => self.seen.learners = self.ids(names.iter().copied()),
            ["caught-up", names @ ..] => self.seen.caught_up = self.ids(names.iter().copied()),
            ["deaf"] => self.seen.deaf = true,
            ["raft-is-changing"] => self.seen.raft_changing = true,
            ["raft-was-left-half-changed"] => {
                self.seen.raft_changing = true;
                self.seen.raft_half_changed = true;
            }
            ["set", id, names @ ..] => {
                let members = self.ids(names.iter().copied());
                self.state.lease_sets.insert(SetId(id.parse().unwrap()), members);
            }
            ["leaving", names @ ..] => self.state.leaving = self.ids(names.iter().copied()),
            ["retired", id] => drop(self.state.lease_sets.remove(&SetId(id.parse().unwrap()))),
            ["retirable", id] => self.seen.retirable = Some(SetId(id.parse().unwrap())),
            ["ready", names @ ..] => self.seen.ready = self.ids(names.iter().copied()),
            ["reaches", host, names @ ..] => {
                let (host, names) = (self.id(host), self.ids(names.iter().copied()));
                self.seen.reach.insert(host, names);
            }
            ["silent", name] => {
                let session = self.session_of(self.id(name));
                self.seen.silent.insert(session);
            }
            ["agreed", name, "by", voters @ ..] => self.agreed(name, voters),
            ["wall", ms] => self.seen.wall = WallMillis(ms.parse().unwrap()),
            ["package", name, desired, "on", nodes @ ..] => self.package(name, desired, nodes),
            ["owner", package, name, "token", token] => self.owner(package, name, token.parse().unwrap()),
            ["former", name, "id", id, rest @ ..] => self.former(name, id.parse().unwrap(), rest == ["off"]),
            ["nobody-else-is-on"] => {
                let word = Word { at: WallMillis(0), how: "said".into() };
                self.state.fallback.as_mut().expect("no former line").unlisted = Some(word);
            }
            ["me", name] => self.seen.me = Some(self.id(name)),
            ["fence-device", name, action] => self.fence_device(name, action),
            ["unenforced", package] => {
                let resource = Resource {
                    name: ResourceName::new("filesystem").unwrap(),
                    start_timeout: Millis(0),
                    stop_timeout: Millis(0),
                    kind: Kind::Filesystem(FilesystemResource {
                        device: "/dev/sdz".into(),
                        mount: "/srv/z".into(),
                        filesystem: "ext4".into(),
                        options: vec![],
                        fsck: false,
                        unfenced: true,
                    }),
                };
                self.entry(package).definition.resources.push(resource);
            }
            ["waits", package, "for", name, "session", session] => {
                let node = self.id(name);
                let awaiting = Awaiting { node, session: SessionId(session.parse().unwrap()), since: WallMillis(0) };
                self.state.awaiting.insert(PackageName::new(*package).unwrap(), awaiting);
            }
            ["fencing", name, "begun", index, "at", ms, rest @ ..] => self.fencing(name, index, ms, rest),
            ["ordered", name, action] => {
                let node = self.id(name);
                self.state.fencing.entry(node).or_default().ordered = Some(fence_action(action));
            }
            ["this-leader-fences", name] => {
                let node = self.id(name);
                self.seen.fencing.insert(node);
            }
            ["session", name, id] => {
                let node = self.id(name);
                let session = Session { node, nonce: Nonce(node.0), ttl: Profile::Default.ttl() };
                self.state.sessions.insert(SessionId(id.parse().unwrap()), session);
            }
            [word, rest @ ..] if word.starts_with("key") || *word == "has-keys" => self.keys(word, rest),
            ["out", package, name, why @ ..] => self.out(package, name, why),
            _ => panic!("not a scenario line: {line}"),
        }
    }

    fn former(&mut self, name: &str, id: u64, off: bool) {
        let fallback = self.state.fallback.get_or_insert_with(|| Fallback {
            from: ClusterId(9),
            begun: LogIndex(1),
            since: WallMillis(0),
            by: "root@n1".into(),
            formers: BTreeMap::new(),
            unlisted: None,
        });
        let off = off.then(|| Word { at: WallMillis(0), how: "said".into() });
        let (name, address) = (NodeName::new(name).unwrap(), format!("10.0.0.{id}:7420").parse().unwrap());
        fallback.formers.insert(NodeId(id), Former { name, address, off });
    }

    fn node(&mut self, name: &str, id: u64, rest: &[&str]) {
        let node = Node {
            name: NodeName::new(name).unwrap(),
            address: format!("10.0.0.{id}:7420").parse().unwrap(),
            links: vec![],
            request: Nonce(id),
        };
        self.state.nodes.insert(NodeId(id), node);
        if let Some(at) = rest.iter().position(|w| *w == "session") {
            let session = Session { node: NodeId(id), nonce: Nonce(id), ttl: Profile::Default.ttl() };
            self.state.sessions.insert(SessionId(rest[at + 1].parse().unwrap()), session);
        }
        if rest.contains(&"up") {
            let life = VoterLife { nonce: Nonce(id), incarnation: Incarnation(id + 100) };
            self.state.voter_lives.insert(NodeId(id), life);
        }
    }

    fn agreed(&mut self, name: &str, voters: &[&str]) {
        let agreed = voters.iter().map(|v| self.id(v)).map(|v| (v, Incarnation(v.0 + 100))).collect();
        let session = self.session_of(self.id(name));
        self.seen.agreed.insert(session, Agreement { agreed, timeline: Timeline::default() });
    }

    fn package(&mut self, name: &str, desired: &str, nodes: &[&str]) {
        let nodes: Vec<NodeName> = nodes.iter().map(|n| NodeName::new(*n).unwrap()).collect();
        let entry = PackageEntry {
            eligibility: nodes.iter().map(|n| (n.clone(), Eligibility::Eligible)).collect(),
            definition: Package {
                name: PackageName::new(name).unwrap(),
                description: String::new(),
                nodes,
                resources: vec![],
            },
            revision: LogIndex(1),
            desired: if desired == "running" { Desired::Running } else { Desired::Halted },
            last_token: Token(0),
            owner: None,
            report: None,
            halted: None,
            unowned: None,
        };
        self.state.packages.insert(PackageName::new(name).unwrap(), entry);
    }

    fn keys(&mut self, word: &str, rest: &[&str]) {
        let number = |at: usize| rest[at].parse::<u32>().unwrap();
        let named = self.ids(rest.iter().copied().filter(|_| word == "has-keys"));
        let State { cluster: Some(cluster), rotation, .. } = &mut self.state else { panic!("no cluster") };
        let keys = &mut cluster.datagram_keys;
        match word {
            "key" => drop(keys.insert(number(0), DatagramKey([0; 32]))),
            "key-wanted" => rotation.wanted = Some(rest.join(" ")),
            "key-coming" => {
                keys.insert(number(0), DatagramKey([0; 32]));
                (rotation.coming, rotation.wanted) = (Some(number(0)), None);
            }
            "key-used" => rotation.coming = None,
            "key-dropped" => drop(keys.remove(&number(0))),
            _ => rotation.confirmed = named.into_iter().map(|node| (node, Nonce(node.0))).collect(),
        }
    }

    fn fence_device(&mut self, name: &str, action: &str) {
        let device = FenceDevice {
            agent: "/usr/sbin/fence_x".into(),
            options: BTreeMap::new(),
            action: fence_action(action),
            timeout: TIMEOUT_DEFAULT,
            delay: Millis(0),
        };
        let node = self.id(name);
        self.state.fence_devices.insert(node, device);
    }

    fn fencing(&mut self, name: &str, begun: &str, ms: &str, rest: &[&str]) {
        let node = self.id(name);
        let fencing = self.state.fencing.entry(node).or_default();
        fencing.begun = LogIndex(begun.parse().unwrap());
        fencing.since = WallMillis(ms.parse().unwrap());
        fencing.under_way = rest == ["under-way"];
        if let ["failed", times, "because", why @ ..] = rest {
            fencing.failures = times.parse().unwrap();
            fencing.failure = Some(why.join(" "));
        }
    }

    fn entry(&mut self, package: &str) -> &mut PackageEntry {
        self.state.packages.get_mut(&PackageName::new(package).unwrap()).expect("no such package line")
    }

    fn owner(&mut self, package: &str, name: &str, token: u64) {
        let node = self.id(name);
        let session = self.session_of(node);
        let (token, since, why) = (Token(token), WallMillis(0), String::new());
        let entry = self.entry(package);
        entry.last_token = token;
        entry.owner = Some(Ownership { token, session, node, since, why, moving_to: None });
    }

    fn out(&mut self, package: &str, name: &str, why: &[&str]) {
        let eligibility = match why {
            ["withdrawn", by] => Eligibility::Withdrawn { since: WallMillis(0), by: (*by).to_owned() },
            ["failed", "at", at, reason @ ..] => {
                Eligibility::Failed { since: WallMillis(at.parse().unwrap()), reason: reason.join(" ") }
            }
            ["not-run"] => Eligibility::NotRun,
            other => panic!("not a reason to be out: {other:?}"),
        };
        self.entry(package).eligibility.insert(NodeName::new(name).unwrap(), eligibility);
    }
}

fn fence_action(word: &str) -> FenceAction {
    if word == "off" { FenceAction::Off } else { FenceAction::Reboot }
}

fn answer(scenario: &Scenario) -> String {
    let plan = plan(&scenario.state, &scenario.seen);
    let mut text = String::new();
    for decision in &plan.decisions {
        writeln!(text, "- {}\n  because {}", decision.step, decision.why).unwrap();
    }
    for note in &plan.notes {
        writeln!(text, "! {}: {}", note.package, note.why).unwrap();
    }
    if let Some(waits) = &plan.waits {
        writeln!(text, "~ {}", waits.why).unwrap();
    }
    if text.is_empty() { "nothing\n".to_owned() } else { text }
}

/// The file with every `plan` block replaced by what the planner says.
fn replay(text: &str) -> String {
    let mut scenario = Scenario::new();
    let (mut out, mut skipping) = (String::new(), false);
    for line in text.lines() {
        if line.trim() == "plan" {
            writeln!(out, "plan\n{}", answer(&scenario).trim_end()).unwrap();
            skipping = true;
        } else if line.trim().is_empty() {
            skipping = false;
            out.push('\n');
        } else if !skipping {
            if !line.starts_with('#') {
                scenario.take(line);
            }
            writeln!(out, "{line}").unwrap();
        }
    }
    out
}

#[test]
fn every_scenario_is_decided_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "scenarios are missing: {files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let now = replay(&text);
        if std::env::var_os("PKGCTL_REWRITE").is_some() {
            std::fs::write(&file, &now).unwrap();
        } else {
            assert_eq!(text, now, "{}", file.display());
        }
    }
}
