//! `pkgctl demo --keep`: the cluster stays until Ctrl-C, and people are told how to get into its nodes.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

use super::cluster::Cluster;
use super::report::Teller;

/// Prints how to enter the nodes, and waits until this process is told to end.
pub(super) fn wait(cluster: &Cluster, teller: &Teller) -> Result<()> {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| signals.add(signal));
    signals.thread_block().context("cannot wait for signals")?;
    let binary = std::env::current_exe()?.display().to_string();
    teller.say("the cluster stays until Ctrl-C. In another terminal, for `pkgctl` on a node:");
    for node in &cluster.nodes {
        let (pid, disk) = (cluster.lab.init_pid(node)?, cluster.lab.place(node).disk.display().to_string());
        teller.plain(&format!("alias {node}=\"{binary} lab-enter {pid} {binary} --root {disk}\""));
    }
    teller.plain("n1 status testpkg1");
    teller.plain("n2 move testpkg1");
    let pid = cluster.lab.init_pid(&cluster.nodes[0])?;
    teller.say("and for any other command there:");
    teller.plain(&format!("{binary} lab-enter {pid} sh"));
    signals.wait().context("cannot wait for signals")?;
    teller.say("taking the cluster down");
    Ok(())
}
