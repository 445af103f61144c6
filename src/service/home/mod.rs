//! A node that lives in a directory: all its files below it, its agent and keeper run by one process, without systemd.
//!
//! - `settle`: what the node is, from its file, the command line, or answers on a terminal.
//! - `serve`: the process that runs agent and keeper. `enter`: how the node comes into a cluster.
//! - `boot`: `first-boot`, `start` and `stop`, as lite-raft's users type them. `seed`: their directory's `conf/`.
//! - `server`: who serves a directory, and how it is told to end.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::bounded;
use crate::cli::exit::Failed;
use crate::config::{Config, FILE_LIMIT, Places, REMOVAL_FILE};
use crate::host::own_files;
use crate::net::introduction::SharedSecret;
use crate::package::NodeName;

mod boot;
mod enter;
mod seed;
mod serve;
mod server;
mod settle;

pub use boot::{first_boot, start, stop};
pub use serve::run;

/// The file in the directory's identity that only a member has.
const CERTIFICATE: &str = "identity/node.crt";

/// The directory.
#[derive(Clone, Debug)]
struct Home {
    dir: PathBuf,
    places: Places,
}

/// What a node is, as its file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    name: NodeName,
    listen: SocketAddr,
    http: Option<SocketAddr>,
    snapshot_period: Option<u32>,
}

impl Home {
    /// The directory, made if there is none.
    fn open(dir: &Path) -> Result<Self, Failed> {
        let bad = |e: std::io::Error| Failed::usage(format!("cannot use the directory {}: {e}", dir.display()));
        std::fs::create_dir_all(dir).map_err(bad)?;
        let dir = dir.canonicalize().map_err(bad)?;
        let places = Places::under(Some(&dir));
        Ok(Self { dir, places })
    }

    /// What its file says; none where there is no file yet.
    fn config(&self) -> Result<Option<Config>, Failed> {
        let path = self.places.config_file();
        let shown = path.display().to_string();
        match bounded::read_text(&path, FILE_LIMIT) {
            Ok(text) => Config::parse(&shown, &text).map(Some).map_err(|bad| Failed::usage(bad.to_string())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Failed::usage(format!("cannot read {shown}: {e}"))),
        }
    }

    /// Whether the node here is, or was, in a cluster: its state says where it belongs, and nothing is to be asked.
    fn has_state(&self) -> bool {
        let state = self.places.state_dir();
        state.join(CERTIFICATE).exists() || state.join("node.json").exists() || state.join(REMOVAL_FILE).exists()
    }

    /// Where the process that serves the directory writes.
    fn log(&self) -> PathBuf {
        self.places.log_dir().join("agent.log")
    }

    /// Makes the directories that the node keeps things in, and its file.
    fn write(&self, node: &Node) -> Result<(), Failed> {
        let path = self.places.config_file();
        let bad = |e: std::io::Error| Failed::usage(format!("cannot write {}: {e}", path.display()));
        let dirs = [path.parent().unwrap_or(&self.dir).to_owned(), self.places.run_dir(), self.places.log_dir()];
        for dir in dirs {
            own_files::dir(&dir, 0o755)
                .map_err(|e| Failed::usage(format!("cannot use the directory {}: {e}", dir.display())))?;
        }
        if path.exists() { Ok(()) } else { std::fs::write(&path, node.file()).map_err(bad) }
    }

    /// The secret for a join: the directory's own, or a copy of the user's. None where there is neither.
    fn secret(&self) -> Result<Option<SharedSecret>, Failed> {
        if let Some(own) = SharedSecret::read(&self.places.secret_file())? {
            return Ok(Some(own));
        }
        let Some(users) = users_secret() else { return Ok(None) };
        let Some(secret) = SharedSecret::read(&users)? else { return Ok(None) };
        secret.keep(&self.places.secret_file())?;
        Ok(Some(secret))
    }

    /// The same; where there is none, one is made for this user, so that the user's other directories find it.
    fn secret_or_new(&self) -> Result<SharedSecret, Failed> {
        if let Some(secret) = self.secret()? {
            return Ok(secret);
        }
        let made = SharedSecret::make(&self.places.secret_file())?;
        if let Some(users) = users_secret() {
            made.keep(&users)?;
        }
        Ok(made)
    }
}

/// `$XDG_CONFIG_HOME/pkgctl/secret`, or below `~/.config`: what all directories of one user share.
fn users_secret() -> Option<PathBuf> {
    crate::cli::reach::config_dir().map(|dir| dir.join("secret"))
}

impl Node {
    /// The file that makes the node this.
    fn file(&self) -> String {
        let mut text = "# What this directory's node is; conf/agent.toml of pkgctl explains every key.\n".to_owned();
        // Writing to a string does not fail.
        let _ = writeln!(text, "name = \"{}\"\nlisten = \"{}\"", self.name, self.listen);
        let _ = self.http.iter().try_for_each(|http| writeln!(text, "http_listen = \"{http}\""));
        let _ = self.snapshot_period.iter().try_for_each(|period| writeln!(text, "snapshot_period = {period}"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_an_agent_reads() {
        let node = Node {
            name: NodeName::new("n1").unwrap(),
            listen: "10.0.0.1:7420".parse().unwrap(),
            http: Some("10.0.0.1:8091".parse().unwrap()),
            snapshot_period: Some(5000),
        };
        let read = Config::parse("agent.toml", &node.file()).unwrap();
        assert_eq!(
            (read.name.as_ref(), read.listen, read.http_listen),
            (Some(&node.name), Some(node.listen), node.http)
        );
        assert_eq!(read.snapshot_period, 5000);
    }

    #[test]
    fn a_directory_has_state_once_its_node_was_in_a_cluster_and_keeps_the_file_that_it_has() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(&dir.path().join("new")).unwrap();
        assert!(!home.has_state() && home.config().unwrap().is_none());
        let node = |name: &str| Node {
            name: NodeName::new(name).unwrap(),
            listen: "127.0.0.1:7420".parse().unwrap(),
            http: None,
            snapshot_period: None,
        };
        home.write(&node("a")).unwrap();
        home.write(&node("b")).unwrap();
        assert_eq!(home.config().unwrap().unwrap().name, Some(NodeName::new("a").unwrap()));
        std::fs::create_dir_all(home.places.state_dir()).unwrap();
        std::fs::write(home.places.state_dir().join(REMOVAL_FILE), "{}").unwrap();
        assert!(home.has_state());
    }
}
