//! Whole runs of the simulation. One program, because each has all of the manager's generic code in it once more.

mod plants;
mod seeds;
