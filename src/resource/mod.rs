//! How one resource goes up and down: one file per kind, one line each in the registry below, plain async code over a
//! narrow port to the host.
//!
//! - [`port`]: what a kind may ask of the host.
//! - `ip`, `program`, `lun`, `filesystem`: the kinds.
//! - [`reservation`]: how a LUN is taken from an older ownership, and what a device is asked for it.

pub mod filesystem;
pub mod ip;
pub mod lun;
pub mod port;
pub mod program;
pub mod reservation;

pub use port::{Credentials, Host, Place, ProgramSpec, Storage, Trouble};

use crate::engine::{SessionId, Token};
use crate::package::{Kind, NodeName, Package, PackageName, Resource, is_fenced};

/// One resource of one ownership on one node.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its package.
    pub package: PackageName,
    /// As defined.
    pub resource: Resource,
    /// The ownership.
    pub token: Token,
    /// Its session.
    pub session: SessionId,
    /// This node.
    pub node: NodeName,
}

impl Target {
    /// The resource's place for the keeper.
    pub fn place(&self) -> Place {
        Place {
            package: self.package.clone(),
            resource: self.resource.name.clone(),
            token: self.token,
            session: self.session,
        }
    }
}

/// Brings it up; what is up already under this ownership is found, not started twice (L18). Answers what to show.
///
/// # Errors
/// [`Trouble`] says whether it failed or a rule refused it.
pub async fn start<H: Host>(host: &H, target: &Target) -> Result<String, Trouble> {
    match &target.resource.kind {
        Kind::Ip(ip) => ip::start(host, target, ip).await,
        Kind::Program(program) => program::start(host, target, program).await,
        Kind::Lun(lun) => lun::start(host, target, lun).await,
        Kind::Filesystem(filesystem) => filesystem::start(host, target, filesystem).await,
    }
}

/// Ends what [`start`] began, for a kind whose start only lays the ground.
///
/// # Errors
/// [`Trouble`] says whether it failed or a rule refused it.
pub async fn open<H: Host>(host: &H, target: &Target) -> Result<String, Trouble> {
    match &target.resource.kind {
        Kind::Ip(ip) => ip::open(host, target, ip).await,
        Kind::Program(_) | Kind::Lun(_) | Kind::Filesystem(_) => Ok(String::new()),
    }
}

/// Takes it down in good order; done means that nothing of it is left.
///
/// # Errors
/// [`Trouble`] says what is still there.
pub async fn stop<H: Host>(host: &H, target: &Target) -> Result<String, Trouble> {
    match &target.resource.kind {
        Kind::Ip(_) => ip::stop(host, target).await,
        Kind::Program(program) => program::stop(host, target, program).await,
        Kind::Lun(_) => lun::stop(host, target).await,
        Kind::Filesystem(_) => filesystem::stop(host, target).await,
    }
}

/// What enforces the end of the lease for this resource of its package, in one word: `kernel`, `storage`, `keeper` or
/// `none`. The keeper unmounts what is not fenced, but a frozen keeper would not.
pub fn guarantee(package: &Package, resource: &Resource) -> &'static str {
    match &resource.kind {
        Kind::Ip(_) | Kind::Program(_) => "kernel",
        Kind::Lun(_) => "storage",
        Kind::Filesystem(_) if is_fenced(package, resource) => "storage",
        Kind::Filesystem(_) => "none",
    }
}
