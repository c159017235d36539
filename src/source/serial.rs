//! A source that reads a serial port.
//!
//! What it promises: what becomes a message was framed whole and had the right checksum, if there
//! is one. A port that goes is closed, and opened again when it comes back; a message that had only
//! begun is dropped and counted (`incomplete`). A device does not wait: when the pipeline is
//! behind, messages queue up to `queue.bytes_max`, and beyond it whole messages are dropped and
//! counted (`queue_full`). What has been read is in no memory but ours until it is logged, so a
//! crash costs what has just come.

use std::time::{Duration, Instant as Clock};

use tokio::time::{Instant, sleep, timeout};

use super::{Context, Dropped, Failed, Intake, Plan};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec, first_exclusive, joined};
use crate::framing::{Deframer, FRAMING_OPTIONS, Framing, Piece, Start, bytes_of};
use crate::pace::{Backoff, Sparse, sleep_until_some};
use crate::serial::{self, Address, Port, Role, Settings};

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &first_exclusive(joined::<
    { serial::SERIAL_OPTIONS.len() + OWN_OPTIONS.len() + FRAMING_OPTIONS.len() },
>(&[
    serial::SERIAL_OPTIONS,
    OWN_OPTIONS,
    FRAMING_OPTIONS,
]));

const OWN_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "serial.init",
        OptionKind::Text,
        "Bytes that are written whenever the port has been opened, to make the device talk; \
         `\\r`, `\\n`, `\\t`, `\\0`, `\\\\` and `\\x03` are understood",
    ),
    OptionSpec::new(
        "serial.settle",
        OptionKind::Duration,
        "For so long after the port has been opened what comes is thrown away: a board that was \
         reset says things that are no messages",
    )
    .or("0 s")
    .between(0, 600_000),
];

/// The waits between attempts to open the port. The longest is short: to look for a device costs
/// nothing, and somebody stands there with the plug.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A port that was open so long was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// One line about attempts that fail in this time.
const LINE_SPAN: Duration = Duration::from_secs(60);
/// What is read at once. The kernel keeps 4 KiB for us, and what a USB adapter has handed over.
const READ_BYTES: usize = 16 << 10;
/// How long the device may take to accept `serial.init`.
const INIT_WITHIN: Duration = Duration::from_secs(10);

/// A serial source, checked.
#[derive(Debug)]
pub struct Serial {
    address: Address,
    settings: Settings,
    framing: Framing,
    init: Vec<u8>,
    settle: Duration,
    plan: Plan,
}

impl Serial {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Serial, OptionFault> {
        let Definition {
            options,
            schema,
            format,
            ..
        } = *definition;
        let fault = |option| move |problem| OptionFault::new(option, problem);
        let address = options.text("serial.port").unwrap_or_default();
        let framing = Framing::from_options(options)?;
        framing.must_resynchronise()?;
        let init = options.text("serial.init").unwrap_or_default();
        let settle_ms = options.integer("serial.settle").unwrap_or(0);
        Ok(Serial {
            address: address.parse().map_err(fault("serial.port"))?,
            settings: Settings::from_options(options)?,
            framing,
            init: bytes_of(init).map_err(fault("serial.init"))?,
            settle: Duration::from_millis(settle_ms.unsigned_abs()),
            plan: Plan::new(format, options, schema, &[])?,
        })
    }

    /// Reads until told to stop, or until the pipeline is gone.
    pub async fn run(self, context: Context) {
        let deframer = self.framing.deframer(Start::Midway, Clock::now());
        let task = Task {
            intake: Intake::new(self.plan, &context),
            device: Device {
                address: self.address,
                settings: self.settings,
                init: self.init,
                settle: self.settle,
            },
            context,
            deframer,
            pace: Backoff::new(RETRY.0, RETRY.1),
            line: Sparse::new(LINE_SPAN),
            lost_line: Sparse::new(LINE_SPAN),
        };
        task.run().await;
    }
}

struct Device {
    address: Address,
    settings: Settings,
    init: Vec<u8>,
    settle: Duration,
}

/// What ends the reading of an open port.
enum End {
    /// The port went, or what it gave was not to be had.
    Lost(String),
    /// The source is to end, or there is no pipeline any more.
    Stopped,
    /// The stream has failed.
    Failed,
}

struct Task {
    device: Device,
    context: Context,
    intake: Intake,
    deframer: Deframer,
    pace: Backoff,
    line: Sparse,
    lost_line: Sparse,
}

impl Task {
    async fn run(mut self) {
        loop {
            let end = match self.open().await {
                Some(Ok(port)) => {
                    let end = self.attend(&port).await;
                    if let End::Lost(why) = &end {
                        self.tell_lost(why);
                    }
                    end
                }
                Some(Err(why)) => End::Lost(why),
                None => End::Stopped,
            };
            match end {
                End::Lost(why) => {
                    self.intake.down(&why);
                    if self.pause(&why).await {
                        break;
                    }
                }
                // What came before the message that failed is durable all the same.
                End::Stopped | End::Failed => break,
            }
        }
        if !self.intake.drain(self.context.stop_within).await {
            tracing::warn!(
                stream = self.context.name,
                "what was read last is not durable yet"
            );
        }
        tracing::debug!(stream = self.context.name, "source ended");
    }

