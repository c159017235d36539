//! A sink that writes to a serial port: commands for the device there.
//!
//! What it promises: outputs are written in order, one frame each, and a key is confirmed when the
//! kernel has sent the whole frame. A device does not answer here; what it says is read by a source
//! at the same port, which shares it. When the port is lost within a frame, the frame is written
//! again as a whole when it is back, so that the device may see a part of it before. An output that
//! cannot be a frame (it has the byte that ends frames) is refused.

use std::time::{Duration, Instant as Clock};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::link::Link;
use super::refusal::{Asked, Judgement, Refusals};
use super::{CONFIRM_AGAIN, Confirmer, Context, Delivery, count};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec, joined};
use crate::encode::Encoder;
use crate::framing::{FRAMING_OPTIONS, Framing};
use crate::pace::{Backoff, Sparse};
use crate::serial::{self, Address, Port, Role, Settings};

/// What can be set.
pub const OPTIONS: &[OptionSpec] = &joined::<
    { serial::SERIAL_OPTIONS.len() + OWN_OPTIONS.len() + FRAMING_OPTIONS.len() },
>(&[serial::SERIAL_OPTIONS, OWN_OPTIONS, FRAMING_OPTIONS]);

const OWN_OPTIONS: &[OptionSpec] = &[OptionSpec::new(
    "serial.write_timeout",
    OptionKind::Duration,
    "How long the device may hold back a message (flow control); then the port is opened anew, and \
     the message written again",
)
.or("10 s")
.between(1, 600_000)];

/// The waits between attempts to open the port.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// One line about attempts that fail in this time.
const LINE_SPAN: Duration = Duration::from_secs(60);

const GONE: &str = "the device is gone";

/// A serial sink, checked.
#[derive(Debug)]
pub struct Serial {
    address: Address,
    settings: Settings,
    framing: Framing,
    encoder: Encoder,
    refusals: Refusals,
    write_timeout: Duration,
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
        let address = options.text("serial.port").unwrap_or_default();
        let address = address.parse();
        let framing = Framing::from_options(options)?;
        framing.must_be_writable()?;
        let timeout_ms = options.integer("serial.write_timeout").unwrap_or(10_000);
        Ok(Serial {
            address: address.map_err(|problem: String| OptionFault::new("serial.port", problem))?,
            settings: Settings::from_options(options)?,
            framing,
            encoder: Encoder::new(format, options, schema)?,
            refusals: Refusals::new(options)?,
            write_timeout: Duration::from_millis(timeout_ms.unsigned_abs().max(1)),
        })
    }

    /// Writes until told to stop, or until there is nothing to come.
    pub async fn run(self, context: Context) {
        let task = Task {
            link: Link::new(&context),
            confirmer: Confirmer::new(context.sink, context.confirmed.clone()),
            serial: self,
            context,
            held: None,
            asked: Asked::default(),
            pace: Backoff::new(RETRY.0, RETRY.1),
            line: Sparse::new(LINE_SPAN),
        };
        task.run().await;
    }
}

/// What ends the use of an open port.
enum End {
    Lost(String),
    /// The sink is to end, or there is nothing to come.
    Stopped,
    Failed,
}

/// What became of one output.
enum Outcome {
    Settled,
    Again(Duration),
    Ended(End),
}

struct Task {
    serial: Serial,
    context: Context,
    link: Link,
    confirmer: Confirmer,
    /// What is to be delivered next.
    held: Option<Delivery>,
    /// How often it was tried.
    asked: Asked,
    pace: Backoff,
    line: Sparse,
}

