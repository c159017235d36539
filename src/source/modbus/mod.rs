//! A source that asks devices on a serial line for their registers, as a Modbus RTU master.
//!
//! What it promises: each poll of a device gives one row with everything that was asked for, or
//! none. A device that does not answer, or answers with an exception, is asked again some times
//! and then left out of this poll; the others are not kept waiting longer than that. An answer that
//! comes too late is never taken for that to a later question. A port that goes is opened again.
//!
//! What it leaves to others: what addresses mean ([`registers`]), the protocol (`tokio-modbus`),
//! the port ([`crate::serial`]).

mod quiet;
mod registers;

use std::time::{Duration, Instant as Clock};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_modbus::client::{Context as Client, Reader, rtu};
use tokio_modbus::slave::{Slave, SlaveContext};

use super::{Context, Dropped, Failed, Intake, Plan};
use crate::config::Definition;
use crate::config::options::{OptionFault, OptionKind, OptionSpec, Options, joined};
use crate::event::{Type, Value};
use crate::pace::{Backoff, Sparse};
use crate::serial::{self, Address, Port, Role, Settings};
use quiet::Quiet;
use registers::{Item, Request, Table, parse_unit, requests};

const OWN_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "modbus.unit",
        OptionKind::List,
        "The number of the device, 1 to 247; several are asked in turn, and each gives rows of its \
         own",
    )
    .or("1"),
    OptionSpec::new(
        "modbus.unit.column",
        OptionKind::Text,
        "The INT or BIGINT column that says which device a row is of",
    ),
    OptionSpec::new(
        "modbus.read.*",
        OptionKind::Text,
        "What a column takes: `coil`, `discrete`, `holding` or `input`, the address from 0 (`100`, \
         `0x64`, or `100.3` for a bit), and then, if need be, the type (`i16`, `u16`, the default, \
         `i32`, `u32`, `i64`, `u64`, `f32`, `f64`, `text8` for 8 registers), the order of bytes \
         (`abcd`, `cdab`, `badc`, `dcba`), a factor (`*0.1`), an offset (`+5`), another device \
         (`@2`)",
    ),
    OptionSpec::new(
        "modbus.interval",
        OptionKind::Duration,
        "The time between two polls, at least 10 ms; one that is not over when the next is due \
         has that one left out",
    )
    .or("1 s"),
    OptionSpec::new(
        "modbus.timeout",
        OptionKind::Duration,
        "How long a device may take to answer",
    )
    .or("500 ms"),
    OptionSpec::new(
        "modbus.attempts_max",
        OptionKind::Integer { min: 1, max: 10 },
        "How often a device is asked in one poll before it is left out of it",
    )
    .or("3"),
    OptionSpec::new(
        "modbus.pause",
        OptionKind::Duration,
        "The silence before each question, at least 3.5 characters, as the protocol wants it",
    )
    .or("5 ms"),
    OptionSpec::new(
        "modbus.gap_max",
        OptionKind::Integer { min: 0, max: 100 },
        "So many registers that nobody wants are read along when that saves a question; 0 for \
         devices that refuse those they do not have",
    )
    .or("8"),
];

/// What can be set.
pub const OPTIONS: &[OptionSpec] =
    &joined::<{ serial::SERIAL_OPTIONS.len() + OWN_OPTIONS.len() }>(&[
        serial::SERIAL_OPTIONS,
        OWN_OPTIONS,
    ]);

const READ: &str = "modbus.read.";
/// The waits between attempts to open the port.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A port that was open so long was a good one.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// One line about what fails in this time.
const LINE_SPAN: Duration = Duration::from_secs(60);
const INTERVAL_MS_MIN: i64 = 10;

/// A Modbus source, checked.
#[derive(Debug)]
pub struct Modbus {
    address: Address,
    settings: Settings,
    questions: Questions,
    interval: Duration,
    plan: Plan,
}

/// What is asked, and how patiently.
#[derive(Debug)]
struct Questions {
    units: Vec<u8>,
    unit_column: Option<usize>,
    items: Vec<Item>,
    requests: Vec<Request>,
    timeout: Duration,
    attempts_max: i64,
    pause: Duration,
}

