//! Outboxes as they lie in the store, whole or not, for whoever looks at them and changes nothing.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::account::{bytes_of, end_of};
use super::entry::{self, Columns, Group, State};
use super::{Counts, DAMAGE_NAMED_MAX, Entry};
use crate::event::{OutputKey, Timestamp};
use crate::store::seal::Unsealer;
use crate::store::{Store, StoreError, table};

/// An outbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// The sink's name.
    pub name: String,
    /// The last key that the sink has confirmed.
    pub cursor: OutputKey,
    /// Outputs that are not confirmed.
    pub entries: u64,
    /// The bytes that the stored groups take.
    pub bytes: u64,
    /// When the oldest group was appended, on the log's clock.
    pub oldest: Option<Timestamp>,
    /// What has become of the others.
    pub counts: Counts,
    /// What is damaged: a sentence each, not more than some.
    pub damage: Vec<String>,
    /// How many groups are damaged.
    pub damaged_groups: u64,
}

/// The names of all sinks that have an outbox.
///
/// # Errors
/// When the store fails.
pub fn names(store: &dyn Store) -> Result<BTreeSet<String>, StoreError> {
    let mut names = BTreeSet::new();
    for table in [table::OUTBOX, table::OUTBOX_STATE] {
        let mut from = vec![table];
        loop {
            let mut found = None;
            store.range(&from, &[table + 1], &mut |key, _| {
                found = Some(key.to_vec());
                ControlFlow::Break(())
            })?;
            let Some(key) = found else { break };
            from = match entry::name_of(&key) {
                Some((name, prefix)) => {
                    names.insert(name.to_owned());
                    end_of(prefix)
                }
                None => [key.as_slice(), &[0]].concat(),
            };
        }
    }
    Ok(names)
}

/// Looks at one outbox, and unpacks all of it.
///
/// # Errors
/// When the store fails. Damage is not an error.
pub fn look_at(store: &dyn Store, name: &str) -> Result<Look, StoreError> {
    let mut look = Look {
        name: name.to_owned(),
        ..Look::default()
    };
    let mut entries = 0;
    visit(store, &mut look, &mut |_| {
        entries += 1;
        ControlFlow::Continue(())
    })?;
    look.entries = entries;
    Ok(look)
}

/// Visits what waits for a sink, in order; what is damaged is left out. `each` must not call the
/// store.
///
/// # Errors
/// When the store fails. Damage is not an error.
pub fn waiting(
    store: &dyn Store,
    name: &str,
    each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut look = Look {
        name: name.to_owned(),
        ..Look::default()
    };
    visit(store, &mut look, each)
}

fn visit(
    store: &dyn Store,
    look: &mut Look,
    each: &mut dyn FnMut(Entry) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    // A name that is too long has no outbox.
    let Ok((prefix, state_key)) = entry::prefixes(&look.name) else {
        return Ok(());
    };
    match store.get(&state_key)?.map(|value| State::read(&value)) {
        Some(Ok(state)) => (look.cursor, look.counts) = (state.cursor, state.counts),
        Some(Err(damage)) => {
            let told = format!("what is known about it is damaged: {damage}");
            look.damage.push(told);
        }
        None => {}
    }
    let mut unsealer = Unsealer::default();
    let mut columns: Option<Columns> = None;
    store.range(&prefix, &end_of(&prefix), &mut |key, value| {
        let group = Group::look(value).and_then(|group| group.under(&prefix, key));
        let read = match group {
            // Only a store that was salvaged has such.
            Ok(group) if group.last <= look.cursor => return ControlFlow::Continue(()),
            Ok(group) => group
                .entries(&mut unsealer, &mut columns)
                .map(|entries| (group.time, entries)),
            Err(damage) => Err(damage),
        };
        let (time, entries) = match read {
            Ok(read) => read,
            Err(damage) => {
                look.damaged_groups += 1;
                if look.damage.len() < DAMAGE_NAMED_MAX {
                    let told = format!("a group of outputs is damaged: {damage}");
                    look.damage.push(told);
                }
                return ControlFlow::Continue(());
            }
        };
        look.bytes += bytes_of(key) + bytes_of(value);
        look.oldest.get_or_insert(time);
        let waiting = entries.into_iter().filter(|entry| entry.key > look.cursor);
        for entry in waiting {
            if each(entry).is_break() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })
}
