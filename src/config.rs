//! The agent's configuration and the places of its files: every problem of a bad file at once.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::bounded::Limit;
use crate::package::file::sheet::FILE_MAX_BYTES;
use crate::package::file::suggest::choice;
use crate::package::file::{At, Keys, Report, Sheet};
use crate::package::{Millis, NodeName, PackageName, Problems};

/// How much is read of a file of settings: the agent's, a client's, a package's.
pub const FILE_LIMIT: Limit = Limit { of: "the file", bytes: FILE_MAX_BYTES };
/// The one port: tcp for Raft and API, udp for leases.
pub const PORT_DEFAULT: u16 = 7420;
/// How long the keeper renews without a word from its agent, when the file names nothing.
pub const AGENT_GRACE_DEFAULT: Millis = Millis::from_secs(15);
/// What the agent keeps of its node's removal, in the state directory.
pub const REMOVAL_FILE: &str = "removed.json";
const AGENT_GRACE: RangeInclusive<Millis> = Millis::from_secs(5)..=Millis::from_secs(300);
/// Entries of the log between two snapshots, when the file names nothing.
pub const SNAPSHOT_PERIOD_DEFAULT: u32 = 4000;
/// What may be set: less would make snapshots all the time, of more the log's size makes less (docs/storage.md).
pub const SNAPSHOT_PERIOD: RangeInclusive<u32> = 100..=1_000_000;
/// How long a watchdog bears a keeper that stands still, when the file names nothing and the profile asks for no more.
pub const WATCHDOG_TIMEOUT_DEFAULT: Millis = Millis::from_secs(10);
/// What it may be set to: less would reset healthy machines, more is no watchdog.
pub const WATCHDOG_TIMEOUT: RangeInclusive<Millis> = Millis::from_secs(2)..=Millis::from_secs(600);
const KEYS: &[&str] = &[
    "name",
    "listen",
    "links",
    "http_listen",
    "scheduling",
    "agent_grace",
    "watchdog",
    "watchdog_timeout",
    "snapshot_period",
    "log",
];
const LISTEN: &str = "listen = \"10.0.0.1:7420\"";
const LINKS: &str = "links = [\"10.1.0.1:7420\"]";
const HTTP_LISTEN: &str = "http_listen = \"127.0.0.1:8091\"";
const WATCHDOG: &str = "watchdog = \"/dev/watchdog\"";
const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
const SCHEDULING: &[&str] = &["auto", "fifo", "best-effort"];

/// Whether real-time scheduling is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// SCHED_FIFO where it is granted.
    #[default]
    Auto,
    /// SCHED_FIFO, or the keeper does not start.
    Fifo,
    /// Never.
    BestEffort,
}

impl Scheduling {
    /// The word used in files and on the keeper's command line.
    pub fn word(self) -> &'static str {
        match self {
            Scheduling::Auto => "auto",
            Scheduling::Fifo => "fifo",
            Scheduling::BestEffort => "best-effort",
        }
    }
}

/// The agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node's name; the host name when none is given.
    pub name: Option<NodeName>,
    /// Address and port that other nodes reach this one at.
    pub listen: Option<SocketAddr>,
    /// Further addresses for lease datagrams, one per extra network.
    pub links: Vec<SocketAddr>,
    /// Where plain HTTP is served, if it is.
    pub http_listen: Option<SocketAddr>,
    /// Whether real-time scheduling is used.
    pub scheduling: Scheduling,
    /// How long the keeper renews without a word from its agent.
    pub agent_grace: Millis,
    /// The machine's watchdog device, if the keeper is to pet one.
    pub watchdog: Option<PathBuf>,
    /// How long it bears a keeper that stands still; what the profile asks for when none is given.
    pub watchdog_timeout: Option<Millis>,
    /// Entries of the log between two snapshots.
    pub snapshot_period: u32,
    /// Least severity that is logged.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: None,
            listen: None,
            links: Vec::new(),
            http_listen: None,
            scheduling: Scheduling::Auto,
            agent_grace: AGENT_GRACE_DEFAULT,
            watchdog: None,
            watchdog_timeout: None,
            snapshot_period: SNAPSHOT_PERIOD_DEFAULT,
            log: "info".to_owned(),
        }
    }
}

