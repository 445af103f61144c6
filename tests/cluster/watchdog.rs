//! What a cluster shows of its machines' watchdogs. That one resets a machine is for `tests/guests`.

use pkgctl::lab::Place;

use super::bench::{self, Bench};

/// An agent whose configuration names a watchdog that is not there.
fn with_a_watchdog(place: &Place) -> Vec<String> {
    let etc = place.disk.join("etc/pkgctl");
    std::fs::create_dir_all(&etc).unwrap();
    std::fs::write(etc.join("agent.toml"), "watchdog = \"/dev/no-watchdog\"\nwatchdog_timeout = \"7s\"\n").unwrap();
    bench::agent(place)
}

#[lab]
fn a_watchdog_that_is_configured_and_not_there_stops_nothing_and_is_shown() {
    let Some(bench) = Bench::founded_with(&["n1"], "default", with_a_watchdog) else { return };
    bench.until("the log says so", || bench.ctl("n1", &["status"]).contains("n1 goes without its watchdog"));
    let shown = bench.ctl("n1", &["cluster", "status"]);
    assert!(shown.contains("WATCHDOG") && shown.contains("not in use") && shown.contains("softdog"), "{shown}");
    bench.until("it has a lease", || bench.cluster()["local"]["lease"]["left"].as_u64() > Some(0));
}