impl Modbus {
    /// Checks the options.
    ///
    /// # Errors
    /// The first option whose value cannot be used.
    pub fn new(definition: &Definition<'_>) -> Result<Modbus, OptionFault> {
        let options = definition.options;
        if definition.format != "json" {
            let problem = "registers have no format: leave it out";
            return Err(OptionFault::new("format", problem));
        }
        let unit_column = definition.column("modbus.unit.column", &[Type::Int, Type::Long])?;
        let settings = Settings::from_options(options)?;
        let span = |name, default_ms: i64| {
            let ms = options.integer(name).unwrap_or(default_ms);
            Duration::from_millis(ms.unsigned_abs())
        };
        if options.integer("modbus.interval") < Some(INTERVAL_MS_MIN) {
            let problem = format!("write {INTERVAL_MS_MIN} ms or more");
            return Err(OptionFault::new("modbus.interval", problem));
        }
        let items = items(definition)?;
        let gap_max = options.integer("modbus.gap_max").unwrap_or(8);
        let characters = Duration::from_secs_f64(
            3.5 * f64::from(settings.bits_per_byte()) / f64::from(settings.baud.max(1)),
        );
        let taken: Vec<usize> = unit_column.into_iter().collect();
        let address = options.text("serial.port").unwrap_or_default().parse();
        Ok(Modbus {
            address: address.map_err(|problem| OptionFault::new("serial.port", problem))?,
            settings,
            questions: Questions {
                units: units(options, &items)?,
                unit_column,
                requests: requests(&items, u16::try_from(gap_max).unwrap_or(8)),
                items,
                timeout: span("modbus.timeout", 500),
                attempts_max: options.integer("modbus.attempts_max").unwrap_or(3),
                pause: span("modbus.pause", 5).max(characters),
            },
            interval: span("modbus.interval", 1_000),
            plan: Plan::new(definition.format, options, definition.schema, &taken)?,
        })
    }

    /// Reads until told to stop, or until the pipeline is gone.
    pub async fn run(self, mut context: Context) {
        let intake = Intake::new(self.plan, &context);
        let mut task = Task {
            name: context.name.clone(),
            questions: self.questions,
            interval: self.interval,
            intake,
            failure_line: Sparse::new(LINE_SPAN),
            silence_line: Sparse::new(LINE_SPAN),
            lost_line: Sparse::new(LINE_SPAN),
        };
        let mut pace = Backoff::new(RETRY.0, RETRY.1);
        let mut stop = context.stop.clone();
        loop {
            let begin = Instant::now();
            let opened = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                opened = serial::open(&self.address, self.settings, Role::Reader) => opened,
                () = task.intake.serve() => break,
            };
            let why = match opened {
                Ok(port) => {
                    tracing::info!(stream = task.name, port = %port.path().display(), "opened");
                    match task.attend(port, &mut context).await {
                        End::Lost(why) => {
                            task.tell_lost(&why);
                            why
                        }
                        // What came before the message that failed is durable all the same.
                        End::Stopped | End::Failed => break,
                    }
                }
                Err(error) => error.to_string(),
            };
            task.intake.down(&why);
            if begin.elapsed() >= STABLE_AFTER {
                pace.reset();
            }
            let wait = pace.wait();
            task.complain(&format!(
                "no serial port: {why}; next attempt in {wait:.1?}"
            ));
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                () = sleep(wait) => {}
                () = task.intake.serve() => break,
            }
        }
        task.intake.drain(context.stop_within).await;
    }
}

fn items(definition: &Definition<'_>) -> Result<Vec<Item>, OptionFault> {
    let parsed = definition.options.family(READ).map(|(column, written)| {
        let fault = |problem| OptionFault::new(format!("{READ}{column}"), problem);
        Item::parse(column, written, definition.schema).map_err(fault)
    });
    let items = parsed.collect::<Result<Vec<Item>, OptionFault>>()?;
    match items.is_empty() {
        true => {
            let problem = "nothing is read: write one for each column, such as 'holding 100 i16'";
            Err(OptionFault::new("modbus.read.*", problem))
        }
        false => Ok(items),
    }
}

fn units(options: &Options, items: &[Item]) -> Result<Vec<u8>, OptionFault> {
    let fault = |problem| OptionFault::new("modbus.unit", problem);
    let units = options.list("modbus.unit");
    let units: Result<Vec<u8>, String> = units.iter().map(|unit| parse_unit(unit)).collect();
    let units = units.map_err(fault)?;
    let own = items.iter().find(|item| item.unit.is_some());
    match own {
        Some(own) if units.len() > 1 => {
            let problem = "with several devices in modbus.unit no column has one of its own";
            Err(OptionFault::new(format!("{READ}{}", own.column), problem))
        }
        Some(_) | None => Ok(units),
    }
}

/// What ends the use of an open port.
enum End {
    /// The port went.
    Lost(String),
    /// The source is to end, or there is no pipeline any more.
    Stopped,
    /// The stream has failed.
    Failed,
}

/// Why a question has no answer.
enum Silence {
    /// The device did not answer, or not with what it was asked.
    Unanswered(String),
    /// The port is lost.
    Lost(String),
}

/// What a device has answered to a request.
enum Answer {
    Flags(Vec<bool>),
    Registers(Vec<u16>),
}

struct Task {
    name: String,
    questions: Questions,
    interval: Duration,
    intake: Intake,
    failure_line: Sparse,
    /// Lines of their own: that a port was not there must not hide what came of it later.
    silence_line: Sparse,
    lost_line: Sparse,
}

