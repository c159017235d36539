//! `limits.memory_max`: one number from which caches, queues and the sizes of messages follow.
//!
//! What the program itself takes comes off first. What is left goes in equal quarters to the store,
//! to the work in hand, to the sources together and to the sinks together. Nothing becomes larger
//! than it is without such a limit, and what the configuration sets stays as it is set: then the
//! sum is checked. State that queries keep is bounded by what they say, not by this.

use super::options::{Layer, OptionKind, OptionValue, Options, Resolved};
use super::settings::Settings;
use super::value::{self, format_bytes};
use crate::diagnostic::Diagnostic;

/// The key.
pub(super) const MEMORY_MAX: &str = "limits.memory_max";

/// What the program takes with nothing to do: its code in memory, threads, tables.
const PROGRAM_BYTES: u64 = 10 << 20;
/// What a source or a sink takes besides its queues: its connection, TLS, a decoder.
const CONNECTOR_BYTES: u64 = 128 << 10;
/// How many times `store.cache_bytes` the store really takes.
const STORE_FACTOR: u64 = 3;
/// A turn's input is there as rows, as what queries make of them, and packed for log and outbox.
const TURN_FACTOR: u64 = 8;
/// What a queue holds, and as much again that a broker delivers once more.
const QUEUE_FACTOR: u64 = 2;
/// Outputs wait to become durable, are in the sink's hand, and rendered for two copies of it.
const HAND_FACTOR: u64 = 4;
/// What is read is there once while it comes, and once more where the buffer has to grow.
const READ_FACTOR: u64 = 2;

/// Sizes that follow from the limit: the key or option, the part of its quarter that it is, and
/// what it never goes below.
struct Part {
    name: &'static str,
    divisor: u64,
    min: u64,
}

const fn part(name: &'static str, divisor: u64, min: u64) -> Part {
    Part { name, divisor, min }
}

/// Of the quarter for the store, and of the one for the work in hand.
const KEYS: [Part; 3] = [
    part("store.cache_bytes", STORE_FACTOR, 1 << 20),
    part("turn.bytes_max", 16, 32 << 10),
    part("store.unsynced_bytes_max", 8, 256 << 10),
];

/// Of what one source gets: an eighth for the queue and what a broker brings again, an eighth for
/// what is unpacked, half for reading. What is left is for the pages of the store that hold it, as
/// is half of what a sink gets: a page has up to 17 values, so that a message is small beside that.
const SOURCE: [Part; 4] = [
    part("queue.bytes_max", 16, 64 << 10),
    part("payload.bytes_max", 64, 16 << 10),
    part("payload.decoded_bytes_max", 8, 64 << 10),
    part(PACKET, 4, 64 << 10),
];
const PACKET: &str = "mqtt.packet_bytes_max";

/// Of what one sink gets.
const SINK: [Part; 1] = [part(HAND, 2 * HAND_FACTOR, 64 << 10)];
const HAND: &str = "outbox.memory_max";

/// What of the outputs that wait is in memory for one sink, with these options.
#[must_use]
pub fn outbox_memory_max(options: &Options) -> usize {
    usize::try_from(bytes(options, HAND)).unwrap_or(usize::MAX)
}

/// What one of four gets of the limit.
fn quarter(memory_max: u64) -> u64 {
    memory_max.saturating_sub(PROGRAM_BYTES) / 4
}

/// What one of so many sources, or sinks, gets of the limit, its connection taken off.
fn share(memory_max: u64, among: usize) -> u64 {
    let among = u64::try_from(among.max(1)).unwrap_or(u64::MAX);
    (quarter(memory_max) / among).saturating_sub(CONNECTOR_BYTES)
}

/// Gives the keys that nobody has set the sizes that follow from the limit, where there is one.
pub(super) fn settle_keys(keys: &mut Options) {
    let Some(limit) = limit_of(keys) else { return };
    for part in &KEYS {
        settle(keys, part, quarter(limit));
    }
}

