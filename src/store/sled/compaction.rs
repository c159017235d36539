//! Giving disk space back: the live pairs are copied into a fresh generation, a part at a time,
//! while the old one stays in force; then the new one takes its place.
//!
//! sled's file never becomes shorter than its last segment in use, and segments that are half
//! empty wait for a thread of sled's that is switched off and would not help (see
//! `docs/decisions/0001-sled.md`).
//!
//! Promises: at every moment one complete generation is in force (`place.rs` says how). A pair
//! below the cursor is in both generations, as every later change of it goes to both; so when the
//! cursor has reached the end they are equal, and the switch needs one sync, not a pause. What
//! fails while copying costs nothing but the copy.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::generation::{Failure, Generation, Poison, io_failed};
use super::{Access, Shared, lock, size};
use crate::store::{Compaction, StoreError, table};

/// It is worth it when the disk holds so many times what is live.
const WORTH_FACTOR: u64 = 4;
/// After a failure, most often for want of space, it is not tried again for so long.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// A generation that is being filled.
pub(super) struct Next {
    generation: Generation,
    /// Pairs below it have been copied; all of them when `None`.
    cursor: Option<Vec<u8>>,
    moved: u64,
    /// Bytes on disk when it began.
    before: u64,
    /// Why it is of no use any more.
    failed: Option<StoreError>,
}

impl Next {
    fn has(&self, key: &[u8]) -> bool {
        self.cursor.as_deref().is_none_or(|cursor| key < cursor)
    }
}

impl Access {
    /// Makes the same change in the generation that is being filled. The store's own pairs are
    /// copied last.
    pub(super) fn mirror(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Some(next) = &mut self.next else {
            return;
        };
        if key.first() == Some(&table::SYSTEM) || !next.has(key) || next.failed.is_some() {
            return;
        }
        next.failed = next.generation.change(key, value).err();
    }
}

impl Shared {
    pub(super) fn compact(&self, bytes_max: u64) -> Result<Compaction, StoreError> {
        let turn = lock(&self.turn);
        self.poison.check()?;
        let begun = lock(&self.access).next.is_some();
        if !begun {
            let Some(next) = self.begin()? else {
                return Ok(Compaction::Idle);
            };
            lock(&self.access).next = Some(next);
        }
        let done = match self.copy_some(bytes_max) {
            Ok(None) => self.switch(),
            Ok(Some(going)) => return Ok(going),
            Err(error) => Err(error),
        };
        drop(turn);
        match done {
            Ok((old, before)) => {
                let path = old.home.path.clone();
                drop(old);
                // When it stays, the next open removes it.
                let _ = std::fs::remove_dir_all(path);
                let after = self.current().bytes_on_disk()?;
                Ok(Compaction::Done { before, after })
            }
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    fn is_worth_it(&self) -> Result<Option<u64>, StoreError> {
        let wait = lock(&self.access).compact_at;
        if wait.is_some_and(|at| Instant::now() < at) {
            return Ok(None);
        }
        let disk = self.current().bytes_on_disk()?;
        let live = self.live.load(Ordering::Relaxed);
        let worth = disk > self.options.compact_bytes_min && disk / WORTH_FACTOR > live;
        Ok(worth.then_some(disk))
    }

    fn begin(&self) -> Result<Option<Next>, StoreError> {
        let Some(before) = self.is_worth_it()? else {
            return Ok(None);
        };
        // Until it has gone well.
        lock(&self.access).compact_at = Some(Instant::now() + RETRY_AFTER);
        let failed = |error| io_failed("compacting", &error);
        let home = self.current().home.next(&self.dir).map_err(failed)?;
        let opened = Generation::open(&home, &self.options);
        let (generation, _) = opened.map_err(|failure| {
            let why = match failure {
                Failure::Refused(error) => return error,
                Failure::Damaged(why) => why,
                Failure::Hung => "a fresh store does not open in time".to_owned(),
            };
            StoreError::Io {
                doing: "compacting",
                why,
            }
        })?;
        Ok(Some(Next {
            generation,
            cursor: Some(Vec::new()),
            moved: 0,
            before,
            failed: None,
        }))
    }

    /// Copies on from the cursor; `None` when it has come to the end.
    fn copy_some(&self, bytes_max: u64) -> Result<Option<Compaction>, StoreError> {
        let mut access = lock(&self.access);
        let Some(next) = &mut access.next else {
            return Ok(None);
        };
        if let Some(error) = next.failed.take() {
            return Err(error);
        }
        let from = next.cursor.take().unwrap_or_default();
        let mut copied = 0;
        let (mut cursor, mut failed) = (None, None);
        self.current().range(&from, None, &mut |key, value| {
            if copied >= bytes_max {
                cursor = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            copied += size(key.len() + value.len());
            failed = next.generation.change(key, Some(value)).err();
            match failed {
                Some(_) => ControlFlow::Break(()),
                None => ControlFlow::Continue(()),
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        next.moved += copied;
        next.cursor = cursor;
        Ok(next.cursor.is_some().then(|| Compaction::Going {
            moved: next.moved,
            live: self.live.load(Ordering::Relaxed),
        }))
    }

    /// Puts the filled generation in force; gives the old one and what was on disk before.
    fn switch(&self) -> Result<(Generation, u64), StoreError> {
        let _one = lock(&self.syncing);
        let mut access = lock(&self.access);
        let Some(next) = &access.next else {
            return Err(StoreError::Io {
                doing: "compacting",
                why: "there is nothing to switch to".to_owned(),
            });
        };
        let filled = &next.generation;
        // A copy that fails is thrown away, so that its failure is not the store's.
        let own = Poison::default();
        self.current().copy_system(filled)?;
        filled.flush(&own)?;
        filled.sync(&own)?;
        let failed = |error| io_failed("compacting", &error);
        filled.home.sync(&self.dir).map_err(failed)?;
        // From here on nobody knows which one is in force when it fails; both hold the same.
        let whole = filled.home.set_whole();
        whole.map_err(|error| self.poison.set(failed(error)))?;
        let Some(next) = access.next.take() else {
            return Err(failed(std::io::ErrorKind::NotFound.into()));
        };
        access.compact_at = None;
        let position = next.generation.position();
        let old = std::mem::replace(&mut *self.current_alone(), next.generation);
        self.written_before
            .fetch_add(old.bytes_written(), Ordering::Relaxed);
        lock(&self.window).window.restart(position);
        Ok((old, next.before))
    }

    fn abandon(&self) {
        let next = lock(&self.access).next.take();
        // What may be in force already is not ours to remove.
        let Some(next) = next.filter(|_| !self.poison.is_set()) else {
            return;
        };
        let written = next.generation.bytes_written();
        self.written_before.fetch_add(written, Ordering::Relaxed);
        let path = next.generation.home.path.clone();
        drop(next);
        let _ = std::fs::remove_dir_all(path);
    }
}
