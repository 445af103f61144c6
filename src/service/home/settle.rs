//! What a node in a directory is, and how it comes into a cluster: from its file if it has one, from the command line, or
//! from answers on a terminal, as raftd asks.

use std::io::{BufRead, Write};
use std::net::{SocketAddr, ToSocketAddrs};

use super::{Home, Node};
use crate::cli::args::{Like, Serve};
use crate::cli::exit::Failed;
use crate::config::{Config, PORT_DEFAULT};
use crate::package::NodeName;

/// How far raftd's cluster port lies above the one port that its user names, where pkgctl serves HTTP.
const RAFTD_OFFSET: u16 = 1000;
/// raftdb's own defaults.
const RAFTDB_HTTP: &str = "localhost:8091";
const RAFTDB_RAFT: &str = "localhost:8089";

/// How a node that is in no cluster comes into one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is in one, or was: nothing is to be done.
    Settled,
    /// It makes one.
    Init,
    /// It asks these, in turn, to be let in.
    Join(Vec<String>),
    /// It waits for somebody to add it.
    Wait,
}

/// Somebody who may answer questions.
pub(super) trait Asker {
    /// The answer to a question; none where nobody can be asked.
    fn ask(&mut self, question: &str) -> Option<String>;
}

/// The terminal, if both ends are one.
pub(super) struct Terminal;

impl Asker for Terminal {
    fn ask(&mut self, question: &str) -> Option<String> {
        use std::io::IsTerminal;
        if !std::io::stdin().is_terminal() {
            return None;
        }
        // Nobody is kept from answering by an output that is gone.
        let _ = write!(std::io::stdout(), "{question}");
        let _ = std::io::stdout().flush();
        let mut answer = String::new();
        match std::io::stdin().lock().read_line(&mut answer) {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(answer.trim().to_owned()),
        }
    }
}

/// What the node is and how it comes in.
pub(super) fn settle(home: &Home, verb: &Serve, asker: &mut impl Asker) -> Result<(Node, Entry), Failed> {
    let config = home.config()?;
    let node = match &config {
        Some(config) => known(home, config, verb)?,
        None => new(verb, asker)?,
    };
    let entry = if home.has_state() { Entry::Settled } else { entry(verb, asker)? };
    Ok((node, entry))
}

/// The directory's file holds; what the command line says must not say otherwise.
fn known(home: &Home, config: &Config, verb: &Serve) -> Result<Node, Failed> {
    let file = home.places.config_file();
    let file = file.display();
    let other = |what: &str, is: String, given: String| {
        Failed::usage(format!(
            "this directory's node has {what} {is}, by {file}, and not {given}; nothing was started. Leave the option out, \
             or take another directory for another node"
        ))
    };
    let missing = |key: &str| Failed::usage(format!("{file} names no '{key}': write it there; nothing was started"));
    let name = config.name.clone().ok_or_else(|| missing("name"))?;
    let listen = config.listen.ok_or_else(|| missing("listen"))?;
    if let Some(given) = verb.id.as_ref().filter(|given| **given != name) {
        return Err(other("the name", name.to_string(), given.to_string()));
    }
    if let Some(given) = &verb.raft_addr
        && !addresses(given, PORT_DEFAULT)?.contains(&listen)
    {
        return Err(other("the cluster address", listen.to_string(), given.clone()));
    }
    if let Some(given) = &verb.http_addr
        && !config.http_listen.is_some_and(|http| addresses(given, 0).is_ok_and(|all| all.contains(&http)))
    {
        let is = config.http_listen.map_or_else(|| "none".to_owned(), |http| http.to_string());
        return Err(other("the HTTP address", is, given.clone()));
    }
    Ok(Node { name, listen, http: config.http_listen, snapshot_period: None })
}

fn new(verb: &Serve, asker: &mut impl Asker) -> Result<Node, Failed> {
    let (mut http, mut raft, mut id) = (verb.http_addr.clone(), verb.raft_addr.clone(), verb.id.clone());
    match verb.like {
        Some(Like::Raftdb) => {
            http = http.or_else(|| Some(RAFTDB_HTTP.to_owned()));
            raft = raft.or_else(|| Some(RAFTDB_RAFT.to_owned()));
        }
        Some(Like::Raftd) | None => {
            // raftd knows one address, where its clients come; the cluster has a port of its own.
            if raft.is_none() && (http.is_none() || verb.like.is_some()) {
                let named = match http.take() {
                    Some(named) => named,
                    None => asker.ask("Enter host:port> ").ok_or_else(unnamed)?,
                };
                raft = Some(cluster_port_of(&named)?);
                id = match id {
                    None => Some(name_of(&named)?),
                    id => id,
                };
                http = Some(named);
            }
        }
    }
    let raft = raft.ok_or_else(unnamed)?;
    let listen = own(&addresses(&raft, PORT_DEFAULT)?, &raft)?;
    let http = match &http {
        Some(given) => Some(own(&addresses(given, 0)?, given)?),
        None => None,
    };
    if http == Some(listen) {
        return Err(Failed::usage(format!("{listen} cannot be both the cluster's port and the one for HTTP")));
    }
    let name = match id {
        Some(id) => id,
        None => crate::service::host_name().map_err(|e| Failed::usage(format!("{e:#}; or give --id")))?,
    };
    Ok(Node { name, listen, http, snapshot_period: None })
}

