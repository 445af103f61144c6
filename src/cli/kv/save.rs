//! `pkgctl kv save`: all keys of a range at one moment, into a file that is there whole or not at all.

use std::io::Write;
use std::path::Path;

use super::backup::{Head, Writer};
use super::verbs::Save;
use super::{Client, Failed, Out, below, directory};
use crate::api::types::Failure;
use crate::api::types::kv::{KvItem, KvSaved};
use crate::engine::kv::Range;
use crate::net::http::{Call, Lines, Method};

/// Keys of a range as they were at one moment, as they come.
pub struct Saved {
    /// The answer's first line.
    pub head: KvSaved,
    lines: Lines,
    left: u64,
}

impl Saved {
    /// Asks for them.
    pub async fn ask(client: &Client, range: &Range, level: &str) -> Result<Self, Failed> {
        Self::of(client, format!("/v1/save/{}?level={level}", below(range))).await
    }

    /// Asks for those behind a path.
    async fn of(client: &Client, path: String) -> Result<Self, Failed> {
        let (status, mut lines) = client.lines(&Call::new(Method::GET, path)).await?;
        let first = lines.next().await.map_err(broke)?.unwrap_or_default();
        if status != 200 {
            let message = serde_json::from_str::<Failure>(&first).map_or(first, |failure| failure.message);
            return Err(if status == 503 { Failed::unreachable(message) } else { Failed::rejected(message) });
        }
        let head: KvSaved = serde_json::from_str(&first).map_err(odd)?;
        Ok(Self { left: head.keys, head, lines })
    }

    /// The next key; none after the last.
    pub async fn next(&mut self) -> Result<Option<KvItem>, Failed> {
        let line = self.lines.next().await.map_err(broke)?;
        match (line, self.left) {
            (None, 0) => Ok(None),
            (Some(line), 1..) => {
                self.left -= 1;
                serde_json::from_str(&line).map(Some).map_err(odd)
            }
            (None, left) => {
                Err(Failed::unreachable(format!("the agent's answer ended {left} keys too early; try again")))
            }
            (Some(_), 0) => Err(Failed::outcome("the agent sent more keys than it said".to_owned())),
        }
    }
}

fn broke(error: crate::net::http::HttpError) -> Failed {
    Failed::unreachable(format!("{error}; nothing was changed"))
}

fn odd(error: serde_json::Error) -> Failed {
    Failed::outcome(format!("the agent's answer cannot be read ({error}); is it another version of pkgctl?"))
}

/// `pkgctl kv save [DIR] [-o FILE]`.
pub async fn save(client: &Client, out: &Out, verb: &Save) -> Result<(), Failed> {
    let range = directory(verb.dir.as_deref())?;
    let dir = match &range {
        Range::Below(dir) => format!("{dir}/"),
        Range::All | Range::Between { .. } => String::new(),
    };
    let saved = Saved::ask(client, &range, verb.level.word()).await?;
    match &verb.output {
        None => write(saved, dir, &mut std::io::stdout().lock()).await.map(drop),
        Some(path) => {
            let head = into_file(saved, dir, path).await?;
            out.value(&serde_json::json!({"revision": head.revision, "keys": head.keys, "file": path}));
            out.say(&format!("{} keys of revision {} are in {}", head.keys, head.revision, path.display()));
            Ok(())
        }
    }
}

/// Writes every key that this node itself knows into a file; a member without a majority can be asked too.
pub async fn own_into_file(client: &Client, path: &Path) -> Result<Head, Failed> {
    into_file(Saved::of(client, "/v1/cluster/leave/keys".to_owned()).await?, String::new(), path).await
}

/// The file is there whole and durable, or not at all.
async fn into_file(saved: Saved, dir: String, path: &Path) -> Result<Head, Failed> {
    let failed = |e: std::io::Error| Failed::outcome(format!("cannot write {}: {e}", path.display()));
    let place = path.parent().filter(|place| !place.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(place).map_err(failed)?;
    let head = write(saved, dir, &mut file).await?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(head)
}

async fn write(mut saved: Saved, dir: String, to: &mut impl Write) -> Result<Head, Failed> {
    let failed = |e: std::io::Error| Failed::outcome(format!("the backup cannot be written: {e}"));
    let head = Head::new(saved.head.cluster, dir, saved.head.revision, saved.head.keys);
    let (mut writer, line) = Writer::begin(&head);
    to.write_all(&line).map_err(failed)?;
    while let Some(item) = saved.next().await? {
        to.write_all(&writer.item(&item)).map_err(failed)?;
    }
    to.write_all(&writer.end()).and_then(|()| to.flush()).map_err(failed)?;
    Ok(head)
}
