//! A configuration file as tables and values that know their places, and the collecting of everything wrong with it.
//!
//! Package files and the agent's configuration are read through it. A reader goes through the whole file and reports
//! into a [`Report`]; it never stops at the first problem.
//!
//! - `sheet`: the text, its lines, and what is still readable of it when its syntax is broken.
//! - `fault`: the parser's errors in the operator's words.
//! - `repair`: how a broken line is made harmless, so that the lines after it can be read.
//! - `report`: problems as they are found.
//! - `keys`: one table's keys: unknown, missing, of the wrong type.
//! - `suggest`: did you mean.

pub mod fault;
pub mod keys;
pub mod repair;
pub mod report;
pub mod sheet;
pub mod suggest;

pub use keys::{At, Keys};
pub use report::Report;
pub use sheet::Sheet;
