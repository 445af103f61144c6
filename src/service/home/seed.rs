//! lite-raft's `conf/`: the nodes of the cluster, the election timeout, the snapshot period. All problems at once.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use super::settle::is_own;
use crate::bounded;
use crate::cli::args::ProfileArg;
use crate::cli::exit::Failed;
use crate::config::{FILE_LIMIT, PORT_DEFAULT, SNAPSHOT_PERIOD};
use crate::package::NodeName;

/// What lite-raft's author takes, in seconds; below the last one he would not go in production.
const ELECTION_S: std::ops::RangeInclusive<u32> = 1..=60;
const ELECTION_PRODUCTION_S: u32 = 10;

/// What `conf/` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seed {
    /// In the order of the file.
    pub(super) nodes: Vec<NodeName>,
    pub(super) profile: ProfileArg,
    pub(super) snapshot_period: Option<u32>,
    /// What is worth saying.
    pub(super) remarks: Vec<String>,
}

impl Seed {
    /// Who makes the cluster: the first by name, so that nodes whose files differ in order do not all think it is them.
    pub(super) fn founder(&self) -> &NodeName {
        self.nodes.iter().min().unwrap_or(&self.nodes[0])
    }
}

/// Reads the directory's `conf/`.
pub(super) fn read(dir: &Path) -> Result<Seed, Failed> {
    let conf = dir.join("conf");
    let text = |name: &str| bounded::read_text(&conf.join(name), FILE_LIMIT);
    let list = text("cluster_nodes").map_err(|e| {
        Failed::usage(format!(
            "cannot read {}: {e}. It holds the names of the cluster's nodes with blanks between them; nothing was done",
            conf.join("cluster_nodes").display()
        ))
    })?;
    parse(&list, text("election_timeout").ok().as_deref(), text("snapshot_period").ok().as_deref())
        .map_err(|problems| Failed::usage(format!("{}; nothing was done", problems.join("\n"))))
}

fn parse(list: &str, election: Option<&str>, snapshots: Option<&str>) -> Result<Seed, Vec<String>> {
    let (mut nodes, mut problems, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for word in list.lines().map(|line| line.split('#').next().unwrap_or("")).flat_map(str::split_whitespace) {
        match NodeName::new(word) {
            Ok(_) if !seen.insert(word) => problems.push(format!("conf/cluster_nodes: {word} is there twice")),
            Ok(name) => nodes.push(name),
            Err(e) => problems.push(format!("conf/cluster_nodes: {e}")),
        }
    }
    if nodes.is_empty() && problems.is_empty() {
        problems.push("conf/cluster_nodes names no node".to_owned());
    }
    let mut number = |name: &str, text: Option<&str>, range: std::ops::RangeInclusive<u32>| {
        let given = text.map(str::trim).filter(|text| !text.is_empty())?;
        let read = given.parse::<u32>().ok().filter(|number| range.contains(number));
        if read.is_none() {
            let (least, most) = (range.start(), range.end());
            problems.push(format!("conf/{name}: '{}' is no number from {least} to {most}", given.escape_debug()));
        }
        read
    };
    let election = number("election_timeout", election, ELECTION_S);
    let snapshot_period = number("snapshot_period", snapshots, SNAPSHOT_PERIOD);
    if !problems.is_empty() {
        return Err(problems);
    }
    let (profile, remarks) = timing(election);
    Ok(Seed { nodes, profile, snapshot_period, remarks })
}

/// Timeouts come as profiles here, whose intervals fit each other; both are shorter than what lite-raft's users set, because
/// its elections wait for seconds without need.
fn timing(election: Option<u32>) -> (ProfileArg, Vec<String>) {
    let Some(seconds) = election else { return (ProfileArg::Default, Vec::new()) };
    if seconds >= ELECTION_PRODUCTION_S {
        let text = format!("election_timeout {seconds}: profile wan, elections after 1 to 2 s, leases of 10 s");
        return (ProfileArg::Wan, vec![text]);
    }
    let text = format!("election_timeout {seconds}: profile default, elections after 150 to 300 ms, leases of 1.5 s");
    let advice = format!(
        "under {ELECTION_PRODUCTION_S} s lite-raft's author would not go in production: nodes that stall for longer than a \
         second are better off with {ELECTION_PRODUCTION_S} (profile wan)"
    );
    (ProfileArg::Default, vec![text, advice])
}

/// Which of them this machine is: by the host's name, or else by an address that it has.
pub(super) fn own<'a>(nodes: &'a [NodeName], host: &str) -> Result<(&'a NodeName, SocketAddr), Failed> {
    let named = nodes.iter().find(|node| node.as_str() == host || short(node.as_str()) == short(host));
    let name = match named {
        Some(name) => name,
        None => nodes.iter().find(|node| address(node).is_ok_and(reaches_here)).ok_or_else(|| {
            let all: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
            Failed::usage(format!(
                "this machine, {host}, is none of the nodes in conf/cluster_nodes ({}); nothing was done",
                all.join(" ")
            ))
        })?,
    };
    let address = address(name).map_err(|e| {
        Failed::usage(format!(
            "the address of {name} is not known here ({e}): name it in DNS or /etc/hosts; nothing was done"
        ))
    })?;
    if !is_own(address) {
        let text = format!("{name} is {} here, which is no address of this machine; nothing was done", address.ip());
        return Err(Failed::usage(text));
    }
    if address.ip().is_loopback() && nodes.len() > 1 {
        return Err(Failed::usage(format!(
            "{name} is {} here, where the other nodes cannot reach it: name its real address in /etc/hosts; nothing was done",
            address.ip()
        )));
    }
    Ok((name, address))
}