fn unnamed() -> Failed {
    Failed::usage(
        "this directory's node has no address yet, and nobody can be asked here: --raft-addr HOST[:PORT] says where other nodes \
         reach it, --http-addr HOST:PORT where plain HTTP is served, --id its name; nothing was started"
            .to_owned(),
    )
}

/// A name for a node that its user knows as host and port.
fn name_of(named: &str) -> Result<NodeName, Failed> {
    NodeName::new(named.replace(['[', ']'], "").replace(':', "-"))
        .map_err(|e| Failed::usage(format!("{e}; --id gives the node another name")))
}

fn cluster_port_of(named: &str) -> Result<String, Failed> {
    let bad = || Failed::usage(format!("'{}' is no host:port: write localhost:4001", named.escape_debug()));
    let (host, port) = named.rsplit_once(':').filter(|(host, _)| !host.is_empty()).ok_or_else(bad)?;
    let port: u16 = port.parse().map_err(|_| bad())?;
    let port = port.checked_add(RAFTD_OFFSET).ok_or_else(|| {
        Failed::usage(format!(
            "the cluster's port would be {RAFTD_OFFSET} above {port}, and there is none: give --raft-addr"
        ))
    })?;
    Ok(format!("{host}:{port}"))
}

/// Every address of a host, with its port; a port alone is of this machine.
fn addresses(given: &str, port_default: u16) -> Result<Vec<SocketAddr>, Failed> {
    let bad = |why: String| Failed::usage(format!("'{}': {why}; nothing was started", given.escape_debug()));
    let whole = match given.strip_prefix(':') {
        Some(port) => format!("127.0.0.1:{port}"),
        None => given.to_owned(),
    };
    let has_port = whole.parse::<SocketAddr>().is_ok()
        || whole.rsplit_once(':').is_some_and(|(host, port)| !host.contains(':') && port.parse::<u16>().is_ok());
    let found = if has_port {
        whole.to_socket_addrs().map(Iterator::collect)
    } else if port_default == 0 {
        return Err(bad("write HOST:PORT".to_owned()));
    } else {
        (whole.trim_matches(['[', ']']), port_default).to_socket_addrs().map(Iterator::collect)
    };
    let mut all: Vec<SocketAddr> = found.map_err(|e| bad(format!("its address is not known ({e})")))?;
    all.sort_by_key(SocketAddr::is_ipv6);
    Ok(all)
}

/// The first that is an address of this machine.
fn own(all: &[SocketAddr], given: &str) -> Result<SocketAddr, Failed> {
    let mine = |address: &&SocketAddr| !address.ip().is_unspecified() && is_own(**address);
    all.iter().find(mine).copied().ok_or_else(|| {
        let all: Vec<String> = all.iter().map(|address| address.ip().to_string()).collect();
        Failed::usage(format!(
            "'{given}' is {} and no address of this machine at which others could reach it; nothing was started",
            all.join(", ")
        ))
    })
}

/// Whether this machine has it: only then can it be bound.
pub(super) fn is_own(address: SocketAddr) -> bool {
    std::net::UdpSocket::bind((address.ip(), 0)).is_ok()
}

