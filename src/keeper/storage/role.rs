//! `pkgctl storage KEEPER DEADLINE`: one operation on one LUN or filesystem, then the end of the process. It dies with
//! the keeper, and a start dies at its deadline, wherever it is; what it was in the middle of is undone by another.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use nix::errno::Errno;
use nix::unistd::{Pid, setsid};

use super::{Act, Answer, Order, Task, filesystem, lun};
use crate::engine::codec;
use crate::engine::time::BootTime;
use crate::host::kill_timer::KillTimer;
use crate::host::packets::{Packets, Wait};
use crate::host::process::{block_signals, die_with_parent, keep_children};
use crate::keeper::leash::wire::deadline;

/// Stands for the deadline of a process that has none.
pub(super) const NO_DEADLINE: &str = "-";

/// Runs the role, with a socket to the keeper as standard input.
pub fn run(words: &[OsString]) -> ExitCode {
    let Some((parent, first)) = parse(words) else {
        eprintln!("pkgctl storage is started by the keeper, not by people; nothing was done");
        return ExitCode::from(2);
    };
    let line = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(fd) => Arc::new(Packets::from_fd(fd)),
        Err(error) => {
            eprintln!("pkgctl storage: its socket is missing: {error}; nothing was done");
            return ExitCode::FAILURE;
        }
    };
    let told = match begin(&line, parent, first) {
        Ok(order) => answer(&line, &carry_out(&order)),
        Err(errno) => answer(&line, &Err(format!("its process could not be set up: {}", errno.desc())).into()),
    };
    // If the keeper is gone there is nobody left to tell.
    told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn parse(words: &[OsString]) -> Option<(Pid, Option<BootTime>)> {
    let [parent, first] = words else { return None };
    let parent = parent.to_str()?.parse().ok().map(Pid::from_raw)?;
    let first = match first.to_str()? {
        NO_DEADLINE => None,
        number => Some(BootTime(number.parse().ok()?)),
    };
    Some((parent, first))
}

/// Bound to the keeper's life and armed: only then the order is read, which the keeper sends once it has recorded this
/// process.
fn begin(line: &Arc<Packets>, parent: Pid, first: Option<BootTime>) -> Result<Order, Errno> {
    die_with_parent(parent)?;
    setsid()?;
    block_signals()?;
    keep_children();
    let (orders, order): (Sender<Result<Order, Errno>>, Receiver<_>) = mpsc::channel();
    let line = Arc::clone(line);
    let listen = move || {
        let Err(errno) = listen(&line, first, &orders);
        // Once the order was given this is the keeper's end, and PDEATHSIG's business.
        let _ = orders.send(Err(errno));
    };
    thread::Builder::new().name("deadline".into()).spawn(listen).map_err(|_| Errno::EAGAIN)?;
    order.recv().map_err(|_| Errno::EPIPE)?
}

/// Moves the deadline as told, on a thread of its own, because the operation may be anywhere in the kernel. The timer
/// kills the process, whichever thread has made it.
fn listen(line: &Packets, first: Option<BootTime>, orders: &Sender<Result<Order, Errno>>) -> Result<Infallible, Errno> {
    let mut timer = match first {
        None => None,
        Some(at) => {
            let mut timer = KillTimer::new()?;
            timer.arm(at)?;
            Some(timer)
        }
    };
    loop {
        let packet = line.receive(Wait::Forever)?.ok_or(Errno::EPIPE)?;
        match (deadline(&packet.bytes), &mut timer) {
            (Some(at), Some(timer)) => timer.arm(at)?,
            (Some(_), None) => {}
            (None, _) => {
                let order = codec::decode(&packet.bytes).map_err(|_| Errno::EBADMSG)?;
                orders.send(Ok(order)).map_err(|_| Errno::EPIPE)?;
            }
        }
    }
}

fn answer(line: &Packets, answer: &Answer) -> Result<(), Errno> {
    line.send(&codec::encode(answer), &[], None, Wait::Forever)
}

fn carry_out(order: &Order) -> Answer {
    let Order { act, task, others } = order;
    match (task, act) {
        (Task::Lun { lun, key }, Act::Do) => lun::start(lun, *key, others),
        (Task::Lun { lun, key }, Act::Undo) => lun::stop(lun, *key, others),
        (Task::Filesystem(filesystem), Act::Do) => filesystem::start(filesystem, others).into(),
        (Task::Filesystem(filesystem), Act::Undo) => filesystem::stop(filesystem, others).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_anybody_but_the_keeper_are_refused() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(parse(&words("12 34")), Some((Pid::from_raw(12), Some(BootTime(34)))));
        assert_eq!(parse(&words("12 -")), Some((Pid::from_raw(12), None)));
        for bad in ["", "12", "12 x", "12 34 56", "x 34"] {
            assert_eq!(parse(&words(bad)), None, "{bad}");
        }
    }
}
