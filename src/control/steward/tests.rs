use std::sync::Condvar;

use crossbeam::channel::bounded;

use super::super::journal::{Pending, Revision};
use super::*;
use crate::control::hash::sha256_hex;

/// Whether somebody looks up a variable, and whether he may go on.
static LOOKED_UP: (Mutex<(bool, bool)>, Condvar) = (Mutex::new((false, false)), Condvar::new());

/// Says that it is asked, and answers when it is told to.
fn slow(name: &str) -> Option<String> {
    if name == "SLOW" {
        let mut state = lock(&LOOKED_UP.0);
        state.0 = true;
        LOOKED_UP.1.notify_all();
        while !state.1 {
            state = LOOKED_UP.1.wait(state).unwrap();
        }
    }
    Some("1 s".to_owned())
}

/// A steward of a node of which nothing runs, and its journal.
fn steward(folder: &std::path::Path) -> (Steward, Arc<Mutex<Journal>>) {
    let file = folder.join("app.toml");
    let store = folder.join("store").display().to_string();
    let text = format!(
        "[store]\npath = {store:?}\n[control]\nmode = \"unsigned\"\nnode = \"n\"\n\
         mqtt.broker = \"mqtt://127.0.0.1:1\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let local = Local::new(vec![file], None, slow);
    let prepared = local.prepare().unwrap();
    let Booted {
        prepared, journal, ..
    } = boot(&local, prepared).unwrap();
    let journal = Arc::new(Mutex::new(journal));
    let manner = Manner {
        settings: prepared.settings.clone(),
        topics: topics_of(&prepared.settings.control),
    };
    let wires = Wires {
        door: Door::new().0,
        window: Window::default(),
        mailbox: Mailbox::default(),
        hearing: Hearing::new().0,
        endpoints: watch::channel(None).0,
        journal: Arc::new(Mutex::new(Some(Arc::clone(&journal)))),
        manner: Arc::new(Mutex::new(manner)),
    };
    let steward = Steward::new(local, wires, (&prepared, Vec::new()), Arc::default());
    (steward, journal)
}

#[test]
fn nobody_waits_for_the_journal_while_a_document_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (mut steward, journal) = steward(folder.path());
    let text = "[application]\nsql = \"CREATE STREAM S (at LONG) WITH ('type' = 'source', \
                'extension' = 'timer', 'timer.every' = '1 s'); INSERT INTO T SELECT at FROM S;\"\n\
                [streams.S]\nidle_timeout = \"${SLOW}\"\n";
    let sha256 = sha256_hex(text.as_bytes());
    let pending = Pending {
        scope: "n".to_owned(),
        revision: Revision {
            rev: 1,
            sha256: sha256.clone(),
        },
        stage: Stage::Staged,
        needs_operator: false,
        confirm_s: 1,
        state_policy: None,
        signed_by: None,
        why: None,
    };
    lock(&journal).keep(&sha256, text).unwrap();
    let staged = lock(&journal).change(|record| record.pending = Some(pending));
    staged.unwrap();
    let (tell, told) = bounded(1);
    std::thread::spawn(move || {
        steward.take_up();
        tell.send(()).unwrap();
    });
    let mut state = lock(&LOOKED_UP.0);
    while !state.0 {
        state = LOOKED_UP.1.wait(state).unwrap();
    }
    drop(state);
    let is_free = journal.try_lock().is_ok();
    lock(&LOOKED_UP.0).1 = true;
    LOOKED_UP.1.notify_all();
    told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert!(is_free);
}
