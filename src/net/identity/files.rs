//! Where a node keeps its identity: a 0700 directory with `node.key` (0600), `node.crt` and `ca.crt`.
//!
//! The key is written before a certificate is asked for, the node's certificate last: whoever finds `node.crt` finds
//! the rest. Every write is a new file, synced, renamed into place, and the directory synced.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::{Credentials, IdentityError, PrivateKey};
use crate::bounded::{self, Limit};

/// Mode of the directory.
pub const DIR_MODE: u32 = 0o700;
/// Mode of the key.
pub const KEY_MODE: u32 = 0o600;
/// How much is read of a file that holds a key, certificates or a secret.
pub const PEM_LIMIT: Limit = Limit { of: "the file", bytes: 64 << 10 };
const CERTIFICATE_MODE: u32 = 0o644;

/// A node's identity on disk.
#[derive(Clone, Debug)]
pub struct IdentityDir {
    dir: PathBuf,
}

impl IdentityDir {
    /// Makes the directory, or checks that only its owner, the user of this process, can enter it.
    ///
    /// # Errors
    /// [`IdentityError::Exposed`], [`IdentityError::Owner`] or the system's own.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, IdentityError> {
        let dir = dir.into();
        private_dir(&dir)?;
        Ok(Self { dir })
    }

    fn key_file(&self) -> PathBuf {
        self.dir.join("node.key")
    }

    fn certificate_file(&self) -> PathBuf {
        self.dir.join("node.crt")
    }

    fn authority_file(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// The node's key: the one that is there, so that a repeated join shows the same one, or a new one.
    ///
    /// # Errors
    /// When it cannot be read, written or trusted to be private.
    pub fn key(&self) -> Result<PrivateKey, IdentityError> {
        if let Some(pem) = read_private(&self.key_file())? {
            return PrivateKey::parse(&pem);
        }
        let key = PrivateKey::generate();
        write(&self.dir, &self.key_file(), key.pem().as_bytes(), KEY_MODE)?;
        Ok(key)
    }

    /// Stores what the authority answered, after checking that it fits the key.
    ///
    /// # Errors
    /// When it does not, or cannot be written.
    pub fn store(&self, certificate_pem: &str, authority_pem: &str) -> Result<Credentials, IdentityError> {
        let key = self.key()?;
        let credentials = Credentials::parse(certificate_pem, &key.pem(), authority_pem)?;
        write(&self.dir, &self.authority_file(), authority_pem.as_bytes(), CERTIFICATE_MODE)?;
        write(&self.dir, &self.certificate_file(), certificate_pem.as_bytes(), CERTIFICATE_MODE)?;
        Ok(credentials)
    }

    /// The node's identity, or none when it has not joined yet.
    ///
    /// # Errors
    /// When a part is missing, readable by others, or does not fit the rest.
    pub fn load(&self) -> Result<Option<Credentials>, IdentityError> {
        let Some(certificate) = read(&self.certificate_file())? else { return Ok(None) };
        let missing = |path| IdentityError::Incomplete { present: self.certificate_file(), missing: path };
        let key = read_private(&self.key_file())?.ok_or_else(|| missing(self.key_file()))?;
        let authority = read(&self.authority_file())?.ok_or_else(|| missing(self.authority_file()))?;
        Credentials::parse(&certificate, &key, &authority).map(Some)
    }

    /// Forgets the identity, so that the node can join again under a new one.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn discard(&self) -> Result<(), IdentityError> {
        for path in [self.certificate_file(), self.authority_file(), self.key_file()] {
            match fs::remove_file(&path) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(IdentityError::Io { what: "remove", path, source }),
            }
        }
        sync_dir(&self.dir)
    }
}

/// Makes a directory that only this user can enter, or checks that an existing one is so.
///
/// # Errors
/// [`IdentityError::Exposed`], [`IdentityError::Owner`] or the system's own.
pub fn private_dir(dir: &Path) -> Result<(), IdentityError> {
    let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
    made.map_err(|source| IdentityError::Io { what: "create", path: dir.into(), source })?;
    let found = fs::symlink_metadata(dir);
    let found = found.map_err(|source| IdentityError::Io { what: "look at", path: dir.into(), source })?;
    check_private(dir, &found, DIR_MODE)
}

