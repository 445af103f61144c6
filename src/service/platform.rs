//! The real world around an agent.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::impls::TokioRuntime;

use crate::agent::platform::Platform;
use crate::config::Places;
use crate::engine::fence::call::FenceSaid;
use crate::engine::state::DatagramKey;
use crate::engine::{Nonce, VoterTime, WallMillis};
use crate::host::clock::{Clock, wall_now};
use crate::host::fence_agent::{self, Keep};
use crate::host::own_files;
use crate::host::systemd::Systemd;
use crate::host::users;
use crate::net::peers::TlsPeers;
use crate::net::{presence, random};
use crate::package::PackageName;
use crate::resource::{Credentials, Trouble};

/// This host.
#[derive(Clone)]
pub(super) struct HostPlatform {
    clock: Arc<Clock>,
    places: Places,
    systemd: Arc<Systemd>,
    /// Lines of one log are written whole.
    writing: Arc<Mutex<()>>,
}

impl HostPlatform {
    pub(super) fn new(places: Places, systemd: Arc<Systemd>) -> Self {
        Self { clock: Arc::new(Clock::start()), places, systemd, writing: Arc::default() }
    }
}

impl Platform for HostPlatform {
    type Rt = TokioRuntime;
    type Peers = TlsPeers;

    fn now(&self) -> VoterTime {
        self.clock.now().voter
    }

    fn wall(&self) -> WallMillis {
        wall_now()
    }

    fn nonce(&self) -> Nonce {
        random::nonce()
    }

    fn datagram_key(&self) -> DatagramKey {
        random::datagram_key()
    }

    fn credentials(&self, user: &str) -> Result<Credentials, Trouble> {
        users::lookup(user).map_err(|error| Trouble::Failed(error.to_string()))
    }

    fn log_file(&self, package: &PackageName) -> String {
        self.places.package_log(package).display().to_string()
    }

    async fn run_fence_agent(&self, agent: String, input: String, within: Duration, whole: bool) -> FenceSaid {
        let keep = if whole { Keep::Beginning } else { Keep::End };
        fence_agent::run(&agent, &input, within, keep).await
    }

    async fn answers(&self, address: SocketAddr) -> bool {
        presence::answers(address).await
    }

    fn turned(&self, status: &str) {
        self.systemd.status(status);
        self.systemd.turned();
    }

    fn log_line(&self, package: &PackageName, line: &str) {
        let _whole = self.writing.lock();
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(wall_now().0);
        let line = format!("{} pkgctl: {line}\n", humantime::format_rfc3339_millis(at));
        let path = self.places.package_log(package);
        if let Err(error) = own_files::append(&path).and_then(|mut file| file.write_all(line.as_bytes())) {
            tracing::warn!(path = %path.display(), "a log line is lost: {error}");
        }
    }
}
