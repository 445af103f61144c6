//! `pkgctl cluster leave`: this node leaves its cluster; what it knows is written down first, or discarded.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::kv::save;
use super::print::Out;
use super::standalone::{CLUSTER, status_that, typed};
use crate::api::types::Status;
use crate::api::types::raft::{LeavePlan, LeaveRequest, Left};
use crate::engine::LogIndex;
use crate::package::to_toml;

/// How long the agent may take to come up in no cluster: everything that runs is stopped first.
const OUT_WITHIN: Duration = Duration::from_secs(60);
/// All keys, for `pkgctl kv load`.
const KEYS_FILE: &str = "kv.jsonl";
/// The directory of package files.
const PACKAGES_DIR: &str = "packages";

/// Writes down what is wanted, has the node leave, and waits until it is in no cluster.
pub async fn leave(client: &Client, out: &Out, verb: &args::ClusterLeave) -> Result<(), Failed> {
    client.on_this_node("cluster leave")?;
    let plan: LeavePlan = client.get("/v1/cluster/leave").await?;
    if let Some(why) = &plan.refused {
        return Err(Failed::rejected(why.clone()));
    }
    let what =
        if verb.discard { "discarding its keys and packages" } else { "after writing down its keys and packages" };
    let ask = format!("To have {} leave cluster {} ({}), {what}", plan.node, plan.cluster, plan.id);
    let cluster = typed(out, &verb.typed, CLUSTER, &plan.cluster, &ask)?;
    let exported = match &verb.export {
        None => None,
        Some(dir) => Some(export(client, out, dir).await?),
    };
    let upto = exported.as_ref().map(|exported| exported.upto);
    let left: Left = client.call("POST", "/v1/cluster/leave", &LeaveRequest { cluster, exported: upto }).await?;
    if timeout(OUT_WITHIN, status_that(client, is_out)).await.is_err() {
        return Err(Failed::waiting(format!(
            "this node is still a member after {OUT_WITHIN:?}; it goes on without this command: `pkgctl status` shows how"
        )));
    }
    out.say(&format!("{} has left cluster {}, and nothing runs on it", plan.node, plan.cluster));
    out.say(&format!("its store will be kept in {} once it joins another", left.kept));
    out.value(&serde_json::json!({
        "cluster": left.cluster, "node": left.node, "kept": left.kept, "exported": verb.export, "revision": upto,
        "alone_after": exported.as_ref().and_then(|exported| exported.alone_after),
        "load": exported.as_ref().and_then(|exported| exported.load.clone()),
    }));
    Ok(())
}

fn is_out(status: Status) -> Option<()> {
    status.cluster.is_none().then_some(())
}

/// What was written down.
struct Exported {
    /// Up to which entry.
    upto: LogIndex,
    /// Where the log of a node that went on alone begins.
    alone_after: Option<LogIndex>,
    /// What takes only what was written since into the old cluster.
    load: Option<String>,
}

/// Everything that the node knows, in a new directory, durably.
async fn export(client: &Client, out: &Out, dir: &Path) -> Result<Exported, Failed> {
    // Once more: typing the name may have taken its time.
    let plan: LeavePlan = client.get("/v1/cluster/leave").await?;
    let failed = |e: io::Error| Failed::usage(format!("cannot write to {}: {e}; nothing was changed", dir.display()));
    let packages = dir.join(PACKAGES_DIR);
    let empty = !dir.exists() || fs::read_dir(dir).map_err(failed)?.next().is_none();
    if !empty {
        let text = format!("{} is not empty; name another directory. Nothing was changed", dir.display());
        return Err(Failed::usage(text));
    }
    // Package files may hold passwords of programs.
    DirBuilder::new().recursive(true).mode(0o700).create(&packages).map_err(failed)?;
    for package in &plan.packages {
        write(&packages.join(format!("{}.toml", package.name)), &to_toml(package)).map_err(failed)?;
    }
    let head = save::own_into_file(client, &dir.join(KEYS_FILE), plan.alone_after).await?;
    for made in [&packages, dir] {
        File::open(made).and_then(|dir| dir.sync_all()).map_err(failed)?;
    }
    let place = fs::canonicalize(dir).map_err(failed)?;
    out.say(&format!(
        "{} keys are in {}, {} package files in {}",
        head.keys,
        place.join(KEYS_FILE).display(),
        plan.packages.len(),
        place.join(PACKAGES_DIR).display()
    ));
    let keys = place.join(KEYS_FILE);
    let load = plan.alone_after.map(|after| format!("pkgctl kv load {} --newer-than {after}", keys.display()));
    if let (Some(load), Some(after)) = (&load, plan.alone_after) {
        out.say(&format!(
            "this node went on alone at revision {after}. In the old cluster, `{load}` takes only what was written here \
             since; keys that were deleted here cannot be seen in the file"
        ));
    }
    Ok(Exported { upto: plan.upto, alone_after: plan.alone_after, load })
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
