//! Manifests, and what a store has of them. The form is drawn at the module's head.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::{CheckpointError, FORMAT, KIND_MANIFEST, count, frame_key, manifest_key, old};
use crate::event::{Seq, Timestamp, cbor};
use crate::store::seal::{Damage, Sealer, Unsealer, check};
use crate::store::{Store, StoreError, WriteBatch, table};

const MANIFEST_HEAD: usize = 17;
/// Keys that are removed in one write.
pub(super) const REMOVED_MAX: usize = 256;

/// A set of changes that lies in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Counted upwards.
    pub number: u64,
    /// How many frames it has.
    pub frames: u32,
    /// Its bytes before they are packed.
    pub state_bytes: u64,
    /// Its bytes in the store.
    pub stored_bytes: u64,
    /// The CRC-32C of its frames' checksums.
    pub sum: u32,
}

/// What a checkpoint is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Runs in the order in which they are applied; the first `base` of them stand for themselves.
    Runs {
        /// All of them.
        runs: Vec<Run>,
        /// How many are no changes to others.
        base: usize,
    },
    /// The form before runs: all chunks, application and marks.
    Old,
    /// It cannot be loaded: why.
    Damaged(String),
}

/// A checkpoint that lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Counted upwards; the newest has the greatest.
    pub number: u64,
    /// The last input that it covers; 0 when that is not known any more.
    pub seq: Seq,
    /// The log's clock then.
    pub time: Timestamp,
    /// What it is made of.
    pub form: Form,
}

impl Listed {
    /// Its runs; none when it has none.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        match &self.form {
            Form::Runs { runs, .. } => runs,
            Form::Old | Form::Damaged(_) => &[],
        }
    }

    /// Its bytes in the store, those included that it shares with others.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.runs().iter().map(|run| run.stored_bytes).sum()
    }

    /// Its bytes before they are packed; those count twice that a later run replaces.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        self.runs().iter().map(|run| run.state_bytes).sum()
    }

    pub(super) fn whole(&self) -> bool {
        match &self.form {
            Form::Runs { .. } | Form::Old => true,
            Form::Damaged(_) => false,
        }
    }

    /// Whether no bit on the disk belongs to both.
    pub(super) fn shares_nothing_with(&self, other: &Listed) -> bool {
        let own: BTreeSet<u64> = self.runs().iter().map(|run| run.number).collect();
        !other.runs().iter().any(|run| own.contains(&run.number))
    }
}

type Payload = (Timestamp, u64, Vec<(u64, u32, u64, u64, u32)>);

pub(super) fn seal(listed: &Listed) -> Result<Vec<u8>, CheckpointError> {
    let base = match &listed.form {
        Form::Runs { base, .. } => count(*base),
        Form::Old | Form::Damaged(_) => 0,
    };
    let run = |run: &Run| {
        let Run {
            number,
            frames,
            state_bytes,
            stored_bytes,
            sum,
        } = *run;
        (number, frames, state_bytes, stored_bytes, sum)
    };
    let runs = listed.runs().iter().map(run).collect();
    let payload: Payload = (listed.time, base, runs);
    let mut head = vec![FORMAT];
    head.extend_from_slice(&listed.number.to_le_bytes());
    head.extend_from_slice(&listed.seq.0.to_le_bytes());
    Ok(Sealer::default().seal(KIND_MANIFEST, &head, &cbor::encode(&payload)?)?)
}

/// The manifest with a number. Only one of a newer format is an error; damage is in the form.
pub(super) fn read(number: u64, value: &[u8]) -> Result<Listed, CheckpointError> {
    let mut listed = Listed {
        number,
        seq: Seq(0),
        time: Timestamp(0),
        form: Form::Damaged(String::new()),
    };
    match fill(&mut listed, value) {
        Ok(()) => Ok(listed),
        // The checksum is right: it was written so.
        Err(Damage::Version(format)) => Err(CheckpointError::Newer { format }),
        Err(damage) => {
            listed.form = Form::Damaged(format!("its manifest: {damage}"));
            Ok(listed)
        }
    }
}

