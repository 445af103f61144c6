//! What the program itself takes to start and to stop, outside of any cluster.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pkgctl::lab::{Moment, wait_until};

use crate::figures::median;
use crate::run::ms;

const TRIES: u32 = 11;
/// A program that is not up by then is broken.
const WITHIN: Duration = Duration::from_secs(10);

/// Medians, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    pub start: f64,
    pub stop: f64,
}

pub fn measure(binary: &Path) -> Result<Own> {
    let mut times = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        let (start, stop) = once(binary)?;
        times.0.push(start);
        times.1.push(stop);
    }
    Ok(Own { start: median(&times.0), stop: median(&times.1) })
}

fn once(binary: &Path) -> Result<(f64, f64)> {
    let address = free_address()?;
    let begun = Moment::now();
    let mut child = Command::new(binary)
        .args(["demo-program", "--listen", &address.to_string(), "--name", "alone"])
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start it")?;
    let up = wait_until(WITHIN, || TcpStream::connect(address).ok()).map(|_| Moment::now());
    let stopping = Moment::now();
    end(&mut child)?;
    let up = up.context("it does not answer")?;
    Ok((ms(up.since(begun)), ms(Moment::now().since(stopping))))
}

fn end(child: &mut Child) -> Result<()> {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).context("cannot stop it")?;
    child.wait().context("cannot wait for its end").map(|_| ())
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on the loopback interface")?;
    listener.local_addr().context("a socket without an address")
}
