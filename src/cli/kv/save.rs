//! `pkgctl kv save`: all keys of a range at one moment, into a file that is there whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::backup::{Head, Writer};
use super::verbs::Save;
use super::{Client, Failed, Out, below, directory};
use crate::api::types::Failure;
use crate::api::types::kv::{KvItem, KvSaved};
use crate::engine::LogIndex;
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

    /// The head of its file.
    fn file_head(&self, dir: String) -> Head {
        Head::new(self.head.cluster, dir, self.head.revision, self.head.keys)
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
    let output = verb.output.as_deref().filter(|path| *path != Path::new("-")).map(place_of).transpose()?;
    let saved = Saved::ask(client, &range, verb.level.word()).await?;
    if saved.head.keys == 0 {
        out.progress(&empty(&dir));
    }
    let head = saved.file_head(dir);
    match &output {
        None => write(saved, &head, &mut std::io::stdout().lock()).await,
        Some(path) => {
            let head = into_file(saved, head, path).await?;
            out.value(&serde_json::json!({"revision": head.revision, "keys": head.keys, "file": path}));
            out.say(&format!("{} keys of revision {} are in {}", head.keys, head.revision, path.display()));
            Ok(())
        }
    }
}

/// Where the file goes: what a link points to. It takes the place of what is there, which must be a file therefore.
fn place_of(path: &Path) -> Result<PathBuf, Failed> {
    let shown = path.display();
    match std::fs::canonicalize(path) {
        Ok(place) if place.is_file() => Ok(place),
        Ok(place) if place.is_dir() => Err(Failed::usage(format!("{shown} is a directory; name a file in it"))),
        Ok(_) => Err(Failed::usage(format!(
            "{shown} is no regular file, and a backup would take its place; nothing was written. To write into it, leave -o out: \
             `pkgctl kv save > {shown}`"
        ))),
        Err(_) if path.is_symlink() => {
            Err(Failed::usage(format!("{shown} is a link that leads nowhere; nothing was written")))
        }
        Err(_) => Ok(path.to_owned()),
    }
}

/// That a backup has no key in it.
fn empty(dir: &str) -> String {
    match dir.trim_end_matches('/') {
        "" => "there is no key: the backup is empty".to_owned(),
        dir => format!(
            "nothing lies below '{dir}/': the backup is empty (a key '{dir}' itself would not be in it). `pkgctl kv list` shows \
             what there is"
        ),
    }
}

/// Writes every key that this node itself knows into a file; a member without a majority can be asked too.
/// `alone_after` is where the node's own log begins, if it went on alone.
pub async fn own_into_file(client: &Client, path: &Path, alone_after: Option<LogIndex>) -> Result<Head, Failed> {
    let saved = Saved::of(client, "/v1/cluster/leave/keys".to_owned()).await?;
    let mut head = saved.file_head(String::new());
    head.alone_after = alone_after;
    into_file(saved, head, path).await
}

/// The file is there whole and durable, or not at all.
async fn into_file(saved: Saved, head: Head, path: &Path) -> Result<Head, Failed> {
    let failed = |e: std::io::Error| Failed::outcome(format!("cannot write {}: {e}", path.display()));
    let place = path.parent().filter(|place| !place.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(place).map_err(failed)?;
    write(saved, &head, &mut file).await?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(head)
}

async fn write(mut saved: Saved, head: &Head, to: &mut impl Write) -> Result<(), Failed> {
    let failed = |e: std::io::Error| Failed::outcome(format!("the backup cannot be written: {e}"));
    let (mut writer, line) = Writer::begin(head);
    to.write_all(&line).map_err(failed)?;
    while let Some(item) = saved.next().await? {
        to.write_all(&writer.item(&item)).map_err(failed)?;
    }
    to.write_all(&writer.end()).and_then(|()| to.flush()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_takes_the_place_of_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("file"), "old").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("none"), at("nowhere")).unwrap();
        let file = at("file").canonicalize().unwrap();
        assert_eq!((place_of(&at("file")).unwrap(), place_of(&at("link")).unwrap()), (file.clone(), file));
        assert_eq!(place_of(&at("new")).unwrap(), at("new"));
        let refused = |path: &Path| place_of(path).unwrap_err().message;
        assert!(refused(Path::new("/dev/null")).contains("kv save > /dev/null"));
        assert!(refused(dir.path()).contains("is a directory") && refused(&at("nowhere")).contains("leads nowhere"));
    }

    #[test]
    fn an_empty_backup_says_of_what_it_is_empty() {
        assert!(empty("").starts_with("there is no key"));
        assert!(empty("app/").starts_with("nothing lies below 'app/'"), "{}", empty("app/"));
    }
}