fn check_private(path: &Path, found: &fs::Metadata, wanted: u32) -> Result<(), IdentityError> {
    let me = geteuid().as_raw();
    if found.uid() != me {
        return Err(IdentityError::Owner { path: path.into(), owner: found.uid(), me });
    }
    let mode = found.mode() & 0o7777;
    if mode & !wanted != 0 {
        return Err(IdentityError::Exposed { path: path.into(), mode, wanted });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match bounded::read_text(path, PEM_LIMIT) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::Io { what: "read", path: path.into(), source }),
    }
}

/// Reads a file that only this user may read. The open file is checked, not its name.
pub(in crate::net) fn read_private(path: &Path) -> Result<Option<String>, IdentityError> {
    let fail = |what| move |source| IdentityError::Io { what, path: path.into(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(fail("read")(source)),
    };
    check_private(path, &file.metadata().map_err(fail("look at"))?, KEY_MODE)?;
    bounded::read_open(&file, PEM_LIMIT).and_then(bounded::text).map(Some).map_err(fail("read"))
}

pub(in crate::net) fn write(dir: &Path, path: &Path, content: &[u8], mode: u32) -> Result<(), IdentityError> {
    let fail = |source| IdentityError::Io { what: "write", path: path.into(), source };
    let temporary = tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(dir);
    let mut temporary = temporary.map_err(fail)?;
    temporary.write_all(content).map_err(fail)?;
    temporary.as_file().sync_all().map_err(fail)?;
    temporary.persist(path).map_err(|e| fail(e.error))?;
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<(), IdentityError> {
    let synced = File::open(dir).and_then(|d| d.sync_all());
    synced.map_err(|source| IdentityError::Io { what: "sync", path: dir.into(), source })
}

#[cfg(test)]
mod tests {
    use super::super::Authority;
    use super::*;
    use crate::engine::{ClusterId, NodeId};
    use crate::package::NodeName;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn joined(dir: &Path) -> IdentityDir {
        let identity = IdentityDir::open(dir.join("identity")).unwrap();
        let authority = Authority::create(ClusterId(1), "t").unwrap();
        let request = identity.key().unwrap().request();
        let certificate = authority.sign(&request, NodeId(7), &NodeName::new("n7").unwrap()).unwrap();
        identity.store(&certificate, authority.certificate_pem()).unwrap();
        identity
    }

    #[test]
    fn an_identity_is_private_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let identity = joined(dir.path());
        assert_eq!(mode(&identity.dir), 0o700);
        assert_eq!(mode(&identity.key_file()), 0o600);
        let loaded = IdentityDir::open(&identity.dir).unwrap().load().unwrap().unwrap();
        assert_eq!(loaded.bearer().cluster, ClusterId(1));
        let left = fs::read_dir(&identity.dir).unwrap().count();
        assert_eq!(left, 3, "no temporary file stays behind");
    }

    #[test]
    fn a_node_that_has_not_joined_has_a_key_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let identity = IdentityDir::open(dir.path().join("i")).unwrap();
        let first = identity.key().unwrap().pem();
        assert_eq!(identity.key().unwrap().pem(), first, "a repeated join shows the same key");
        assert!(identity.load().unwrap().is_none());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let identity = joined(dir.path());
        fs::set_permissions(identity.key_file(), Permissions::from_mode(0o640)).unwrap();
        let refused = identity.load().unwrap_err();
        assert!(matches!(refused, IdentityError::Exposed { mode: 0o640, .. }));
        assert!(refused.to_string().contains("chmod 0600"), "{refused}");
        fs::set_permissions(&identity.dir, Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(IdentityDir::open(&identity.dir), Err(IdentityError::Exposed { wanted: 0o700, .. })));
    }

    #[test]
    fn a_missing_part_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let identity = joined(dir.path());
        fs::remove_file(identity.authority_file()).unwrap();
        let refused = identity.load().unwrap_err().to_string();
        assert!(refused.contains("ca.crt is missing"), "{refused}");
    }

    #[test]
    fn a_certificate_for_another_key_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        let identity = IdentityDir::open(dir.path().join("i")).unwrap();
        let authority = Authority::create(ClusterId(1), "t").unwrap();
        let stray = PrivateKey::generate().request();
        let certificate = authority.sign(&stray, NodeId(7), &NodeName::new("n7").unwrap()).unwrap();
        assert!(identity.store(&certificate, authority.certificate_pem()).is_err());
        assert!(identity.load().unwrap().is_none());
    }

    #[test]
    fn a_discarded_identity_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let identity = joined(dir.path());
        identity.discard().unwrap();
        identity.discard().unwrap();
        assert!(identity.load().unwrap().is_none());
    }
}
