//! How a store fails: once and for good, with a message for the operator and a signal for the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// A store that failed while it was open. Final: after a failed fsync nothing is known about the disk's contents, and
/// trying again would report success for bytes that are gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store in {} failed while {doing}: {why}. What was acknowledged is safe; this node writes, votes and leads \
     no more and stops its packages in order. {}", .dir.display(), self.remedy()
)]
pub struct Fault {
    /// The store's directory.
    pub dir: PathBuf,
    /// What it was doing.
    pub doing: &'static str,
    /// What the system said.
    pub why: String,
    /// Whether the disk was full.
    pub full: bool,
}

impl Fault {
    /// What to do now.
    fn remedy(&self) -> &'static str {
        if self.full {
            "Free space on that filesystem, then restart pkgctl-agent on this node"
        } else {
            "Check the disk (dmesg). If it is sound, restart pkgctl-agent on this node; if not, replace it, \
             `pkgctl cluster remove` this node on another member, and `pkgctl cluster join` it again as a new node"
        }
    }
}

/// Whether a store still works; shared by everything that uses it.
#[derive(Clone, Debug)]
pub struct Health {
    dir: Arc<Path>,
    fault: Arc<OnceLock<Fault>>,
    alarm: async_channel::Sender<()>,
    raised: async_channel::Receiver<()>,
}

impl Health {
    /// A working store in that directory.
    pub fn new(dir: &Path) -> Self {
        let (alarm, raised) = async_channel::bounded(1);
        Self { dir: dir.into(), fault: Arc::default(), alarm, raised }
    }

    /// Why the store failed, if it did.
    ///
    /// # Errors
    /// The first fault, for ever.
    pub fn check(&self) -> Result<(), Fault> {
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// The fault, if there is one.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.get().cloned()
    }

    /// Ends the store. The first caller's reason stays.
    pub fn fail(&self, doing: &'static str, why: &io::Error) -> Fault {
        let full = matches!(why.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let made = || {
            let fault = Fault { dir: self.dir.to_path_buf(), doing, why: why.to_string(), full };
            tracing::error!("{fault}");
            fault
        };
        let fault = self.fault.get_or_init(made).clone();
        self.alarm.close();
        fault
    }

    /// Waits until the store fails.
    pub async fn failed(&self) -> Fault {
        loop {
            if let Some(fault) = self.fault() {
                return fault;
            }
            // Closed only by `fail`, after the fault is set; nothing is ever sent.
            let _closed = self.raised.recv().await;
        }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        io::Error::other(fault)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use openraft::AsyncRuntime;
    use openraft_rt_sim::SimRuntime;

    use super::*;

    #[test]
    fn the_first_fault_stays_and_says_what_to_do() {
        let health = Health::new(Path::new("/x"));
        assert_eq!(health.check(), Ok(()));
        health.fail("making the log durable", &io::Error::from_raw_os_error(libc::ENOSPC));
        let second = health.fail("something else", &io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(second.doing, "making the log durable");
        let said = second.to_string();
        assert!(said.contains("/x") && said.contains("Free space") && said.contains("restart pkgctl-agent"), "{said}");
    }

    #[test]
    fn whoever_waits_for_a_fault_hears_of_it() {
        let health = Health::new(Path::new("/x"));
        SimRuntime::with_seed(1).block_on(async {
            let waiting = health.clone();
            let waiter = SimRuntime::spawn(async move { waiting.failed().await });
            SimRuntime::sleep(Duration::from_secs(1)).await;
            health.fail("testing", &io::Error::from_raw_os_error(libc::EIO));
            assert!(!waiter.await.unwrap().full);
        });
    }
}
