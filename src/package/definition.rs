//! A package as the cluster stores it: checked, complete, with every default filled in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{FilesystemResource, LunResource, Millis, NodeName, PackageName, ResourceName, is_fenced};

/// An ordered list of resources that runs on one node at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Unique in the cluster.
    pub name: PackageName,
    /// What it is for, in the operator's words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Nodes that may own it, the preferred one first.
    pub nodes: Vec<NodeName>,
    /// Started in this order, stopped in reverse.
    pub resources: Vec<Resource>,
}

/// One resource of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Unique in the package; `ip`, `program`, `ip-2` … when the file names none.
    pub name: ResourceName,
    /// How long a start may take before it counts as failed.
    pub start_timeout: Millis,
    /// How long an orderly stop may take before it is ended by force.
    pub stop_timeout: Millis,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What a resource is, with the settings of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// A floating IP address.
    Ip(IpResource),
    /// A program run under a leash.
    Program(ProgramResource),
    /// A LUN, reserved for the owner.
    Lun(LunResource),
    /// A filesystem, mounted on the owner.
    Filesystem(FilesystemResource),
}

impl Package {
    /// The first resource whose end with the lease nothing enforces: only the end of its machine is certain.
    pub fn unenforced(&self) -> Option<&Resource> {
        self.resources.iter().find(|resource| match &resource.kind {
            Kind::Ip(_) | Kind::Program(_) | Kind::Lun(_) => false,
            Kind::Filesystem(_) => !is_fenced(self, resource),
        })
    }
}

impl Kind {
    /// The word used in files and tables.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Ip(_) => "ip",
            Kind::Program(_) => "program",
            Kind::Lun(_) => "lun",
            Kind::Filesystem(_) => "filesystem",
        }
    }
}

/// A floating address on an interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpResource {
    /// IPv4 or IPv6.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Interface name, for example `eth0`.
    pub device: String,
}

/// A program in the foreground; it is up from the moment it runs until its process ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramResource {
    /// Absolute path of the executable, then its arguments.
    pub command: Vec<String>,
    /// User to run as (name or number); root when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Working directory; `/` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// Added to the environment beside `PKG_*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// Signal number of an orderly stop (15 is SIGTERM).
    pub stop_signal: i32,
    /// Restarts in place within `restart_window` before the package moves elsewhere.
    pub restarts: u32,
    /// The sliding window in which restarts are counted.
    pub restart_window: Millis,
}
