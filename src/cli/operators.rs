//! `pkgctl cluster client|clients|revoke`: certificates for operators on machines that are no members.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::args;
use super::client::Client;
use super::exit::Failed;
use super::print::{Out, when};
use crate::api::types::{Changed, ClientIssued, ClientRequest, ClientView};
use crate::engine::Reply;
use crate::engine::operator::ClientName;
use crate::net::identity::{Credentials, PrivateKey};

/// `pkgctl cluster client NAME`: the key is made here and goes nowhere but into its file.
pub async fn issue(client: &Client, out: &Out, verb: &args::ClusterClient) -> Result<(), Failed> {
    let name = &verb.name;
    let dir = verb.out.clone().unwrap_or_else(|| PathBuf::from(format!("pkgctl-{name}")));
    let fail = |what: &str, e: std::io::Error| Failed::usage(format!("cannot {what} {}: {e}", dir.display()));
    // Made first: a certificate that cannot be written down would be one nobody knows of.
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|e| fail("make", e))?;
    if let Some(taken) = FILES.iter().map(|file| dir.join(file)).find(|file| file.exists()) {
        let text = format!("{} exists; name another directory with --out. Nothing was changed", taken.display());
        return Err(Failed::usage(text));
    }
    let key = PrivateKey::generate();
    let request = ClientRequest { request: key.request() };
    let issued: ClientIssued = client.call("PUT", &format!("/v1/cluster/clients/{name}"), &request).await?;
    let checked = Credentials::parse(&issued.certificate, &key.pem(), &issued.authority);
    checked.map_err(|e| Failed::outcome(format!("the certificate that came is not usable: {e}")))?;
    let contents = [configuration(name, &issued), issued.certificate.clone(), key.pem(), issued.authority.clone()];
    for (file, content) in FILES.iter().zip(contents) {
        write(&dir.join(file), &content).map_err(|e| fail("write to", e))?;
    }
    let place = fs::canonicalize(&dir).unwrap_or(dir);
    let place = place.display();
    out.say(&format!("operator {name} has a certificate; it and its key are in {place}"));
    out.progress(&format!(
        "carry the directory over a channel you trust to ~/.config/pkgctl on the operator's machine (whoever has the key \
         can do what root can on every node), or try it here: pkgctl --client {place}/client.toml status"
    ));
    out.value(&serde_json::json!({"name": name, "directory": place.to_string(), "endpoints": issued.endpoints}));
    Ok(())
}

const FILES: [&str; 4] = ["client.toml", "client.crt", "client.key", "ca.crt"];

fn configuration(name: &ClientName, issued: &ClientIssued) -> String {
    let endpoints: Vec<String> = issued.endpoints.iter().map(|at| format!("    \"{at}\",\n")).collect();
    format!(
        "# How pkgctl reaches a cluster as operator {name}; belongs into ~/.config/pkgctl.\n\
         # Members are tried in turn; names of files count from here.\n\
         endpoints = [\n{}]\ncertificate = \"client.crt\"\nkey = \"client.key\"\nca = \"ca.crt\"\n",
        endpoints.concat()
    )
}

fn write(path: &Path, content: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

/// `pkgctl cluster clients`.
pub async fn list(client: &Client, out: &Out) -> Result<(), Failed> {
    let operators: Vec<ClientView> = client.get("/v1/cluster/clients").await?;
    out.value(&operators);
    if operators.is_empty() {
        out.say("no operator was given a certificate; `pkgctl cluster client NAME` makes one");
        return Ok(());
    }
    let row = |view: &ClientView| {
        let revoked = view.operator.revoked.map_or_else(|| "-".to_owned(), |at| when(Some(at)));
        vec![view.name.to_string(), when(Some(view.operator.since)), revoked]
    };
    out.table(&["OPERATOR", "SINCE", "REVOKED"], &operators.iter().map(row).collect::<Vec<_>>());
    Ok(())
}

/// `pkgctl cluster revoke NAME`.
pub async fn revoke(client: &Client, out: &Out, verb: &args::ClusterRevoke) -> Result<(), Failed> {
    let name = &verb.name;
    let empty = serde_json::json!({});
    let changed: Changed = client.call("DELETE", &format!("/v1/cluster/clients/{name}"), &empty).await?;
    match changed.reply {
        Reply::Already => out.say(&format!("operator {name} was revoked before")),
        _ => out.say(&format!(
            "operator {name} is revoked: its certificates open nothing any more, and the name is used up"
        )),
    }
    out.value(&changed);
    Ok(())
}
