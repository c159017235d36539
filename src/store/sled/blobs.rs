//! sled writes values and pages beyond 128 KiB to files of their own and never syncs these.
//!
//! Promises: [`Blobs::sync`] makes every blob that was there when it was called durable, its name
//! included. Blobs are numbered upwards and never changed.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The resolution of a file's times; generous.
const CLOCK_TICK: Duration = Duration::from_millis(50);

/// The folder of a store's blobs.
#[derive(Debug)]
pub(super) struct Blobs {
    folder: PathBuf,
    synced: Mutex<Synced>,
}

#[derive(Debug, Default)]
struct Synced {
    /// The folder's time when it was last looked at, and since when it is that.
    seen: Option<(SystemTime, Instant)>,
    /// The folder's time when certainly everything in it was synced.
    settled: Option<SystemTime>,
    newest: i64,
    bytes: u64,
}

impl Blobs {
    pub(super) fn new(folder: PathBuf) -> Blobs {
        Blobs {
            folder,
            synced: Mutex::default(),
        }
    }

    /// The bytes of all blobs that were synced.
    pub(super) fn bytes_synced(&self) -> u64 {
        let synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        synced.bytes
    }

    pub(super) fn sync(&self) -> std::io::Result<()> {
        let changed = fs::metadata(&self.folder)?.modified()?;
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let since = match synced.seen {
            Some((seen, since)) if seen == changed => since,
            Some(_) | None => Instant::now(),
        };
        synced.seen = Some((changed, since));
        if synced.settled == Some(changed) {
            return Ok(());
        }
        // A blob made within the same tick of the file system's clock does not change the time.
        let settled = since.elapsed() > CLOCK_TICK;
        let mut newest = synced.newest;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            let Some(number) = number.filter(|number: &i64| *number > synced.newest) else {
                continue;
            };
            let done = File::open(entry.path()).and_then(|file| {
                file.sync_data()?;
                Ok(file.metadata()?.len())
            });
            match done {
                Ok(bytes) => {
                    newest = newest.max(number);
                    synced.bytes += bytes;
                }
                // sled has just removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if newest > synced.newest {
            File::open(&self.folder)?.sync_all()?;
        }
        synced.newest = newest;
        synced.settled = settled.then_some(changed);
        Ok(())
    }
}
