//! A port that is open, and those who share it.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::future::poll_fn;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::termios::{ControlFlags, SetArg, tcgetattr, tcsetattr};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_serial::{DataBits, FlowControl, SerialPort, SerialStream, StopBits};

use super::{Address, Flow, Level, Parity, Settings};

/// Why a port is not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing is there that could be opened.
    #[error("{0}")]
    NotFound(String),
    /// It is there and does not open.
    #[error("{}: {error}", path.display())]
    Refused {
        /// The device.
        path: PathBuf,
        /// What the system says.
        error: String,
    },
    /// Something else than a serial port is there.
    #[error("{} is not a serial port", .0.display())]
    NoPort(PathBuf),
    /// Another stream has it open with other settings.
    #[error(
        "{}: another stream has opened it with {present}, this one asks for {wanted}",
        path.display()
    )]
    Differs {
        /// The device.
        path: PathBuf,
        /// How it is set.
        present: Settings,
        /// How it was to be set.
        wanted: Settings,
    },
    /// Another stream does the same with it.
    #[error("{}: another stream {} already", path.display(), role.verb())]
    Taken {
        /// The device.
        path: PathBuf,
        /// What it does.
        role: Role,
    },
    /// It is lost, and somebody has not let go of it yet.
    #[error("{}: it is being closed", .0.display())]
    Closing(PathBuf),
}

/// What somebody does with a port. Of each there is one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads.
    Reader,
    /// Writes.
    Writer,
}

impl Role {
    fn verb(self) -> &'static str {
        match self {
            Role::Reader => "reads it",
            Role::Writer => "writes to it",
        }
    }
}

/// A device that is open, once in the process.
struct Line {
    path: PathBuf,
    settings: Settings,
    stream: Mutex<SerialStream>,
    roles: Mutex<Vec<Role>>,
    /// Turns true when somebody finds that it is not there any more.
    lost: watch::Sender<bool>,
    /// Opened first and closed last, with flags that [`SerialStream`] does not set.
    _file: File,
}

/// What is open, by device. A lock of its own for each, since opening may take long.
type Lines = HashMap<PathBuf, Arc<tokio::sync::Mutex<Weak<Line>>>>;

static LINES: Mutex<Option<Lines>> = Mutex::new(None);

/// Somebody's share of an open port; given back when it is dropped.
pub struct Port {
    line: Arc<Line>,
    role: Role,
    lost: watch::Receiver<bool>,
}

/// Opens a port, or takes a share in one that another stream has opened.
///
/// # Errors
/// It is not there, does not open, is set otherwise, or somebody has that role already.
pub async fn open(address: &Address, settings: Settings, role: Role) -> Result<Port, OpenError> {
    let path = address.find().map_err(OpenError::NotFound)?;
    let entry = {
        let mut lines = locked(&LINES);
        let lines = lines.get_or_insert_default();
        Arc::clone(lines.entry(path.clone()).or_default())
    };
    let mut entry = entry.lock().await;
    if let Some(line) = entry.upgrade() {
        return share(line, settings, role);
    }
    let device = path.clone();
    let opened = tokio::task::spawn_blocking(move || open_device(&device, settings)).await;
    let (stream, file) = opened.map_err(|error| OpenError::Refused {
        path: path.clone(),
        error: error.to_string(),
    })??;
    let line = Arc::new(Line {
        path,
        settings,
        stream: Mutex::new(stream),
        roles: Mutex::default(),
        lost: watch::channel(false).0,
        _file: file,
    });
    *entry = Arc::downgrade(&line);
    share(line, settings, role)
}

fn share(line: Arc<Line>, settings: Settings, role: Role) -> Result<Port, OpenError> {
    let path = || line.path.clone();
    if *line.lost.borrow() {
        return Err(OpenError::Closing(path()));
    }
    if line.settings != settings {
        return Err(OpenError::Differs {
            path: path(),
            present: line.settings,
            wanted: settings,
        });
    }
    let mut roles = locked(&line.roles);
    if roles.contains(&role) {
        return Err(OpenError::Taken { path: path(), role });
    }
    roles.push(role);
    drop(roles);
    let lost = line.lost.subscribe();
    Ok(Port { line, role, lost })
}