impl Task {
    /// Polls as long as the port is there.
    async fn attend(&mut self, port: Port, context: &mut Context) -> End {
        let mut client = rtu::attach_slave(Quiet::new(port), Slave(1));
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                _ = context.stop.wait_for(|stop| *stop) => return End::Stopped,
                _ = ticks.tick() => {}
                () = self.intake.serve() => return End::Stopped,
            }
            let mut answered = false;
            let mut why = String::new();
            for unit in self.questions.units.clone() {
                let row = tokio::select! {
                    biased;
                    _ = context.stop.wait_for(|stop| *stop) => return End::Stopped,
                    row = self.questions.row(&mut client, unit) => row,
                    () = self.intake.serve() => return End::Stopped,
                };
                match row {
                    Ok(row) => {
                        answered = true;
                        self.intake.up();
                        if let Err(Failed) = self.take(unit, row) {
                            return End::Failed;
                        }
                    }
                    Err(Silence::Unanswered(problem)) => {
                        why = format!("unit {unit}: {problem}");
                        self.tell_silent(&why);
                    }
                    Err(Silence::Lost(why)) => return End::Lost(why),
                }
            }
            if !answered {
                self.intake.down(&why);
            }
        }
    }

    fn take(
        &mut self,
        unit: u8,
        row: serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), Failed> {
        let row = serde_json::Value::Object(row).to_string();
        if self.intake.is_full(row.len()) {
            self.intake.offer();
        }
        if self.intake.is_full(row.len()) {
            self.intake.heard(row.len());
            self.intake.drop(Dropped::QueueFull, "a poll does not wait");
            return Ok(());
        }
        let column = self.questions.unit_column;
        let fill = column.map(|column| (column, Value::Int(i64::from(unit))));
        self.intake.take(row.as_bytes(), fill.as_slice(), None)?;
        Ok(())
    }

    fn complain(&mut self, why: &str) {
        if let Some(count) = self.failure_line.occurred(Clock::now()) {
            tracing::warn!(stream = self.name, count, "{why}");
        }
    }

    fn tell_silent(&mut self, why: &str) {
        if let Some(count) = self.silence_line.occurred(Clock::now()) {
            tracing::warn!(stream = self.name, count, "{why}");
        }
    }

    fn tell_lost(&mut self, why: &str) {
        if let Some(count) = self.lost_line.occurred(Clock::now()) {
            tracing::warn!(stream = self.name, count, "the port is lost: {why}");
        }
    }
}

impl Questions {
    /// Asks a device everything.
    async fn row(
        &self,
        client: &mut Client,
        unit: u8,
    ) -> Result<serde_json::Map<String, serde_json::Value>, Silence> {
        let mut row = serde_json::Map::new();
        for request in &self.requests {
            client.set_slave(Slave(request.unit.unwrap_or(unit)));
            let answer = self.ask_patiently(client, request).await?;
            for item in request
                .items
                .iter()
                .filter_map(|index| self.items.get(*index))
            {
                let value = match &answer {
                    Answer::Flags(flags) => item.flag(request.address, flags).map(Into::into),
                    Answer::Registers(registers) => item
                        .registers(request.address, registers)
                        .map(|registers| item.value_of(registers)),
                };
                let Some(value) = value else {
                    let problem = "it answered with fewer registers than it was asked for";
                    return Err(Silence::Unanswered(problem.to_owned()));
                };
                row.insert(item.column.clone(), value);
            }
        }
        Ok(row)
    }

    async fn ask_patiently(
        &self,
        client: &mut Client,
        request: &Request,
    ) -> Result<Answer, Silence> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            sleep(self.pause).await;
            let problem = match timeout(self.timeout, ask(client, request)).await {
                Ok(Err(Silence::Unanswered(problem))) => problem,
                Ok(done) => return done,
                Err(_) => format!("no answer within {:?}", self.timeout),
            };
            if attempts >= self.attempts_max {
                return Err(Silence::Unanswered(problem));
            }
        }
    }
}

async fn ask(client: &mut Client, request: &Request) -> Result<Answer, Silence> {
    let Request { address, count, .. } = *request;
    let answer = match request.table {
        Table::Coil => client.read_coils(address, count).await.map(flags),
        Table::Discrete => client.read_discrete_inputs(address, count).await.map(flags),
        Table::Holding => client
            .read_holding_registers(address, count)
            .await
            .map(registers),
        Table::Input => client
            .read_input_registers(address, count)
            .await
            .map(registers),
    };
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(exception)) => {
            let what = format!("{:?} {address} to {}", request.table, address + (count - 1));
            Err(Silence::Unanswered(format!("{what}: {exception}")))
        }
        Err(tokio_modbus::Error::Protocol(error)) => Err(Silence::Unanswered(error.to_string())),
        Err(tokio_modbus::Error::Transport(error)) => {
            let problem = error.to_string();
            Err(match error.kind() {
                std::io::ErrorKind::InvalidData | std::io::ErrorKind::TimedOut => {
                    Silence::Unanswered(problem)
                }
                _ => Silence::Lost(problem),
            })
        }
    }
}

fn flags<E>(answer: Result<Vec<bool>, E>) -> Result<Answer, E> {
    answer.map(Answer::Flags)
}

fn registers<E>(answer: Result<Vec<u16>, E>) -> Result<Answer, E> {
    answer.map(Answer::Registers)
}