impl Config {
    /// Reads a configuration file; `file_name` is what the operator calls it.
    ///
    /// # Errors
    /// Everything that is wrong with the file.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Problems> {
        let sheet = Sheet::read(file_name, text)?;
        let table = sheet.table();
        let mut report = Report::default();
        let keys = Keys::new(table.get_ref(), 0..0, "the configuration");
        keys.check(KEYS, |_| None, &mut report);
        let config = read(&keys, &mut report);
        report.finish(&sheet).map_or(Ok(config), Err)
    }
}

fn read(keys: &Keys<'_>, report: &mut Report) -> Config {
    let name = keys.text("name", "name = \"n1\"", report);
    let listen = keys.text("listen", LISTEN, report).and_then(|given| socket(&given, "listen", LISTEN, report));
    Config {
        name: name.and_then(|given| crate::package::file::keys::name(&given, report)),
        listen,
        links: links(keys, listen, report),
        http_listen: http_listen(keys, listen, report),
        scheduling: word(keys, "scheduling", SCHEDULING, report).map_or(Scheduling::Auto, |word| match word.as_str() {
            "fifo" => Scheduling::Fifo,
            "best-effort" => Scheduling::BestEffort,
            _ => Scheduling::Auto,
        }),
        agent_grace: keys.duration("agent_grace", AGENT_GRACE_DEFAULT, AGENT_GRACE, report),
        watchdog: watchdog(keys, report),
        watchdog_timeout: keys
            .get("watchdog_timeout")
            .map(|_| keys.duration("watchdog_timeout", WATCHDOG_TIMEOUT_DEFAULT, WATCHDOG_TIMEOUT, report)),
        snapshot_period: keys.number("snapshot_period", SNAPSHOT_PERIOD_DEFAULT, SNAPSHOT_PERIOD, report),
        log: word(keys, "log", LEVELS, report).unwrap_or_else(|| "info".to_owned()),
    }
}

/// The watchdog's device; a timeout without one would be taken for a watchdog that is there.
fn watchdog(keys: &Keys<'_>, report: &mut Report) -> Option<PathBuf> {
    let given = keys.text("watchdog", WATCHDOG, report);
    if let (None, Some(timeout)) = (keys.get("watchdog"), keys.get("watchdog_timeout")) {
        report.add(timeout.span(), "'watchdog_timeout' is set without 'watchdog'", format!("write {WATCHDOG} too"));
    }
    let given = given?;
    let path = PathBuf::from(*given.get_ref());
    if !path.is_absolute() {
        report.add(given.span(), "'watchdog' must be the path of a device", format!("write {WATCHDOG}"));
    }
    Some(path)
}

/// Further addresses; one that is written twice is a network that is not there.
fn links(keys: &Keys<'_>, listen: Option<SocketAddr>, report: &mut Report) -> Vec<SocketAddr> {
    let given = keys.texts("links", LINKS, report).map(At::into_inner).unwrap_or_default();
    let mut links: Vec<SocketAddr> = Vec::new();
    for one in &given {
        let Some(link) = socket(one, "links", LINKS, report) else { continue };
        if Some(link) == listen || links.contains(&link) {
            let remedy = "name this node's address on another network, or take it out: one network counts once";
            report.add(one.span(), format!("{link} is an address of this node already"), remedy);
        }
        links.push(link);
    }
    links
}

/// Where plain HTTP is served: a port alone is one of this machine only.
fn http_listen(keys: &Keys<'_>, listen: Option<SocketAddr>, report: &mut Report) -> Option<SocketAddr> {
    let given = keys.text("http_listen", HTTP_LISTEN, report)?;
    let text = *given.get_ref();
    let local =
        || text.strip_prefix(':').unwrap_or(text).parse::<u16>().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let Ok(address) = text.parse::<SocketAddr>().or_else(|_| local()) else {
        let remedy = format!("write {HTTP_LISTEN}, or a port alone for this machine only");
        report.add(given.span(), "'http_listen' must be an address with a port", remedy);
        return None;
    };
    let taken = listen.is_some_and(|listen| {
        listen.port() == address.port() && (listen.ip() == address.ip() || address.ip().is_unspecified())
    });
    if address.port() == 0 || address.ip().is_multicast() || taken {
        let what = if taken { "is where 'listen' is already" } else { "is no address that a client can reach" };
        report.add(given.span(), format!("{address} {what}"), format!("write {HTTP_LISTEN}"));
        return None;
    }
    Some(address)
}