/// May wait for the device.
fn open_device(path: &Path, settings: Settings) -> Result<(SerialStream, File), OpenError> {
    let refused = |error: &dyn std::fmt::Display| OpenError::Refused {
        path: path.to_owned(),
        error: error.to_string(),
    };
    // Without O_NONBLOCK it would wait for a modem's carrier.
    let flags = OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(flags.bits());
    let file = options.open(path).map_err(|error| refused(&error))?;
    let no_port = || OpenError::NoPort(path.to_owned());
    let mut termios = tcgetattr(&file).map_err(|_| no_port())?;
    // The kernel raises DTR and RTS when a port is opened, and with HUPCL lowers them when it is
    // closed: then a board is reset at every opening. Without it only the first one may do that.
    let keeps = settings.dtr == Level::Keep || settings.rts == Level::Keep;
    termios.control_flags.set(ControlFlags::HUPCL, !keeps);
    tcsetattr(&file, SetArg::TCSANOW, &termios).map_err(|error| refused(&error))?;
    let builder = tokio_serial::new(path.to_string_lossy(), settings.baud)
        .data_bits(match settings.data_bits {
            5 => DataBits::Five,
            6 => DataBits::Six,
            7 => DataBits::Seven,
            _ => DataBits::Eight,
        })
        .parity(match settings.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Odd => tokio_serial::Parity::Odd,
            Parity::Even => tokio_serial::Parity::Even,
        })
        .stop_bits(match settings.has_two_stop_bits {
            true => StopBits::Two,
            false => StopBits::One,
        })
        .flow_control(match settings.flow {
            Flow::None => FlowControl::None,
            Flow::Hardware => FlowControl::Hardware,
            Flow::Software => FlowControl::Software,
        })
        .preserve_dtr_on_open()
        .exclusive(settings.is_exclusive);
    let mut stream = SerialStream::open(&builder).map_err(|error| refused(&error))?;
    for (level, is_dtr) in [(settings.dtr, true), (settings.rts, false)] {
        let high = match level {
            Level::Keep => continue,
            Level::High => true,
            Level::Low => false,
        };
        let (set, name) = match is_dtr {
            true => (stream.write_data_terminal_ready(high), "DTR"),
            false => (stream.write_request_to_send(high), "RTS"),
        };
        set.map_err(|error| refused(&format!("{name} cannot be set: {error}")))?;
    }
    Ok((stream, file))
}

/// How soon it is looked again whether the kernel has sent everything.
const DRAIN_MIN: Duration = Duration::from_millis(1);
const DRAIN_MAX: Duration = Duration::from_millis(50);

impl Port {
    /// The device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.line.path
    }

    /// Waits for bytes. To be called by the reader only; dropping the future loses nothing.
    ///
    /// # Errors
    /// The port is lost: what a read of a device that is gone gives differs from driver to driver,
    /// and an end of the file is one of them.
    pub async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let read = poll_fn(|context| {
            let mut buffer = ReadBuf::new(into);
            let poll = Pin::new(&mut *self.stream()).poll_read(context, &mut buffer);
            poll.map_ok(|()| buffer.filled().len())
        });
        match read.await {
            Ok(0) => {
                let gone = "the device is gone";
                Err(self.lose(io::Error::new(io::ErrorKind::UnexpectedEof, gone)))
            }
            Ok(count) => Ok(count),
            Err(error) => Err(self.lose(error)),
        }
    }

    /// Writes all of `bytes` and waits until the kernel has sent them. (What is then left is in the
    /// port's own chip, a few bytes at most.) To be called by the writer only.
    ///
    /// # Errors
    /// The port is lost; some of the bytes may have been sent.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let write = poll_fn(|context| Pin::new(&mut *self.stream()).poll_write(context, rest));
            match write.await {
                Ok(0) => {
                    let nothing = "nothing can be written";
                    return Err(self.lose(io::Error::new(io::ErrorKind::WriteZero, nothing)));
                }
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) => return Err(self.lose(error)),
            }
        }
        // `flush` would wait with the thread.
        loop {
            let waiting = self.stream().bytes_to_write();
            match waiting {
                Ok(0) => return Ok(()),
                Ok(waiting) => {
                    let settings = &self.line.settings;
                    let bits = u64::from(waiting) * u64::from(settings.bits_per_byte());
                    let span = Duration::from_micros(bits * 1_000_000 / u64::from(settings.baud));
                    sleep(span.clamp(DRAIN_MIN, DRAIN_MAX)).await;
                }
                Err(error) => return Err(self.lose(error.into())),
            }
        }
    }

    /// Throws away what the kernel has not sent, so that a device that takes nothing does not get
    /// half of it later.
    pub fn discard_output(&self) {
        let _ = self.stream().clear(tokio_serial::ClearBuffer::Output);
    }

    /// Waits until somebody finds that the port is lost; whoever has it is then to let go of it.
    pub async fn lost(&mut self) {
        let _ = self.lost.wait_for(|lost| *lost).await;
    }

    pub(super) fn lose(&self, error: io::Error) -> io::Error {
        self.line.lost.send_replace(true);
        error
    }

    /// Never held over an await: readers and writers poll in turn.
    pub(super) fn stream(&self) -> MutexGuard<'_, SerialStream> {
        locked(&self.line.stream)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        locked(&self.line.roles).retain(|role| *role != self.role);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
