//! From a directory to an open store, whatever lies there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::generation::{Content, Failure, Generation};
use super::place::{self, Home, unusable};
use super::{SledStore, StoreOptions, lock};
use crate::store::{Store, StoreError, format};

/// Something that happened while opening and that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// sled's snapshot could not be used and was set aside; nothing is lost.
    SnapshotSetAside {
        /// What failed with it.
        why: String,
    },
    /// The store could not be read. It was moved away and a fresh one begun.
    Quarantined {
        /// Where the old one is now.
        to: PathBuf,
        /// What failed.
        why: String,
    },
    /// A thread hangs inside sled and cannot be ended. It holds back the release of memory and of
    /// disk space for all of sled, so the process should be started anew soon.
    RestartAdvised,
    /// The store was found empty, in an earlier state than it had been synced in, or without pairs
    /// that it had: its files are damaged in a way that sled does not notice, and an unknown part
    /// of the content is lost. A new identity was drawn.
    IdentityRenewed,
}

/// An open store.
pub struct Opened {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The random identity of this store, the same for as long as it lives.
    pub id: u64,
    /// What happened on the way.
    pub events: Vec<StoreEvent>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Opened")
            .field("id", &self.id)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// Opens the store below `dir`, or makes one, and reads all of it once.
///
/// # Errors
///
/// [`StoreError::Locked`], [`StoreError::Unusable`], [`StoreError::Full`] and
/// [`StoreError::TooNew`] are for a person to solve; nothing was moved then.
/// [`StoreError::Damaged`] when even a fresh store fails, which a new process may cure.
pub fn open(dir: &Path, options: &StoreOptions) -> Result<Opened, StoreError> {
    format::admit(dir)?;
    fs::create_dir_all(dir).map_err(|error| unusable(dir, &error))?;
    let locked = place::lock(dir)?;
    let home = Home::current(dir)?;
    home.remove_others(dir)?;
    let mut events = Vec::new();
    let existed = home.path.join("conf").exists();
    let (generation, content) = match Generation::open(&home, options) {
        Ok(opened) => opened,
        Err(Failure::Refused(error)) => return Err(error),
        Err(failure) => open_again(dir, &home, options, failure, &mut events)?,
    };
    if !options.only_looks {
        format::admit_value(generation.get(format::KEY)?.as_deref())?;
        format::note(dir).map_err(|error| unusable(dir, &error))?;
    }
    let synced = generation.home.sync(dir);
    synced.map_err(|error| unusable(&generation.home.path, &error))?;
    let store = SledStore::new(dir, options, generation, content, locked)?;
    let emptied = events
        .iter()
        .any(|event| matches!(event, StoreEvent::Quarantined { .. }));
    let went_back = store.shared.went_back()?;
    let is_old = existed && !emptied;
    let id = store.shared.identity(is_old, went_back, &mut events)?;
    {
        let mut mark = lock(&store.shared.syncing);
        store.shared.sync_now(&mut mark)?;
    }
    Ok(Opened {
        store: Arc::new(store),
        id,
        events,
    })
}

/// Once more without the snapshot, then with a fresh directory.
fn open_again(
    dir: &Path,
    home: &Home,
    options: &StoreOptions,
    first: Failure,
    events: &mut Vec<StoreEvent>,
) -> Result<(Generation, Content), StoreError> {
    let mut failure = first;
    let why = match &failure {
        Failure::Damaged(why) if place::set_snapshots_aside(&home.path)? => Some(why.clone()),
        Failure::Damaged(_) | Failure::Hung | Failure::Refused(_) => None,
    };
    if let Some(why) = why {
        events.push(StoreEvent::SnapshotSetAside { why });
        match Generation::open(home, options) {
            Ok(opened) => return Ok(opened),
            Err(Failure::Refused(error)) => return Err(error),
            Err(next) => failure = next,
        }
    }
    // A disk that takes nothing can look like damage, and must not be answered like it.
    place::probe(dir)?;
    let why = match failure {
        Failure::Refused(error) => return Err(error),
        Failure::Damaged(why) => why,
        Failure::Hung => {
            events.push(StoreEvent::RestartAdvised);
            "reading it did not end within the time limit".to_owned()
        }
    };
    let to = place::quarantine(dir, &home.path)?;
    // For whoever looks into it later. Without it nothing is lost.
    let _ = fs::write(to.join("why"), &why);
    events.push(StoreEvent::Quarantined { to, why });
    Generation::open(&Home::first(dir), options).map_err(|failure| match failure {
        Failure::Refused(error) => error,
        Failure::Damaged(why) => StoreError::Damaged { why },
        Failure::Hung => StoreError::Damaged {
            why: "even a fresh store does not open in time".to_owned(),
        },
    })
}
