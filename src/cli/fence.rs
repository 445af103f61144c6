//! `pkgctl fence …`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::print::{Out, cell};
use super::standalone;
use crate::api::types::{Changed, FenceOrder, FenceRequest, FenceSet, FenceTest, FenceView, Progress};
use crate::bounded;
use crate::config::FILE_LIMIT;
use crate::engine::fence::call::{CODE_OFF, CODE_ON, FenceSaid};
use crate::engine::fence::secret::{MASK, secrets_of};
use crate::engine::fence::{FenceAction, FenceDevice, Fencing};
use crate::engine::{LogIndex, Reply};
use crate::package::{Millis, NodeName};

/// Beyond the agent's own time, how long an order is waited for.
const MARGIN: Duration = Duration::from_secs(30);
/// How long a wait for a change may take before the state is looked at again.
const STEP_MS: u64 = 1000;
/// Permissions that a file with secrets must not have.
const OTHERS: u32 = 0o077;

/// Carries a verb out.
pub async fn fence(client: &Client, out: &Out, verb: &args::Fence) -> Result<(), Failed> {
    match verb {
        args::Fence::Set(verb) => set(client, out, verb).await,
        args::Fence::List => list(client, out).await,
        args::Fence::Show(verb) => show(client, out, &verb.node).await,
        args::Fence::Delete(verb) => delete(client, out, &verb.node).await,
        args::Fence::Test(verb) => test(client, out, &verb.node).await,
        args::Fence::Off(verb) => order(client, out, verb, FenceAction::Off).await,
        args::Fence::Reboot(verb) => order(client, out, verb, FenceAction::Reboot).await,
        args::Fence::On(verb) => on(client, out, &verb.node).await,
        args::Fence::Confirm(verb) => confirm(client, out, verb).await,
    }
}

fn path(node: &NodeName, verb: &str) -> String {
    format!("/v1/fences/{node}{verb}")
}

/// The body of a request that needs none.
fn nothing() -> serde_json::Value {
    serde_json::json!({})
}

async fn set(client: &Client, out: &Out, verb: &args::FenceSet) -> Result<(), Failed> {
    let options = options(verb)?;
    let seen = verb.options.iter().filter_map(|given| given.split_once('=')).map(|(name, value)| (name.trim(), value));
    for (name, _) in seen.filter(|(name, value)| !secrets_of(name, value).is_empty()) {
        out.warn(&format!("whoever could list processes has seen '{name}'; it belongs into --option-file"));
    }
    let (agent, action) = (verb.agent.clone(), verb.action.into());
    let device = FenceDevice { agent, options, action, timeout: verb.timeout, delay: verb.delay };
    let request = FenceRequest { device, unchecked: verb.unchecked };
    let set: FenceSet = client.call("PUT", &path(&verb.node, ""), &request).await?;
    let node = &verb.node;
    match set.reply {
        Reply::Already => out.say(&format!("{node} has this device already")),
        _ => out.say(&format!("{node} has a fence device; `pkgctl fence test {node}` tries it")),
    }
    set.missing.iter().for_each(|(member, why)| out.warn(&format!("{member} cannot run {}: {why}", verb.agent)));
    out.value(&set);
    Ok(())
}

/// The options of command line and file; every problem at once.
fn options(verb: &args::FenceSet) -> Result<BTreeMap<String, String>, Failed> {
    let (mut options, mut problems) = (BTreeMap::new(), Vec::new());
    let mut lines: Vec<String> = verb.options.clone();
    if let Some(path) = &verb.option_file {
        match read_secrets(path) {
            Ok(text) => {
                let lines_of_it = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                lines.extend(lines_of_it.map(str::to_owned));
            }
            Err(why) => problems.push(why),
        }
    }
    for line in lines {
        match line.split_once('=') {
            Some((name, value)) => {
                if options.insert(name.trim().to_owned(), value.to_owned()).is_some() {
                    problems.push(format!("the option '{}' is given twice", name.trim()));
                }
            }
            // It may be a secret: only the name of one that has a name is shown.
            None => problems.push("an option has no '='; write NAME=VALUE".to_owned()),
        }
    }
    if problems.is_empty() { Ok(options) } else { Err(Failed::usage(problems.join("\n"))) }
}

