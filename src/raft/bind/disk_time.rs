//! Where waiting for the disk happens: never on a thread that tasks run on.

use std::io;
use std::time::Duration;

use futures::channel::oneshot;
use openraft::AsyncRuntime;

/// Where waiting for the disk happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiskTime {
    /// On threads of their own.
    #[default]
    Threads,
    /// As a pause of that length on the runtime's clock, for simulated runtimes, in which real threads have no time.
    Simulated(Duration),
}

impl DiskTime {
    /// Does what takes long or waits for the disk.
    ///
    /// # Errors
    /// The work's own, or when there is no thread for it.
    pub async fn aside<Rt: AsyncRuntime, T: Send + 'static>(
        self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self {
            DiskTime::Simulated(latency) => {
                Rt::sleep(latency).await;
                work()
            }
            DiskTime::Threads => {
                let (sender, receiver) = oneshot::channel();
                let run = move || drop(sender.send(work()));
                std::thread::Builder::new().name("pkgctl-snapshot".into()).spawn(run)?;
                receiver.await.unwrap_or_else(|_| Err(io::Error::other("the snapshot's thread ended")))
            }
        }
    }
}
