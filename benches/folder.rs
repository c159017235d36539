//! Folders for stores: below `target`, so that they lie on a disk and not in memory.

use tempfile::TempDir;

/// An empty folder that is removed when dropped.
pub(crate) fn new() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder below target")
}

/// What a process has had written to the disk since its start, in bytes; `self` is this one.
pub(crate) fn written_bytes(process: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/io")).expect("Linux counts them");
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok())
        .expect("a number of bytes")
}
