//! The checks, a file each.

pub mod activity;
pub mod alive;
pub mod idle;
pub mod kept;
pub mod linear;
pub mod tokens;
