//! `pkgctl init P`: stores the definition of P's file. Nothing changes until every problem of the file is solved.
//! `pkgctl delete P` forgets it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::print::Out;
use crate::api::types::{Changed, DefineRequest, PackageDetail};
use crate::bounded;
use crate::config::FILE_LIMIT;
use crate::package::{Package, PackageName, diff, parse, restart_needed};

/// Stores a definition, shows a difference, or finds that there is none.
pub async fn init(client: &Client, out: &Out, verb: &args::Init) -> Result<(), Failed> {
    let definition = load(client, verb)?;
    let name = &definition.name;
    let stored: Option<PackageDetail> = client.get_if_any(&format!("/v1/packages/{name}")).await?;
    let Some(stored) = stored else {
        let changed = define(client, &definition, None).await?;
        out.say(&format!("package '{name}' is stored and halted; `pkgctl run {name}` starts it"));
        out.value(&changed);
        return Ok(());
    };
    if stored.definition == definition {
        out.say(&format!("package '{name}' is stored already, with the same content"));
        out.value(&serde_json::json!({"already": true, "revision": stored.view.revision}));
        return Ok(());
    }
    out.say(&diff(&stored.definition, &definition));
    check_update(verb, &stored, &definition)?;
    let changed = define(client, &definition, Some(&stored)).await?;
    out.say(&format!("package '{name}' is updated"));
    out.value(&changed);
    Ok(())
}

/// Forgets a stored definition; its file, if there is one, stays.
pub async fn delete(client: &Client, out: &Out, verb: &args::Delete) -> Result<(), Failed> {
    let name = &verb.package;
    let stored: PackageDetail = client.get(&format!("/v1/packages/{name}")).await?;
    let path = format!("/v1/packages/{name}?revision={}", stored.view.revision);
    let changed: Changed = client.call("DELETE", &path, &serde_json::json!({})).await?;
    out.say(&format!("package '{name}' is forgotten"));
    out.value(&changed);
    Ok(())
}

async fn define(client: &Client, definition: &Package, stored: Option<&PackageDetail>) -> Result<Changed, Failed> {
    let replaces = stored.map(|s| s.view.revision);
    let request = DefineRequest { definition: definition.clone(), replaces };
    client.call("PUT", &format!("/v1/packages/{}", definition.name), &request).await
}

fn check_update(verb: &args::Init, stored: &PackageDetail, definition: &Package) -> Result<(), Failed> {
    let name = &definition.name;
    if !verb.update {
        return Err(Failed::rejected(format!(
            "package '{name}' is stored with other content, see above; nothing was changed; add --update to replace it"
        )));
    }
    let restarts = restart_needed(&stored.definition, definition);
    let runs = stored.view.owner.is_some();
    if runs && !restarts.is_empty() && !verb.restart {
        return Err(Failed::rejected(format!(
            "package '{name}' runs, and this update would restart it: {}; nothing was changed; add --restart to allow it",
            restarts.join("; ")
        )));
    }
    Ok(())
}

fn load(client: &Client, verb: &args::Init) -> Result<Package, Failed> {
    let path = find(client, verb)?;
    let shown = path.display().to_string();
    let text = read(&path).map_err(|e| Failed::usage(format!("{shown} cannot be read: {e}; nothing was changed")))?;
    let definition = parse(&shown, &text).map_err(|problems| Failed::usage(problems.to_string()))?;
    if definition.name != verb.package {
        return Err(Failed::usage(format!(
            "{shown} defines package '{}', not '{}'; nothing was changed; name them alike",
            definition.name, verb.package
        )));
    }
    Ok(definition)
}

/// A file's text, if it is a file.
fn read(path: &Path) -> io::Result<String> {
    // Opening a fifo without a writer would wait for one.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    bounded::text(bounded::read_open(&file, FILE_LIMIT)?)
}

fn find(client: &Client, verb: &args::Init) -> Result<PathBuf, Failed> {
    if let Some(file) = &verb.file {
        return Ok(file.clone());
    }
    let here = PathBuf::from(format!("{}.toml", verb.package));
    let there = client.places.package_file(&verb.package);
    [here.clone(), there.clone()].into_iter().find(|p| p.exists()).ok_or_else(|| missing(&verb.package, &here, &there))
}

fn missing(package: &PackageName, here: &std::path::Path, there: &std::path::Path) -> Failed {
    Failed::usage(format!(
        "there is no ./{} and no {}; nothing was changed; copy pkg-templates/template.toml to {package}.toml, edit it, \
         or name a file with -f",
        here.display(),
        there.display()
    ))
}
