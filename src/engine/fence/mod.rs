//! External fencing: a node that cannot be trusted to have ended what nothing enforces is switched off from outside.
//!
//! Only packages with a resource whose end nobody enforces wait for it, and only for nodes that have a fence device. Pure:
//! who waits for whom, what is under way, and what an agent's metadata asks for.

pub mod call;
pub mod metadata;
pub mod secret;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use self::secret::{secrets_of, shown, strike};
use super::{LogIndex, NodeId, SessionId, State, WallMillis};
use crate::package::{Millis, NodeName, PackageName};

/// Options of one device at most.
pub const OPTIONS_MAX: usize = 64;
/// Longest name or value of an option, and longest path of an agent, in bytes.
pub const OPTION_MAX_BYTES: usize = 1024;
/// How long an agent must be given at least for one action: less than any of them needs to start.
pub const TIMEOUT_MIN: Millis = Millis::from_secs(1);
/// How long an agent may take at most for one action.
pub const TIMEOUT_MAX: Millis = Millis::from_secs(600);
/// How long an agent may take when nobody says.
pub const TIMEOUT_DEFAULT: Millis = Millis::from_secs(60);
/// Pause after the first attempt that failed; each further one doubles it, up to [`RETRY_MAX`].
pub const RETRY_FIRST: Millis = Millis::from_secs(5);
/// Longest pause between two attempts.
pub const RETRY_MAX: Millis = Millis::from_secs(80);
/// What ends a node from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceAction {
    /// Off, and `status` says so afterwards.
    #[default]
    Off,
    /// Off and on again.
    Reboot,
}

impl FenceAction {
    /// The agent's word for it.
    pub fn word(self) -> &'static str {
        match self {
            FenceAction::Off => "off",
            FenceAction::Reboot => "reboot",
        }
    }
}

/// How one node is switched off. Its `Debug` shows no secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceDevice {
    /// The fence agent, an absolute path.
    pub agent: String,
    /// What it is told, by name.
    pub options: BTreeMap<String, String>,
    /// What it is asked to do.
    pub action: FenceAction,
    /// How long it may take.
    pub timeout: Millis,
    /// Waited before the action.
    #[serde(default)]
    pub delay: Millis,
}

impl FenceDevice {
    /// The same without its secrets, to be shown.
    pub fn masked(&self) -> Self {
        let options = self.options.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect();
        Self { options, ..self.clone() }
    }

    /// A text without this device's secrets.
    pub fn censor(&self, text: &str) -> String {
        let secrets: Vec<String> = self.options.iter().flat_map(|(name, value)| secrets_of(name, value)).collect();
        strike(text, secrets.iter().map(String::as_str))
    }

    /// Everything about it that no agent could be told, whatever its metadata say.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.agent.starts_with('/') || self.agent.len() > OPTION_MAX_BYTES || self.agent.contains('\0') {
            problems.push("the agent must be an absolute path, like /usr/sbin/fence_ipmilan".to_owned());
        }
        if self.options.len() > OPTIONS_MAX {
            problems.push(format!("{} options; {OPTIONS_MAX} are allowed", self.options.len()));
        }
        for (name, value) in &self.options {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if name.is_empty() || name.len() > OPTION_MAX_BYTES || !name.chars().all(plain) {
                problems.push(format!("'{}' cannot be the name of an option", name.escape_debug()));
            }
            if value.len() > OPTION_MAX_BYTES || value.contains(['\n', '\r', '\0']) {
                problems.push(format!("the value of '{name}' must be one line of at most {OPTION_MAX_BYTES} bytes"));
            }
            if matches!(name.as_str(), "action" | "nodename") {
                problems.push(format!("'{name}' is given by pkgctl itself; leave it out"));
            }
        }
        if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&self.timeout) {
            let given = self.timeout;
            problems.push(format!("the timeout must lie between {TIMEOUT_MIN} and {TIMEOUT_MAX}, and is {given}"));
        }
        if self.delay > TIMEOUT_MAX {
            problems.push(format!("the delay may be {TIMEOUT_MAX} at most, and is {}", self.delay));
        }
        problems
    }

    /// What the agent reads from its standard input.
    pub fn input(&self, node: &NodeName, action: &str) -> String {
        let options = self.options.iter().map(|(name, value)| format!("{name}={value}\n"));
        let own = [format!("nodename={node}\n"), format!("action={action}\n")];
        options.chain(own).collect()
    }
}