/// An address that others can reach, with a port or with the default one.
fn socket(given: &At<&str>, key: &str, example: &str, report: &mut Report) -> Option<SocketAddr> {
    let text = *given.get_ref();
    let alone = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT_DEFAULT));
    let Ok(address) = text.parse::<SocketAddr>().or_else(|_| alone()) else {
        report.add(given.span(), format!("'{key}' must be an address with a port"), format!("write {example}"));
        return None;
    };
    if address.ip().is_unspecified() || address.ip().is_multicast() || address.port() == 0 {
        let what = format!("{address} is no address that another node can reach");
        report.add(given.span(), what, format!("write this node's own address on that network: {example}"));
        return None;
    }
    Some(address)
}

fn word(keys: &Keys<'_>, key: &str, known: &[&str], report: &mut Report) -> Option<String> {
    let example = format!("{key} = \"{}\"", known[0]);
    let given = keys.text(key, &example, report)?;
    let text = *given.get_ref();
    if known.contains(&text) {
        return Some(text.to_owned());
    }
    report.add(
        given.span(),
        format!("'{key}' cannot be '{}'", text.escape_debug()),
        format!("write one of {}", choice(known)),
    );
    None
}

/// Where files lie; `--root DIR` moves them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    root: PathBuf,
}

impl Places {
    /// Places below a directory, or below `/`.
    pub fn under(root: Option<&Path>) -> Self {
        Self { root: root.unwrap_or(Path::new("/")).to_owned() }
    }

    /// The directory that all of them are below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The agent's configuration.
    pub fn config_file(&self) -> PathBuf {
        self.root.join("etc/pkgctl/agent.toml")
    }

    /// The secret by which nodes may be introduced to each other.
    pub fn secret_file(&self) -> PathBuf {
        self.root.join("etc/pkgctl/secret")
    }

    /// A package's file, where `init` looks after the working directory.
    pub fn package_file(&self, package: &PackageName) -> PathBuf {
        self.root.join("etc/pkgctl/packages").join(format!("{package}.toml"))
    }

    /// Identity and store; kept over restarts.
    pub fn state_dir(&self) -> PathBuf {
        self.root.join("var/lib/pkgctl")
    }

    /// Sockets and records of this boot.
    pub fn run_dir(&self) -> PathBuf {
        self.root.join("run/pkgctl")
    }

    /// The local API's socket.
    pub fn api_socket(&self) -> PathBuf {
        self.run_dir().join("api.sock")
    }

    /// The socket between agent and keeper.
    pub fn keeper_socket(&self) -> PathBuf {
        self.run_dir().join("keeper.sock")
    }

    /// What a keeper leaves that is not ready yet: what it waits for, in words.
    pub fn keeper_waits(&self) -> PathBuf {
        self.run_dir().join("keeper.waits")
    }

    /// Every directory of pkgctl's own, which nothing may be mounted over.
    pub fn own_dirs(&self) -> Vec<PathBuf> {
        vec![self.state_dir(), self.run_dir(), self.log_dir(), self.root.join("etc/pkgctl")]
    }

    /// Logs.
    pub fn log_dir(&self) -> PathBuf {
        self.root.join("var/log/pkgctl")
    }

    /// A package's log on this node (L19).
    pub fn package_log(&self, package: &PackageName) -> PathBuf {
        self.log_dir().join("packages").join(format!("{package}.log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_configuration_is_read() {
        let text = include_str!("../conf/agent.toml");
        let config = Config::parse("conf/agent.toml", text).unwrap();
        assert_eq!(config.listen, Some("10.0.0.1:7420".parse().unwrap()));
        let commented: String = text.lines().map(|l| l.strip_prefix("#= ").unwrap_or(l).to_owned() + "\n").collect();
        let all = Config::parse("conf/agent.toml", &commented).unwrap();
        assert_eq!(all.links.len(), 1);
        assert_eq!(all.scheduling, Scheduling::Auto);
        assert_eq!(all.watchdog.as_deref(), Some(Path::new("/dev/watchdog")));
        assert_eq!(config.watchdog, None, "it is only an example");
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("agent.toml", "").unwrap(), Config::default());
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let bad = "name = \"a b\"\nlisten = \"0.0.0.0:7420\"\nlinks = [\"x\"]\nscheduling = \"rt\"\nagent_grace = \"1s\"\nwatchdog = \"on\"\nwatchdog_timeout = \"1s\"\nport = 1\n";
        let problems = Config::parse("agent.toml", bad).unwrap_err();
        let lines: Vec<_> = problems.problems.iter().map(|p| p.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 7, 8], "{problems}");
    }

