//! A disk that is really full: a tmpfs of 16 MiB.
//!
//! Mounting it takes root; without, a test runs once more in a user namespace of its own, where it
//! is. Where that is forbidden too it says so and passes.

#![allow(dead_code, reason = "each test program uses its part")]
#![allow(clippy::useless_conversion, reason = "it is one on some machines")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Set where the test runs in a namespace of its own.
const INSIDE: &str = "EVENTFLUX_TEST_INSIDE";

/// A small file system; gone when dropped.
pub(crate) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts it at `at`, with more options if need be; `None` where that is not allowed.
    fn mount(at: &Path, options: &str) -> Option<Disk> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size=16m{options}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
        let done = mount.stderr(Stdio::null()).status();
        let is_mounted = done.is_ok_and(|status| status.success());
        is_mounted.then(|| Disk { at: at.to_owned() })
    }

    /// Fills it but for `left` bytes with a file that is in the way.
    pub(crate) fn fill(&self, left: u64) {
        let mut ballast = File::create(self.at.join("ballast")).unwrap();
        let free = || {
            let disk = nix::sys::statvfs::statvfs(&self.at).unwrap();
            u64::from(disk.blocks_available()) * u64::from(disk.fragment_size())
        };
        while free() > left {
            let some = usize::try_from((free() - left).min(64 << 10)).unwrap();
            if ballast.write_all(&vec![b'x'; some]).is_err() {
                return;
            }
        }
    }

    /// Takes the file away.
    pub(crate) fn clear(&self) {
        std::fs::remove_file(self.at.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open keeps it until then.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// Runs the test `name` with what `make` makes, and a disk with these options mounted at `place`;
/// in a namespace of its own when need be.
pub(crate) fn on_a_small_disk<T>(
    (name, options): (&str, &str),
    make: impl FnOnce() -> T,
    place: impl FnOnce(&T) -> PathBuf,
    test: impl FnOnce(T, Disk),
) {
    // What is printed by a test that passes is not shown; this is.
    let say = |line: &str| std::io::stderr().write_all(line.as_bytes()).unwrap();
    let made = make();
    if let Some(disk) = Disk::mount(&place(&made), options) {
        test(made, disk);
        return;
    }
    if std::env::var_os(INSIDE).is_some() {
        say(&format!(
            "\n!!! {name} tests nothing: no tmpfs, not even in a user namespace\n"
        ));
        return;
    }
    let mut again = Command::new("unshare");
    again.arg("-Urm").arg(std::env::current_exe().unwrap());
    again.args(["--exact", name]).env(INSIDE, "1");
    match again.output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let complained = String::from_utf8_lossy(&output.stderr);
            if complained.contains("unshare failed") {
                say(&format!(
                    "\n!!! {name} tests nothing: neither mount nor unshare works\n"
                ));
                return;
            }
            assert!(output.status.success(), "{said}\n{complained}");
            say(&complained);
        }
        Err(error) => say(&format!("\n!!! {name} tests nothing: unshare: {error}\n")),
    }
}
