//! A serial device made of a pseudo terminal: it can be plugged in and out, and keeps its name as
//! a link of udev would.

#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::wait::DEADLINE;

/// A device, plugged in or not.
pub(crate) struct Device {
    folder: tempfile::TempDir,
    master: Option<PtyMaster>,
}

impl Device {
    /// A device that is plugged in.
    pub(crate) fn new() -> Device {
        let mut device = Device {
            folder: tempfile::tempdir().unwrap(),
            master: None,
        };
        device.plug_in();
        device
    }

    /// Its name, whether it is there or not.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("device")
    }

    pub(crate) fn plug_in(&mut self) {
        assert!(self.master.is_none());
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = PathBuf::from(ptsname_r(&master).unwrap());
        make_raw(&slave);
        std::os::unix::fs::symlink(slave, self.path()).unwrap();
        self.master = Some(master);
    }

    pub(crate) fn unplug(&mut self) {
        std::fs::remove_file(self.path()).unwrap();
        drop(self.master.take().unwrap());
    }

    /// Says something.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.master.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Waits for so many bytes that are written to it, and gives them.
    pub(crate) fn hear(&mut self, count: usize) -> Vec<u8> {
        let end = Instant::now() + DEADLINE;
        let mut heard = Vec::new();
        while heard.len() < count {
            let shown = String::from_utf8_lossy(&heard).into_owned();
            assert!(Instant::now() < end, "{count} bytes, only came: {shown:?}");
            heard.extend(self.hear_now(count - heard.len()));
        }
        heard
    }

    /// Waits for a line that is written to it.
    pub(crate) fn hear_line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            line.extend(self.hear(1));
        }
        String::from_utf8(line).unwrap()
    }

    /// What is written to it within a tenth of a second, at most `count` bytes.
    pub(crate) fn hear_now(&mut self, count: usize) -> Vec<u8> {
        let master = self.master.as_mut().unwrap();
        let mut waiting = [PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        nix::poll::poll(&mut waiting, PollTimeout::from(100_u8)).unwrap();
        let ready = waiting[0].revents().unwrap();
        let mut buffer = vec![0; count];
        let read = match ready.contains(PollFlags::POLLIN) {
            true => master.read(&mut buffer).unwrap_or(0),
            false => 0,
        };
        buffer.truncate(read);
        buffer
    }
}

/// As a UART is: no echo, no lines.
fn make_raw(slave: &Path) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(slave)
        .unwrap();
    let mut termios = tcgetattr(&file).unwrap();
    cfmakeraw(&mut termios);
    tcsetattr(&file, SetArg::TCSANOW, &termios).unwrap();
}
