//! `pkgctl lab-bed`: the process that holds a lab's namespaces and carries out its orders, one thread, one at a time.
//!
//! Its standard input is the socket to the front. When the front goes, by whatever death, the socket ends, and the bed
//! powers everything off, removes the scratch directories and ends. Should the bed itself be killed, every node's init
//! goes with it (PDEATHSIG), and with them the last references to the namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Result};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::unistd::setsid;

use super::cut::Wrong;
use super::moment::Moment;
use super::node::Running;
use super::order::{Answer, BedNode, BedSpec, Cable, Order, receive, send};
use super::{bridge, lock, node, userns};

/// Serves one lab from its first line to the end of the socket.
pub fn main(_args: &[String]) -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lab-bed: {e}; it is started by pkgctl itself, with a socket as its standard input");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<()> {
    // Ctrl-C belongs to the front, which then lets go of us in good order.
    let _ = setsid();
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut orders = BufReader::new(socket.try_clone()?);
    let Some(spec) = receive::<BedSpec>(&mut orders)? else { return Ok(()) };
    let scratch = spec.scratch.clone();
    let served = lab(spec, &socket, &mut orders);
    for dir in scratch {
        // The front removes them too; whoever comes second finds nothing.
        let _ = fs::remove_dir_all(dir);
    }
    served
}

fn lab(spec: BedSpec, socket: &UnixStream, orders: &mut BufReader<UnixStream>) -> Result<()> {
    let _lock = match lock::acquire(|holder| send(socket, &Answer::Waiting { holder: holder.to_owned() })) {
        Ok(lock) => lock,
        Err(e) => {
            let reason = format!("the lab lock cannot be taken ({e}); nothing was changed");
            return send(socket, &Answer::NotPermitted { reason });
        }
    };
    let privileged = match userns::isolate() {
        Ok(privileged) => privileged,
        Err(reason) => return send(socket, &Answer::NotPermitted { reason }),
    };
    for (dir, bytes) in &spec.small {
        if let Err(e) = make_small(dir, *bytes) {
            let reason = format!("the kernel refuses a small file system at {} ({e})", dir.display());
            return send(socket, &Answer::NotPermitted { reason });
        }
    }
    if let Err(e) = bridge::build() {
        let reason = format!("the kernel refuses a bridge with nftables in a namespace of our own ({e})");
        return send(socket, &Answer::NotPermitted { reason });
    }
    send(socket, &Answer::Ready { privileged, realtime: realtime() })?;
    let mut bed = Bed::new(spec);
    while let Some(order) = receive::<Order>(&mut *orders)? {
        let answer = bed.obey(order).unwrap_or_else(|reason| Answer::Failed { reason });
        send(socket, &answer)?;
    }
    bed.power_everything_off();
    Ok(())
}

/// Mounts a file system of that size, which all nodes inherit and which outlives their power.
fn make_small(dir: &Path, bytes: u64) -> Result<()> {
    fs::create_dir_all(dir)?;
    // As strict as a directory that the agent makes for itself: it refuses one that others may read.
    let options = format!("size={bytes},mode=700");
    Ok(mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))?)
}

/// Whether this process may have real-time scheduling, found out by asking for it.
fn realtime() -> bool {
    let set = |policy: i32, priority: i32| {
        let param = libc::sched_param { sched_priority: priority };
        // SAFETY: plain system call on our own process with a parameter that outlives it.
        unsafe { libc::sched_setscheduler(0, policy, &param) == 0 }
    };
    set(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1) && set(libc::SCHED_OTHER, 0)
}

struct Bed {
    nodes: BTreeMap<String, BedNode>,
    running: BTreeMap<String, Running>,
    cables: BTreeMap<String, Wrong>,
}

impl Bed {
    fn new(spec: BedSpec) -> Self {
        let nodes = spec.nodes.into_iter().map(|node| (node.name.clone(), node)).collect();
        Self { nodes, running: BTreeMap::new(), cables: BTreeMap::new() }
    }

    fn obey(&mut self, order: Order) -> std::result::Result<Answer, String> {
        match order {
            Order::PowerOn { node, command } => self.power_on(&node, command),
            Order::PowerOff { node } => self.power_off(&node),
            Order::Cable { node, cable } => self.cable(&node, &cable),
        }
    }

    fn node(&self, name: &str) -> std::result::Result<BedNode, String> {
        self.nodes.get(name).cloned().ok_or_else(|| format!("the lab has no node {name}"))
    }

    fn power_on(&mut self, name: &str, command: Vec<String>) -> std::result::Result<Answer, String> {
        let node = self.node(name)?;
        if self.running.contains_key(name) {
            return Err(format!("{name} is on already"));
        }
        let at = Moment::now();
        let running = node::power_on(&node, command).map_err(|e| format!("{name} does not come up: {e}"))?;
        let pid = Some(running.pid());
        self.running.insert(name.to_owned(), running);
        Ok(Answer::Done { at, pid })
    }

    /// A cut does not outlive the cable it was made in: the next power-on lays a new one.
    fn power_off(&mut self, name: &str) -> std::result::Result<Answer, String> {
        let node = self.node(name)?;
        let running = self.running.remove(name).ok_or_else(|| format!("{name} is off already"))?;
        let at = Moment::now();
        let off = node::power_off(&node, running, &self.cables.remove(name).unwrap_or_default());
        off.map_err(|e| format!("{name} does not go down: {e}"))?;
        Ok(Answer::Done { at, pid: None })
    }

    fn cable(&mut self, name: &str, cable: &Cable) -> std::result::Result<Answer, String> {
        let node = self.node(name)?;
        if !self.running.contains_key(name) {
            return Err(format!("{name} is off, so it has no cable"));
        }
        let at = Moment::now();
        let apart = cable.apart_from.iter().map(|other| self.node(other).map(|other| other.wiring.mac));
        let wrong = Wrong {
            cut: cable.cut,
            loss_percent: cable.loss_percent,
            apart_from: apart.collect::<std::result::Result<_, _>>()?,
        };
        let from = self.cables.get(name).cloned().unwrap_or_default();
        bridge::change(&node.wiring, &from, &wrong)
            .map_err(|e| format!("the cable of {name} cannot be changed: {e}"))?;
        self.cables.insert(name.to_owned(), wrong);
        Ok(Answer::Done { at, pid: None })
    }

    fn power_everything_off(&mut self) {
        for name in self.running.keys().cloned().collect::<Vec<_>>() {
            if let Err(reason) = self.power_off(&name) {
                eprintln!("lab-bed: {reason}; it ends with this process");
            }
        }
    }
}
