//! The secret that the nodes of one cluster share, so that they can be introduced to each other: a file that an operator
//! carries to each of them.
//!
//! It is 256 random bits, never words: a proof made with it can be shown to anybody. Text: `pkgctl-secret1_` and
//! base64url of the bytes and a checksum, so that a file that somebody wrote, or copied half, is told from another one.

use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::hmac;

use super::proof::BYTES;
use crate::net::identity::{IdentityError, files};
use crate::net::random;

const PREFIX: &str = "pkgctl-secret1_";
const CHECKSUM_BYTES: usize = 4;
/// Longest text looked at.
const TEXT_MAX_BYTES: usize = 200;
/// Mode of the file.
pub const SECRET_MODE: u32 = files::KEY_MODE;

/// The secret. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret([u8; BYTES]);

/// Why there is no secret to use.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Others can read the file, or it is another user's.
    #[error(
        "{path} is not private: {why}. Nothing was done with it. `chmod 0600 {path}`; if somebody may have read it, make \
         another with `pkgctl cluster secret --renew` and carry it to every node"
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It holds something else.
    #[error(
        "{path} holds no secret of pkgctl, or a part of one: copy it again, whole, from a node where \
         `pkgctl cluster secret` made it"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The system's own.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SharedSecret {
    /// A new one.
    ///
    /// # Panics
    /// When the kernel gives no random numbers.
    pub fn generate() -> Self {
        Self(random::bytes())
    }

    /// These bytes.
    pub fn of(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    pub(super) fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }

    /// Eight digits by which people see whether two nodes have the same one.
    pub fn mark(&self) -> String {
        let mark = hmac::sign(&self.key(), b"pkgctl secret: its mark for people");
        mark.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The text of its file.
    pub fn text(&self) -> String {
        let bytes = [&self.0[..], &checksum(&self.0)].concat();
        format!("{PREFIX}{}\n", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The one in that file; none where there is no file. The open file is checked, not its name.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(path: &Path) -> Result<Option<Self>, SecretError> {
        match files::read_private(path).map_err(|error| of_file(path, error))? {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|NotASecret| SecretError::Damaged { path: path.into() }),
        }
    }

    /// Makes a new one in that file, which may be there already, and its directory if there is none.
    ///
    /// # Errors
    /// [`SecretError::Io`].
    pub fn make(path: &Path) -> Result<Self, SecretError> {
        let secret = Self::generate();
        secret.keep(path)?;
        Ok(secret)
    }

    /// Writes it into that file, whole or not at all.
    ///
    /// # Errors
    /// [`SecretError::Io`].
    pub fn keep(&self, path: &Path) -> Result<(), SecretError> {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
        made.map_err(|source| SecretError::Io { what: "make", path: dir.into(), source })?;
        files::write(dir, path, self.text().as_bytes(), SECRET_MODE).map_err(|error| of_file(path, error))
    }
}

fn of_file(path: &Path, error: IdentityError) -> SecretError {
    match error {
        IdentityError::Io { what, path, source } => SecretError::Io { what, path, source },
        IdentityError::Exposed { mode, .. } => {
            SecretError::Exposed { path: path.into(), why: format!("its mode is {mode:04o}") }
        }
        IdentityError::Owner { owner, me, .. } => {
            SecretError::Exposed { path: path.into(), why: format!("it is user {owner}'s, and this runs as user {me}") }
        }
        IdentityError::Incomplete { .. }
        | IdentityError::Certificate { .. }
        | IdentityError::Key { .. }
        | IdentityError::Request { .. } => SecretError::Damaged { path: path.into() },
    }
}

/// Whether a file under that name can be opened at all, for those who only want to know whether there is one.
pub fn is_there(path: &Path) -> bool {
    match File::open(path) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..CHECKSUM_BYTES]);
    sum
}

/// A text that is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotASecret;

impl FromStr for SharedSecret {
    type Err = NotASecret;

    fn from_str(text: &str) -> Result<Self, NotASecret> {
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).filter(|_| text.len() <= TEXT_MAX_BYTES).ok_or(NotASecret)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NotASecret)?;
        let (bytes, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(NotASecret)?;
        let secret = bytes.try_into().map_err(|_| NotASecret)?;
        if checksum(bytes) == *sum { Ok(Self(secret)) } else { Err(NotASecret) }
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_comes_back_from_its_file_which_nobody_else_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etc/pkgctl/secret");
        assert!(SharedSecret::read(&path).unwrap().is_none() && !is_there(&path));
        let made = SharedSecret::make(&path).unwrap();
        assert_eq!(SharedSecret::read(&path).unwrap(), Some(made.clone()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_ne!(SharedSecret::make(&path).unwrap(), made);
        assert_eq!((made.mark().len(), format!("{made:?}").as_str()), (8, "SharedSecret(..)"));
    }

    #[test]
    fn a_file_that_others_can_read_or_that_holds_something_else_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let text = SharedSecret::make(&path).unwrap().text();
        for mode in [0o640, 0o604] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let refused = SharedSecret::read(&path).unwrap_err().to_string();
            assert!(refused.contains("chmod 0600") && refused.contains(&format!("{mode:04o}")), "{refused}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(SharedSecret::read(&path).unwrap().is_some(), "narrower is as good");
        for other in ["", "hunter2", &text[..text.len() - 3], &text.replace("secret1", "secret2"), &text.repeat(9)] {
            fs::remove_file(&path).unwrap();
            fs::write(&path, other).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(SharedSecret::read(&path), Err(SecretError::Damaged { .. })), "{other}");
        }
    }

    #[test]
    fn every_altered_character_is_noticed() {
        let text = SharedSecret::of([0x5a; BYTES]).text();
        for at in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(bytes).unwrap();
            assert_eq!(other.parse::<SharedSecret>(), Err(NotASecret), "{at}");
        }
    }
}
