//! The bed's own namespaces: with privilege a network and a mount namespace, without it a user namespace around them.

use std::fs;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

const BED: CloneFlags = CloneFlags::CLONE_NEWNET.union(CloneFlags::CLONE_NEWNS);

/// Moves the calling process, which must have one thread only, into namespaces of its own. `true`: with privilege, so
/// no user namespace was needed and real-time scheduling stays possible. `Err` is the reason why no lab can be had.
pub(super) fn isolate() -> Result<bool, String> {
    let privileged = geteuid().is_root() && unshare(BED).is_ok();
    if !privileged {
        unprivileged()?;
    }
    // Nothing that the lab mounts may reach this machine.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|e| format!("the kernel refuses to make the lab's mounts private ({e})"))?;
    Ok(privileged)
}

fn unprivileged() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).map_err(refused)?;
    let map = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text)
            .map_err(|e| format!("the kernel refuses the user namespace's {file} ({e}); run as root instead"))
    };
    map("setgroups", "deny".to_owned())?;
    map("uid_map", format!("0 {uid} 1"))?;
    map("gid_map", format!("0 {gid} 1"))?;
    unshare(BED).map_err(refused)
}

fn refused(errno: Errno) -> String {
    let knobs = ["kernel/unprivileged_userns_clone", "user/max_user_namespaces", "user/max_net_namespaces"];
    let mut reason = format!("the kernel refuses namespaces to this user ({errno})");
    for knob in knobs {
        if fs::read_to_string(format!("/proc/sys/{knob}")).is_ok_and(|value| value.trim() == "0") {
            reason.push_str(&format!("; {} is 0", knob.replace('/', ".")));
        }
    }
    if fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_ok_and(|v| v.trim() == "1") {
        reason.push_str("; kernel.apparmor_restrict_unprivileged_userns is 1");
    }
    reason + "; run as root, or outside the container, or change that setting"
}
