//! `pkgctl kv get` and `list`.

use std::io::{IsTerminal, Write};

use super::verbs::{Get, List};
use super::{Client, Failed, Out, address, below, directory, outcome, query, shown};
use crate::api::types::kv::{KvItem, KvList, KvOne};
use crate::engine::kv::Key;
use crate::net::http::{Call, Method};

/// Items of one answer at most.
const PAGE: usize = 1000;

/// `pkgctl kv get K`: the bytes as they are; on a terminal with a line's end, and without what a terminal would obey.
pub async fn get(client: &Client, out: &Out, verb: &Get) -> Result<(), Failed> {
    let level = ("level", Some(verb.level.word().to_owned()));
    let path = format!("/v1/kv/{}{}", address(verb.key.as_str()), query(&[("json", Some("true".to_owned())), level]));
    let one: KvOne = outcome(client.send(Call::new(Method::GET, path)).await?)?;
    out.value(&one);
    let value = one.item.value.unwrap_or_default().0;
    if out.is_json() {
        return Ok(());
    }
    let bytes = value.bytes();
    let terminal = std::io::stdout().is_terminal();
    match (terminal && !verb.raw, shown::is_plain(bytes)) {
        (false, _) => write(bytes),
        (true, true) if bytes.ends_with(b"\n") => write(bytes),
        (true, true) => write(&[bytes, b"\n"].concat()),
        (true, false) => {
            out.progress(&format!(
                "({} bytes that are no plain text, escaped; --raw prints them as they are)",
                bytes.len()
            ));
            write(format!("{}\n", shown::line(bytes)).as_bytes())
        }
    }
}

fn write(bytes: &[u8]) -> Result<(), Failed> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|e| Failed::outcome(format!("cannot print: {e}")))
}

/// `pkgctl kv list [DIR]`: page by page, so each thousand keys are of one moment and not all of them.
pub async fn list(client: &Client, out: &Out, verb: &List) -> Result<(), Failed> {
    let path = format!("/v1/kv/{}", below(&directory(verb.dir.as_deref())?));
    let mut all: Option<KvList> = None;
    let (mut from, mut left) = (verb.from.clone(), verb.limit.unwrap_or(usize::MAX));
    while left > 0 {
        let page = page(client, verb, &path, from.as_ref(), left.min(PAGE)).await?;
        left = left.saturating_sub(page.items.len() + page.dirs.len());
        from = page.next.clone();
        if !out.is_json() {
            lines(&page, verb.values).iter().try_for_each(|line| out.line(line))?;
        } else if let Some(all) = &mut all {
            all.items.extend(page.items);
            all.dirs.extend(page.dirs);
            (all.more, all.next) = (page.more, page.next);
        } else {
            all = Some(page);
        }
        if from.is_none() {
            break;
        }
    }
    if let Some(all) = all {
        out.value(&all);
    } else if from.is_some() {
        out.progress(&format!("(there are more; --limit {} was asked for)", verb.limit.unwrap_or_default()));
    }
    Ok(())
}

async fn page(client: &Client, verb: &List, path: &str, from: Option<&Key>, limit: usize) -> Result<KvList, Failed> {
    let text = |key: &Key| key.as_str().to_owned();
    let query = query(&[
        ("level", Some(verb.level.word().to_owned())),
        ("limit", Some(limit.to_string())),
        ("from", from.map(text)),
        ("to", verb.to.as_ref().map(text)),
        ("keys", Some((!verb.values).to_string())),
        ("depth", verb.depth.map(|depth| depth.to_string())),
    ]);
    outcome(client.send(Call::new(Method::GET, format!("{path}{query}"))).await?)
}

/// Keys and directories in their order.
fn lines(page: &KvList, values: bool) -> Vec<String> {
    let value = |item: &KvItem| item.value.as_ref().filter(|_| values).map(|value| shown::line(value.0.bytes()));
    let of = |item: &KvItem| match value(item) {
        Some(value) => format!("{}\t{value}", item.key),
        None => item.key.to_string(),
    };
    let mut lines: Vec<(&str, String)> = page.items.iter().map(|item| (item.key.as_str(), of(item))).collect();
    lines.extend(page.dirs.iter().map(|dir| (dir.as_str(), dir.clone())));
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}
