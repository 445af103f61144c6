//! Kind `ip`: a floating address. Everything that must end with the lease is the keeper's; see `keeper::ip`.

use super::{Host, Target, Trouble};
use crate::package::IpResource;

/// Begins to take the address over: it is there for programs to bind to, and silent.
///
/// # Errors
/// The device is missing, or a rule refused it.
pub async fn start<H: Host>(host: &H, target: &Target, ip: &IpResource) -> Result<String, Trouble> {
    host.ip_set(target.place(), ip.clone()).await?;
    Ok(format!("{}/{} on {}: asking whether it is in use", ip.address, ip.prefix, ip.device))
}

/// Opens it, once nobody else has claimed it.
///
/// # Errors
/// Somebody else answers for the address (named by its MAC), or a rule refused it.
pub async fn open<H: Host>(host: &H, target: &Target, ip: &IpResource) -> Result<String, Trouble> {
    host.ip_up(target.place(), ip.clone()).await?;
    Ok(format!("{}/{} on {}", ip.address, ip.prefix, ip.device))
}

/// Gives the address up: its connections are reset, so that clients reconnect at once.
///
/// # Errors
/// The address could not be deleted.
pub async fn stop<H: Host>(host: &H, target: &Target) -> Result<String, Trouble> {
    host.ip_down(target.place()).await?;
    Ok(String::new())
}
