//! Where agents are looked for: a socket on this machine, or members elsewhere with an operator's certificate.
//!
//! The first of these that is named or there: `--endpoint`, `--socket`, `--client`, PKGCTL_SOCKET, PKGCTL_CLIENT, the
//! socket of this machine, `~/.config/pkgctl/client.toml`. Below another root only that root's socket counts.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{AccessFlags, access};

use super::args::Args;
use super::exit::Failed;
use crate::bounded;
use crate::config::{FILE_LIMIT, PORT_DEFAULT, Places};
use crate::net::identity::{Credentials, IdentityDir, PEM_LIMIT};
use crate::package::Problems;
use crate::package::file::{Keys, Report, Sheet};

const KEYS: &[&str] = &["endpoints", "certificate", "key", "ca"];
const ENDPOINTS: &str = "endpoints = [\"10.0.0.1:7420\", \"10.0.0.2:7420\"]";

/// A way to an agent.
#[derive(Clone, Debug)]
pub enum Way {
    /// This machine's agent.
    Socket(PathBuf),
    /// A member, wherever it is.
    Member {
        /// Its address or host name, with the port.
        at: String,
        /// Who asks.
        credentials: Arc<Credentials>,
    },
}

/// The ways to agents of one cluster, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct Reach {
    /// At least one.
    pub ways: Vec<Way>,
    /// Whether somebody named this very agent, or it is this machine's.
    pub one_named: bool,
}

impl Reach {
    /// Looks where the arguments, the environment and the files say.
    pub fn find(args: &Args, places: &Places) -> Result<Self, Failed> {
        let from_env = |name| std::env::var_os(name).map(PathBuf::from);
        if !args.endpoint.is_empty() {
            let named = args.client.clone().or_else(|| from_env("PKGCTL_CLIENT"));
            let credentials = identity(named, places)?;
            return Ok(Self::members(&args.endpoint, &credentials));
        }
        if let Some(socket) = &args.socket {
            return Ok(Self::socket(socket.clone()));
        }
        if let Some(file) = &args.client {
            return Self::file(file);
        }
        if let Some(socket) = from_env("PKGCTL_SOCKET") {
            return Ok(Self::socket(socket));
        }
        if let Some(file) = from_env("PKGCTL_CLIENT") {
            return Self::file(&file);
        }
        let socket = places.api_socket();
        let usable = access(&socket, AccessFlags::W_OK).is_ok();
        match client_file().filter(|file| file.exists() && args.root.is_none() && !usable) {
            Some(file) => Self::file(&file),
            None => Ok(Self::socket(socket)),
        }
    }

    fn socket(path: PathBuf) -> Self {
        Self { ways: vec![Way::Socket(path)], one_named: true }
    }

    fn members(endpoints: &[String], credentials: &Arc<Credentials>) -> Self {
        let way = |at: &String| Way::Member { at: at.clone(), credentials: credentials.clone() };
        Self { ways: endpoints.iter().map(way).collect(), one_named: endpoints.len() == 1 }
    }

    fn file(path: &Path) -> Result<Self, Failed> {
        let file = ClientFile::read(path)?;
        let credentials = Arc::new(file.credentials()?);
        Ok(Self { one_named: false, ..Self::members(&file.endpoints, &credentials) })
    }
}

/// With which certificate members named by hand are called: a client's, or on a member its own.
fn identity(named: Option<PathBuf>, places: &Places) -> Result<Arc<Credentials>, Failed> {
    let usual = || client_file().filter(|file| file.exists());
    if let Some(file) = named.or_else(usual) {
        return Ok(Arc::new(ClientFile::read(&file)?.credentials()?));
    }
    let dir = places.state_dir().join("identity");
    let none = || {
        let usual = client_file().map_or_else(|| "client.toml".to_owned(), |file| file.display().to_string());
        Failed::usage(format!(
            "--endpoint needs a certificate, and there is no {usual}: `pkgctl cluster client NAME` on a member makes one \
             with all that belongs to it; --client names the file where it lies elsewhere"
        ))
    };
    if !dir.is_dir() {
        return Err(none());
    }
    let own = IdentityDir::open(dir).and_then(|identity| identity.load());
    own.map_err(|e| Failed::usage(e.to_string()))?.map(Arc::new).ok_or_else(none)
}

/// `$XDG_CONFIG_HOME/pkgctl`, or below `~/.config`: what is this user's of pkgctl.
pub fn config_dir() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(config.join("pkgctl"))
}

/// The client's configuration in it.
fn client_file() -> Option<PathBuf> {
    config_dir().map(|dir| dir.join("client.toml"))
}

/// `client.toml`: where members answer, and with what a client proves itself. Names of files count from its directory.
#[derive(Debug, PartialEq, Eq)]
struct ClientFile {
    endpoints: Vec<String>,
    certificate: PathBuf,
    key: PathBuf,
    ca: PathBuf,
}

impl ClientFile {
    fn read(path: &Path) -> Result<Self, Failed> {
        let name = path.display().to_string();
        let text =
            bounded::read_text(path, FILE_LIMIT).map_err(|e| Failed::usage(format!("cannot read {name}: {e}")))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        Self::parse(&name, &text, dir).map_err(|problems| Failed::usage(problems.to_string()))
    }

