//! An agent's link to its keeper: made again whenever it breaks, as `host::keeper_link` does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::{AsyncRuntime, async_runtime::Select2};
use pkgctl::keeper::link::{KeeperEvent, KeeperLink};
use pkgctl::keeper::protocol::{ToKeeper, VERSION};

use crate::keeper::{Inbox, Keeper};
use crate::machine::Machine;
use crate::rt::HostRt;

const RETRY: Duration = Duration::from_millis(50);

/// Opens the link, as a task of the agent's process.
pub fn open(machine: Arc<Machine>) -> KeeperLink {
    let (to, orders) = async_channel::unbounded();
    let (events, from) = async_channel::unbounded();
    drop(HostRt::spawn(async move {
        while !events.is_closed() {
            if let Some(keeper) = machine.keeper().filter(|keeper| may_talk(&machine, keeper)) {
                let talking = std::pin::pin!(talk(&keeper, &orders, &events));
                let _ended = HostRt::select3(talking, machine.link_broken(), dead(&keeper)).await;
                let _ = events.send(KeeperEvent::Detached).await;
            }
            HostRt::sleep(RETRY).await;
        }
    }));
    KeeperLink { to, from }
}

fn may_talk(machine: &Machine, keeper: &Keeper) -> bool {
    keeper.listens.load(Ordering::Relaxed) && !machine.is_link_held()
}

/// A connection ends with the process at its other end, whatever that had not read yet.
async fn dead(keeper: &Keeper) {
    while !keeper.process.is_dead() {
        HostRt::sleep(RETRY).await;
    }
}

async fn talk(
    keeper: &Keeper,
    orders: &async_channel::Receiver<ToKeeper>,
    events: &async_channel::Sender<KeeperEvent>,
) {
    let (to_agent, from_keeper) = async_channel::unbounded();
    let (to_keeper, frames) = async_channel::unbounded();
    let hello = ToKeeper::Hello { version: VERSION, program: "simulated".to_owned() };
    let _ = to_keeper.send(hello).await;
    if keeper.inbox.send(Inbox::Connect { to: to_agent, frames }).await.is_err() {
        return;
    }
    // What was meant for the connection before is of no use in this one.
    while orders.try_recv().is_ok() {}
    loop {
        match HostRt::select2(from_keeper.recv(), orders.recv()).await {
            Select2::First(Ok(event)) => {
                if events.send(event).await.is_err() {
                    return;
                }
            }
            Select2::Second(Ok(frame)) => {
                if to_keeper.send(frame).await.is_err() {
                    return;
                }
            }
            Select2::First(Err(_)) | Select2::Second(Err(_)) => return,
        }
    }
}
