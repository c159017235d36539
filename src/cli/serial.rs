//! `serial`: which ports there are, and what a device at one says.

mod columns;
mod judge;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Subcommand;
use tokio::time::timeout;

use super::{Exit, Terminal};
use crate::framing::text_of;
use crate::serial::{self, Address, OpenError, Port, Role, Settings};
use judge::{Sample, Verdict};

#[derive(Debug, Subcommand)]
pub(super) enum Question {
    /// The serial ports of this machine, and by which names they can be read
    List,
    /// Listen at a port with several speeds, and print a stream that reads it
    ///
    /// What is heard goes to the standard error, the definition of the stream to the standard
    /// output. Nothing is written to the device. It must be talking by itself, eight data bits and
    /// no parity, and no other program may have the port open.
    Probe {
        /// A path, or usb:VENDOR:PRODUCT as `list` shows it
        #[arg(value_name = "PORT")]
        address: String,
        /// How long to listen at each speed, at the most
        #[arg(long, value_name = "N", default_value_t = 4, value_parser = seconds())]
        seconds: u64,
        /// Only this speed
        #[arg(long, value_name = "BITS/S", value_parser = clap::value_parser!(u32).range(50..))]
        baud: Option<u32>,
    },
}

fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=3600)
}

/// The speeds that are tried, the likeliest first.
const BAUDS: [u32; 11] = [
    115_200, 9_600, 57_600, 38_400, 19_200, 4_800, 230_400, 460_800, 921_600, 2_400, 1_200,
];
/// A verdict as good as this ends the search.
const SURE: f64 = 0.85;
const SURE_FRAMES: usize = 5;
/// As much is listened to at one speed.
const SAMPLE_BYTES_MAX: usize = 64 << 10;
/// What a message shows at most.
const SHOWN_BYTES_MAX: usize = 60;

pub(super) fn serial(question: &Question, terminal: &mut Terminal<'_>) -> Exit {
    match question {
        Question::List => {
            list(terminal);
            Exit::Success
        }
        Question::Probe {
            address,
            seconds,
            baud,
        } => {
            let address = match address.parse() {
                Ok(address) => address,
                Err(problem) => {
                    terminal.complain(problem);
                    return Exit::Usage;
                }
            };
            let bauds = baud.as_ref().map_or(&BAUDS[..], std::slice::from_ref);
            probe(&address, bauds, Duration::from_secs(*seconds), terminal)
        }
    }
}

fn list(terminal: &mut Terminal<'_>) {
    let ports = serial::list();
    if ports.is_empty() {
        terminal.complain("there is no serial port");
    }
    for port in ports {
        let name = port
            .name()
            .map_or(String::new(), |name| format!("  {name}"));
        terminal.say(format_args!("{}{name}", port.path.display()));
        if let Some(address) = port.address() {
            terminal.say(format_args!("  {address}"));
        }
        for link in port.links() {
            terminal.say(format_args!("  {}", link.display()));
        }
    }
}

fn probe(address: &Address, bauds: &[u32], span: Duration, terminal: &mut Terminal<'_>) -> Exit {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            terminal.complain(format_args!("cannot listen: {error}"));
            return Exit::Failed;
        }
    };
    let mut best: Option<(u32, Verdict)> = None;
    let mut total = 0;
    for baud in bauds {
        let sample = match runtime.block_on(listen(address, *baud, span)) {
            Ok(sample) => sample,
            Err(OpenError::Refused { error, .. }) if bauds.len() > 1 && best.is_some() => {
                terminal.complain(format_args!("{baud:>8} baud: {error}"));
                continue;
            }
            Err(error) => {
                terminal.complain(error);
                return Exit::Failed;
            }
        };
        let bytes: usize = sample.iter().map(|(_, bytes)| bytes.len()).sum();
        total += bytes;
        let verdict = judge::judge(&sample);
        terminal.complain(format_args!(
            "{baud:>8} baud: {}",
            heard(bytes, &sample, verdict.as_ref())
        ));
        let Some(verdict) = verdict else { continue };
        let is_sure = verdict.score >= SURE && verdict.frames >= SURE_FRAMES;
        if best
            .as_ref()
            .is_none_or(|(_, best)| verdict.score > best.score)
        {
            best = Some((*baud, verdict));
        }
        if is_sure {
            break;
        }
    }
    match best {
        Some((baud, verdict)) => {
            terminal.say(stream(address, baud, &verdict));
            Exit::Success
        }
        None => {
            terminal.complain(match total {
                0 => {
                    "nothing came: does the device talk by itself? (`serial.init` of a source \
                     writes what makes one talk.)"
                }
                _ => {
                    "nothing fits: other data bits or parity, messages of a fixed size or with a \
                     length, or nothing but a few messages in the time: listen longer with \
                     --seconds"
                }
            });
            Exit::Failed
        }
    }
}

