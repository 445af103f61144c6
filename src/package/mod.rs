//! What a package is: its definition, how a file becomes one, and what is wrong with a file that does not.
//!
//! Pure: no clock, no I/O. Names follow the field: a package is an ordered list of resources with one owner.

pub mod definition;
pub mod name;
pub mod units;

pub use definition::{IpResource, Kind, Package, ProgramResource, Resource};
pub use name::{NodeName, PackageName, ResourceName};
pub use units::Millis;
