//! What must hold, one file each. I1 and I2 are also judged at every act (`acts`).
//!
//! - [`states`]: I2 and I6, and what any state must be like, over everything that any node ever applied.
//! - [`keys`]: what was answered about keys is linearizable, each request carried out once, under its token.
//! - [`linear`]: what operators were told is linearizable, and I3: nothing acknowledged is lost.
//! - [`live`]: I4: within a bound after the last fault, everything that should run runs.
//! - [`idle`]: I5: what touches no package disturbs none.

pub mod idle;
pub mod keys;
pub mod linear;
pub mod live;
pub mod states;
