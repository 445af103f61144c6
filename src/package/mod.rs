//! What a package is: its definition, how a file becomes one, and what is wrong with a file that does not.
//!
//! Pure: no clock, no I/O. Names follow the field: a package is an ordered list of resources with one owner.

pub mod conflict;
pub mod definition;
pub mod file;
pub mod name;
pub mod parse;
pub mod problem;
pub mod storage;
pub mod text;
pub mod units;

pub use conflict::{Claim, Conflict, addresses, conflicts};
pub use definition::{IpResource, Kind, Package, ProgramResource, Resource};
pub use name::{BadName, ClusterName, NodeName, PackageName, ResourceName};
pub use parse::filesystem::is_systems_own;
pub use parse::parse;
pub use problem::{Problem, Problems};
pub use storage::{FilesystemResource, LunResource, is_fenced};
pub use text::{check, diff, restart_needed, to_toml};
pub use units::Millis;