fn entry(verb: &Serve, asker: &mut impl Asker) -> Result<Entry, Failed> {
    match (verb.init, verb.wait, &verb.join[..]) {
        (true, ..) => return Ok(Entry::Init),
        (_, true, _) => return Ok(Entry::Wait),
        (_, _, [_, ..]) => return Ok(Entry::Join(verb.join.clone())),
        (false, false, []) if verb.like == Some(Like::Raftdb) => return Ok(Entry::Init),
        (false, false, []) => {}
    }
    let nobody = || {
        Failed::usage(
            "this directory's node is in no cluster, and nobody can be asked here what to do: --init makes one, --join \
             HOST[:PORT] joins one, --wait waits to be added from a member; nothing was started"
                .to_owned(),
        )
    };
    loop {
        match asker.ask("Initialize or join? [ij] ").ok_or_else(nobody)?.as_str() {
            "i" => return Ok(Entry::Init),
            "j" => {
                let server = asker.ask("Server to join: ").ok_or_else(nobody)?;
                return Ok(Entry::Join(vec![server]));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    struct Answers(Vec<&'static str>, Vec<String>);

    impl Asker for Answers {
        fn ask(&mut self, question: &str) -> Option<String> {
            self.1.push(question.to_owned());
            (!self.0.is_empty()).then(|| self.0.remove(0).to_owned())
        }
    }

    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        (dir, home)
    }

    fn verb(words: &str) -> Serve {
        Serve::parse_from(std::iter::once("serve").chain(words.split_whitespace()))
    }

    fn settled(words: &str, answers: &[&'static str]) -> (Result<(Node, Entry), Failed>, Vec<String>) {
        let (_dir, home) = home();
        let mut answers = Answers(answers.to_vec(), Vec::new());
        (settle(&home, &verb(words), &mut answers), answers.1)
    }

    #[test]
    fn raftds_questions_are_asked_in_its_words_and_make_a_node() {
        let (made, asked) = settled("--like raftd", &["localhost:4001", "x", "i"]);
        let (node, entry) = made.unwrap();
        assert_eq!(asked, ["Enter host:port> ", "Initialize or join? [ij] ", "Initialize or join? [ij] "]);
        assert_eq!((node.name.as_str(), entry), ("localhost-4001", Entry::Init));
        assert_eq!(node.http, Some("127.0.0.1:4001".parse().unwrap()));
        assert_eq!(node.listen, "127.0.0.1:5001".parse().unwrap());
        let (made, asked) = settled("--like raftd", &["localhost:4002", "j", "localhost:4001"]);
        assert_eq!(made.unwrap().1, Entry::Join(vec!["localhost:4001".to_owned()]));
        assert_eq!(asked.last().unwrap(), "Server to join: ");
    }

    #[test]
    fn where_nobody_can_be_asked_the_options_are_named() {
        for (words, told) in [
            ("", "--raft-addr"),
            ("--raft-addr localhost:5001", "--init makes one"),
            ("--raft-addr localhost:5001 --http-addr localhost", "write HOST:PORT"),
            ("--raft-addr localhost:5001 --http-addr localhost:5001 --init", "cannot be both"),
            ("--raft-addr 192.0.2.1 --init", "no address of this machine"),
            ("--raft-addr no.such.host.invalid:1 --init", "is not known"),
        ] {
            let refused = settled(words, &[]).0.unwrap_err();
            assert!(refused.message.contains(told) && refused.number() == 2, "{words}: {}", refused.message);
        }
    }

    #[test]
    fn raftdb_has_its_own_defaults_and_makes_a_cluster_unless_it_is_to_join() {
        let (node, entry) = settled("--like raftdb --id node01", &[]).0.unwrap();
        assert_eq!((node.listen.port(), node.http.map(|http| http.port()), entry), (8089, Some(8091), Entry::Init));
        let joins = settled("--like raftdb --id node02 --join localhost:8091", &[]).0.unwrap().1;
        assert_eq!(joins, Entry::Join(vec!["localhost:8091".to_owned()]));
        assert_eq!(settled("--raft-addr 127.0.0.1 --wait", &[]).0.unwrap().0.listen.port(), PORT_DEFAULT);
    }

    #[test]
    fn a_directory_keeps_what_its_node_is_and_asks_nothing_again() {
        let (_dir, home) = home();
        let first = verb("--like raftdb --id node01");
        let (node, _) = settle(&home, &first, &mut Answers(vec![], vec![])).unwrap();
        home.write(&node).unwrap();
        std::fs::create_dir_all(home.places.state_dir()).unwrap();
        std::fs::write(home.places.state_dir().join("node.json"), "{}").unwrap();
        for words in ["", "--like raftdb --id node01 --join localhost:9", "--raft-addr localhost:8089 --init"] {
            let (again, entry) = settle(&home, &verb(words), &mut Answers(vec![], vec![])).unwrap();
            assert_eq!((&again, entry), (&node, Entry::Settled));
        }
        for words in ["--id node02", "--raft-addr localhost:8090", "--http-addr localhost:8092"] {
            let refused = settle(&home, &verb(words), &mut Answers(vec![], vec![])).unwrap_err();
            assert!(refused.message.contains("another directory"), "{}", refused.message);
        }
    }
}
