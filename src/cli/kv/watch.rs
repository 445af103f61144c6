//! `pkgctl kv watch`: changes as they come, a line each, across lost connections and agents that end.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::save::Saved;
use super::verbs::Watch;
use super::{Client, Failed, Out, address, below, shown};
use crate::api::routes::APPLIED;
use crate::api::types::Failure;
use crate::api::types::kv::{KvGone, KvItem, KvOne, Meant};
use crate::engine::LogIndex;
use crate::engine::kv::{Key, Range};
use crate::net::http::{Call, Lines, Method};

/// A member says every ten seconds that a watch is alive; one that says nothing for so long is lost.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// Pause before a lost watch is opened again.
const PAUSE: Duration = Duration::from_millis(500);

/// What an event came to.
enum Heard {
    /// A change, or that the watch is alive.
    Going,
    /// Changes were missed.
    Behind,
}

/// One event as it comes in.
#[derive(Default)]
struct Event {
    name: String,
    data: String,
}

/// `pkgctl kv watch [KEY|DIR/]`; ends only when it is told to, or refused.
pub async fn watch(client: &Client, out: &Out, verb: &Watch) -> Result<(), Failed> {
    let meant = super::meant(verb.path.as_deref().unwrap_or("/"))?;
    let mut after = verb.after.map(LogIndex);
    loop {
        match follow(client, out, &meant, &mut after).await {
            Ok(()) => out.progress("(the watch has ended; going on)"),
            Err(Lost::Behind) => {
                out.warn("changes were missed; the keys as they are now follow");
                after = Some(all(client, out, &meant).await?);
            }
            Err(Lost::Broken(why)) => out.progress(&format!("({why}; going on)")),
            Err(Lost::Refused(failed)) => return Err(failed),
        }
        sleep(PAUSE).await;
    }
}

/// Why a watch does not go on by itself.
enum Lost {
    Behind,
    Broken(String),
    Refused(Failed),
}

async fn follow(client: &Client, out: &Out, meant: &Meant, after: &mut Option<LogIndex>) -> Result<(), Lost> {
    let from = after.map(|after| format!("?after={after}")).unwrap_or_default();
    let path = match meant {
        Meant::Key(key) => format!("/v1/watch/{}{from}", address(key.as_str())),
        Meant::Below(range) => format!("/v1/watch/{}{from}", below(range)),
    };
    let broken = |failed: Failed| Lost::Broken(failed.message);
    let (status, mut lines) = client.lines(&Call::new(Method::GET, path)).await.map_err(broken)?;
    if status != 200 {
        return Err(refused(status, lines.next().await.ok().flatten().unwrap_or_default()));
    }
    let mut event = Event::default();
    while let Some(line) = next(&mut lines).await? {
        if let Some(id) = line.strip_prefix("id: ") {
            *after = id.parse().ok().map(LogIndex).or(*after);
        } else if let Some(name) = line.strip_prefix("event: ") {
            event.name = name.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ") {
            event.data = data.to_owned();
        } else if line.is_empty() {
            match heard(out, &std::mem::take(&mut event)).map_err(Lost::Refused)? {
                Heard::Going => {}
                Heard::Behind => return Err(Lost::Behind),
            }
        }
    }
    Ok(())
}

async fn next(lines: &mut Lines) -> Result<Option<String>, Lost> {
    match timeout(SILENT_MAX, lines.next()).await {
        Ok(Ok(line)) => Ok(line),
        Ok(Err(error)) => Err(Lost::Broken(error.to_string())),
        Err(_elapsed) => Err(Lost::Broken(format!("the member has said nothing for {SILENT_MAX:?}"))),
    }
}

fn refused(status: u16, body: String) -> Lost {
    let message = serde_json::from_str::<Failure>(&body).map_or(body, |failure| failure.message);
    match status {
        410 => Lost::Behind,
        // No leader, too many watches, an agent that ends: another member may do.
        503 => Lost::Broken(message),
        400 => Lost::Refused(Failed::usage(message)),
        _ => Lost::Refused(Failed::rejected(message)),
    }
}

fn heard(out: &Out, event: &Event) -> Result<Heard, Failed> {
    let odd = |e: serde_json::Error| {
        Failed::outcome(format!("the agent's event cannot be read ({e}); is it another version of pkgctl?"))
    };
    match event.name.as_str() {
        "put" => put(out, &serde_json::from_str(&event.data).map_err(odd)?)?,
        "delete" => gone(out, &serde_json::from_str(&event.data).map_err(odd)?)?,
        "end" => {
            let failure: Failure = serde_json::from_str(&event.data).map_err(odd)?;
            if failure.code == "behind" {
                return Ok(Heard::Behind);
            }
            out.progress(&format!("({})", failure.message));
        }
        // An empty event only says that the watch is alive.
        _ => {}
    }
    Ok(Heard::Going)
}

fn put(out: &Out, item: &KvItem) -> Result<(), Failed> {
    if out.is_json() {
        return out.line(&serde_json::json!({"event": "put", "item": item}).to_string());
    }
    let value = item.value.as_ref().map(|value| shown::line(value.0.bytes())).unwrap_or_default();
    out.line(&format!("{} put {} {value}", item.revision, item.key))
}

fn gone(out: &Out, gone: &KvGone) -> Result<(), Failed> {
    if out.is_json() {
        return out.line(&serde_json::json!({"event": "delete", "item": gone}).to_string());
    }
    out.line(&format!("{} delete {}", gone.revision, gone.key))
}

/// Everything as it is now, and the entry from which to go on.
async fn all(client: &Client, out: &Out, meant: &Meant) -> Result<LogIndex, Failed> {
    match meant {
        Meant::Below(range) => below_now(client, out, range).await,
        Meant::Key(key) => one_now(client, out, key).await,
    }
}

async fn below_now(client: &Client, out: &Out, range: &Range) -> Result<LogIndex, Failed> {
    let mut saved = Saved::ask(client, range, "default").await?;
    while let Some(item) = saved.next().await? {
        put(out, &item)?;
    }
    Ok(saved.head.revision)
}

async fn one_now(client: &Client, out: &Out, key: &Key) -> Result<LogIndex, Failed> {
    let path = format!("/v1/kv/{}?json=true", address(key.as_str()));
    let answer = client.send(Call::new(Method::GET, path)).await?;
    let applied = answer.header(APPLIED.as_str()).and_then(|text| text.parse().ok()).map(LogIndex);
    if answer.status == 404 {
        return Ok(applied.unwrap_or_default());
    }
    let one: KvOne = super::outcome(answer)?;
    put(out, &one.item)?;
    Ok(one.applied)
}