impl fmt::Debug for FenceDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.masked();
        let Self { agent, options, action, timeout, delay } = &shown;
        let mut fields = f.debug_struct("FenceDevice");
        fields.field("agent", agent).field("options", options).field("action", action);
        fields.field("timeout", timeout).field("delay", delay).finish()
    }
}

/// A package that has lost its owner and waits until that node is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaiting {
    /// The node that may still act for it.
    pub node: NodeId,
    /// The session under which it did; whatever proves the end of this one ends the wait.
    pub session: SessionId,
    /// Since when.
    pub since: WallMillis,
}

/// How the fencing of a node stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fencing {
    /// The entry that began the last attempt; 0 before the first.
    pub begun: LogIndex,
    /// An operator's order, until it is carried out or has failed.
    pub ordered: Option<FenceAction>,
    /// Whether that attempt is under way.
    pub under_way: bool,
    /// Whether an operator's order began that attempt.
    #[serde(default)]
    pub by_order: bool,
    /// When it began or failed.
    pub since: WallMillis,
    /// Attempts that failed, one after another; those by order are not counted.
    pub failures: u32,
    /// Why the last one did.
    pub failure: Option<String>,
}

impl Fencing {
    /// How it failed the last time, in words; none if it has not.
    pub fn failed(&self) -> Option<String> {
        let why = self.failure.as_ref()?;
        Some(match self.failures {
            _ if self.by_order => format!("the order failed: {why}"),
            1 => format!("failed once: {why}"),
            failures => format!("failed {failures} times, at last: {why}"),
        })
    }

    /// The pause after its last failure.
    pub fn pause(&self) -> Millis {
        let doublings = self.failures.saturating_sub(1).min(10);
        Millis(RETRY_FIRST.0.saturating_mul(1 << doublings)).min(RETRY_MAX)
    }
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FenceOutcome {
    /// The machine was ended after the attempt began.
    Fenced {
        /// What was done.
        action: FenceAction,
        /// Whose agent did it.
        by: NodeId,
    },
    /// Nothing is known of the machine.
    Failed {
        /// What the agents said, without secrets.
        why: String,
    },
}

impl State {
    /// Whether a package of a node whose session ends must wait until that node is fenced: nothing enforces the end of one
    /// of its resources, there is a device, and no fencing that began after the session did has succeeded already.
    pub fn must_fence(&self, package: &PackageName, node: NodeId, session: SessionId) -> bool {
        // What the owner runs may be an older definition.
        let unenforced = self.packages.get(package).is_some_and(|entry| {
            let was = self.was_unenforced.get(package) == Some(&entry.last_token);
            was || entry.definition.unenforced().is_some()
        });
        let fenced = self.fenced.get(&node).is_some_and(|begun| begun.0 > session.0);
        unenforced && self.fence_devices.contains_key(&node) && !fenced
    }

    /// The nodes that are to be fenced: packages wait for it, or an operator ordered it.
    pub fn to_be_fenced(&self) -> BTreeSet<NodeId> {
        let ordered = self.fencing.iter().filter(|(_, fencing)| fencing.ordered.is_some()).map(|(node, _)| *node);
        self.awaiting.values().map(|awaiting| awaiting.node).chain(ordered).collect()
    }

    /// The packages that wait until a node is fenced.
    pub fn waiting_for(&self, node: NodeId) -> Vec<&PackageName> {
        self.awaiting.iter().filter(|(_, awaiting)| awaiting.node == node).map(|(package, _)| package).collect()
    }

    /// What is to be done to a node, if it is to be fenced now.
    pub fn fence_action(&self, node: NodeId) -> Option<FenceAction> {
        let device = self.fence_devices.get(&node)?;
        Some(self.fencing.get(&node).and_then(|fencing| fencing.ordered).unwrap_or(device.action))
    }

