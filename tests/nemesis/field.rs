//! The field: five nodes in a lab, and ten packages whose node lists are drawn from the seed.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use pkgctl::api::types::{DefineRequest, IssuedToken};
use pkgctl::lab::{Lab, LabError, LabSpec, Place, Process, floating_address, wait_until};
use pkgctl::package::{Package, parse};

use crate::asker::{Asker, Said};
use crate::check::alive::headline;
use crate::random::Random;

pub const PKGCTL: &str = env!("CARGO_BIN_EXE_pkgctl");
/// Every node votes: two may be lost.
pub const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];
/// The node whose state lies on a small file system, to be filled up.
pub const SMALL: &str = "n5";
const SMALL_BYTES: u64 = 64 << 20;
const STATE: &str = "var/lib/pkgctl";
pub const PACKAGES: usize = 10;
/// Packages that never run; their descriptions are what clients read and write.
pub const REGISTERS: [&str; 2] = ["register1", "register2"];
const PORT: u16 = 8080;
/// Longest that a verb may take.
const VERB_WITHIN: Duration = Duration::from_secs(90);
/// Longest that an agent may take to answer, or a package to run, before anything goes wrong.
const SETUP_WITHIN: Duration = Duration::from_secs(120);

/// One package that runs.
pub struct Target {
    pub name: String,
    pub nodes: Vec<&'static str>,
    /// Where its program answers.
    pub at: SocketAddr,
    /// The map in which its programs, and no other's, record their beats.
    pub beats: PathBuf,
}

/// The cluster, healthy when it is built.
pub struct Field {
    pub lab: Lab,
    pub targets: Vec<Target>,
}

fn agent(place: &Place) -> Vec<String> {
    let (disk, listen) = (place.disk.display().to_string(), format!("{}:7420", place.address));
    [PKGCTL, "--root", &disk, "agent", "--name", &place.name, "--listen", &listen].map(str::to_owned).to_vec()
}

/// A node with leases that end nothing: the agent is told that somebody else runs its keeper.
fn unleased(place: &Place) -> Vec<String> {
    let role = [PKGCTL.to_owned(), "lab-unleased".to_owned(), place.disk.display().to_string()];
    role.into_iter().chain(agent(place)).chain(["--no-keeper".to_owned()]).collect()
}

