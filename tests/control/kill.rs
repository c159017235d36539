//! kill -9 at every step of a document's way: whatever the moment, the node runs exactly one of
//! the two configurations afterwards and says which, and every number that went in comes out, once
//! or again with the same id.

use crate::fleet::Fleet;
use crate::mosquitto::free_port;
use crate::ordeal::Ordeal;

#[test]
fn kills_on_the_way_of_a_good_document_leave_one_of_two() {
    let mut ordeal = Ordeal::new();
    let content =
        |fleet: &Fleet, c: u64| fleet.document_with(c, "CREATE STREAM Unused (n BIGINT);\n");
    let steps = ordeal.kill_everywhere(11, &content);
    assert!(steps >= 4, "only {steps} steps");
    assert!(ordeal.ended("\"in_sync\" null") >= 2);
    assert!(ordeal.ended("\"rolled_back\" \"E_BOOT_GUARD\"") >= 1);
    ordeal.finish();
}

#[test]
fn kills_on_the_way_of_a_faulty_document_leave_the_one_before() {
    let mut ordeal = Ordeal::new();
    let content =
        |fleet: &Fleet, c: u64| fleet.document_with(c, "INSERT INTO Alerts SELECT x FROM No;\n");
    ordeal.kill_everywhere(12, &content);
    let all: u32 = ordeal.ends.values().sum();
    assert_eq!(ordeal.ended("\"rejected\" \"E_CONFIG\""), all);
    ordeal.finish();
}

#[test]
fn kills_on_the_way_of_a_bad_document_leave_the_one_before() {
    let mut ordeal = Ordeal::new();
    let port = free_port();
    let content = move |fleet: &Fleet, c: u64| fleet.wrong_broker(c, port);
    let steps = ordeal.kill_everywhere(13, &content);
    assert!(steps >= 4, "only {steps} steps");
    assert_eq!(ordeal.ended("\"in_sync\" null"), 0);
    assert!(ordeal.ended("\"rolled_back\" \"E_BOOT_GUARD\"") >= 1);
    assert!(ordeal.ended("\"rolled_back\" \"E_HEALTH\"") >= 1);
    ordeal.finish();
}