    /// Why a package waits, in a sentence with the way out; none when it does not.
    pub fn fence_wait(&self, package: &PackageName) -> Option<String> {
        let awaiting = self.awaiting.get(package)?;
        let node = self.name_of(awaiting.node);
        let stands = match self.fencing.get(&awaiting.node) {
            _ if !self.fence_devices.contains_key(&awaiting.node) => "it has no fence device any more".to_owned(),
            Some(fencing) if fencing.under_way => "which is under way".to_owned(),
            Some(Fencing { by_order: true, failure: Some(why), .. }) => {
                format!("an operator's order failed: {why}; attempts go on by themselves")
            }
            Some(Fencing { failures, failure: Some(why), .. }) => format!("attempt {failures} failed: {why}"),
            Some(_) | None => "which is about to begin".to_owned(),
        };
        Some(format!(
            "waiting until {node} is fenced ({stands}); if you have made sure that {node} is off: `pkgctl fence confirm \
             {node}`"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(options: &[(&str, &str)]) -> FenceDevice {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let agent = "/usr/sbin/fence_ipmilan".to_owned();
        FenceDevice { agent, options, action: FenceAction::Off, timeout: TIMEOUT_DEFAULT, delay: Millis(0) }
    }

    #[test]
    fn no_secret_is_shown_by_any_way_of_showing() {
        let device = device(&[("ip", "10.0.0.9"), ("passwd", "hunter2"), ("u", "https://a:tr0ub@b"), ("apikey", "k9")]);
        let said = device.censor("login failed for admin:hunter2 (k9) and tr0ub");
        for shown in [format!("{device:?}"), format!("{:?}", device.masked()), said] {
            assert!(!shown.contains("hunter2") && !shown.contains("tr0ub") && !shown.contains("k9"), "{shown}");
        }
        assert!(format!("{device:?}").contains("10.0.0.9"));
        assert_eq!(device.masked().options["passwd"], secret::MASK);
    }

    #[test]
    fn the_agent_reads_options_as_lines_and_the_action_last() {
        let input = device(&[("ip", "10.0.0.9"), ("plug", "1")]).input(&NodeName::new("n1").unwrap(), "off");
        assert_eq!(input, "ip=10.0.0.9\nplug=1\nnodename=n1\naction=off\n");
    }

    #[test]
    fn what_no_agent_could_be_told_is_told_all_at_once() {
        let mut bad = device(&[("ip", "a\nb"), ("action", "on"), ("x y", "1")]);
        bad.agent = "fence_ipmilan".to_owned();
        bad.timeout = Millis(0);
        assert_eq!(bad.problems().len(), 5, "{:?}", bad.problems());
        assert!(device(&[("ip", "10.0.0.9")]).problems().is_empty());
    }

    #[test]
    fn a_timeout_that_no_agent_can_keep_is_refused() {
        for (ms, good) in [(1, false), (999, false), (1_000, true), (600_000, true), (600_001, false)] {
            let problems = FenceDevice { timeout: Millis(ms), ..device(&[]) }.problems();
            assert_eq!(problems.is_empty(), good, "{ms}: {problems:?}");
        }
    }

    #[test]
    fn failures_are_counted_in_good_english() {
        let failed = |failures, by_order| {
            Fencing { failures, by_order, failure: Some("x".to_owned()), ..Fencing::default() }.failed().unwrap()
        };
        assert_eq!(failed(1, false), "failed once: x");
        assert_eq!(failed(2, false), "failed 2 times, at last: x");
        assert_eq!(failed(2, true), "the order failed: x");
        assert_eq!(Fencing::default().failed(), None);
    }

    #[test]
    fn attempts_come_more_and_more_rarely() {
        let pause = |failures| Fencing { failures, ..Fencing::default() }.pause();
        assert_eq!([1, 2, 3, 5, 6, u32::MAX].map(|n| pause(n).0 / 1000), [5, 10, 20, 80, 80, 80]);
    }
}