    #[test]
    fn an_address_without_a_port_gets_the_default_one() {
        let config = Config::parse("agent.toml", "listen = \"fd00::1\"").unwrap();
        assert_eq!(config.listen, Some("[fd00::1]:7420".parse().unwrap()));
    }

    #[test]
    fn plain_http_is_off_and_a_port_alone_is_of_this_machine_only() {
        let of = |text: &str| Config::parse("agent.toml", text).map(|config| config.http_listen);
        assert_eq!(of("").unwrap(), None);
        for (text, address) in [
            ("8091", "127.0.0.1:8091"),
            (":8091", "127.0.0.1:8091"),
            ("10.0.0.1:8091", "10.0.0.1:8091"),
            ("[::]:80", "[::]:80"),
        ] {
            assert_eq!(of(&format!("http_listen = \"{text}\"")).unwrap(), Some(address.parse().unwrap()));
        }
        for (text, words) in [
            ("http_listen = \"localhost:80\"", "must be an address with a port"),
            ("http_listen = \"10.0.0.1\"", "must be an address with a port"),
            ("http_listen = \":0\"", "no address that a client can reach"),
            ("http_listen = 8091", "must be text"),
            ("listen = \"10.0.0.1\"\nhttp_listen = \"0.0.0.0:7420\"", "where 'listen' is already"),
        ] {
            let problems = of(text).unwrap_err();
            assert!(problems.count() == 1 && problems.to_string().contains(words), "{text}: {problems}");
        }
    }

    #[test]
    fn a_link_must_be_another_network() {
        let text = "listen = \"10.0.0.1\"\nlinks = [\"10.1.0.1\",\n\"10.0.0.1:7420\",\n\"10.1.0.1:7420\"]\n";
        let problems = Config::parse("agent.toml", text).unwrap_err();
        assert_eq!(problems.problems.iter().map(|p| p.line).collect::<Vec<_>>(), [3, 4], "{problems}");
    }

    #[test]
    fn values_of_the_wrong_type_or_none_are_told() {
        for (text, words) in [
            ("listen = 7420", "must be text, not an integer"),
            ("listen = \"host:7420\"", "must be an address with a port"),
            ("listen = \"10.0.0.1:0\"", "no address that another node can reach"),
            ("links = \"10.1.0.1\"", "must be a list of texts"),
            ("agent_grace = 15", "write agent_grace = \"15s\""),
            ("watchdog_timeout = \"10s\"", "is set without 'watchdog'"),
            ("watchdog = true", "must be text, not true or false"),
            ("log = \"loud\"", "write one of error, warn, info, debug or trace"),
            ("nmae = \"n1\"", "did you mean 'name'?"),
            ("listen: 10.0.0.1", "write listen = \"10.0.0.1\""),
        ] {
            let problems = Config::parse("agent.toml", text).unwrap_err();
            assert_eq!(problems.count(), 1, "{text}: {problems}");
            assert!(problems.to_string().contains(words), "'{words}' is not in\n{problems}");
        }
    }

    #[test]
    fn the_root_moves_every_place() {
        let package = PackageName::new("web").unwrap();
        let all = |places: &Places| {
            [
                places.config_file(),
                places.package_file(&package),
                places.secret_file(),
                places.state_dir(),
                places.run_dir(),
                places.api_socket(),
                places.keeper_socket(),
                places.log_dir(),
                places.package_log(&package),
            ]
        };
        let usual = all(&Places::under(None));
        assert_eq!(usual[0], Path::new("/etc/pkgctl/agent.toml"));
        assert_eq!(usual[1], Path::new("/etc/pkgctl/packages/web.toml"));
        assert_eq!(usual[8], Path::new("/var/log/pkgctl/packages/web.log"));
        let moved = all(&Places::under(Some(Path::new("/tmp/n1"))));
        for (usual, moved) in usual.iter().zip(&moved) {
            assert_eq!(moved, &Path::new("/tmp/n1").join(usual.strip_prefix("/").unwrap()));
        }
    }
}
