//! What runs when something that a configuration needs is broken at a start: the local files, a
//! document that was kept, or the memory of both.

use std::path::PathBuf;

use serde_json::json;

use crate::fleet::{Fleet, NODE};
use crate::mosquitto::free_port;
use crate::signing::envelope;

/// A node that runs documents 1 (which makes 2) and then 2 (which makes 3), and is stopped.
fn after_two_documents() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.start();
    for rev in [1, 2] {
        let mut asked = envelope(rev, &fleet.document(rev + 1));
        asked["confirm_s"] = json!(1);
        let reported = fleet.apply(&fleet.key.signed(NODE, asked));
        assert_eq!(reported["status"], "in_sync", "{reported:#}");
    }
    fleet.site.stop();
    fleet
}

fn kept_document(fleet: &Fleet, c: u64) -> PathBuf {
    let text = fleet.document(c);
    let folder = fleet.site.path("store/control/docs");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths
        .find(|path| std::fs::read_to_string(path).unwrap() == text)
        .expect("it is kept")
}

#[test]
fn a_document_goes_on_when_the_local_files_are_faulty() {
    let mut fleet = after_two_documents();
    let good = std::fs::read_to_string(fleet.site.path("app.toml")).unwrap();
    // The SQL is gone, which the document does not need; the table it does need is there.
    std::fs::write(fleet.site.path("app.sql"), "SELECT nonsense").unwrap();
    let from = fleet.observer.now();
    fleet.site.spawn();
    let state = fleet.said("the node runs", from, "state", |state| {
        state["state"] == "degraded"
    });
    assert!(state["why"].to_string().contains("local files"), "{state}");
    assert_eq!(state["config"]["rev"], 2, "{state}");
    let flow = fleet.flow();
    assert_eq!(flow.made_by(), 3);
    // Mended and told so, it is as it was.
    std::fs::write(fleet.site.path("app.sql"), fleet.sql(1)).unwrap();
    assert_eq!(
        good,
        std::fs::read_to_string(fleet.site.path("app.toml")).unwrap()
    );
    let from = fleet.observer.now();
    fleet.site.signal("HUP");
    let state = fleet.online(from);
    assert_eq!(state["config"]["rev"], 2, "{state}");
    assert_eq!(flow.made_by(), 3);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_node_without_a_document_does_not_start_with_faulty_files() {
    let mut fleet = Fleet::new();
    std::fs::write(fleet.site.path("app.sql"), "SELECT nonsense").unwrap();
    let (code, said) = fleet.site.run_to_end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("nothing was started"), "{said}");
}

/// What is no TOML any more, such as a file that somebody was writing.
fn broken(fleet: &Fleet) {
    let path = fleet.site.path("app.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, format!("{text}\n[control")).unwrap();
}

#[test]
fn a_node_without_a_document_goes_on_with_the_local_files_as_they_were() {
    let mut fleet = Fleet::new();
    fleet.start();
    fleet.site.stop();
    let good = std::fs::read_to_string(fleet.site.path("app.toml")).unwrap();
    let start = |fleet: &mut Fleet| {
        let from = fleet.observer.now();
        fleet.site.spawn();
        let state = fleet.said("the node runs", from, "state", |said| {
            said["state"] == "degraded"
        });
        assert!(state["why"].to_string().contains("local files"), "{state}");
    };
    std::fs::write(fleet.site.path("app.sql"), "SELECT nonsense").unwrap();
    start(&mut fleet);
    let flow = fleet.flow();
    assert_eq!(flow.made_by(), 1);
    // A document is read over what they were, too.
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "in_sync", "{reported:#}");
    assert_eq!(flow.made_by(), 2);
    fleet.site.kill();
    // Where the store is does not stand there any more.
    broken(&fleet);
    let store = fleet.site.path("store").display().to_string();
    fleet.site.arguments = vec!["--store", Box::leak(store.into_boxed_str())];
    start(&mut fleet);
    assert_eq!(flow.made_by(), 2);
    fleet.site.kill();
    // Nothing stands there: the power went while somebody wrote it.
    std::fs::write(fleet.site.path("app.toml"), "").unwrap();
    start(&mut fleet);
    assert_eq!(flow.made_by(), 2);
    // Mended, it is as it was.
    std::fs::write(fleet.site.path("app.toml"), good).unwrap();
    std::fs::write(fleet.site.path("app.sql"), fleet.sql(1)).unwrap();
    let from = fleet.observer.now();
    fleet.site.signal("HUP");
    assert_eq!(fleet.online(from)["config"]["rev"], 1);
    assert_eq!(flow.made_by(), 2);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn an_edit_that_is_half_done_does_not_keep_a_document_in_force() {
    let mut fleet = Fleet::new();
    fleet.start();
    let flow = fleet.flow();
    let mut asked = envelope(1, &fleet.wrong_broker(2, free_port()));
    asked["confirm_s"] = json!(2);
    let from = fleet.observer.now();
    fleet.push(&fleet.key.signed(NODE, asked));
    fleet.reported("probation", from, |said| said["status"] == "probation");
    broken(&fleet);
    let reported = fleet.end_of(from, &json!(1));
    assert_eq!(reported["code"], "E_HEALTH", "{reported:#}");
    assert_eq!(flow.made_by(), 1);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn local_files_are_kept_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut fleet = Fleet::new();
    fleet.start();
    let entries = std::fs::read_dir(fleet.site.path("store/control/docs")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    let kept = paths.find(|path| path.extension().is_some_and(|name| name == "local"));
    let mode = std::fs::metadata(kept.unwrap())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    fleet.site.stop();
}

#[test]
fn a_document_that_cannot_be_read_any_more_gives_way_to_the_one_before() {
    let mut fleet = after_two_documents();
    std::fs::write(kept_document(&fleet, 3), "# something else\n").unwrap();
    let from = fleet.observer.now();
    fleet.start();
    let reported = fleet.reported("what became of it", from, |reported| {
        reported["status"] == "rejected"
    });
    assert_eq!(reported["active"]["rev"], 1, "{reported:#}");
    assert_eq!(reported["desired"]["rev"], 2, "{reported:#}");
    let flow = fleet.flow();
    assert_eq!(flow.made_by(), 2);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn without_any_memory_the_local_files_run() {
    let mut fleet = after_two_documents();
    for name in ["journal.a", "journal.b"] {
        std::fs::write(fleet.site.path("store/control").join(name), "x").unwrap();
    }
    // What the broker keeps is a document like any other to who remembers none.
    fleet.push_bytes(b"");
    fleet.start();
    let log = fleet.site.log();
    assert!(log.contains("revisions count anew"), "{log}");
    let flow = fleet.flow();
    assert_eq!(flow.made_by(), 1);
    flow.finish();
    fleet.site.stop();
}

#[test]
fn a_folder_that_cannot_be_used_takes_no_documents_and_keeps_nothing_from_running() {
    let mut fleet = Fleet::new();
    std::fs::create_dir(fleet.site.path("store")).unwrap();
    std::fs::write(fleet.site.path("store/control"), "a file").unwrap();
    fleet.start();
    let reported = fleet.apply(&fleet.signed(1, &fleet.document(2)));
    assert_eq!(reported["status"], "rejected", "{reported:#}");
    assert_eq!(reported["code"], "E_FAILED", "{reported:#}");
    let flow = fleet.flow();
    assert_eq!(flow.made_by(), 1);
    flow.finish();
    fleet.site.stop();
}