/// What comes in a while; less when much comes.
async fn listen(address: &Address, baud: u32, span: Duration) -> Result<Sample, OpenError> {
    let port: Port = serial::open(address, Settings::plain(baud), Role::Reader).await?;
    let begin = Instant::now();
    let mut sample = Sample::new();
    let mut buffer = [0; 4096];
    let mut total = 0;
    while total < SAMPLE_BYTES_MAX {
        let left = span.saturating_sub(begin.elapsed());
        match timeout(left, port.read(&mut buffer)).await {
            Ok(Ok(count)) => {
                total += count;
                let bytes = buffer.get(..count).unwrap_or_default().to_vec();
                sample.push((begin.elapsed(), bytes));
            }
            Ok(Err(error)) => {
                return Err(OpenError::Refused {
                    path: port.path().to_owned(),
                    error: error.to_string(),
                });
            }
            Err(_) => break,
        }
    }
    Ok(sample)
}

fn heard(bytes: usize, sample: &Sample, verdict: Option<&Verdict>) -> String {
    let Some(verdict) = verdict else {
        let first: Vec<u8> = sample
            .iter()
            .flat_map(|(_, bytes)| bytes)
            .copied()
            .collect();
        return match bytes {
            0 => "nothing".to_owned(),
            _ => format!("{bytes} bytes that fit nothing: {}", shown(&first)),
        };
    };
    let how: Vec<&str> = verdict
        .options
        .iter()
        .map(|(_, value)| value.as_str())
        .collect();
    let first = verdict
        .kept
        .first()
        .map_or(String::new(), |message| shown(message));
    format!(
        "{bytes} bytes, {} messages ({}), {} bad ones; the first: {first}",
        verdict.frames,
        how.join(", "),
        verdict.faults
    )
}

fn shown(bytes: &[u8]) -> String {
    let first = bytes.get(..SHOWN_BYTES_MAX).unwrap_or(bytes);
    let more = if first.len() < bytes.len() { "…" } else { "" };
    format!("{}{more}", text_of(first))
}

fn stream(address: &Address, baud: u32, verdict: &Verdict) -> String {
    // A name that stays the same wherever the device is plugged in, if there is one.
    let known = match address {
        Address::Path(path) if path.starts_with("/dev/serial") => None,
        Address::Path(path) => lasting(path),
        Address::Usb { .. } => None,
    };
    let port = known.map_or(address.to_string(), |link| link.display().to_string());
    let mut options = vec![("serial.port", port), ("serial.baud", baud.to_string())];
    options.extend(verdict.options.iter().cloned());
    let framing = verdict
        .options
        .first()
        .map_or("line", |(_, framing)| framing.as_str());
    let layout = columns::layout(framing, &verdict.kept);
    columns::definition(&layout, &options)
}

fn lasting(path: &std::path::Path) -> Option<PathBuf> {
    let device = std::fs::canonicalize(path).ok()?;
    let found = serial::list()
        .into_iter()
        .find(|port| port.path == device)?;
    found.links().into_iter().next()
}
