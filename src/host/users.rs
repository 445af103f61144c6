//! Users and groups by name or number, looked up on the host before anything runs in a namespace.

use std::ffi::CString;

use nix::unistd::{Uid, User, getgrouplist};

use crate::resource::Credentials;

/// Why a user could not be found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Nobody of that name or number.
    #[error("there is no user \"{user}\" on this node; nothing was started. Create it here, or change `user`")]
    Unknown {
        /// As written in the package.
        user: String,
    },
    /// The system's user database did not answer.
    #[error("user \"{user}\" could not be looked up on this node ({why}); nothing was started. Check nsswitch.conf")]
    Lookup {
        /// As written in the package.
        user: String,
        /// What the system said.
        why: String,
    },
}

/// Whom a program runs as: a user by name, or by number if no user has that name.
///
/// # Errors
/// [`UserError`] if there is no such user or the database does not answer.
pub fn lookup(user: &str) -> Result<Credentials, UserError> {
    let failed = |e: nix::errno::Errno| UserError::Lookup { user: user.to_owned(), why: e.desc().to_owned() };
    let mut found = User::from_name(user).map_err(failed)?;
    if found.is_none()
        && let Ok(number) = user.parse()
    {
        found = User::from_uid(Uid::from_raw(number)).map_err(failed)?;
    }
    let Some(found) = found else { return Err(UserError::Unknown { user: user.to_owned() }) };
    let name = CString::new(found.name).map_err(|_| UserError::Unknown { user: user.to_owned() })?;
    let groups = getgrouplist(&name, found.gid).map_err(failed)?;
    Ok(Credentials {
        uid: found.uid.as_raw(),
        gid: found.gid.as_raw(),
        groups: groups.into_iter().map(|group| group.as_raw()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let root = lookup("root").expect("every system has root");
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert_eq!(lookup("0"), Ok(root));
    }

    #[test]
    fn an_unknown_user_is_named_in_the_message() {
        let unknown = lookup("no-such-user-here").expect_err("nobody has that name");
        assert!(unknown.to_string().contains("no-such-user-here"), "{unknown}");
        assert!(lookup("4294900001").is_err());
        assert!(lookup("nul\0inside").is_err());
    }
}
