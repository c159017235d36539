//! The log as it lies in the store, whole or not, for whoever looks at it and changes nothing.

use std::ops::ControlFlow;

use super::record::{self, Head};
use super::{Record, describe, key, look, seq_of};
use crate::event::Seq;
use crate::store::seal::Unsealer;
use crate::store::{Store, StoreError, table};

/// What lies at one place of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A whole record.
    Record {
        /// The record.
        record: Record,
        /// The bytes that it takes.
        bytes: u64,
    },
    /// Numbers that were given to records which were lost, and are not given again.
    Skipped {
        /// The first of them.
        first: Seq,
        /// The number after the last.
        next: Seq,
    },
    /// Numbers for which there is nothing at all.
    Missing {
        /// The first of them.
        first: Seq,
        /// The number of the record that follows.
        next: Seq,
    },
    /// Something that is no record any more.
    Damaged {
        /// The number under which it lies.
        at: Seq,
        /// What is wrong.
        why: String,
        /// The bytes that it takes.
        bytes: u64,
    },
    /// A whole record that was set aside when the log was cut off before it.
    Aside {
        /// The record.
        record: Record,
    },
    /// Something that was set aside and is no record any more.
    AsideDamaged {
        /// The number under which it lies.
        at: Seq,
        /// What is wrong.
        why: String,
    },
}

/// Visits everything from the record on that holds `from`, in order; then what was set aside,
/// which is no part of the log. `visit` must not call the store.
///
/// # Errors
/// When the store fails. Damage is not an error.
pub fn look_at(
    store: &dyn Store,
    from: Seq,
    visit: &mut dyn FnMut(Found) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let low = key(table::LOG, Seq(0));
    let holder = store.last(&low, &key(table::LOG, from.plus(1)))?;
    let start = holder.map_or(low, |(key, _)| key);
    let mut unsealer = Unsealer::default();
    let mut next: Option<Seq> = None;
    let mut flow = ControlFlow::Continue(());
    store.range(&start, &[table::LOG + 1], &mut |key, value| {
        let at = seq_of(key).unwrap_or_default();
        let found = found(key, value, &mut unsealer);
        if let Some(first) = next.filter(|next| *next < at) {
            flow = visit(Found::Missing { first, next: at });
        }
        // What an interrupted open has left inside of what it skips.
        if next.is_some_and(|next| at < next) {
            flow = aside(at, found, visit);
        } else if flow.is_continue() {
            // The numbers that a damaged record took are not known.
            next = found.as_ref().ok().map(|(head, _)| head.end());
            flow = visit(in_place(at, value, found));
        }
        flow
    })?;
    if flow.is_break() {
        return Ok(());
    }
    store.range(
        &[table::LOG_ASIDE],
        &[table::LOG_ASIDE + 1],
        &mut |key, value| {
            let at = seq_of(key).unwrap_or_default();
            aside(at, found(key, value, &mut unsealer), visit)
        },
    )
}

fn aside(at: Seq, found: Read, visit: &mut dyn FnMut(Found) -> ControlFlow<()>) -> ControlFlow<()> {
    match found {
        Ok((_, Some(record))) => visit(Found::Aside { record }),
        Ok((_, None)) => ControlFlow::Continue(()),
        Err(why) => visit(Found::AsideDamaged { at, why }),
    }
}

type Read = Result<(Head, Option<Record>), String>;

fn found(key: &[u8], value: &[u8], unsealer: &mut Unsealer) -> Read {
    let read = look(key, value)
        .and_then(|(head, sealed)| Ok((head, record::decode(head, sealed, unsealer)?)));
    read.map_err(describe)
}

fn in_place(at: Seq, value: &[u8], found: Read) -> Found {
    let bytes = u64::try_from(value.len()).unwrap_or(u64::MAX);
    match found {
        Ok((_, Some(record))) => Found::Record { record, bytes },
        Ok((head, None)) => Found::Skipped {
            first: head.first,
            next: head.end(),
        },
        Err(why) => Found::Damaged { at, why, bytes },
    }
}