fn fill(listed: &mut Listed, value: &[u8]) -> Result<(), Damage> {
    let sealed = check(value, MANIFEST_HEAD)?;
    let (format, rest) = sealed.head.split_first().ok_or(Damage::Short)?;
    if sealed.kind == KIND_MANIFEST && *format != FORMAT {
        return Err(Damage::Version(*format));
    }
    let (own, rest) = rest.split_first_chunk::<8>().ok_or(Damage::Short)?;
    let seq = rest.first_chunk::<8>().ok_or(Damage::Short)?;
    if sealed.kind != KIND_MANIFEST || u64::from_le_bytes(*own) != listed.number {
        return Err(Damage::Misplaced);
    }
    let payload = Unsealer::default().payload(sealed)?;
    let (time, base, runs): Payload = cbor::decode(&payload).map_err(|_| Damage::Content)?;
    let base = usize::try_from(base)
        .ok()
        .filter(|base| *base <= runs.len());
    let run = |(number, frames, state_bytes, stored_bytes, sum)| Run {
        number,
        frames,
        state_bytes,
        stored_bytes,
        sum,
    };
    listed.seq = Seq(u64::from_le_bytes(*seq));
    listed.time = time;
    listed.form = Form::Runs {
        base: base.ok_or(Damage::Content)?,
        runs: runs.into_iter().map(run).collect(),
    };
    Ok(())
}

/// All checkpoints of a store, oldest first, damaged ones included. Changes nothing.
///
/// # Errors
/// When the store fails, or has a checkpoint of a newer format.
pub fn list(store: &dyn Store) -> Result<Vec<Listed>, CheckpointError> {
    let mut all = old::list(store)?;
    let mut failed = None;
    let (from, to) = (manifest_key(0), [table::CHECKPOINT, b'M' + 1]);
    store.range(&from, &to, &mut |key, value| {
        let number = key.get(2..).and_then(|rest| rest.try_into().ok());
        let Some(number) = number.map(u64::from_be_bytes) else {
            return ControlFlow::Continue(());
        };
        match read(number, value) {
            Ok(listed) => all.push(listed),
            Err(error) => failed = Some(error),
        }
        ControlFlow::Continue(())
    })?;
    match failed {
        Some(error) => Err(error),
        None => Ok(all),
    }
}

/// From the first key to before the second.
pub(super) type Keys = (Vec<u8>, Vec<u8>);

pub(super) fn keys_of_run(run: u64) -> Keys {
    (frame_key(run, 0), after_run(run))
}

fn after_run(run: u64) -> Vec<u8> {
    let mut end = frame_key(run, u32::MAX);
    end.push(0);
    end
}

/// The runs that are there and not among `wanted`, and the number after the greatest one.
pub(super) fn orphans(
    store: &dyn Store,
    wanted: &BTreeSet<u64>,
) -> Result<(Vec<Keys>, u64), StoreError> {
    let mut orphans = Vec::new();
    let mut next = 1;
    let mut from = frame_key(0, 0);
    let to = [table::CHECKPOINT, b'R' + 1];
    loop {
        let mut run = None;
        store.range(&from, &to, &mut |key, _| {
            let number = key.get(2..).and_then(<[u8]>::first_chunk::<8>);
            run = number.map(|number| u64::from_be_bytes(*number));
            ControlFlow::Break(())
        })?;
        let Some(run) = run else {
            return Ok((orphans, next));
        };
        if !wanted.contains(&run) {
            orphans.push(keys_of_run(run));
        }
        next = run.saturating_add(1);
        from = after_run(run);
    }
}

/// Removes some of what lies there; says whether there is more.
pub(super) fn clear_some(store: &dyn Store, (from, to): &Keys) -> Result<bool, StoreError> {
    let mut batch = WriteBatch::new();
    store.range(from, to, &mut |key, _| {
        batch.delete(key);
        if batch.len() < REMOVED_MAX {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    let more = batch.len() >= REMOVED_MAX;
    if !batch.is_empty() {
        store.write(batch)?;
    }
    Ok(more)
}
