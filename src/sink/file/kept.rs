//! The files that were set aside: `alerts.jsonl.000001`, or `alerts.jsonl.000001.zst`.
//!
//! They are numbered and not dated, since numbers grow whatever a clock does.

use std::fs;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::sync_folder;

const COMPRESSED: &str = ".zst";
const UNFINISHED: &str = ".zst.tmp";
/// zstd's own default: a quarter of the size of JSON lines or less, at 100 MB/s and more.
const LEVEL: i32 = 3;

/// The files beside the one that is written.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
}

/// One of them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct One {
    number: u64,
    is_compressed: bool,
    path: PathBuf,
}

impl Kept {
    pub(super) fn new(path: PathBuf) -> Kept {
        Kept { path }
    }

    /// Sets the file aside that was written until now.
    pub(super) fn set_aside(&self) -> Result<(), String> {
        let fault = |error: io::Error| format!("cannot set `{}` aside: {error}", self.shown());
        let last = self
            .all()
            .map_err(fault)?
            .last()
            .map_or(0, |one| one.number);
        let to = self.beside(&format!(".{:06}", last.saturating_add(1)));
        fs::rename(&self.path, &to).map_err(fault)?;
        sync_folder(&self.path).map_err(fault)
    }

    /// Deletes all but the last `keep`, and compresses those if wanted.
    pub(super) fn tidy(&self, keep: usize, compress: bool) -> Result<(), String> {
        let fault = |error: io::Error| format!("cannot tidy up beside `{}`: {error}", self.shown());
        let all = self.all().map_err(fault)?;
        let mut numbers: Vec<u64> = all.iter().map(|one| one.number).collect();
        numbers.dedup();
        let first = numbers
            .len()
            .checked_sub(keep)
            .map(|over| numbers.get(over));
        for one in all {
            let is_kept = match first {
                None => true,
                Some(first) => first.is_some_and(|first| one.number >= *first),
            };
            if !is_kept {
                fs::remove_file(&one.path).map_err(fault)?;
            } else if compress && !one.is_compressed {
                self.compress(&one).map_err(fault)?;
            }
        }
        Ok(())
    }

    /// The compressed file has its name when it is whole; only then the other one goes.
    fn compress(&self, one: &One) -> io::Result<()> {
        let ending = |ending: &str| self.beside(&format!(".{:06}{ending}", one.number));
        let (unfinished, compressed) = (ending(UNFINISHED), ending(COMPRESSED));
        let to = BufWriter::new(fs::File::create(&unfinished)?);
        let mut to = zstd::Encoder::new(to, LEVEL)?;
        to.include_checksum(true)?;
        io::copy(&mut BufReader::new(fs::File::open(&one.path)?), &mut to)?;
        let mut to = to.finish()?;
        to.flush()?;
        to.get_ref().sync_all()?;
        fs::rename(&unfinished, &compressed)?;
        sync_folder(&self.path)?;
        fs::remove_file(&one.path)
    }

    /// All of them, the oldest first.
    fn all(&self) -> io::Result<Vec<One>> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut all = Vec::new();
        for entry in fs::read_dir(folder(&self.path))? {
            let path = entry?.path();
            let other = path.file_name().unwrap_or_default().to_string_lossy();
            let ending = other.strip_prefix(name.as_ref());
            let Some(ending) = ending.and_then(|ending| ending.strip_prefix('.')) else {
                continue;
            };
            let digits = ending.strip_suffix(COMPRESSED).unwrap_or(ending);
            let is_number = digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
            if let (true, Ok(number)) = (is_number, digits.parse()) {
                all.push(One {
                    number,
                    is_compressed: digits.len() < ending.len(),
                    path: path.clone(),
                });
            }
        }
        all.sort_unstable();
        Ok(all)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(ending);
        PathBuf::from(name)
    }

    fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }
}

/// The folder that a file lies in.
pub(super) fn folder(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new("."))
}
