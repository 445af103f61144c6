//! What a kind may ask of the host. The agent answers through the keeper, tests and the simulator with fakes.

use std::collections::BTreeMap;
use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::engine::{SessionId, Token};
use crate::package::{FilesystemResource, IpResource, LunResource, Millis, PackageName, ResourceName};

/// Which resource of which ownership an operation is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Its package.
    pub package: PackageName,
    /// Its name there.
    pub resource: ResourceName,
    /// The ownership it runs under. The keeper refuses a start at or below a released token and below the largest
    /// token it has seen for the package (rule 20).
    pub token: Token,
    /// The session of that ownership; the keeper refuses a start under any but its own live one.
    pub session: SessionId,
}

/// A program, with everything looked up that must be looked up outside its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSpec {
    /// Executable and arguments.
    pub command: Vec<String>,
    /// Numeric user, group and supplementary groups.
    pub credentials: Option<Credentials>,
    /// Working directory.
    pub working_directory: String,
    /// The whole environment, `PKG_TOKEN` included.
    pub environment: BTreeMap<String, String>,
    /// File that stdout and stderr are appended to.
    pub log: String,
}

/// What the keeper takes and mounts, and gives up with the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Storage {
    /// A LUN.
    Lun(LunResource),
    /// A filesystem.
    Filesystem(FilesystemResource),
}

/// Whom a program runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// Why an operation did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// It was tried and failed; nothing of it is left up unless the text says so.
    #[error("{0}")]
    Failed(String),
    /// A rule refused it: no lease ahead, an old token, another session. The resource is not to blame.
    #[error("refused: {0}")]
    Refused(String),
}

/// The host as kinds see it.
pub trait Host: Clone + Send + Sync + 'static {
    /// Begins to take an address over; done when it is set, guarded and shut, and being asked for on the network.
    fn ip_set(&self, place: Place, ip: IpResource) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Takes an address over, duplicate check and announcement included.
    fn ip_up(&self, place: Place, ip: IpResource) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Gives an address up.
    fn ip_down(&self, place: Place) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Starts a program in a fresh leash; answers its process id.
    fn program_up(&self, place: Place, program: ProgramSpec) -> impl Future<Output = Result<i32, Trouble>> + Send;

    /// Signals a program, waits, then ends everything it left.
    fn program_down(
        &self,
        place: Place,
        signal: i32,
        grace: Millis,
    ) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Takes a LUN, or mounts a filesystem.
    fn storage_up(&self, place: Place, storage: Storage) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Gives a LUN up, or unmounts a filesystem; done means that its device is free on this node. After `within` an
    /// answer comes that it is not done yet.
    fn storage_down(&self, place: Place, within: Millis) -> impl Future<Output = Result<(), Trouble>> + Send;

    /// Looks a user up by name or number.
    ///
    /// # Errors
    /// [`Trouble::Failed`] when there is no such user on this host.
    fn credentials(&self, user: &str) -> Result<Credentials, Trouble>;

    /// The file that a package's programs write to.
    fn log_file(&self, package: &PackageName) -> String;
}
