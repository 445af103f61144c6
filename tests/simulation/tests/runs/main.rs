//! Whole runs of the simulation, and what its checks find. One program, because each has all of the manager's generic code in it
//! once more; so the library has no tests of its own.

mod bites;
mod plants;
mod seeds;