fn short(host: &str) -> &str {
    // An address has no short form.
    if host.parse::<std::net::IpAddr>().is_ok() { host } else { host.split('.').next().unwrap_or(host) }
}

fn reaches_here(address: SocketAddr) -> bool {
    !address.ip().is_loopback() && is_own(address)
}

/// Where a node answers: the older family first, as nodes listen.
fn address(node: &NodeName) -> std::io::Result<SocketAddr> {
    let mut all: Vec<SocketAddr> = (node.as_str(), PORT_DEFAULT).to_socket_addrs()?.collect();
    all.sort_by_key(SocketAddr::is_ipv6);
    all.into_iter().next().ok_or_else(|| std::io::Error::other("it has none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_is_read_as_lite_raft_writes_it() {
        let seed = parse("node1 node2\n node3 # the last\n", Some("10\n"), Some("5000\n")).unwrap();
        assert_eq!(seed.nodes.iter().map(NodeName::as_str).collect::<Vec<_>>(), ["node1", "node2", "node3"]);
        assert_eq!((seed.profile, seed.snapshot_period), (ProfileArg::Wan, Some(5000)));
        let seed = parse("node1", Some("3"), None).unwrap();
        assert_eq!(seed.profile, ProfileArg::Default);
        assert!(seed.remarks[1].contains("in production"), "{:?}", seed.remarks);
        assert!(parse("node1", None, Some("")).unwrap().remarks.is_empty());
    }

    #[test]
    fn nodes_whose_files_differ_in_order_agree_on_who_makes_the_cluster() {
        for list in ["node1 node2 node3", "node3 node2 node1", "node2 node3 node1"] {
            assert_eq!(parse(list, None, None).unwrap().founder().as_str(), "node1");
        }
    }

    #[test]
    fn every_problem_of_conf_is_told_at_once() {
        let problems = parse("n1 n1 a/b", Some("soon"), Some("5")).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(parse("# nobody\n", None, None).unwrap_err()[0].contains("names no node"));
    }

    #[test]
    fn a_machine_finds_itself_by_its_name_or_says_that_it_is_not_there() {
        let nodes: Vec<NodeName> = ["localhost"].iter().map(|n| NodeName::new(*n).unwrap()).collect();
        assert_eq!(own(&nodes, "localhost").unwrap().1.port(), PORT_DEFAULT);
        let two: Vec<NodeName> = ["localhost", "other"].iter().map(|n| NodeName::new(*n).unwrap()).collect();
        assert!(own(&two, "localhost").unwrap_err().message.contains("cannot reach it"));
        assert!(own(&two, "third.invalid").unwrap_err().message.contains("none of the nodes"));
        assert_eq!((short("n1.example.org"), short("10.0.0.1")), ("n1", "10.0.0.1"));
    }
}
