//! Small files beside the ledger, for what must be written while a worker has that open, and the question whose all of
//! it is.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind::NotFound, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::Path;

use super::Failure;

/// Refuses the ledger of another user, root's own hand on it included: what one user writes there the other's worker
/// could not open again.
///
/// # Errors
///
/// Names that user. A ledger that is not there yet is nobody's.
pub(super) fn ours(ledger: &Path) -> Result<(), Failure> {
    match std::fs::metadata(ledger) {
        Ok(there) if there.uid() != user() => {
            let (place, owner) = (ledger.display(), there.uid());
            Err(Failure::stopped(format!(
                "could not open the ledger {place}: it belongs to user {owner}; run this as that user"
            )))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Who we are: the user in whose name files are made.
pub(super) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Writes a file beside the ledger, whole or not at all: for the ledger's own user only, whoever writes it.
pub(super) fn write(ledger: &Path, name: &str, text: &[u8]) -> std::io::Result<()> {
    let new = ledger.join(format!("{name}.new"));
    create(&new)?.write_all(text)?;
    std::fs::rename(&new, ledger.join(name))
}

/// A new file in place of what is there, for its directory's owner only. Links are not followed.
pub(super) fn create(path: &Path) -> std::io::Result<File> {
    std::fs::remove_file(path).or_else(|error| if error.kind() == NotFound { Ok(()) } else { Err(error) })?;
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    let owner = std::fs::metadata(path.parent().unwrap_or(path))?;
    // Asked for only where it is needed: a worker under systemd may not call it at all.
    if owner.uid() != user() {
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(file)
}
