//! The operating system, and nowhere else.
//!
//! - [`block`], [`mounts`]: block devices and what is mounted of them.
//! - [`clock`]: the one place that reads clocks.
//! - [`sched`]: real-time scheduling, locked memory, protection from the OOM killer, and their reset for programs.
//! - [`process`]: processes held by descriptor, so that a number that was used again is never signalled.
//! - [`kill_timer`]: a kernel timer that kills its own process at an absolute time.
//! - [`own_files`]: files and directories made with their mode, and refused where others could change them.
//! - [`packets`]: local sockets that keep message boundaries and carry descriptors and process ids.
//! - [`keeper_link`]: the agent's link to its keeper, and starting one.
//! - [`users`]: users and groups by name or number.
//! - [`netlink`]: links, addresses, nftables, sockets of an address.
//! - [`pr`]: persistent reservations of block devices.
//! - [`systemd`]: what the service manager is told, without ever waiting for it.
//! - [`fence_agent`]: fence agents, bounded in time and output.
//! - [`watchdog`]: the machine's watchdog device.
//! - [`arp`], [`nd`]: probes and announcements of an address, as bytes.
//! - [`tap`]: the packet socket that carries them.

pub mod arp;
pub mod block;
pub mod clock;
pub mod fence_agent;
pub mod keeper_link;
pub mod kill_timer;
pub mod mounts;
pub mod nd;
pub mod netlink;
pub mod own_files;
pub mod packets;
pub mod pr;
pub mod process;
pub mod sched;
pub mod systemd;
pub mod tap;
pub mod users;
pub mod watchdog;