impl Task {
    async fn run(mut self) {
        loop {
            let opened = tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => break,
                opened = serial::open(&self.serial.address, self.serial.settings, Role::Writer) => {
                    opened
                }
            };
            let end = match opened {
                Ok(mut port) => self.attend(&mut port).await,
                Err(error) => End::Lost(error.to_string()),
            };
            match end {
                End::Lost(why) => {
                    self.link.down(&why);
                    if self.wait(&why).await {
                        break;
                    }
                }
                End::Stopped | End::Failed => break,
            }
        }
        while !*self.context.stop.borrow() && !self.confirmer.flush() {
            sleep(CONFIRM_AGAIN).await;
        }
        self.confirmer.flush();
    }

    /// Delivers as long as the port is there.
    async fn attend(&mut self, port: &mut Port) -> End {
        self.link.up();
        loop {
            if self.held.is_none() {
                self.asked = Asked::default();
                tokio::select! {
                    biased;
                    _ = self.context.stop.wait_for(|stop| *stop) => return End::Stopped,
                    () = port.lost() => return End::Lost(GONE.to_owned()),
                    delivery = self.context.deliveries.recv() => match delivery {
                        Some(delivery) => self.held = Some(delivery),
                        None => return End::Stopped,
                    },
                    () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                        self.confirmer.flush();
                    }
                }
                continue;
            }
            let Some(delivery) = self.held.take() else {
                continue;
            };
            match self.deliver(port, &delivery).await {
                Outcome::Settled => {}
                Outcome::Again(wait) => {
                    self.held = Some(delivery);
                    if self.pause(wait).await {
                        return End::Stopped;
                    }
                }
                Outcome::Ended(end) => {
                    self.held = Some(delivery);
                    return end;
                }
            }
        }
    }

    async fn deliver(&mut self, port: &mut Port, delivery: &Delivery) -> Outcome {
        if self.context.passes_over(delivery.key) {
            return Outcome::Settled;
        }
        self.asked.attempts = self.asked.attempts.saturating_add(1);
        let (mut payload, mut frame) = (Vec::with_capacity(128), Vec::with_capacity(128));
        let message = self.context.message(delivery);
        self.serial.encoder.encode(&message, &mut payload);
        if let Err(reject) = self.serial.framing.frame(&payload, &mut frame) {
            let why = reject.to_string();
            self.asked.refusals = self.asked.refusals.saturating_add(1);
            let asked = self.asked;
            return match self.serial.refusals.judge(&self.context, &why, asked) {
                Judgement::GiveUp(refused) => {
                    self.confirmer.refuse(delivery.key, refused);
                    Outcome::Settled
                }
                Judgement::Again(wait) => Outcome::Again(wait),
                Judgement::Fail => Outcome::Ended(End::Failed),
            };
        }
        let mut stop = self.context.stop.clone();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return Outcome::Ended(End::Stopped),
            () = port.lost() => return Outcome::Ended(End::Lost(GONE.to_owned())),
            () = self.context.deliveries.permitted(1, frame.len()) => {}
        }
        let within = self.context.stop_within;
        // What is being written is written to its end, unless the time to stop is over.
        let late = async {
            let _ = stop.wait_for(|stop| *stop).await;
            sleep(within).await;
        };
        let written = tokio::select! {
            biased;
            written = timeout(self.serial.write_timeout, port.write(&frame)) => written,
            () = late => return Outcome::Ended(End::Stopped),
        };
        let why = match written {
            Ok(Ok(())) => {
                count(&self.context.metrics.delivered);
                self.confirmer.confirm(delivery.key);
                self.serial.refusals.reset();
                self.pace.reset();
                if let Some(pause) = self.serial.framing.pause() {
                    sleep(pause).await;
                }
                return Outcome::Settled;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => {
                port.discard_output();
                let span = self.serial.write_timeout;
                format!("the device has not taken a message within {span:.1?}")
            }
        };
        count(&self.context.metrics.retries);
        Outcome::Ended(End::Lost(why))
    }

    /// Waits before the port is opened again. True when the sink is to end.
    async fn wait(&mut self, why: &str) -> bool {
        let wait = self.pace.wait();
        if let Some(count) = self.line.occurred(Clock::now()) {
            tracing::warn!(
                stream = self.context.name,
                count,
                "no serial port {}: {why}; next attempt in {wait:.1?}",
                self.serial.address
            );
        }
        self.pause(wait).await
    }

    /// Waits. True when told to stop.
    async fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                biased;
                _ = self.context.stop.wait_for(|stop| *stop) => return true,
                () = sleep_until(until) => return false,
                () = sleep(CONFIRM_AGAIN), if self.confirmer.waits() => {
                    self.confirmer.flush();
                }
            }
        }
    }
}