    /// Has a line of its own: that the port was not there at the start must not hide that it went.
    fn tell_lost(&mut self, why: &str) {
        if let Some(count) = self.lost_line.occurred(Clock::now()) {
            tracing::warn!(stream = self.context.name, count, "the port is lost: {why}");
        }
    }

    /// `None` when told to stop, or when there is no pipeline any more.
    async fn open(&mut self) -> Option<Result<Port, String>> {
        let Device {
            address, settings, ..
        } = &self.device;
        let opened = tokio::select! {
            biased;
            _ = self.context.stop.wait_for(|stop| *stop) => return None,
            opened = serial::open(address, *settings, Role::Reader) => opened,
            () = self.intake.serve() => return None,
        };
        Some(opened.map_err(|error| error.to_string()))
    }

    /// An open port, from its first byte to its last.
    async fn attend(&mut self, port: &Port) -> End {
        let begin = Instant::now();
        self.intake.up();
        tracing::info!(
            stream = self.context.name,
            port = %port.path().display(),
            "opened, {}",
            self.device.settings
        );
        let end = match self.begin(port).await {
            Some(end) => end,
            None => self.read(port).await,
        };
        // One that is lost again and again is no better than one that is away.
        if begin.elapsed() >= STABLE_AFTER {
            self.pace.reset();
        }
        let cut = self.deframer.abandon(Start::Midway, Clock::now());
        if cut > 0 {
            let what = format!("{cut} bytes of a message that had only begun");
            self.intake.drop(Dropped::Incomplete, &what);
        }
        end
    }

    /// Makes the device talk, and lets it say what is no message. How it ended, if it did.
    async fn begin(&mut self, port: &Port) -> Option<End> {
        let mut buffer = vec![0; READ_BYTES];
        let device = &self.device;
        let opening = async {
            if !device.init.is_empty() {
                match timeout(INIT_WITHIN, port.write(&device.init)).await {
                    Ok(written) => written.map_err(|error| error.to_string())?,
                    Err(_) => return Err("the device does not take serial.init".to_owned()),
                }
            }
            let settled = sleep(device.settle);
            tokio::pin!(settled);
            while !device.settle.is_zero() {
                tokio::select! {
                    biased;
                    () = &mut settled => break,
                    read = port.read(&mut buffer) => {
                        read.map_err(|error| error.to_string())?;
                    }
                }
            }
            Ok(())
        };
        tokio::select! {
            biased;
            _ = self.context.stop.wait_for(|stop| *stop) => Some(End::Stopped),
            opened = opening => opened.err().map(End::Lost),
            () = self.intake.serve() => Some(End::Stopped),
        }
    }

    async fn read(&mut self, port: &Port) -> End {
        self.deframer.abandon(Start::Midway, Clock::now());
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let pause_ends = self.deframer.deadline().map(Instant::from_std);
            // Reading comes before the pause's end: what has come meanwhile may go on with it.
            tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => return End::Stopped,
                read = port.read(&mut buffer) => match read {
                    Ok(count) => {
                        let bytes = buffer.get(..count).unwrap_or_default();
                        self.deframer.push(bytes, Clock::now());
                    }
                    Err(error) => return End::Lost(error.to_string()),
                },
                () = sleep_until_some(pause_ends) => self.deframer.expire(Clock::now()),
                () = self.intake.serve() => return End::Stopped,
            }
            if let Err(Failed) = self.take() {
                return End::Failed;
            }
            // Under a flood the port never runs dry.
            if self.intake.has_batch() {
                self.intake.offer();
            }
        }
    }

    /// Takes all messages that are whole.
    fn take(&mut self) -> Result<(), Failed> {
        while let Some(piece) = self.deframer.next_piece() {
            let (Piece::Frame(bytes) | Piece::Fault { bytes, .. }) = &piece;
            if self.intake.is_full(bytes.len()) {
                self.intake.offer();
            }
            if self.intake.is_full(bytes.len()) {
                self.intake.heard(bytes.len());
                self.intake
                    .drop(Dropped::QueueFull, "a device does not wait");
                continue;
            }
            match piece {
                Piece::Frame(payload) => self.intake.take(payload, &[], None)?,
                Piece::Fault { reject, bytes } => self.intake.reject(reject, bytes)?,
            };
        }
        Ok(())
    }

    /// Waits before the next attempt, while the pipeline is still served. True when the source is
    /// to end.
    async fn pause(&mut self, why: &str) -> bool {
        let wait = self.pace.wait();
        if let Some(count) = self.line.occurred(Clock::now()) {
            tracing::warn!(
                stream = self.context.name,
                count,
                "no serial port {}: {why}; next attempt in {wait:.1?}",
                self.device.address
            );
        }
        tokio::select! {
            biased;
            _ = self.context.stop.wait_for(|stop| *stop) => true,
            () = sleep(wait) => false,
            () = self.intake.serve() => true,
        }
    }
}