fn read_secrets(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let mode = fs::metadata(path).map_err(|why| format!("{shown} cannot be read: {why}"))?.mode();
    if mode & OTHERS != 0 {
        return Err(format!("others than its owner may read or change {shown}; `chmod 600 {shown}`"));
    }
    bounded::read_text(path, FILE_LIMIT).map_err(|why| format!("{shown} cannot be read: {why}"))
}

async fn views(client: &Client) -> Result<Vec<FenceView>, Failed> {
    client.get("/v1/fences").await
}

async fn view_of(client: &Client, node: &NodeName) -> Result<FenceView, Failed> {
    let found = views(client).await?.into_iter().find(|view| view.node == *node);
    found.ok_or_else(|| {
        Failed::rejected(format!("there is no node '{node}' in the cluster; `pkgctl cluster status` lists them"))
    })
}

async fn list(client: &Client, out: &Out) -> Result<(), Failed> {
    let all = views(client).await?;
    out.value(&all);
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    out.table(&["NODE", "AGENT", "ACTION", "STATE", "WAITING"], &rows);
    Ok(())
}

fn row(view: &FenceView) -> Vec<String> {
    let (agent, action) = match &view.device {
        Some(device) => (device.agent.clone(), device.action.word().to_owned()),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let waiting: Vec<&str> = view.waiting.iter().map(|package| package.as_str()).collect();
    let waiting = if waiting.is_empty() { "-".to_owned() } else { waiting.join(" ") };
    vec![view.node.to_string(), agent, action, cell(&stands(view)), waiting]
}

fn stands(view: &FenceView) -> String {
    match &view.fencing {
        Some(Fencing { under_way: true, .. }) => "being fenced".to_owned(),
        Some(Fencing { ordered: Some(action), .. }) => format!("{} ordered", action.word()),
        fencing => match fencing.as_ref().and_then(Fencing::failed) {
            Some(failed) => failed,
            None if view.device.is_none() => "no device".to_owned(),
            None => "ready".to_owned(),
        },
    }
}

async fn show(client: &Client, out: &Out, node: &NodeName) -> Result<(), Failed> {
    let view = view_of(client, node).await?;
    out.value(&view);
    out.table(&["NODE", "AGENT", "ACTION", "STATE", "WAITING"], &[row(&view)]);
    if let Some(failed) = view.fencing.as_ref().and_then(Fencing::failed) {
        out.say(&format!("\n{failed}"));
    }
    let Some(device) = &view.device else {
        out.say(&format!("\n`pkgctl fence set {node} --agent …` gives it a device"));
        return Ok(());
    };
    let delay = if device.delay == Millis(0) { "no delay".to_owned() } else { format!("delay {}", device.delay) };
    out.say(&format!("\ntimeout {}, {delay}", device.timeout));
    let options: Vec<Vec<String>> =
        device.options.iter().map(|(name, value)| vec![name.clone(), value.clone()]).collect();
    out.table(&["OPTION", "VALUE"], &options);
    if device.options.values().any(|value| value.contains(MASK)) {
        out.progress("(secrets are not shown)");
    }
    Ok(())
}

async fn delete(client: &Client, out: &Out, node: &NodeName) -> Result<(), Failed> {
    let changed: Changed = client.call("DELETE", &path(node, ""), &nothing()).await?;
    out.say(&match changed.reply {
        Reply::Already => format!("{node} had no fence device"),
        _ => format!("{node} has no fence device any more"),
    });
    out.value(&changed);
    Ok(())
}

async fn test(client: &Client, out: &Out, node: &NodeName) -> Result<(), Failed> {
    let tests: Vec<FenceTest> = client.call("POST", &path(node, "/test"), &nothing()).await?;
    out.value(&tests);
    let row =
        |test: &FenceTest| vec![test.from.to_string(), cell(&monitored(&test.monitor)), cell(&power(&test.status))];
    out.table(&["FROM", "MONITOR", "STATUS"], &tests.iter().map(row).collect::<Vec<_>>());
    let said = tests.iter().flat_map(|test| [monitored(&test.monitor), power(&test.status)].map(|said| (test, said)));
    for (test, said) in said.filter(|(_, said)| cell(said) != *said) {
        out.say(&format!("\n{}: {said}", test.from));
    }
    // A node never fences itself.
    let others: Vec<&FenceTest> = tests.iter().filter(|test| test.from != *node).collect();
    let well = |test: &&&FenceTest| test.monitor.expect("monitor", 0).is_ok();
    match (others.iter().filter(well).count(), others.len()) {
        (0, _) => Err(Failed::outcome(format!("no other member can fence {node}"))),
        (some, all) if some < all => {
            out.warn(&format!("{} of {all} other members cannot fence {node}", all - some));
            Ok(())
        }
        (_, _) => Ok(()),
    }
}

fn monitored(said: &FenceSaid) -> String {
    said.expect("monitor", 0).err().unwrap_or_else(|| "ok".to_owned())
}

fn power(said: &FenceSaid) -> String {
    match said {
        FenceSaid::Ran { code: CODE_ON, .. } => "on".to_owned(),
        FenceSaid::Ran { code: CODE_OFF, .. } => "off".to_owned(),
        other => other.expect("status", CODE_ON).err().unwrap_or_default(),
    }
}

async fn order(client: &Client, out: &Out, verb: &args::FenceEnd, action: FenceAction) -> Result<(), Failed> {
    let node = &verb.node;
    let request = FenceOrder { action, force: verb.force };
    let before = view_of(client, node).await?;
    let changed: Changed = client.call("POST", &path(node, "/order"), &request).await?;
    if verb.no_wait {
        out.say(&format!("{node} is to be fenced; `pkgctl fence show {node}` shows how far it is"));
        out.value(&changed);
        return Ok(());
    }
    let within = before.device.map_or(MARGIN, |d| d.timeout.duration() * 2 + d.delay.duration() + MARGIN);
    match timeout(within, ended(&client.after_change(), node, before.fenced)).await {
        Ok(ended) => ended?,
        Err(_elapsed) => {
            return Err(Failed::waiting(format!(
                "{node} is not fenced after {within:?}; it goes on without this command: `pkgctl fence show {node}`"
            )));
        }
    }
    out.say(&format!("{node} was fenced ({})", action.word()));
    out.value(&changed);
    Ok(())
}

/// Waits until a fencing has succeeded since `before`, the last that had when the order was given, or the order failed.
async fn ended(client: &Client, node: &NodeName, before: Option<LogIndex>) -> Result<(), Failed> {
    let mut seen = 0;
    loop {
        let view = view_of(client, node).await?;
        if view.fenced.is_some() && view.fenced != before {
            return Ok(());
        }
        match view.fencing {
            Some(Fencing { ordered: Some(_), .. }) => {}
            Some(Fencing { failure: Some(why), .. }) => {
                return Err(Failed::outcome(format!("{node} could not be fenced: {why}")));
            }
            Some(_) | None => return Err(Failed::outcome(format!("{node} has come back; nothing was done to it"))),
        }
        let path = format!("/v1/changes?after={seen}&within_ms={STEP_MS}");
        seen = client.get_if_any::<Progress>(&path).await?.map_or(seen, |p| p.applied.0);
    }
}

async fn on(client: &Client, out: &Out, node: &NodeName) -> Result<(), Failed> {
    let said: FenceSaid = client.call("POST", &path(node, "/on"), &nothing()).await?;
    out.value(&said);
    said.expect("on", 0).map_err(|why| Failed::outcome(format!("{node} was not switched on: {why}")))?;
    out.say(&format!("{node} is switched on"));
    Ok(())
}

async fn confirm(client: &Client, out: &Out, verb: &args::FenceConfirm) -> Result<(), Failed> {
    let node = verb.node.as_ref();
    standalone::answer_for(client, out, node, &verb.typed).await?;
    let Some(node) = node else {
        let changed = client.call("POST", "/v1/raft/unlisted-off", &nothing()).await;
        let changed: Changed = changed.map_err(standalone::not_taken)?;
        out.say("confirmed that no other machine acts for the old cluster; what waited for nothing else goes on");
        out.value(&changed);
        return Ok(());
    };
    let changed = client.call("POST", &path(node, "/confirm"), &nothing()).await;
    let changed: Changed = changed.map_err(standalone::not_taken)?;
    out.say(&format!("confirmed that {node} is off; what waited for nothing else goes on"));
    out.value(&changed);
    Ok(())
}
