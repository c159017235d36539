//! `restore`: brings the state back to what it was, and says what that means.

use std::path::PathBuf;

use super::{Exit, Terminal, exit_of, point, prepare};
use crate::daemon::Prepared;
use crate::pipeline::{RestoreError, Target, WentBack};
use crate::store::StoreError;
use crate::store::look::{self, How, Manner, Which};
use crate::store::sled::{StoreEvent, StoreOptions, open};

/// What is asked.
pub(super) struct Request<'a> {
    pub(super) files: &'a [PathBuf],
    pub(super) store: Option<PathBuf>,
    pub(super) at: Target,
    pub(super) dry_run: bool,
    pub(super) tmp: Option<PathBuf>,
}

pub(super) fn restore(request: Request<'_>, terminal: &mut Terminal<'_>) -> Exit {
    let mut prepared = match prepare(request.files, terminal) {
        Ok(prepared) => prepared,
        Err(exit) => return exit,
    };
    if let Some(store) = request.store {
        prepared.settings.store.path = store;
    }
    let done = match request.dry_run {
        true => try_out(&mut prepared, request.at, request.tmp, terminal),
        false => go_back(&prepared, request.at, terminal),
    };
    match done {
        Ok(went) => {
            tell(&went, &prepared, request.dry_run, terminal);
            Exit::Success
        }
        Err(exit) => exit,
    }
}

/// In a copy.
fn try_out(
    prepared: &mut Prepared,
    at: Target,
    tmp: Option<PathBuf>,
    terminal: &mut Terminal<'_>,
) -> Result<WentBack, Exit> {
    let tmp = tmp.unwrap_or_else(std::env::temp_dir);
    let path = prepared.settings.store.path.clone();
    let options = StoreOptions::default();
    let mut refuse = |why: &dyn std::fmt::Display| {
        terminal.complain(format_args!("eventflux: {why}"));
        Err(Exit::Store)
    };
    let look = match look::look(&path, Which::Current, Manner::Open, (&tmp, &options)) {
        Ok(look) => look,
        Err(error) => return refuse(&error),
    };
    if let How::Salvaged { why, .. } = &look.how {
        return refuse(&format_args!("the store does not open: {why}"));
    }
    let Some(folder) = look.closed() else {
        return refuse(&"the copy is gone");
    };
    folder.path().clone_into(&mut prepared.settings.store.path);
    let done = go_back(prepared, at, terminal);
    prepared.settings.store.path = path;
    done
}

fn go_back(prepared: &Prepared, at: Target, terminal: &mut Terminal<'_>) -> Result<WentBack, Exit> {
    let path = &prepared.settings.store.path;
    // A fresh store would be made in the place of one that is not there.
    if !path.exists() {
        terminal.complain(format_args!(
            "eventflux: there is no store in `{}`",
            path.display()
        ));
        return Err(Exit::Store);
    }
    let failed = |error: &StoreError, terminal: &mut Terminal<'_>| {
        terminal.complain(format_args!("eventflux: {error}"));
        Exit::Store
    };
    let opened = open(path, &prepared.store_options());
    let opened = opened.map_err(|error| failed(&error, terminal))?;
    for event in &opened.events {
        match event {
            StoreEvent::Quarantined { to, why } => {
                terminal.complain(format_args!(
                    "eventflux: the store does not open ({why}); it is kept in `{}`, and there is \
                     nothing to go back to",
                    to.display()
                ));
                return Err(Exit::Store);
            }
            StoreEvent::SnapshotSetAside { .. }
            | StoreEvent::RestartAdvised
            | StoreEvent::IdentityRenewed => {}
        }
    }
    let went = prepared.restore(opened.store, opened.id, at);
    went.map_err(|error| match error {
        RestoreError::Pipeline(error) => {
            terminal.complain(format_args!("eventflux: {error}"));
            exit_of(&error.into())
        }
        RestoreError::Unreachable { earliest } => {
            terminal.complain(format_args!(
                "eventflux: {}",
                RestoreError::Unreachable { earliest }
            ));
            if let Some((seq, time)) = earliest {
                let time = point::iso(time);
                terminal.complain(format_args!("its time is {time}: try --at {seq}"));
            }
            Exit::Failed
        }
        error @ (RestoreError::NotBefore { .. } | RestoreError::Damaged { .. }) => {
            terminal.complain(format_args!("eventflux: {error}"));
            Exit::Failed
        }
    })
}

fn tell(went: &WentBack, prepared: &Prepared, dry_run: bool, terminal: &mut Terminal<'_>) {
    let (is, were) = match dry_run {
        true => ("would be", "would be"),
        false => ("is", "were"),
    };
    let WentBack {
        to,
        time,
        checkpoint,
        records,
        forgotten,
        at,
        outputs,
        warnings,
    } = went;
    terminal.say(format_args!(
        "the state {is} that after input {to} ({}):",
        point::iso(*time)
    ));
    let begin = match checkpoint.0 {
        0 => "without a checkpoint, ".to_owned(),
        seq => format!("from the checkpoint after {seq}, "),
    };
    let plural = if *records == 1 { "" } else { "s" };
    terminal.say(format_args!(
        "  {begin}{records} record{plural} of the log {were} run again"
    ));
    terminal.say(format_args!(
        "  no part of it any more: inputs {} to {}, {} rows and {} rejected, from {} to {}",
        forgotten.first,
        forgotten.last,
        forgotten.rows,
        forgotten.rejected,
        point::iso(forgotten.from),
        point::iso(forgotten.until)
    ));
    terminal.say("  they stay in the log, and what has come out because of them stays out");
    if *outputs > 0 {
        terminal.say(format_args!(
            "  {outputs} more outputs wait: time has gone on meanwhile"
        ));
    }
    for warning in warnings {
        terminal.say(format_args!("  warning: {warning}"));
    }
    if dry_run {
        terminal.say("nothing was changed: this was tried out in a copy");
        return;
    }
    terminal.say(format_args!("the log says so in its record {at}"));
    let files = prepared.settings.files.iter();
    let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
    terminal.say(format_args!(
        "to undo it: eventflux restore {} --at {}, as long as `inspect ls` shows a checkpoint \
         between {to} and {}",
        files.join(" --config "),
        forgotten.last,
        forgotten.last.plus(1)
    ));
}
