//! Taking a LUN and giving it up.

use std::io;
use std::path::Path;

use super::claims::Others;
use super::{Answer, holders};
use crate::host::block;
use crate::host::pr::BlockDevice;
use crate::package::LunResource;
use crate::resource::reservation::{Abort, Key, Policy, PrFault, Reservations, give_up, take};

/// Takes it.
pub fn start(lun: &LunResource, key: Key, others: &Others) -> Answer {
    let named = |why: String| format!("{}: {why}", lun.device);
    let open = || -> Result<BlockDevice, String> {
        let device = BlockDevice::open(Path::new(&lun.device)).map_err(|e| absent(&e))?;
        holders::device_is_free(device.path())?;
        Ok(device)
    };
    if let Err(why) = others.leave_device(&lun.device) {
        return Err(why).into();
    }
    let taken = open().and_then(|mut device| take_it(&mut device, lun, key));
    taken.map_err(named).into()
}

fn take_it(device: &mut impl Reservations, lun: &LunResource, key: Key) -> Result<(), String> {
    let abort = if lun.abort { Abort::Yes } else { Abort::No };
    take(device, key, Policy { abort, preempt_foreign: lun.preempt_foreign }).map_err(|e| e.to_string())
}

/// Gives it up. It must be in use by nothing on this node; a registration that cannot be ended then writes nothing, and
/// is ended by the next owner.
pub fn stop(lun: &LunResource, key: Key, others: &Others) -> Answer {
    let path = Path::new(&lun.device);
    // It was never taken, and no other node must take it either as long as that package has it here.
    if let Err(why) = others.leave_device(&lun.device) {
        return Err(why).into();
    }
    let mut device = match BlockDevice::open(path) {
        Ok(device) => device,
        Err(e) if block::is_absence(&e) => return Ok(()).into(),
        Err(e) => return left(lun, &format!("it cannot be opened ({e})")),
    };
    if let Err(why) = holders::device_is_free(path) {
        // What uses it without this ownership's registration is refused as soon as the next owner has reserved it.
        return match device.keys() {
            Ok(keys) if !keys.iter().any(|other| other.is_of(key)) => left(lun, &why),
            Ok(_) | Err(_) => Err(format!("{}: {why}", lun.device)).into(),
        };
    }
    match give_up(&mut device, key) {
        // Taking it begins with the same question: what cannot be asked was never registered.
        Ok(()) | Err(PrFault::Unsupported { .. }) => Ok(()).into(),
        Err(fault) => left(lun, &format!("this node's registration could not be ended ({fault})")),
    }
}

fn left(lun: &LunResource, why: &str) -> Answer {
    let note =
        format!("{}: {why}. This node has no part in the LUN any more, or the next owner ends what it has", lun.device);
    Answer { outcome: Ok(()), note: Some(note) }
}

fn absent(e: &io::Error) -> String {
    match block::is_absence(e) {
        true => "there is no such device on this node. See that the LUN is mapped to it (lsblk), and that the name is \
                 the same on every node"
            .to_owned(),
        false => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{ClusterId, NodeId, Token};
    use crate::resource::reservation::memory::{MemoryLun, Nexus};

    #[test]
    fn what_the_resource_says_decides_whether_a_strangers_lun_is_taken() {
        let key = Key::of(ClusterId(1), NodeId(1), Token(5)).unwrap();
        let mut device = MemoryLun::new();
        device.occupy(Nexus(9), Key(1), None);
        let mut lun = LunResource { device: "/dev/x".to_owned(), abort: true, preempt_foreign: false };
        let why = take_it(&mut device.port(Nexus(1)), &lun, key).unwrap_err();
        assert!(why.contains("0x0000000000000001"), "{why}");
        lun.preempt_foreign = true;
        take_it(&mut device.port(Nexus(1)), &lun, key).unwrap();
        assert!(!device.is_registered(Nexus(9)));
    }

    #[test]
    fn a_device_that_is_not_there_fails_a_start_and_needs_no_stop() {
        let lun = LunResource { device: "/dev/pkgctl-none".to_owned(), abort: true, preempt_foreign: false };
        let started = start(&lun, Key(7), &Others::default()).outcome.unwrap_err();
        assert!(started.starts_with("/dev/pkgctl-none: there is no such device"), "{started}");
        assert_eq!(stop(&lun, Key(7), &Others::default()), Ok(()).into());
    }
}