    fn parse(name: &str, text: &str, dir: &Path) -> Result<Self, Problems> {
        let sheet = Sheet::read(name, text)?;
        let table = sheet.table();
        let mut report = Report::default();
        let keys = Keys::new(table.get_ref(), 0..0, "the client's configuration");
        keys.check(KEYS, |_| None, &mut report);
        let mut endpoints = Vec::new();
        let given = keys
            .need("endpoints", ENDPOINTS, &mut report)
            .and_then(|_| keys.texts("endpoints", ENDPOINTS, &mut report));
        if let Some(given) = given {
            for one in given.get_ref() {
                match endpoint(one.get_ref()) {
                    Ok(endpoint) => endpoints.push(endpoint),
                    Err(why) => report.add(one.span(), why, format!("write {ENDPOINTS}")),
                }
            }
            if given.get_ref().is_empty() {
                report.add(given.span(), "'endpoints' names no member", format!("write {ENDPOINTS}"));
            }
        }
        let mut path = |key: &str, example: &str| {
            let line = format!("{key} = \"{example}\"");
            keys.need_text(key, &line, &mut report).map(|given| dir.join(given.get_ref())).unwrap_or_default()
        };
        let (certificate, key, ca) =
            (path("certificate", "client.crt"), path("key", "client.key"), path("ca", "ca.crt"));
        report.finish(&sheet).map_or(Ok(Self { endpoints, certificate, key, ca }), Err)
    }

    fn credentials(&self) -> Result<Credentials, Failed> {
        let read = |path: &Path| {
            let shown = path.display();
            bounded::read_text(path, PEM_LIMIT).map_err(|e| Failed::usage(format!("cannot read {shown}: {e}")))
        };
        let (key, shown) = (read(&self.key)?, self.key.display());
        let mode = fs::metadata(&self.key).map(|found| (found.permissions().mode(), found.uid()));
        let (mode, _) = mode.map_err(|e| Failed::usage(format!("cannot look at {shown}: {e}")))?;
        if mode & 0o077 != 0 {
            return Err(Failed::usage(format!(
                "{shown} has mode {:04o}, so that others can read the key; nothing was sent. `chmod 0600 {shown}`; if \
                 somebody may have read it, `pkgctl cluster revoke` its owner",
                mode & 0o7777
            )));
        }
        let parsed = Credentials::parse(&read(&self.certificate)?, &key, &read(&self.ca)?);
        parsed.map_err(|e| Failed::usage(e.to_string()))
    }
}

/// An address or a host name, with a port or the default one, as it is connected to.
///
/// # Errors
/// The sentence that says what to write instead.
pub fn endpoint(given: &str) -> Result<String, String> {
    if let Ok(address) = given.parse::<SocketAddr>() {
        return Ok(address.to_string());
    }
    let bare = given.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(given);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, PORT_DEFAULT).to_string());
    }
    let (host, port) = given.split_once(':').unwrap_or((given, ""));
    let port = if port.is_empty() && !given.ends_with(':') { Ok(PORT_DEFAULT) } else { port.parse::<u16>() };
    let host_ok =
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    match port {
        Ok(port) if host_ok && port > 0 => Ok(format!("{host}:{port}")),
        _ => Err(format!("'{}' is no address of a member: write HOST or HOST:PORT", given.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "endpoints = [\"n1\", \"10.0.0.2:99\"]\ncertificate = \"client.crt\"\nkey = \"/k/client.key\"\nca = \"ca.crt\"\n";

    #[test]
    fn files_count_from_the_configurations_directory_and_ports_have_a_default() {
        let file = ClientFile::parse("client.toml", GOOD, Path::new("/home/a")).unwrap();
        assert_eq!(file.endpoints, ["n1:7420", "10.0.0.2:99"]);
        assert_eq!(file.certificate, Path::new("/home/a/client.crt"));
        assert_eq!(file.key, Path::new("/k/client.key"));
    }

    #[test]
    fn every_problem_of_the_file_is_told_at_once() {
        let bad = "endpoints = [\"a b\"]\nport = 1\nkey = 7\nca = \"ca.crt\"\n";
        let problems = ClientFile::parse("client.toml", bad, Path::new("/")).unwrap_err();
        assert_eq!(problems.count(), 4, "{problems}");
        for words in
            ["'a b' is no address of a member", "has no key", "'key' must be text", "certificate = \"client.crt\""]
        {
            assert!(problems.to_string().contains(words), "'{words}' is not in\n{problems}");
        }
    }

    #[test]
    fn endpoints_are_read_as_people_write_them() {
        for (given, read) in [
            ("n1", "n1:7420"),
            ("n1.example.org:1", "n1.example.org:1"),
            ("10.0.0.1", "10.0.0.1:7420"),
            ("fd00::1", "[fd00::1]:7420"),
            ("[fd00::1]", "[fd00::1]:7420"),
            ("[fd00::1]:8", "[fd00::1]:8"),
        ] {
            assert_eq!(endpoint(given).as_deref(), Ok(read));
        }
        for given in ["", "n1:", "n1:0", "n1:x", "https://n1", "a/b", "n1:7:8"] {
            assert!(endpoint(given).is_err(), "{given}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("client.key");
        fs::write(&key, "x").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let file = ClientFile::parse("client.toml", GOOD, dir.path()).unwrap();
        let refused = ClientFile { key, ..file }.credentials().unwrap_err();
        assert!(refused.message.contains("chmod 0600"), "{}", refused.message);
    }
}