impl Field {
    /// Builds the nodes, which are in no cluster yet; without leases, to see that the checks see it. None where
    /// namespaces are refused.
    pub fn build(random: &mut Random, leased: bool) -> Result<Option<Self>> {
        let command = if leased { agent } else { unleased };
        let spec = LabSpec::new(PKGCTL, &NODES).command(command).small(SMALL, STATE, SMALL_BYTES);
        let lab = match Lab::build(spec) {
            Ok(lab) => lab,
            Err(LabError::NotPermitted { reason }) => {
                let _ = writeln!(std::io::stderr(), "skipped 1 test of a cluster: {reason}");
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let targets = (0..PACKAGES).map(|number| target(&lab, number, random)).collect::<Result<_>>()?;
        Ok(Some(Self { lab, targets }))
    }

    /// Makes the cluster and runs every package.
    pub fn found(&self, asker: &Asker) -> Result<()> {
        self.agent_up(NODES[0], asker)?;
        self.ctl(NODES[0], &["cluster", "init", "--name", "nemesis"])?;
        for node in &NODES[1..] {
            self.join(node, asker)?;
        }
        for name in REGISTERS {
            let text =
                format!("name = {name:?}\ndescription = \"0\"\nnodes = {NODES:?}\n{}", program(&["/bin/true"], 3));
            self.define(asker, &text)?;
        }
        for (number, target) in self.targets.iter().enumerate() {
            self.define(asker, &target.text(if number % 2 == 0 { 1000 } else { 3 }))?;
            self.must(asker, "POST", &format!("/v1/packages/{}/run", target.name), b"{}".to_vec())?;
        }
        let mut down = Vec::new();
        let up = wait_until(SETUP_WITHIN, || {
            let packages = NODES.iter().find_map(|node| asker.status(&self.socket(node)))?.packages;
            let of = |target: &Target| packages.iter().find(|p| p.name.as_str() == target.name);
            let due = self.targets.iter().filter(|target| of(target).is_none_or(|p| p.state.word() != "running"));
            down = due.map(|target| of(target).map_or_else(|| target.name.clone(), headline)).collect();
            down.is_empty().then_some(())
        });
        up.with_context(|| format!("not every package came up in a healthy cluster: {down:?}"))
    }

    fn define(&self, asker: &Asker, text: &str) -> Result<()> {
        let definition: Package = parse("drawn.toml", text).map_err(|problems| anyhow!("{problems}"))?;
        let path = format!("/v1/packages/{}", definition.name);
        self.must(asker, "PUT", &path, serde_json::to_vec(&DefineRequest { definition, replaces: None })?)
    }

    fn must(&self, asker: &Asker, method: &str, path: &str, body: Vec<u8>) -> Result<()> {
        match asker.ask(&self.socket(NODES[0]), method, path, Some(body)) {
            Said::Answer { status: 200, .. } => Ok(()),
            other => bail!("{method} {path} in a healthy cluster: {other:?}"),
        }
    }

    /// The node's own way in.
    pub fn socket(&self, node: &str) -> PathBuf {
        self.lab.place(node).disk.join("run/pkgctl/api.sock")
    }

    /// A node's state, as its own processes name it.
    pub fn state(&self, node: &str) -> PathBuf {
        self.lab.place(node).disk.join(STATE)
    }

    pub fn is_on(&self, node: &str) -> bool {
        self.lab.init_pid(node).is_ok()
    }

    pub fn agent_up(&self, node: &str, asker: &Asker) -> Result<()> {
        let answers = || matches!(asker.ask(&self.socket(node), "GET", "/v1/status", None), Said::Answer { .. });
        wait_until(SETUP_WITHIN, || answers().then_some(()))
            .with_context(|| format!("the agent of {node} is not there"))
    }

    /// Takes a node in by a token of whichever member gives one.
    pub fn join(&self, node: &str, asker: &Asker) -> Result<()> {
        self.agent_up(node, asker)?;
        let token = self.token(asker, node)?;
        self.ctl(node, &["cluster", "join", &token]).map(|_| ())
    }

    /// A join token for a node, from any other that gives one.
    pub fn token(&self, asker: &Asker, node: &str) -> Result<String> {
        let mut others = NODES.iter().filter(|other| **other != node && self.is_on(other));
        let issued = others.find_map(|member| {
            let said = asker.ask(&self.socket(member), "POST", "/v1/cluster/token", Some(b"{}".to_vec()));
            let Said::Answer { status: 200, body } = said else { return None };
            serde_json::from_slice::<IssuedToken>(&body).ok()
        });
        issued.map(|issued| issued.token).context("no other node gives a join token")
    }

    /// Gives up what a node knows, so that it can join as a new one. It must be off.
    pub fn forget(&self, node: &str) -> Result<()> {
        let state = self.state(node);
        let old = (1_u32..).map(|number| state.with_extension(format!("given-up-{number}"))).find(|to| !to.exists());
        fs::rename(&state, old.context("no name is left")?).with_context(|| format!("put the state of {node} aside"))
    }

    /// Runs a verb that must succeed.
    pub fn ctl(&self, node: &str, words: &[&str]) -> Result<String> {
        let disk = self.lab.place(node).disk.display().to_string();
        let argv: Vec<&str> = [PKGCTL, "--root", &disk].into_iter().chain(words.iter().copied()).collect();
        let output = self.lab.run_in(node, &argv, VERB_WITHIN)?;
        let said = format!("{}{}", output.stdout, output.stderr);
        if output.success() { Ok(said) } else { bail!("pkgctl {words:?} on {node}: {said}") }
    }

    /// Processes of a node by one of their first words: agent, keeper, leash, init.
    pub fn of_role(&self, node: &str, roles: &[&str]) -> Vec<Process> {
        let all = self.lab.processes(node).unwrap_or_default();
        all.into_iter().filter(|p| p.is_ours() && p.argv.iter().take(4).any(|w| roles.contains(&w.as_str()))).collect()
    }

    /// The package's programs, wherever they run.
    pub fn programs(&self, target: &Target) -> Vec<(&'static str, Process)> {
        let address = target.at.to_string();
        let on =
            NODES.iter().flat_map(|node| self.lab.processes(node).unwrap_or_default().into_iter().map(|p| (*node, p)));
        on.filter(|(_, p)| p.role() == Some("demo-program") && p.argv.contains(&address)).collect()
    }

    /// Copies every log to a directory that outlives the lab.
    pub fn keep_logs(&self, to: &Path) -> Result<()> {
        for node in NODES {
            let into = to.join(node);
            fs::create_dir_all(&into)?;
            fs::write(into.join("console"), self.lab.console(node))?;
            copy(&self.lab.place(node).disk.join("var/log/pkgctl"), &into)?;
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let into = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir_all(&into)?;
            copy(&entry.path(), &into)?;
        } else {
            fs::copy(entry.path(), into)?;
        }
    }
    Ok(())
}

fn target(lab: &Lab, number: usize, random: &mut Random) -> Result<Target> {
    let mut nodes = NODES.to_vec();
    // The first few of a shuffled list: at least two, so that one may be lost.
    for at in (1..nodes.len()).rev() {
        nodes.swap(at, random.index(at + 1));
    }
    nodes.truncate(2 + random.index(NODES.len() - 1));
    let name = format!("pkg{number}");
    let address: Ipv4Addr = floating_address(u8::try_from(number)?);
    Ok(Target { beats: lab.beats_for(&name)?, name, nodes, at: SocketAddr::from((address, PORT)) })
}

impl Target {
    fn text(&self, restarts: u32) -> String {
        let (at, beats) = (self.at.to_string(), self.beats.display().to_string());
        let command = [PKGCTL, "demo-program", "--listen", &at, "--beats", &beats];
        format!(
            "name = {:?}\ndescription = \"0\"\nnodes = {:?}\n[[resource]]\nkind = \"ip\"\naddress = \"{}/24\"\ndevice = \"eth0\"\n{}",
            self.name,
            self.nodes,
            self.at.ip(),
            program(&command, restarts)
        )
    }
}

fn program(command: &[&str], restarts: u32) -> String {
    format!("[[resource]]\nkind = \"program\"\nrestarts = {restarts}\ncommand = {command:?}\n")
}
