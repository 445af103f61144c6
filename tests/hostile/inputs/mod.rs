//! Everything that reads bytes from outside, each as one function from any bytes to nothing: it ends without a panic, or
//! an assertion of it failed. `tests/fuzz` feeds them by coverage, `tests/hostile` by seeds, kept inputs and a seeded
//! mutation loop.

mod addresses;
mod commands;
mod datagrams;
mod files;
mod http;
mod introduction;
mod joining;
mod keeper;
mod peers;
mod scene;
mod store;

/// One reader of bytes from outside.
pub struct Input {
    /// Its name: the fuzz target's, and the folder's of its kept inputs.
    pub name: &'static str,
    /// Reads the bytes; whether it took them for what they should be.
    pub run: fn(&[u8]) -> bool,
    /// Well-formed inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ALL: &[Input] = &[
    Input { name: "datagram", run: datagrams::run, seeds: datagrams::seeds },
    Input { name: "keeper", run: keeper::run, seeds: keeper::seeds },
    Input { name: "leash", run: keeper::leash, seeds: keeper::leash_seeds },
    Input { name: "peer", run: peers::run, seeds: peers::seeds },
    Input { name: "join", run: joining::run, seeds: joining::seeds },
    Input { name: "introduction", run: introduction::run, seeds: introduction::seeds },
    Input { name: "token", run: joining::token, seeds: joining::token_seeds },
    Input { name: "certificate", run: joining::certificate, seeds: Vec::new },
    Input { name: "http", run: http::run, seeds: http::seeds },
    Input { name: "request", run: http::request, seeds: http::request_seeds },
    Input { name: "package", run: files::package, seeds: files::package_seeds },
    Input { name: "config", run: files::config, seeds: files::config_seeds },
    Input { name: "command", run: commands::run, seeds: commands::seeds },
    Input { name: "record", run: store::record, seeds: store::record_seeds },
    Input { name: "snapshot", run: store::snapshot, seeds: store::snapshot_seeds },
    Input { name: "store", run: store::run, seeds: store::seeds },
    Input { name: "netlink", run: addresses::netlink, seeds: addresses::netlink_seeds },
    Input { name: "neighbour", run: addresses::neighbour, seeds: addresses::neighbour_seeds },
];

/// The input of that name.
///
/// # Panics
/// There is none.
pub fn named(name: &str) -> &'static Input {
    ALL.iter().find(|input| input.name == name).expect("every target is named after an input")
}

/// A byte that chooses, then the rest.
fn choice(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}

/// What [`choice`] takes apart.
fn chosen(first: u8, rest: &[u8]) -> Vec<u8> {
    [&[first], rest].concat()
}