/// The same for the options of a source, or of a sink, one of so many.
pub fn settle_options(settings: &Settings, options: &mut Options, is_source: bool, among: usize) {
    let Some(limit) = limit_of(&settings.keys) else {
        return;
    };
    let parts = if is_source { &SOURCE[..] } else { &SINK[..] };
    for part in parts {
        settle(options, part, share(limit, among));
    }
}

fn limit_of(keys: &Options) -> Option<u64> {
    Some(keys.integer(MEMORY_MAX)?.unsigned_abs())
}

/// Only a built-in size gives way, and only to a smaller one.
fn settle(options: &mut Options, part: &Part, share: u64) {
    if options.layer(part.name) != Some(Layer::Default) {
        return;
    }
    // Whole KiB, so that it can be read.
    let derived = (share / part.divisor).max(part.min) & !0x3FF;
    if derived >= bytes(options, part.name) {
        return;
    }
    let Ok(number) = i64::try_from(derived) else {
        return;
    };
    let value = OptionValue::Integer(number);
    options.put(
        part.name,
        Resolved {
            shown: value::show(OptionKind::Bytes, &value),
            value,
            layer: Layer::Memory,
            origin: None,
            hidden: false,
        },
    );
}

/// A size in force; 0 where there is none.
fn bytes(options: &Options, name: &str) -> u64 {
    options.integer(name).unwrap_or(0).unsigned_abs()
}

/// One thing that takes memory.
struct Item {
    what: String,
    bytes: u64,
}

/// What all of it comes to when it does not fit into the limit: a sentence at the key.
#[must_use]
pub fn misfit(settings: &Settings, sources: &[&Options], sinks: &[&Options]) -> Option<Diagnostic> {
    let limit = limit_of(&settings.keys)?;
    let items = items(settings, sources, sinks);
    let needed: u64 = items.iter().map(|item| item.bytes).sum();
    if needed <= limit {
        return None;
    }
    let parts: Vec<String> = items
        .iter()
        .filter(|item| item.bytes > 0)
        .map(|item| format!("{} {}", item.what, rounded(item.bytes)))
        .collect();
    let message = format!(
        "'{MEMORY_MAX}' = {} is too little: {}",
        rounded(limit),
        parts.join(", ")
    );
    let hint = format!(
        "allow at least {}, or make smaller what is set, or use fewer streams",
        rounded(needed)
    );
    let (path, place) = settings.keys.origin(MEMORY_MAX)?;
    Some(Diagnostic::error(path, place, message).with_hint(hint))
}

/// Up to the next tenth of a MiB, so that what is advised is enough.
fn rounded(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(1 << 20);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} MiB"),
        (whole, _) => format!("{} MiB", whole + 1),
    }
}

fn items(settings: &Settings, sources: &[&Options], sinks: &[&Options]) -> Vec<Item> {
    let keys = &settings.keys;
    let set = |options: &Options, name: &str| match options.layer(name) {
        Some(Layer::Default | Layer::Memory) | None => String::new(),
        Some(_) => format!(
            "'{name}' is {}",
            format_bytes(options.integer(name).unwrap_or(0))
        ),
    };
    let with = |what: String, said: Vec<String>| {
        let said: Vec<String> = said.into_iter().filter(|said| !said.is_empty()).collect();
        match said.is_empty() {
            true => what,
            false => format!("{what} ({})", said.join(", ")),
        }
    };
    let [cache, turn, unsynced] = KEYS.map(|part| part.name);
    let of_keys = |names: &[&str]| names.iter().map(|name| set(keys, name)).collect();
    let several = |count: usize, what: &str| match count {
        1 => format!("1 {what} takes"),
        _ => format!("{count} {what}s take"),
    };
    let of_streams = |all: &[&Options], parts: &[Part]| {
        let said = all.iter().flat_map(|options| {
            let said = parts.iter().map(|part| set(options, part.name));
            said.collect::<Vec<String>>()
        });
        let mut said: Vec<String> = said.collect();
        said.sort();
        said.dedup();
        said
    };
    vec![
        Item {
            what: "the program takes".to_owned(),
            bytes: PROGRAM_BYTES,
        },
        Item {
            what: with("the store takes".to_owned(), of_keys(&[cache])),
            bytes: STORE_FACTOR * bytes(keys, cache),
        },
        Item {
            what: with(
                "the work in hand takes".to_owned(),
                of_keys(&[turn, unsynced]),
            ),
            bytes: TURN_FACTOR * bytes(keys, turn) + bytes(keys, unsynced),
        },
        Item {
            what: with(
                several(sources.len(), "source"),
                of_streams(sources, &SOURCE),
            ),
            bytes: sources.iter().map(|options| of_source(options)).sum(),
        },
        Item {
            what: with(several(sinks.len(), "sink"), of_streams(sinks, &SINK)),
            bytes: sinks
                .iter()
                .map(|options| CONNECTOR_BYTES + HAND_FACTOR * bytes(options, HAND))
                .sum(),
        },
    ]
}

