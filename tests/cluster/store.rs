//! Disks that fill up, are damaged, or are lost.

use std::fs;
use std::path::{Path, PathBuf};

use pkgctl::lab::Place;

use super::bench::{Bench, agent};

/// The state directory of a node, on a file system of its own that can be filled up.
const SMALL: &str = "size=24m,mode=700";

fn state(bench: &Bench, node: &str) -> PathBuf {
    bench.lab.place(node).disk.join("var/lib/pkgctl")
}

/// The agent, with its state on a small file system that outlives its restarts.
fn on_small_disk(place: &Place) -> Vec<String> {
    let state = place.disk.join("var/lib/pkgctl").display().to_string();
    let mount =
        "mkdir -p \"$0\"; mountpoint -q \"$0\" || mount -t tmpfs -o \"$1\" tmpfs \"$0\" || exit; shift; exec \"$@\"";
    let mut words: Vec<String> = ["/bin/sh", "-c", mount, &state, SMALL].map(str::to_owned).to_vec();
    words.extend(agent(place));
    words
}

#[lab]
fn a_node_whose_disk_is_full_hands_its_packages_over_and_comes_back_when_there_is_room() {
    let Some(bench) = Bench::founded_with(&["n1", "n2", "n3"], "default", on_small_disk) else { return };
    bench.join("n2");
    bench.join("n3");
    bench.run_package(&["n1", "n2"]);
    assert_eq!(bench.owner(), "n1");
    let watch = bench.watch();
    let filler = state(&bench, "n1").join("filler").display().to_string();
    // It ends when there is no room left, so its exit code says nothing.
    bench
        .lab
        .run_in("n1", &["dd", "if=/dev/zero", &format!("of={filler}"), "bs=4096"], super::bench::PATIENCE)
        .unwrap();
    // Something must be written until the store needs more room; whether it is done does not matter.
    let value = "x".repeat(64 << 10);
    bench.until("the owner has gone", || {
        let answered = (0..4).filter_map(|_| bench.request("n2", "PUT", "/v1/kv/filler", &value)).count();
        answered == 4 && bench.owner_by("n2") == "n2"
    });
    let console = bench.lab.console("n1");
    assert!(console.contains("Free space on that filesystem"), "{console}");
    assert!(!console.contains("panicked"), "{console}");
    bench.lab.run_in("n1", &["rm", &filler], super::bench::PATIENCE).unwrap();
    bench.whole();
    bench.no_double_activity(watch);
}

#[lab]
fn a_damaged_store_is_refused_with_what_to_do_and_a_lost_one_comes_back_as_a_new_node() {
    let Some(bench) = Bench::unhurried(&["n1", "n2", "n3"]).map(Bench::grown) else { return };
    let watch = bench.watch();
    bench.lab.power_off("n3").unwrap();
    let file = state(&bench, "n3").join("raft");
    assert!(damage(&file) > 0, "nothing to damage in {}", file.display());
    bench.lab.power_on("n3").unwrap();
    bench.until("n3 says what is wrong", || bench.lab.console("n3").contains("damaged"));
    let console = bench.lab.console("n3");
    assert!(console.contains("cluster join"), "it says what to do: {console}");
    assert!(!console.contains("panicked"), "{console}");
    bench.until("its absence is told", || {
        bench.ctl("n1", &["status"]).contains("voters down: n3. The loss of one more stops")
    });

    // What it says to do: the state directory is moved away, the node given up and taken in again.
    bench.lab.power_off("n3").unwrap();
    let state = state(&bench, "n3");
    fs::rename(&state, state.with_extension("damaged")).unwrap();
    let id = |bench: &Bench| {
        let nodes = bench.cluster()["cluster"]["nodes"].as_array().cloned().unwrap_or_default();
        nodes.iter().find(|n| n["name"] == "n3").and_then(|n| n["id"].as_u64())
    };
    let old = id(&bench).unwrap();
    bench.ctl("n1", &["cluster", "remove", "n3"]);
    assert!(bench.ctl("n2", &["status"]).contains("two voters"));
    bench.lab.power_on("n3").unwrap();
    bench.join("n3");
    bench.whole();
    assert!(id(&bench).unwrap() > old, "under a new id");
    assert!(bench.ctl("n3", &["status"]).contains("survives 1 failure"));
    bench.nothing_failed(watch);
}

/// Changes bytes at the beginning of every file, as a failing disk does; how many files there were.
fn damage(dir: &Path) -> usize {
    let paths: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|found| found.unwrap().path()).collect();
    let one = |path: &PathBuf| {
        if path.is_dir() {
            return damage(path);
        }
        let mut bytes = fs::read(path).unwrap();
        bytes.iter_mut().take(64).for_each(|byte| *byte ^= 0x5a);
        fs::write(path, bytes).unwrap();
        1
    };
    paths.iter().map(one).sum()
}
