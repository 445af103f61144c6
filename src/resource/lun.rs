//! Kind `lun`: a LUN reserved for its owner. What a device is asked for it is `reservation`; the keeper does it.

use super::{Host, Storage, Target, Trouble};
use crate::package::LunResource;

/// Takes it, from an older ownership if that still has it.
///
/// # Errors
/// The device is missing or has no reservations, somebody else uses it, or a rule refused it.
pub async fn start<H: Host>(host: &H, target: &Target, lun: &LunResource) -> Result<String, Trouble> {
    host.storage_up(target.place(), Storage::Lun(lun.clone())).await?;
    Ok(format!("{} reserved, token {}", lun.device, target.token))
}

/// Gives it up.
///
/// # Errors
/// Something on this node uses it, which the text names.
pub async fn stop<H: Host>(host: &H, target: &Target) -> Result<String, Trouble> {
    host.storage_down(target.place(), target.resource.stop_timeout).await?;
    Ok(String::new())
}