/// What a source takes: its queue, what is unpacked, and what it reads before it is a message.
fn of_source(options: &Options) -> u64 {
    let payload = bytes(options, "payload.bytes_max");
    let reading = READ_FACTOR * bytes(options, PACKET).max(payload);
    let unpacked = match options.text("payload.compression") {
        None | Some("none") => 0,
        Some(_) => bytes(options, "payload.decoded_bytes_max"),
    };
    CONNECTOR_BYTES + QUEUE_FACTOR * bytes(options, "queue.bytes_max") + reading + unpacked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;
    use crate::config::options::OptionSpec;
    use crate::config::resolve::built_in;

    fn defaults(specs: &[&str]) -> Options {
        let mut options = Options::default();
        for name in specs {
            let spec = keys::find(name)
                .copied()
                .unwrap_or_else(|| OptionSpec::new("", OptionKind::Bytes, "").or("8 MiB"));
            options.put(name, built_in(&spec).unwrap());
        }
        options
    }

    fn settled(parts: &[Part], share: u64) -> Vec<u64> {
        let names: Vec<&str> = parts.iter().map(|part| part.name).collect();
        let mut options = defaults(&names);
        for part in parts {
            settle(&mut options, part, share);
        }
        names.iter().map(|name| bytes(&options, name)).collect()
    }

    #[test]
    fn more_memory_never_makes_anything_smaller_and_all_of_it_fits() {
        for parts in [&KEYS[..], &SOURCE[..], &SINK[..]] {
            let mut before = vec![0; parts.len()];
            for mib in 0..600 {
                let now = settled(parts, mib << 20);
                assert!(now.iter().zip(&before).all(|(now, before)| now >= before));
                before = now;
            }
            let whole = settled(parts, u64::MAX / 2);
            assert_eq!(whole, before);
        }
    }

    #[test]
    fn what_is_set_stays() {
        let mut options = defaults(&["queue.bytes_max"]);
        options.set("queue.bytes_max", OptionValue::Integer(7), Layer::Sql);
        settle(&mut options, &SOURCE[0], 1 << 20);
        assert_eq!(options.integer("queue.bytes_max"), Some(7));
    }

    /// What follows from the limit comes to no more than the limit.
    #[test]
    fn the_quarters_hold_what_is_made_of_them() {
        for mib in 24..400_u64 {
            for among in 1..4 {
                let limit = mib << 20;
                let share = share(limit, among);
                let [queue, payload, unpacked, packet] = settled(&SOURCE, share)[..] else {
                    panic!("four parts");
                };
                let reading = READ_FACTOR * packet.max(payload);
                assert!(
                    QUEUE_FACTOR * queue + reading + unpacked <= share,
                    "{mib} {among}"
                );
                let hand = settled(&SINK, share)[0];
                assert!(HAND_FACTOR * hand <= share, "{mib} {among}");
                let [cache, turn, unsynced] = settled(&KEYS, quarter(limit))[..] else {
                    panic!("three parts");
                };
                assert!(STORE_FACTOR * cache <= quarter(limit), "{mib}");
                assert!(TURN_FACTOR * turn + unsynced <= quarter(limit), "{mib}");
            }
        }
    }
}
