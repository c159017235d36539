//! `test`: case files, each case three ways.

use std::path::PathBuf;

use super::{Exit, Terminal};
use crate::scenario;

pub(super) fn test(paths: &[PathBuf], terminal: &mut Terminal<'_>) -> Exit {
    let (mut passed, mut failed) = (0, 0);
    for path in paths {
        let files = match scenario::case_files(path) {
            Ok(files) => files,
            Err(error) => {
                terminal.complain(error);
                failed += 1;
                continue;
            }
        };
        for file in files {
            match scenario::run_file(&file) {
                Ok(reports) => {
                    for report in reports {
                        if report.faults.is_empty() {
                            passed += 1;
                            continue;
                        }
                        failed += 1;
                        terminal.say(format_args!("FAILED {} {}", report.place, report.name));
                        for fault in &report.faults {
                            terminal.say(fault.trim_end());
                        }
                    }
                }
                Err(error) => {
                    terminal.complain(error);
                    failed += 1;
                }
            }
        }
    }
    terminal.say(format_args!("{passed} passed, {failed} failed"));
    if failed == 0 {
        Exit::Success
    } else {
        Exit::Failed
    }
}
