//! A sink that appends to a file.
//!
//! What it promises: an output is confirmed when its record is on the disk, for good. Records are
//! whole: what an interrupted write has left of one is removed before anything else is written,
//! so that after a crash a record can be there twice, with the same id, and never in half. A disk
//! that is full or fails is waited for. Files that are full are set aside under growing numbers
//! (`alerts.jsonl.000001`), compressed if wanted, and the oldest of them deleted, so that all
//! together stay within bounds.

mod appended;
mod kept;

use std::path::{Path, PathBuf};

use super::Context;
use super::refusal::Refusals;
use super::writing::{self, Batch, Failure, Writer};
use crate::clock;
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec};
use crate::encode::{Encoder, Framing};
use crate::event::Timestamp;
use appended::Appended;
use kept::Kept;

const PATH: &str = "file.path";
const ROTATE_BYTES: &str = "file.rotate.bytes";
const ROTATE_EVERY: &str = "file.rotate.every";
const KEEP: &str = "file.keep";
const COMPRESS: &str = "file.compress";
const SYNC: &str = "file.sync";

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        PATH,
        OptionKind::Text,
        "The file to append to. Its folder is made if need be.",
    )
    .required()
    .exclusive(),
    OptionSpec::new(
        ROTATE_BYTES,
        OptionKind::Bytes,
        "A file that would become larger is set aside, and a new one begun; `0`: at no size.",
    )
    .or("64 MiB"),
    OptionSpec::new(
        ROTATE_EVERY,
        OptionKind::Duration,
        "A file is set aside when such a span of time is over, counted from 1970 in UTC: `1 d` is \
         at midnight. Without it: at no time.",
    ),
    OptionSpec::new(
        KEEP,
        OptionKind::Integer {
            min: 0,
            max: 100_000,
        },
        "How many files that were set aside are kept; older ones are deleted.",
    )
    .or("10"),
    OptionSpec::new(
        COMPRESS,
        OptionKind::Choice(&["none", "zstd"]),
        "What becomes of files that were set aside.",
    )
    .or("none"),
    OptionSpec::new(
        SYNC,
        OptionKind::Flag,
        "Whether an output counts as delivered only when it would survive a power cut.",
    )
    .or("true"),
];

/// A file sink, checked.
#[derive(Debug)]
pub struct File {
    encoder: Encoder,
    refusals: Refusals,
    settings: Settings,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    path: PathBuf,
    framing: Framing,
    rotate_bytes: Option<u64>,
    rotate_every_ms: Option<i64>,
    keep: usize,
    compress: bool,
    sync: bool,
}

impl File {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<File, OptionFault> {
        let options = definition.options;
        let encoder = Encoder::new(definition.format, options, definition.schema)?;
        let framing = encoder.framing();
        if framing == Framing::Unframed {
            let problem = "in a file nobody could tell one BYTES value from the next: use json, \
                           csv or cbor";
            return Err(OptionFault::new("format", problem));
        }
        let path = PathBuf::from(options.text(PATH).unwrap_or_default());
        if path.file_name().is_none() || options.text(PATH).is_some_and(|text| text.ends_with('/'))
        {
            return Err(OptionFault::new(PATH, "it must name a file, not a folder"));
        }
        let some = |name: &str, default| options.integer(name).or(default).filter(|n| *n > 0);
        Ok(File {
            encoder,
            // A file refuses nothing; what the options say is checked all the same.
            refusals: Refusals::new(options)?,
            settings: Settings {
                path,
                framing,
                rotate_bytes: some(ROTATE_BYTES, Some(64 << 20)).map(i64::unsigned_abs),
                rotate_every_ms: some(ROTATE_EVERY, None),
                keep: usize::try_from(options.integer(KEEP).unwrap_or(10)).unwrap_or(0),
                compress: options.text(COMPRESS) == Some("zstd"),
                sync: options.flag(SYNC) || !options.has(SYNC),
            },
        })
    }

    /// Delivers until told to stop, or until there is nothing to come.
    pub async fn run(self, context: Context) {
        let files = Files::new(self.settings, clock::wall);
        writing::run(context, self.encoder, self.refusals, files, "file-sink").await;
    }
}

/// A name that was given or taken is on the disk with its folder.
fn sync_folder(of: &Path) -> std::io::Result<()> {
    std::fs::File::open(kept::folder(of))?.sync_all()
}

/// What the thread works with.
#[derive(Debug)]
struct Files {
    settings: Settings,
    wall: fn() -> Timestamp,
    open: Option<Appended>,
    kept: Kept,
    /// Something was set aside, here or before the start.
    to_tidy: bool,
}

impl Files {
    fn new(settings: Settings, wall: fn() -> Timestamp) -> Files {
        Files {
            kept: Kept::new(settings.path.clone()),
            settings,
            wall,
            open: None,
            to_tidy: true,
        }
    }

    /// The file with room for the batch.
    fn file(&mut self, batch: &Batch) -> Result<&mut Appended, String> {
        let period = self.period();
        // Somebody else may have moved or deleted it.
        let is_there = |file: &Appended| file.is_at(&self.settings.path);
        let open = self.open.take().filter(is_there);
        let mut file = match open {
            Some(file) => file,
            None => self.begin(&batch.head)?,
        };
        let length = u64::try_from(batch.records.len()).unwrap_or(u64::MAX);
        let length = length.saturating_add(file.bytes());
        let is_full = self.settings.rotate_bytes.is_some_and(|max| length > max);
        let is_over = file.period != period;
        let is_done = file.has_records() && (is_full || is_over);
        if is_done || file.is_foreign || file.head != batch.head {
            drop(file);
            self.kept.set_aside()?;
            self.to_tidy = true;
            file = self.begin(&batch.head)?;
        }
        file.period = period;
        Ok(self.open.insert(file))
    }

    fn begin(&self, head: &[u8]) -> Result<Appended, String> {
        let settings = &self.settings;
        let mut file = Appended::open(&settings.path, settings.framing, head, settings.sync)?;
        if let Some(written_ms) = file.written_ms {
            file.period = self.period_of(written_ms);
        }
        Ok(file)
    }

    /// The number of the present span of time, if there are any.
    fn period(&self) -> i64 {
        self.period_of((self.wall)().0)
    }

    fn period_of(&self, wall_ms: i64) -> i64 {
        let every = self.settings.rotate_every_ms;
        every.map_or(0, |every_ms| wall_ms.div_euclid(every_ms))
    }
}

impl Writer for Files {
    fn write(&mut self, batch: &Batch) -> Result<(), Failure> {
        let written = match self.file(batch) {
            Ok(file) => file.append(batch),
            Err(why) => Err(why),
        };
        written.map_err(|why| {
            // What it has left of the batch is removed before the next attempt.
            self.open = None;
            Failure::Later(why)
        })
    }

    fn tidy(&mut self) {
        if !std::mem::take(&mut self.to_tidy) {
            return;
        }
        let (keep, compress) = (self.settings.keep, self.settings.compress);
        if let Err(why) = self.kept.tidy(keep, compress) {
            tracing::warn!("{why}; it is tried again when the next file is set aside");
        }
    }
}

#[cfg(test)]
mod tests;
