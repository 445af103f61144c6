//! Kind `program`: a program in the foreground, run under a leash. It is up from the moment it runs.

use std::collections::BTreeMap;

use super::{Host, ProgramSpec, Target, Trouble};
use crate::package::ProgramResource;

/// The search path a program starts with; its definition may set another.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts it.
///
/// # Errors
/// There is no such user, or it could not be executed.
pub async fn start<H: Host>(host: &H, target: &Target, program: &ProgramResource) -> Result<String, Trouble> {
    let credentials = program.user.as_deref().map(|user| host.credentials(user)).transpose()?;
    let spec = ProgramSpec {
        command: program.command.clone(),
        credentials,
        working_directory: program.working_directory.clone().unwrap_or_else(|| "/".to_owned()),
        environment: environment(target, program),
        log: host.log_file(&target.package),
    };
    let pid = host.program_up(target.place(), spec).await?;
    Ok(format!("pid {pid}"))
}

/// Stops it: its signal, its time, then the end of everything it left.
///
/// # Errors
/// Something of it cannot die, which the text names.
pub async fn stop<H: Host>(host: &H, target: &Target, program: &ProgramResource) -> Result<String, Trouble> {
    host.program_down(target.place(), program.stop_signal, target.resource.stop_timeout).await?;
    Ok(String::new())
}

fn environment(target: &Target, program: &ProgramResource) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
    all.extend(program.environment.clone());
    all.insert("PKG_NAME".to_owned(), target.package.to_string());
    all.insert("PKG_NODE".to_owned(), target.node.to_string());
    all.insert("PKG_RESOURCE".to_owned(), target.resource.name.to_string());
    all.insert("PKG_TOKEN".to_owned(), target.token.to_string());
    all
}
