//! Kind `filesystem`: a filesystem mounted on its owner. Mounting and unmounting is the keeper's, whose lease it ends with.

use super::{Host, Storage, Target, Trouble, lun};
use crate::package::FilesystemResource;

/// Mounts it; programs that are started after it see it.
///
/// # Errors
/// The device is missing or in use, the filesystem is damaged, or a rule refused it.
pub async fn start<H: Host>(host: &H, target: &Target, filesystem: &FilesystemResource) -> Result<String, Trouble> {
    host.storage_up(target.place(), Storage::Filesystem(filesystem.clone())).await?;
    Ok(format!("{} on {}", filesystem.device, filesystem.mount))
}

/// Unmounts it; done means that its device is free on this node.
///
/// # Errors
/// Something on this node uses it, which the text names.
pub async fn stop<H: Host>(host: &H, target: &Target) -> Result<String, Trouble> {
    lun::stop(host, target).await
}
