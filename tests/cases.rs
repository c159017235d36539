//! Every case file, each case three ways.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use eventflux::scenario;

#[test]
fn every_case_passes_three_ways() {
    let files = scenario::case_files(Path::new("tests/cases")).unwrap();
    assert!(!files.is_empty());
    let half = files.len().div_ceil(2);
    let run = |files: &[std::path::PathBuf]| -> (usize, Vec<String>) {
        let mut passed = 0;
        let mut faults = Vec::new();
        for file in files {
            for report in scenario::run_file(file).unwrap() {
                passed += usize::from(report.faults.is_empty());
                let place = format!("{} {}", report.place, report.name);
                faults.extend(
                    report
                        .faults
                        .iter()
                        .map(|fault| format!("{place}\n{fault}")),
                );
            }
        }
        (passed, faults)
    };
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| run(&files[..half]));
        let second = run(&files[half..]);
        (first.join().unwrap(), second)
    });
    let faults = [first.1, second.1].concat();
    println!("{} passed, {} failed", first.0 + second.0, faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
