//! `inspect verify`: reads everything, and says what is damaged and what would be lost.

use std::ops::ControlFlow;
use std::path::Path;

use super::ls::Log;
use super::{Trouble, Whose};
use crate::checkpoint;
use crate::cli::{Exit, Terminal, point};
use crate::event::Seq;
use crate::outbox;
use crate::store::Store;
use crate::store::look::{self, How, Look, Manner};
use crate::wal::{self, Found};

/// Damaged places of the log that are named; the rest is counted.
const NAMED_MAX: usize = 16;

pub(super) fn verify(
    dir: &Path,
    whose: &Whose,
    look: &Look,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Trouble> {
    let store = &*look.store;
    let mut sound = opens(look, terminal);
    let mut covered = Seq(0);
    let mut damaged_checkpoints = 0;
    for listed in checkpoint::list(store)? {
        let (number, seq) = (listed.number, listed.seq);
        match checkpoint::load(store, &listed, &mut |_| {})? {
            Ok(restored) => {
                covered = covered.max(restored.seq);
                let bytes = u64::try_from(restored.state.bytes()).unwrap_or(u64::MAX);
                let size = point::size(bytes);
                terminal.say(format_args!(
                    "checkpoint {number} after {seq}: whole, {size}"
                ));
            }
            Err(why) => {
                damaged_checkpoints += 1;
                terminal.say(format_args!(
                    "checkpoint {number} after {seq}: damaged: {why}"
                ));
            }
        }
    }
    let log = Log::read(store, covered)?;
    sound &= damaged_checkpoints == 0 && log.damage.is_empty();
    tell_log(&log, terminal);
    sound &= nothing_beyond(dir, whose, look, &log, terminal)?;
    for name in outbox::names(store)? {
        sound &= tell_outbox(store, &name, terminal)?;
    }
    for told in consequences(&log, covered, damaged_checkpoints) {
        terminal.say(told);
    }
    if sound {
        terminal.say("nothing is damaged");
        return Ok(Exit::Success);
    }
    terminal.say("there is damage; nothing was changed");
    Ok(Exit::Failed)
}

/// Whether the store opens as it should.
fn opens(look: &Look, terminal: &mut Terminal<'_>) -> bool {
    match &look.how {
        How::Opened if look.went_back => {
            terminal.say("store: opens in an earlier state than it had been synced in");
            false
        }
        How::Opened => {
            terminal.say("store: opens");
            true
        }
        How::WithoutSnapshot(why) => {
            terminal.say(format_args!(
                "store: opens without sled's snapshot, which costs nothing: {why}"
            ));
            false
        }
        How::Salvaged {
            why,
            values,
            damaged,
            unplaced,
        } => {
            terminal.say(format_args!("store: does not open: {why}"));
            terminal.say(format_args!(
                "  {values} whole values were found in its files; {damaged} damaged ones, and \
                 {unplaced} without a place"
            ));
            terminal.say(
                "  a daemon sets it aside and begins afresh: all of it is lost to the daemon, but \
                 not to `inspect`",
            );
            false
        }
    }
}

fn tell_log(log: &Log, terminal: &mut Terminal<'_>) {
    match (log.first, log.last) {
        (Some((first, _)), Some((last, _))) => terminal.say(format_args!(
            "log from {first} to {last}: {} records, {} rows, {} rejected",
            log.records, log.rows, log.rejected
        )),
        _ => terminal.say("log: empty"),
    }
    for (at, why) in log.damage.iter().take(NAMED_MAX) {
        terminal.say(format_args!("  damaged at {at}: {why}"));
    }
    let more = log.damage.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        terminal.say(format_args!("  and at {more} more places"));
    }
    if log.aside > 0 {
        terminal.say(format_args!(
            "  {} records were set aside when damage was found earlier; `cat log` shows them",
            log.aside
        ));
    }
}

/// Whether the files have no records behind the log's end: sled may take a damaged place for its
/// own end, and knows nothing of what lies behind.
fn nothing_beyond(
    dir: &Path,
    whose: &Whose,
    look: &Look,
    log: &Log,
    terminal: &mut Terminal<'_>,
) -> Result<bool, Trouble> {
    let is_open = !matches!(look.how, How::Salvaged { .. });
    // The files of a store in use are further than its copy.
    if !is_open || look.moved || look::user_of(dir).is_some() {
        return Ok(true);
    }
    let found = whose.look(dir, Manner::Salvage)?;
    let last = log.last.map_or(Seq(0), |(last, _)| last);
    let (mut records, mut first) = (0_u64, None);
    wal::look_at(&*found.store, last.plus(1), &mut |found| {
        if let Found::Record { record, .. } = found {
            if record.first > last {
                records += 1;
                first.get_or_insert(record.first);
            }
        }
        ControlFlow::Continue(())
    })?;
    let Some(first) = first else { return Ok(true) };
    terminal.say(format_args!(
        "  {records} more records, from {first} on, lie in the files and not in the store: they \
         were lost by damage, or in a crash before they were durable; `--salvage` shows them"
    ));
    Ok(false)
}

/// Whether it is whole.
fn tell_outbox(
    store: &dyn Store,
    name: &str,
    terminal: &mut Terminal<'_>,
) -> Result<bool, Trouble> {
    let found = outbox::look_at(store, name)?;
    terminal.say(format_args!(
        "outbox of {name}: {} outputs wait",
        found.entries
    ));
    for told in &found.damage {
        terminal.say(format_args!("  {told}"));
    }
    if found.damaged_groups > 0 {
        terminal.say(format_args!(
            "  {} groups of up to 256 outputs each are lost",
            found.damaged_groups
        ));
    }
    Ok(found.damage.is_empty())
}

/// What a start would make of it.
fn consequences(log: &Log, covered: Seq, damaged_checkpoints: u64) -> Vec<String> {
    let mut told = Vec::new();
    if damaged_checkpoints > 0 && covered > Seq(0) {
        told.push(format!(
            "a start goes on from the newest whole checkpoint, after {covered}, and runs the log \
             behind it again: no state is lost by the damaged ones"
        ));
    }
    let first = log.first.map_or(Seq(1), |(first, _)| first);
    if covered == Seq(0) && (first > Seq(1) || log.first.is_none()) && damaged_checkpoints > 0 {
        told.push(format!(
            "no checkpoint is whole, and the log begins at {first}: a start makes the state of \
             what is there, and all from before is lost"
        ));
    }
    let harmless = |at: &Seq| *at <= covered;
    if log.damage.iter().any(|(at, _)| harmless(at)) {
        told.push(format!(
            "the log's damage up to {covered} costs no state, as a checkpoint covers it; going \
             back to before it is not possible"
        ));
    }
    if let Some((at, _)) = log.damage.iter().find(|(at, _)| !harmless(at)) {
        let (records, rows) = log.beyond;
        told.push(format!(
            "a start ends the log at {at} and sets aside what lies behind: {records} whole records \
             with {rows} rows, besides what is damaged; `export log` saves them"
        ));
    }
    told
}
