//! Waiting for an outcome, with progress: every change of the package's state is a line, as it happens.

use std::time::Duration;

use tokio::time::timeout;

use super::client::Client;
use super::exit::Failed;
use super::print::Out;
use crate::api::types::{PackageDetail, Progress};
use crate::engine::view::PackageView;
use crate::engine::{LogIndex, Token};
use crate::package::{Package, PackageName};

/// Added to a package's own start and stop times when an outcome is waited for.
const SLACK: Duration = Duration::from_secs(30);
/// How long one question for changes may wait.
const STEP_MS: u64 = 1000;

/// What a look at the package says about the outcome.
pub enum Verdict {
    /// Not yet.
    Wait,
    /// Reached: the sentence for it.
    Reached(String),
    /// It came to something else: the sentence for it.
    Missed(String),
}

/// Whether the package was given to its owner by a later entry than this one: fencing tokens are the log's indexes.
pub fn is_owned_since(view: &PackageView, index: LogIndex) -> bool {
    view.token.is_some_and(|token| token > Token::from(index))
}

/// The owner's name; nothing when there is none.
pub fn owner_name(view: &PackageView) -> String {
    view.owner.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Waits until `judge` has a verdict, as long as starts and stops may take.
pub async fn follow(
    client: &Client,
    out: &Out,
    package: &PackageName,
    judge: impl Fn(&PackageView) -> Verdict,
) -> Result<PackageView, Failed> {
    let (client, path) = (&client.after_change(), format!("/v1/packages/{package}"));
    let first: PackageDetail = client.get(&path).await?;
    match timeout(patience(&first.definition), watch(client, out, &path, judge)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => {
            let now: PackageDetail = client.get(&path).await?;
            let state = now.view.headline();
            Err(Failed::waiting(format!(
                "package '{package}' is {state}; it goes on without this command: `pkgctl status {package}` shows how"
            )))
        }
    }
}

async fn watch(
    client: &Client,
    out: &Out,
    path: &str,
    judge: impl Fn(&PackageView) -> Verdict,
) -> Result<PackageView, Failed> {
    let mut shown = String::new();
    let mut seen = LogIndex(0);
    loop {
        let detail: PackageDetail = client.get(path).await?;
        let line = progress_line(&detail.view);
        if line != shown {
            out.progress(&line);
            shown = line;
        }
        match judge(&detail.view) {
            Verdict::Wait => {}
            Verdict::Reached(text) => {
                out.say(&text);
                return Ok(detail.view);
            }
            Verdict::Missed(text) => return Err(Failed::outcome(text)),
        }
        let next: Progress = client.get(&format!("/v1/changes?after={seen}&within_ms={STEP_MS}")).await?;
        seen = next.applied;
    }
}

fn progress_line(view: &PackageView) -> String {
    let owner = view.owner.as_ref().map(|o| format!(" on {o}")).unwrap_or_default();
    format!("  {}{owner}{}", view.state.word(), reason(view))
}

fn reason(view: &PackageView) -> String {
    if view.reason.is_empty() { String::new() } else { format!(" ({})", view.reason) }
}

/// Starts and stops of every resource, twice (here and on a standby), and some slack.
fn patience(package: &Package) -> Duration {
    let each = package.resources.iter().map(|r| r.start_timeout.duration() + r.stop_timeout.duration());
    each.sum::<Duration>() * 2 + SLACK
}
