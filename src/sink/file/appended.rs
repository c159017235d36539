//! The file that is written: whole records, and nothing behind them.

use std::fs::{self, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

use super::super::writing::Batch;
use super::sync_folder;
use crate::encode::Framing;
use crate::event::cbor;

/// An open file.
#[derive(Debug)]
pub(super) struct Appended {
    file: Flock<fs::File>,
    /// So much of it is whole records.
    bytes: u64,
    sync: bool,
    /// What it begins with.
    pub(super) head: Vec<u8>,
    /// When it was last written before it was opened, in milliseconds since 1970.
    pub(super) written_ms: Option<i64>,
    /// In which span of time it was last written.
    pub(super) period: i64,
    /// It was written in another format or with other columns: it is as it was, and to be set
    /// aside.
    pub(super) is_foreign: bool,
}

impl Appended {
    /// Opens the file, or begins it, and removes what is no whole record.
    pub(super) fn open(
        path: &Path,
        framing: Framing,
        head: &[u8],
        sync: bool,
    ) -> Result<Appended, String> {
        let cannot = |what: &str, error: &dyn std::fmt::Display| {
            format!("cannot {what} `{}`: {error}", path.display())
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder {
            make_folder(folder, sync).map_err(|error| cannot("make the folder of", &error))?;
        }
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let file = options.open(path).map_err(|error| cannot("open", &error))?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| cannot("write", &"another sink or program holds it locked"))?;
        let known = file.metadata().map_err(|error| cannot("look at", &error))?;
        if !known.is_file() {
            return Err(cannot("append to", &"it is no regular file"));
        }
        let begins = beginning(&mut file, head.len()).map_err(|error| cannot("read", &error))?;
        let is_foreign = is_foreign(&begins, framing, head);
        let whole = match is_foreign {
            // Whatever it is, it is nothing that an interrupted write of ours has left.
            true => known.len(),
            false => whole(&mut file, framing).map_err(|error| cannot("read", &error))?,
        };
        if whole < known.len() {
            let cut = known.len() - whole;
            file.set_len(whole)
                .map_err(|error| cannot("shorten", &error))?;
            let path = path.display();
            tracing::warn!("removed {cut} bytes of an interrupted write at the end of `{path}`");
        }
        let mut opened = Appended {
            file,
            bytes: whole,
            sync,
            head: head.to_vec(),
            written_ms: (whole > 0).then(|| modified_ms(&known)).flatten(),
            period: 0,
            is_foreign,
        };
        if whole == 0 {
            opened
                .begin(head)
                .map_err(|error| cannot("write", &error))?;
        }
        if sync {
            // Whoever made the file may have ended before this.
            sync_folder(path).map_err(|error| cannot("make durable", &error))?;
        }
        Ok(opened)
    }

    fn begin(&mut self, head: &[u8]) -> std::io::Result<()> {
        self.file.write_all(head)?;
        self.bytes = length(head);
        Ok(())
    }

    /// How long it is.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is more in it than what every such file begins with.
    pub(super) fn has_records(&self) -> bool {
        self.bytes > length(&self.head)
    }

    /// Whether it is the file with this name.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let (Ok(this), Ok(there)) = (self.file.metadata(), fs::metadata(path)) else {
            return false;
        };
        (this.dev(), this.ino()) == (there.dev(), there.ino())
    }

    /// Appends records, and sees to it that they are on the disk.
    pub(super) fn append(&mut self, batch: &Batch) -> Result<(), String> {
        let written = self.file.write_all(&batch.records);
        let safe = written.and_then(|()| {
            if self.sync {
                self.file.sync_data()
            } else {
                Ok(())
            }
        });
        if let Err(error) = safe {
            // What is left of it would pass for records. If this fails too, opening will do it.
            let _ = self.file.set_len(self.bytes);
            return Err(format!("cannot write to the file: {error}"));
        }
        self.bytes += length(&batch.records);
        Ok(())
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn modified_ms(known: &fs::Metadata) -> Option<i64> {
    let since = known
        .modified()
        .ok()?
        .duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.ok()?.as_millis()).ok()
}

/// Makes a folder, and sees to it that it is on the disk with all that had to be made for it.
fn make_folder(folder: &Path, sync: bool) -> std::io::Result<()> {
    let above = folder.ancestors().filter(|one| !one.as_os_str().is_empty());
    let missing: Vec<&Path> = above.take_while(|one| !one.exists()).collect();
    fs::create_dir_all(folder)?;
    if sync {
        missing.into_iter().try_for_each(sync_folder)?;
    }
    Ok(())
}

/// Whether a file that begins so was not written with `framing` and `head`. A power cut leaves zero
/// bytes, and an interrupted write a part of the head.
fn is_foreign(begins: &[u8], framing: Framing, head: &[u8]) -> bool {
    let differs = begins.iter().zip(head).find(|(is, wanted)| is != wanted);
    if let Some((is, _)) = differs {
        return *is != 0;
    }
    match (begins.first(), framing) {
        // Of CBOR: maps. No text in UTF-8 begins so.
        (Some(first), Framing::Items) => !matches!(first, 0 | 0xA0..=0xBF),
        (Some(first), Framing::Lines | Framing::QuotedLines) => matches!(first, 0x80..=0xBF),
        (_, Framing::Unframed) | (None, _) => false,
    }
}

fn beginning(file: &mut fs::File, bytes: usize) -> std::io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(0))?;
    let mut begins = Vec::new();
    let bytes = u64::try_from(bytes.max(1)).unwrap_or(u64::MAX);
    file.take(bytes).read_to_end(&mut begins)?;
    Ok(begins)
}

/// How much of a file, from its beginning, is whole records. A power cut can leave zero bytes where
/// nothing had been written yet.
fn whole(file: &mut fs::File, framing: Framing) -> std::io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let reader = BufReader::new(file);
    match framing {
        Framing::Items => Ok(cbor::whole_maps(reader)),
        Framing::Lines | Framing::QuotedLines => {
            whole_lines(reader, framing == Framing::QuotedLines)
        }
        Framing::Unframed => Ok(0),
    }
}

fn whole_lines(mut reader: impl Read, quotes: bool) -> std::io::Result<u64> {
    let (mut at, mut whole, mut is_quoted) = (0, 0, false);
    let mut block = vec![0; 64 * 1024];
    loop {
        let count = reader.read(&mut block)?;
        let Some(read) = block.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(whole);
        };
        for byte in read {
            at += 1;
            match byte {
                0 => return Ok(whole),
                b'\n' if !is_quoted => whole = at,
                b'"' if quotes => is_quoted = !is_quoted,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_the_last_whole_one() {
        let table: [(&str, bool, u64); 8] = [
            ("", false, 0),
            ("a", false, 0),
            ("a\nb\n", false, 4),
            ("a\nbc", false, 2),
            ("a\n\0\0\nb\n", false, 2),
            ("\"a\nb\"\n\"c\nd", true, 6),
            ("\"a\"\"\nb\"\nx\n", true, 10),
            ("\"a\nb", true, 0),
        ];
        for (text, quotes, expected) in table {
            let whole = whole_lines(text.as_bytes(), quotes).unwrap();
            assert_eq!(whole, expected, "{text:?}");
        }
    }
}
