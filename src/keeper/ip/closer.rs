//! Closes packet sockets aside: the kernel ends `close` of one only after a grace period, ten milliseconds and more,
//! which neither the release of an address nor the orders behind it should wait for.

use std::io;
use std::ops::Deref;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::host::tap::Tap;

/// Taps that wait to be closed; more are closed on the spot.
const WAITING_MAX: usize = 256;

/// The thread that closes. It ends with the last tap that could be given to it.
pub(super) struct Closer {
    taps: SyncSender<Tap>,
}

impl Closer {
    pub fn start() -> io::Result<Self> {
        let (taps, inbox): (_, Receiver<Tap>) = sync_channel(WAITING_MAX);
        thread::Builder::new().name("closer".into()).spawn(move || inbox.into_iter().for_each(drop))?;
        Ok(Self { taps })
    }

    /// A tap that is closed aside when it is dropped.
    pub fn mind(&self, tap: Tap) -> Minded {
        Minded { tap: Some(tap), closer: self.taps.clone() }
    }
}

/// A tap that is closed aside.
pub(super) struct Minded {
    /// There until it is dropped.
    tap: Option<Tap>,
    closer: SyncSender<Tap>,
}

impl Deref for Minded {
    type Target = Tap;

    fn deref(&self) -> &Tap {
        match &self.tap {
            Some(tap) => tap,
            None => unreachable!("it is taken by drop alone"),
        }
    }
}

impl Drop for Minded {
    fn drop(&mut self) {
        // One that is not taken is closed here.
        let _ = self.tap.take().map(|tap| self.closer.try_send(tap));
    }
}
